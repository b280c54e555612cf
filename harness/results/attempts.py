"""Attempts at the runs of a set: written down before they begin, closed when they ended.

An attempt is in the ledger before its process starts, and its log's digest is in
the ledger before the next one starts. What died in between is closed by `recover`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from compliance.base.untrusted_files import why_no_member
from compliance.chain.attempt_record import KEY, Link, Prior
from compliance.chain.ledger import Attempt, LedgerError
from compliance.logs.keys import REASONS
from harness.base.clock import RunClock
from harness.config.run_config import ConfigError
from harness.logs.log_writer import make_sink
from harness.logs.run_log import (
    PLACED_REASONS,
    Outcome,
    ensure_end,
    format_of,
    place,
    read_outcome,
    write_run_stop,
)
from harness.results.ledger_file import LedgerFile, new_launcher

ATTEMPT_NAME = re.compile(r"run_(\d+)_(\w+)_\d+\.txt")


class Attempts:
    """The attempts of one benchmark. Raises LedgerError where its ledger was changed."""

    def __init__(self, folder: Path, results: Path):
        self.folder, self.results = folder, results
        self.ledger = LedgerFile(folder)
        self.launcher = new_launcher()

    def declare(self, set_id: str, num_runs: int) -> None:
        """This launcher begins to work on a set."""
        before = self.ledger.of_set(set_id).launchers
        joins = before[-1] if before else None
        self.ledger.append(
            "launcher", launcher=self.launcher, set=set_id, runs=num_runs, joins=joins
        )

    def link(self, set_id: str, run: int) -> Link:
        """The place in the chain of the attempt that comes next."""
        attempts = self.ledger.of_set(set_id).attempts
        results = [i for i, attempt in enumerate(attempts) if attempt.is_result]
        since = attempts[results[-1] if results else 0 :]
        last = attempts[-1].launcher if attempts else self.launcher
        return Link(
            set=set_id,
            attempt=len(attempts) + 1,
            run=run,
            launcher=self.launcher,
            joins=None if last == self.launcher else last,
            previous=tuple(_prior(attempt) for attempt in since),
        )

    def start(self, link: Link, seed: int, log: str) -> None:
        """The attempt begins when this is on the disk."""
        self.ledger.append(
            "start", set=link.set, launcher=link.launcher, attempt=link.attempt, run=link.run,
            seed=seed, log=log,
        )  # fmt: skip

    def end(self, set_id: str, message: str, placed: bool, outcome: Outcome) -> None:
        """The attempt under way has ended and its log is closed."""
        attempt = self.ledger.of_set(set_id).under_way()
        self.ledger.append(
            "end", set=set_id, attempt=attempt.number, run=attempt.run, log=attempt.log,
            seed=attempt.seed, reason=outcome.reason, message=message, epochs=outcome.epochs,
            accuracy=outcome.accuracy, seconds=outcome.seconds, placed=placed,
            sha256=outcome.sha256,
        )  # fmt: skip

    def recover(self, current: str | None, log_format: str) -> None:
        """Closes what died: every log ends, every result is in its place, all is told.

        current: the set that the results folder belongs to.
        """
        for set_id, attempt in self.ledger.open_attempts():
            if not ATTEMPT_NAME.fullmatch(attempt.log):
                raise LedgerError(f"{attempt.log!r} is no name of a log")
            log, result = self.folder / attempt.log, self.results / f"result_{attempt.run}.txt"
            if log.is_symlink():  # what it points to would be written to
                raise LedgerError(f"{attempt.log} is a link")
            if log.exists():
                placed = self._close(log, result, set_id == current, log_format)
            else:
                placed = set_id == current and self._is_log_of(result, set_id, attempt)
                if not placed:
                    write_stub(log, log_format, self._link_of(set_id, attempt), "killed")
            self.end(set_id, "closed afterwards", placed, told(result if placed else log))
        close_strays(self.folder)

    def _close(self, log: Path, result: Path, is_current: bool, log_format: str) -> bool:
        """Ends a log that was left behind; whether it is a result, and in its place."""
        reason = ensure_end(log, format_of(log, log_format))
        if reason not in PLACED_REASONS or not is_current:
            return False
        if result.exists():
            raise ConfigError(
                f"{log} is a finished run, but {result} is there already and is another one; "
                "move one of them away"
            )
        place(log, result)
        return True

    def _is_log_of(self, result: Path, set_id: str, attempt: Attempt) -> bool:
        """Whether the result was made by this attempt: it was placed, then all died."""
        if not result.exists():
            return False
        return read_outcome(result).attempt == (set_id, attempt.number)

    def _link_of(self, set_id: str, attempt: Attempt) -> Link:
        """The link of an attempt under way, as its own log would have had it."""
        ours, self.launcher = self.launcher, attempt.launcher
        known = self.ledger.of_set(set_id).attempts
        known.remove(attempt)
        try:
            return self.link(set_id, attempt.run)
        finally:
            known.append(attempt)
            self.launcher = ours


def _prior(attempt: Attempt) -> Prior:
    end = attempt.end or {}
    return Prior(attempt.number, attempt.run, attempt.launcher, end["reason"], end["sha256"])


def told(log: Path) -> Outcome:
    """What a closed log says, with a reason that is one of REASONS."""
    outcome = read_outcome(log)
    return outcome if outcome.reason in REASONS else replace(outcome, reason="killed")


def write_stub(log: Path, log_format: str, link: Link, reason: str) -> None:
    """The log of an attempt that died before it could write one."""
    log.parent.mkdir(parents=True, exist_ok=True)
    clock = RunClock()
    sink: Any = make_sink(log_format, log, clock)
    sink.point(KEY, link.as_value())
    write_run_stop(sink, reason, 0, clock.wall_ms())
    sink.close()


def close_strays(folder: Path) -> None:
    """Ends logs that no ledger knows of and that nobody ended."""
    for path in sorted(folder.glob("run_*.txt")):
        if not ATTEMPT_NAME.fullmatch(path.name) or why_no_member(path) is not None:
            continue
        if read_outcome(path).reason is None:
            ensure_end(path, format_of(path))
