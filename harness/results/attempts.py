"""Attempts at the runs of a set: recorded before they begin, closed after they have ended.

An attempt is recorded in the ledger before the attempt begins, and the digest of its log before
the next attempt begins. `recover_interrupted` closes an attempt whose harness died in between.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from compliance.base.untrusted_files import unsafe_path_reason
from compliance.chain.attempt_record import ATTEMPT_KEY, AttemptRecord, PriorAttempt
from compliance.chain.ledger import LedgerAttempt, LedgerError
from compliance.logs.keys import REASONS
from harness.base.clock import RunClock
from harness.config.run_config import ConfigError
from harness.logs.log_writer import make_sink
from harness.logs.run_log import (
    RESULT_REASONS,
    RunOutcome,
    detect_log_format,
    finalize_log,
    publish_result,
    read_outcome,
    write_run_stop,
)
from harness.results.ledger_file import LedgerFile, new_launcher_id

# File name of the log of an attempt: run, set, number of the attempt at this run.
_ATTEMPT_NAME = re.compile(r"run_(\d+)_(\w+)_\d+\.txt")


class AttemptRegistry:
    """Records the attempts of one benchmark in its ledger.

    Args:
      folder: Folder of the ledger and of the logs of attempts.
      results: Folder of the logs of finished runs.
      is_new: Whether to begin a new ledger and ignore the content of the existing file.

    Attributes:
      ledger: The ledger file.
      launcher: Id of this invocation of the harness.

    Raises:
      LedgerError: the ledger is invalid or was changed outside the harness.
    """

    def __init__(self, folder: Path, results: Path, is_new: bool = False):
        self.folder, self.results = folder, results
        self.ledger = LedgerFile(folder, is_new)
        self.launcher = new_launcher_id()

    def declare_launcher(self, set_id: str, num_runs: int) -> None:
        """Records that this invocation of the harness begins to work on a set."""
        launchers = self.ledger.set_ledger(set_id).launchers
        joins = launchers[-1] if launchers else None
        self.ledger.append(
            "launcher", launcher=self.launcher, set=set_id, runs=num_runs, joins=joins
        )

    def next_record(self, set_id: str, run: int) -> AttemptRecord:
        """Returns the `attempt` record of the next attempt, which links it to the chain."""
        return self._record_after(
            self.ledger.set_ledger(set_id).attempts, set_id, run, self.launcher
        )

    def _record_after(
        self, attempts: list[LedgerAttempt], set_id: str, run: int, launcher: str
    ) -> AttemptRecord:
        """Returns the `attempt` record of the attempt that follows `attempts` in its set."""
        result_indices = [index for index, attempt in enumerate(attempts) if attempt.is_result]
        # The record lists the last result and all attempts after it.
        since = attempts[result_indices[-1] if result_indices else 0 :]
        last_launcher = attempts[-1].launcher if attempts else launcher
        return AttemptRecord(
            set=set_id,
            attempt=len(attempts) + 1,
            run=run,
            launcher=launcher,
            joins=None if last_launcher == launcher else last_launcher,
            previous=tuple(_prior(attempt) for attempt in since),
        )

    def record_start(self, record: AttemptRecord, seed: int, log: str) -> None:
        """Records that an attempt begins; the attempt may begin when this returns.

        Args:
          record: The `attempt` record of the attempt's log.
          seed: The run's seed.
          log: File name of the attempt's log.
        """
        self.ledger.append(
            "start", set=record.set, launcher=record.launcher, attempt=record.attempt,
            run=record.run, seed=seed, log=log,
        )  # fmt: skip

    def record_end(
        self, set_id: str, message: str, is_result: bool, outcome: RunOutcome
    ) -> None:
        """Records that the current attempt has ended.

        Args:
          set_id: Set of the attempt.
          message: One line about the end of the attempt.
          is_result: Whether its log is among the results.
          outcome: The outcome according to its closed log.
        """
        attempt = self.ledger.set_ledger(set_id).unfinished_attempt()
        self.ledger.append(
            "end", set=set_id, attempt=attempt.number, run=attempt.run, log=attempt.log,
            seed=attempt.seed, reason=outcome.reason, message=message, epochs=outcome.epochs,
            accuracy=outcome.accuracy, seconds=outcome.seconds, placed=is_result,
            sha256=outcome.sha256,
        )  # fmt: skip

    def recover_interrupted(self, current: str | None, log_format: str) -> None:
        """Closes all attempts whose harness died: completes logs, publishes results.

        Args:
          current: The set to which the results folder belongs; None if there is no set.
          log_format: The `--log_format` of that set, for logs too short to detect it.

        Raises:
          LedgerError: the ledger names a file that cannot be a log of an attempt.
          ConfigError: another log already exists at the path of a result.
        """
        for set_id, attempt in self.ledger.open_attempts():
            if not _ATTEMPT_NAME.fullmatch(attempt.log):
                raise LedgerError(f"{attempt.log!r} is not the file name of a log")
            log, result = self.folder / attempt.log, self.results / f"result_{attempt.run}.txt"
            if log.is_symlink():  # writing to it would change its target
                raise LedgerError(f"{attempt.log} is a symbolic link")
            if log.exists():
                is_result = self._close(log, result, set_id == current, log_format)
            else:
                # Either the log has already been published, or no log was started.
                is_result = set_id == current and self._is_log_of(result, set_id, attempt)
                if not is_result:
                    record = self._record_of(set_id, attempt)
                    write_stub_log(log, log_format, record, "killed")
            outcome = closed_outcome(result if is_result else log)
            self.record_end(set_id, "closed afterwards", is_result, outcome)
        close_stray_logs(self.folder)

    def _close(self, log: Path, result: Path, is_current: bool, log_format: str) -> bool:
        """Completes a log and publishes it if it is a result; returns whether it is one."""
        reason = finalize_log(log, detect_log_format(log, log_format))
        if reason not in RESULT_REASONS or not is_current:
            return False
        if result.exists():
            raise ConfigError(
                f"{log} is the log of a finished run, but {result} already exists and is the log "
                "of another run; move one of the two files away"
            )
        publish_result(log, result)
        return True

    def _is_log_of(self, result: Path, set_id: str, attempt: LedgerAttempt) -> bool:
        """Returns whether `result` is this attempt's log, published before the harness died."""
        if not result.exists():
            return False
        return read_outcome(result).attempt == (set_id, attempt.number)

    def _record_of(self, set_id: str, attempt: LedgerAttempt) -> AttemptRecord:
        """Returns the `attempt` record of the last attempt of the set, which wrote no log."""
        attempts = self.ledger.set_ledger(set_id).attempts
        before = [known for known in attempts if known is not attempt]
        return self._record_after(before, set_id, attempt.run, attempt.launcher)


