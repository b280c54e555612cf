"""`attempts/<benchmark>/ledger.jsonl`: all attempts at runs, in a chain of digests.

The file is UTF-8, with one JSON object per line, and is append-only. Every object has
  time      when it was written, "2026-11-21T07:54:33Z" (a date; not used for durations)
  event     launcher | start | end | set_aside
  previous  SHA-256 (hex) of the line before, without its line end; null in the first
and by event
  launcher  an invocation of the harness, called a launcher, begins to work on a set:
            `launcher` (the random name that it chooses), `set`, `runs` (the number of runs that
            the set requires), `joins` (the launcher of the set's previous `launcher` line, even
            if it started no attempt; null in the first. `joins` in the `attempt` record of a log
            differs: it is the launcher of the attempt before, see
            `compliance.chain.attempt_record`)
  start     an attempt begins: `set`, `launcher`, `attempt` (its number in the set, from 1),
            `run`, `seed`, `log` (the file's name under attempts/<benchmark>)
  end       an attempt has ended: `set`, `attempt`, `run`, `log`, `seed`, `reason`, `message`,
            `epochs`, `accuracy`, `seconds`, `placed` (whether it is a result) and
            `sha256` of its complete, closed log
  set_aside the set's folder became attempts/<benchmark>/<folder>: `set`, `folder`

A last line without a line end was cut off, for example by a power failure, and is ignored. The
checker never opens a path that is written in a ledger.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compliance.base.untrusted_files import TooLarge, read_bounded

LEDGER_NAME = "ledger.jsonl"
EVENTS = ("launcher", "start", "end", "set_aside")
MAX_BYTES = 64 << 20
MAX_LINE_BYTES = 1 << 16
_DIGEST = re.compile(r"[0-9a-f]{64}")


class LedgerError(ValueError):
    """A ledger that is invalid or was changed; the message is one line."""


def is_digest(value: Any) -> bool:
    """Returns whether a JSON value is a SHA-256 in hex."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def line_digest(line: bytes) -> str:
    """Returns the digest of a line, which the next line of the ledger contains.

    Args:
      line: The line without its line end.
    """
    return hashlib.sha256(line).hexdigest()


@dataclass
class LedgerAttempt:
    """The entries of a ledger about one attempt at a run.

    Attributes:
      number: Its number in the set, from 1.
      run: The run that it was for.
      launcher: The random name of the harness process that started it.
      log: The name of its log.
      seed: The run's seed; None if the ledger does not contain an integer.
      end: The ledger's `end` object; None while the attempt is under way.
    """

    number: int
    run: int
    launcher: str
    log: str
    seed: int | None
    end: dict[str, Any] | None = None

    @property
    def is_result(self) -> bool:
        """Whether it became a result."""
        return self.end is not None and self.end["placed"]

    @property
    def sha256(self) -> str | None:
        """The digest of its complete log; None while it is under way."""
        return None if self.end is None else self.end["sha256"]


@dataclass
class SetLedger:
    """The part of a ledger about one set.

    Attributes:
      attempts: Its attempts; number n is at index n - 1.
      launchers: The random names of the harness processes that worked on it, in order.
    """

    attempts: list[LedgerAttempt] = field(default_factory=list)
    launchers: list[str] = field(default_factory=list)

    def unfinished_attempt(self) -> LedgerAttempt | None:
        """Returns the attempt that has started and not ended, if there is one."""
        last = self.attempts[-1] if self.attempts else None
        return last if last is not None and last.end is None else None


@dataclass
class Ledger:
    """A ledger whose chain has been verified.

    Attributes:
      sets: The part about each set, by the set's name, in the order of their first lines.
      set_aside_folders: For the name of a set, the folder to which it was moved.
      digest: The digest of the last line; None if the ledger is empty.
      size: The number of bytes in complete lines; any bytes after them are a line cut off.
    """

    sets: dict[str, SetLedger] = field(default_factory=dict)
    set_aside_folders: dict[str, str] = field(default_factory=dict)
    digest: str | None = None
    size: int = 0

    def add(self, line: bytes) -> None:
        """Verifies the next line and adds it.

        Args:
          line: The line without its line end.

        Raises:
          LedgerError: The line does not follow from the lines before it.
        """
        entry = _parse_entry(line)
        if entry["previous"] != self.digest:
            raise LedgerError("it does not contain the digest of the line before: a line "
                              "was removed, edited, added or moved")
        _apply_entry(self, entry)
        self.digest = line_digest(line)
        self.size += len(line) + 1


