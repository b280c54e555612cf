"""Writes `ledger.jsonl`: every attempt is on the disk before it begins.

The format, and what holds between its lines, is told in `compliance.chain.ledger`. A
line is appended with one write and synced; one that could not be written whole is
taken back, and one that a power cut tore is cut off when the file is next opened.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from compliance.chain.ledger import NAME, Attempt, Ledger, SetLedger, read_ledger
from reference_model.base.atomic_files import sync_folder


def new_launcher() -> str:
    """An id for one invocation of the harness: 64 random bits in hex."""
    return secrets.token_hex(8)


class LedgerFile:
    """The ledger of one benchmark's attempts; made when first written to.

    Raises `compliance.chain.ledger.LedgerError` where the file is not as it was written.
    """

    def __init__(self, folder: Path):
        self.path = folder / NAME
        self.known = read_ledger(self.path) if self.path.exists() else Ledger()

    def of_set(self, set_id: str) -> SetLedger:
        """What is known of a set; nothing where it is new."""
        return self.known.sets.get(set_id, SetLedger())

    def open_attempts(self) -> list[tuple[str, Attempt]]:
        """(set, attempt) of all that began and whose end was never written down."""
        pairs = [(name, one.under_way()) for name, one in self.known.sets.items()]
        return [(name, attempt) for name, attempt in pairs if attempt is not None]

    def append(self, event: str, **values: Any) -> None:
        """Adds one line; it is on the disk when this returns. Raises OSError."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        entry = {"time": now, "event": event, **values, "previous": self.known.digest}
        line = json.dumps(entry, allow_nan=False).encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o644)
        try:
            os.ftruncate(descriptor, self.known.size)  # what was torn never happened
            os.lseek(descriptor, 0, os.SEEK_END)
            try:
                _write_all(descriptor, line + b"\n")
                os.fsync(descriptor)
            except BaseException:
                os.ftruncate(descriptor, self.known.size)
                raise
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(self.path.parent)
        self.known.add(line)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