def _prior(attempt: LedgerAttempt) -> PriorAttempt:
    """Returns the entry of an attempt in the `attempt` record of a later one."""
    end = attempt.end or {}
    return PriorAttempt(attempt.number, attempt.run, attempt.launcher, end["reason"], end["sha256"])


def closed_outcome(log: Path) -> RunOutcome:
    """Returns the outcome according to a closed log; an unknown reason becomes "killed"."""
    outcome = read_outcome(log)
    return outcome if outcome.reason in REASONS else replace(outcome, reason="killed")


def write_stub_log(log: Path, log_format: str, record: AttemptRecord, reason: str) -> None:
    """Writes the log of an attempt that died before it could write one.

    Args:
      log: Path of the log; missing folders are created.
      log_format: The value of `--log_format`.
      record: The log's `attempt` record.
      reason: Why the attempt ended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    clock = RunClock()
    sink: Any = make_sink(log_format, log, clock)
    sink.point(ATTEMPT_KEY, record.as_value())
    write_run_stop(sink, reason, 0, clock.wall_ms())
    sink.close()


def close_stray_logs(folder: Path) -> None:
    """Completes the logs of attempts without a run_stop that are not in the ledger."""
    for path in sorted(folder.glob("run_*.txt")):
        # Write only to regular files directly in the folder.
        if not _ATTEMPT_NAME.fullmatch(path.name) or unsafe_path_reason(path) is not None:
            continue
        if read_outcome(path).reason is None:
            finalize_log(path, detect_log_format(path))