def read_ledger(path: Path) -> Ledger:
    """Reads and verifies a ledger.

    Args:
      path: The file.

    Raises:
      LedgerError: The ledger is invalid or was changed.
      OSError: The file cannot be read.
    """
    try:
        return parse_ledger(read_bounded(path, MAX_BYTES))
    except TooLarge as error:
        raise LedgerError(error.strerror) from None


def parse_ledger(data: bytes) -> Ledger:
    """Verifies the content of a ledger.

    Args:
      data: The bytes of the file; a last line without a line end is ignored.

    Raises:
      LedgerError: A line does not follow from those before it; the message has its number.
    """
    ledger = Ledger()
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            ledger.add(line)
        except LedgerError as error:
            raise LedgerError(f"line {number}: {error}") from None
    return ledger


def _parse_entry(line: bytes) -> dict[str, Any]:
    """Returns the object in a line, with `previous` and `event` checked."""
    if len(line) > MAX_LINE_BYTES:
        raise LedgerError(f"it is longer than {MAX_LINE_BYTES >> 10} KiB")
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise LedgerError("it is not JSON") from None
    if not isinstance(entry, dict):
        raise LedgerError("it is not a JSON object")
    if "previous" not in entry or not (entry["previous"] is None or is_digest(entry["previous"])):
        raise LedgerError("it does not contain the digest of the line before")
    if entry.get("event") not in EVENTS:
        raise LedgerError("its event is unknown")
    return entry


def _typed_member(entry: dict[str, Any], key: str, kind: type) -> Any:
    """Returns a member of an entry that must have a given type."""
    value = entry.get(key)
    if type(value) is not kind:
        raise LedgerError(f"its {key} is not of type {kind.__name__}")
    return value


def _apply_entry(ledger: Ledger, entry: dict[str, Any]) -> None:
    """Adds one entry to the ledger; raises LedgerError if it contradicts those before it."""
    if entry["event"] == "set_aside":
        folder = _typed_member(entry, "folder", str)
        ledger.set_aside_folders[_typed_member(entry, "set", str)] = folder
        return
    known = ledger.sets.setdefault(_typed_member(entry, "set", str), SetLedger())
    if entry["event"] == "launcher":
        if entry.get("joins") != (known.launchers[-1] if known.launchers else None):
            raise LedgerError("its `joins` is not the launcher before")
        known.launchers.append(_typed_member(entry, "launcher", str))
        return
    number, run = _typed_member(entry, "attempt", int), _typed_member(entry, "run", int)
    unfinished = known.unfinished_attempt()
    if entry["event"] == "start":
        # Only the launcher declared last may start an attempt, one at a time, without gaps.
        if unfinished is not None:
            raise LedgerError(f"attempt {unfinished.number} has not ended")
        if number != len(known.attempts) + 1:
            raise LedgerError(f"its attempt is {number}; it must be {len(known.attempts) + 1}")
        launcher = _typed_member(entry, "launcher", str)
        if not known.launchers or launcher != known.launchers[-1]:
            raise LedgerError("its launcher is not the one declared last")
        seed = entry.get("seed")
        known.attempts.append(LedgerAttempt(number, run, launcher, _typed_member(entry, "log", str),
                                            seed if type(seed) is int else None))
        return
    # The event is an end.
    if unfinished is None or (number, run) != (unfinished.number, unfinished.run):
        raise LedgerError("it ends an attempt that is not under way")
    if (entry.get("log", unfinished.log), entry.get("seed", unfinished.seed)) != (
            unfinished.log, unfinished.seed):
        raise LedgerError("its log or seed differs from that of the attempt's start")
    if not is_digest(entry.get("sha256")) or not isinstance(entry.get("reason"), str):
        raise LedgerError("it has no reason or no digest of the log")
    _typed_member(entry, "placed", bool)
    unfinished.end = entry


def find_ledger(folder: Path) -> Path | None:
    """Finds the ledger of a set's folder by the layout of a results tree.

    For results/<system>/<benchmark> it is results/<system>/attempts/<benchmark>/ledger.jsonl.
    For a set that is under way or set aside, in a subfolder of attempts/<benchmark>, it is in the
    folder above. An experiment has its ledger in its own folder attempts/.

    Args:
      folder: The folder with the set's logs.

    Returns:
      The ledger; None if there is none.
    """
    folder = folder.resolve()  # the layout contains no `..` and no links
    places = [folder.parent / "attempts" / folder.name, folder / "attempts"]
    if folder.parent.parent.name == "attempts":
        places.append(folder.parent)
    return next((p / LEDGER_NAME for p in places if (p / LEDGER_NAME).is_file()), None)
