"""Writes `ledger.jsonl`, which records every attempt on disk before the attempt begins.

`compliance.chain.ledger` describes the format and the hash chain. A line is appended with one
write and synced. If a line cannot be written completely, it is removed at once. If a power
failure leaves an incomplete line, it is removed before the next write.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from compliance.chain.ledger import LEDGER_NAME, Ledger, LedgerAttempt, SetLedger, read_ledger
from reference_model.base.atomic_files import fsync_folder


def new_launcher_id() -> str:
    """Returns a new id for an invocation of the harness: 64 random bits in hex."""
    return secrets.token_hex(8)


class LedgerFile:
    """The ledger of one benchmark's attempts; the file is created at the first write.

    Args:
      folder: The folder of the ledger.
      is_new: Whether to begin a new ledger; the caller moves an existing file away before the
        first write.

    Attributes:
      path: The file.
      content: The content of the file.

    Raises:
      LedgerError: the file is invalid or was changed outside the harness.
    """

    def __init__(self, folder: Path, is_new: bool = False):
        self.path = folder / LEDGER_NAME
        has_content = self.path.exists() and not is_new
        self.content = read_ledger(self.path) if has_content else Ledger()

    def set_ledger(self, set_id: str) -> SetLedger:
        """Returns the entries of a set; an empty ledger if the set is new."""
        return self.content.sets.get(set_id, SetLedger())

    def open_attempts(self) -> list[tuple[str, LedgerAttempt]]:
        """Returns (set, attempt) for all attempts with a recorded start and no recorded end."""
        sets = self.content.sets.items()
        pairs = [(set_id, entries.unfinished_attempt()) for set_id, entries in sets]
        return [(set_id, attempt) for set_id, attempt in pairs if attempt is not None]

    def append(self, event: str, **values: Any) -> None:
        """Appends one line and syncs it to the disk.

        Args:
          event: Kind of the line.
          values: JSON values by name.

        Raises:
          OSError: the line could not be written; the file is unchanged.
        """
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        # The digest of the file before this line makes the ledger a hash chain.
        entry = {"time": now, "event": event, **values, "previous": self.content.digest}
        line = json.dumps(entry, allow_nan=False).encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o644)
        try:
            # Remove an incomplete line; its event never took place.
            os.ftruncate(descriptor, self.content.size)
            os.lseek(descriptor, 0, os.SEEK_END)
            try:
                _write_all(descriptor, line + b"\n")
                os.fsync(descriptor)
            except BaseException:
                os.ftruncate(descriptor, self.content.size)
                raise
        finally:
            os.close(descriptor)
        if is_new:
            fsync_folder(self.path.parent)
        self.content.add(line)


def _write_all(descriptor: int, data: bytes) -> None:
    """Writes all bytes, in several calls if a call writes only some of them."""
    while data:
        data = data[os.write(descriptor, data) :]
