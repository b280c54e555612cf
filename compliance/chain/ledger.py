"""`attempts/<benchmark>/ledger.jsonl`: every attempt at a run, in a chain of digests.

The file is UTF-8, one JSON object a line, written by appending only.  Every object has
  time      when it was written, "2026-11-21T07:54:33Z" (dates it; nothing is measured)
  event     launcher | start | end | set_aside
  previous  SHA-256 (hex) of the line before, without its line end; null in the first
and by event
  launcher  a harness begins to work on a set: `launcher` (its id), `set`, `runs` (how many
            the set is to have), `joins` (the launcher that last worked on the set, or null)
  start     an attempt begins: `set`, `launcher`, `attempt` (its number in the set, from 1),
            `run`, `seed`, `log` (the file's name under attempts/<benchmark>)
  end       it has ended: `set`, `attempt`, `run`, `log`, `seed`, `reason`, `message`,
            `epochs`, `accuracy`, `seconds`, `placed` (whether it is a result) and
            `sha256` of its log, whole and closed
  set_aside the set's folder became attempts/<benchmark>/<folder>: `set`, `folder`

A last line without a line end is one that a power cut tore: it never happened.  No path
in a ledger is ever opened by the checker.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compliance.base.untrusted_files import TooLarge, read_bounded

NAME = "ledger.jsonl"
EVENTS = ("launcher", "start", "end", "set_aside")
MAX_BYTES = 64 << 20
MAX_LINE = 1 << 16
_DIGEST = re.compile(r"[0-9a-f]{64}")


class LedgerError(ValueError):
    """A ledger that is not as it was written; the message is one line."""


def is_digest(value: Any) -> bool:
    """Whether a JSON value is a SHA-256 in hex."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def line_digest(line: bytes) -> str:
    """The digest by which the next line names this one (without its line end)."""
    return hashlib.sha256(line).hexdigest()


@dataclass
class Attempt:
    """What a ledger says of one attempt at a run; `end` is None while it is under way."""

    number: int
    run: int
    launcher: str
    log: str
    seed: int | None
    end: dict[str, Any] | None = None

    @property
    def is_result(self) -> bool:
        """Whether it ended as a result."""
        return self.end is not None and self.end["placed"]

    @property
    def sha256(self) -> str | None:
        """The digest of its whole log."""
        return None if self.end is None else self.end["sha256"]


@dataclass
class SetLedger:
    """The part of a ledger about one set: its attempts from 1 up, its launchers."""

    attempts: list[Attempt] = field(default_factory=list)
    launchers: list[str] = field(default_factory=list)

    def under_way(self) -> Attempt | None:
        """The attempt that has begun and not ended."""
        last = self.attempts[-1] if self.attempts else None
        return last if last is not None and last.end is None else None


@dataclass
class Ledger:
    """A whole ledger that has been verified.

    `aside` has the folder into which a set (by its name) was moved, `digest` is that of
    the last line (None: it is empty), `size` how many bytes of the file are whole lines:
    the rest was torn.
    """

    sets: dict[str, SetLedger] = field(default_factory=dict)
    aside: dict[str, str] = field(default_factory=dict)
    digest: str | None = None
    size: int = 0

    def add(self, line: bytes) -> None:
        """Takes the next line, without its line end.  Raises LedgerError."""
        entry = _entry(line)
        if entry["previous"] != self.digest:
            raise LedgerError("it does not carry the digest of the line before: a line was "
                              "removed, edited, added or moved")
        _take(self, entry)
        self.digest = line_digest(line)
        self.size += len(line) + 1


def read_ledger(path: Path) -> Ledger:
    """Reads and verifies a ledger.  Raises LedgerError, OSError."""
    try:
        return parse_ledger(read_bounded(path, MAX_BYTES))
    except TooLarge as error:
        raise LedgerError(error.strerror) from None


def parse_ledger(data: bytes) -> Ledger:
    """Verifies the content of a ledger.  Raises LedgerError naming its line."""
    ledger = Ledger()
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            ledger.add(line)
        except LedgerError as error:
            raise LedgerError(f"line {number}: {error}") from None
    return ledger


def _entry(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise LedgerError(f"it is longer than {MAX_LINE >> 10} KiB")
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise LedgerError("it is no JSON") from None
    if not isinstance(entry, dict):
        raise LedgerError("it is no JSON object")
    if "previous" not in entry or not (entry["previous"] is None or is_digest(entry["previous"])):
        raise LedgerError("it has no digest of the line before")
    if entry.get("event") not in EVENTS:
        raise LedgerError("its event is unknown")
    return entry


def _get(entry: dict[str, Any], key: str, kind: type) -> Any:
    value = entry.get(key)
    if type(value) is not kind:
        raise LedgerError(f"its {key} is no {kind.__name__}")
    return value


def _take(ledger: Ledger, entry: dict[str, Any]) -> None:
    """Adds one entry to what is known.  Raises LedgerError where it contradicts it."""
    if entry["event"] == "set_aside":
        ledger.aside[_get(entry, "set", str)] = _get(entry, "folder", str)
        return
    one = ledger.sets.setdefault(_get(entry, "set", str), SetLedger())
    if entry["event"] == "launcher":
        if entry.get("joins") != (one.launchers[-1] if one.launchers else None):
            raise LedgerError("its launcher does not join the one before")
        one.launchers.append(_get(entry, "launcher", str))
        return
    number, run = _get(entry, "attempt", int), _get(entry, "run", int)
    open_attempt = one.under_way()
    if entry["event"] == "start":
        if open_attempt is not None:
            raise LedgerError(f"attempt {open_attempt.number} has not ended")
        if number != len(one.attempts) + 1:
            raise LedgerError(f"its attempt is {number}, not {len(one.attempts) + 1}")
        launcher = _get(entry, "launcher", str)
        if not one.launchers or launcher != one.launchers[-1]:
            raise LedgerError("its launcher was not declared")
        seed = entry.get("seed")
        one.attempts.append(Attempt(number, run, launcher, _get(entry, "log", str),
                                    seed if type(seed) is int else None))
        return
    if open_attempt is None or (number, run) != (open_attempt.number, open_attempt.run):
        raise LedgerError("it ends an attempt that is not under way")
    if not is_digest(entry.get("sha256")) or not isinstance(entry.get("reason"), str):
        raise LedgerError("it lacks the reason or the log's digest")
    _get(entry, "placed", bool)
    open_attempt.end = entry


def beside(folder: Path) -> Path | None:
    """The ledger of a set's folder, by the layout of a results tree; None if there is none.

    For results/<system>/<benchmark> it is results/<system>/attempts/<benchmark>/ledger.jsonl,
    for a set that was set aside there it is in the folder above.
    """
    folder = folder.resolve()  # `..` and links have no place in the layout
    places = [folder.parent / "attempts" / folder.name]
    if folder.parent.parent.name == "attempts":
        places.append(folder.parent)
    return next((p / NAME for p in places if (p / NAME).is_file()), None)
