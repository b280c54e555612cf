"""Compares the logs of a set with the ledger of its benchmark."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from compliance.base.text import format_value
from compliance.chain.ledger import (
    Ledger,
    LedgerAttempt,
    LedgerError,
    SetLedger,
    find_ledger,
    read_ledger,
)
from compliance.history.light_logs import LightLog

_RUN_NUMBER = re.compile(r"result_(\d+)\.txt")


@dataclass(frozen=True)
class ReadLedger:
    """A ledger file.

    Attributes:
      path: The file.
      ledger: Its content; None if it is damaged.
      problem: Why it cannot be used; None if it can.
    """

    path: Path
    ledger: Ledger | None
    problem: str | None = None


class LedgerReader:
    """Finds and reads ledgers; each file is read once."""

    def __init__(self) -> None:
        self._read: dict[Path, ReadLedger] = {}

    def of_folder(self, folder: Path) -> ReadLedger | None:
        """Returns the ledger of a set's folder; None if there is none."""
        path = find_ledger(folder)
        return None if path is None else self.at(path)

    def at(self, path: Path) -> ReadLedger:
        """Reads the ledger at a path."""
        if path not in self._read:
            try:
                self._read[path] = ReadLedger(path, read_ledger(path))
            except LedgerError as error:
                self._read[path] = ReadLedger(path, None, f"the ledger is damaged ({error})")
            except OSError as error:
                self._read[path] = ReadLedger(
                    path, None, f"the ledger cannot be read: {error.strerror or error}")
        return self._read[path]


def set_id_of(logs: Sequence[LightLog]) -> str | None:
    """Returns the set's identifier in the first log that has one, or None."""
    return next((log.file.summary.attempt[0] for log in logs if log.file.summary.attempt), None)


def lacks_ledger(logs: Sequence[LightLog], found: ReadLedger | None) -> bool:
    """Whether logs name their attempts and have no ledger, as after copying them.

    Logs of other programs do not name attempts.
    """
    return found is None and set_id_of(logs) is not None


def ledger_problem(logs: Sequence[LightLog], found: ReadLedger | None) -> str | None:
    """Returns the first contradiction between a set's logs and its ledger, or None.

    A set without a ledger contradicts nothing; `lacks_ledger` tells whether it should have one.

    Args:
      logs: The set's logs.
      found: The ledger of their folder; None if there is none.
    """
    set_id = set_id_of(logs)
    if found is None:
        return None
    if found.ledger is None:
        return found.problem
    if set_id is None:
        return "the logs do not name their attempts, but there is a ledger"
    known = found.ledger.sets.get(set_id)
    if known is None:
        return f"the ledger does not contain the set {set_id}"
    recorded = {a.run: a for a in known.attempts if a.is_result}
    present = set()
    for log in logs:
        path = Path(log.file.path)
        match = _RUN_NUMBER.fullmatch(path.name)
        run = int(match[1]) if match else -1
        present.add(run)
        if run not in recorded:
            return f"{path.name} is not in the ledger"
        if log.file.sha256 != recorded[run].sha256:
            return f"{path.name} is not the log that the ledger records: it was changed"
        problem = _disagreement(log, recorded[run], known)
        if problem is not None:
            return f"{path.name} and the ledger disagree: {problem}"
    missing = sorted(set(recorded) - present)
    return f"result_{missing[0]}.txt, which the ledger records, is missing" if missing else None


def _disagreement(log: LightLog, attempt: LedgerAttempt, known: SetLedger) -> str | None:
    """Returns how a log contradicts the ledger although its digest is right, or None.

    A ledger that was written again contains the digests of forged logs. It still has to agree with
    the figures in them, and with the digests of earlier attempts that each log contains.
    """
    summary, end = log.file.summary, attempt.end or {}
    figures = {"epochs": summary.num_accuracies, "seconds": summary.seconds,
               "accuracy": summary.last_accuracy and summary.last_accuracy[0]}
    for name, value in figures.items():
        if end.get(name) != value:
            return f"{name} {format_value(value)} in the log, {format_value(end.get(name))} there"
    record = summary.first_events["attempt"].value if summary.attempt else {}
    for earlier in record.get("previous") or ():
        number = earlier.get("attempt") if isinstance(earlier, dict) else None
        if type(number) is not int or not 0 < number <= len(known.attempts) \
                or known.attempts[number - 1].sha256 != earlier.get("sha256"):
            return f"the log of attempt {format_value(number)} was changed"
    return None
