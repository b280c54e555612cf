"""The life cycle of a run's log: it is opened, ended once, and published as a result.

A log is written under `attempts/` and moved to the folder of its set if its run ended for one
of `RESULT_REASONS`. No file is created before `RunLog.open`. Exactly one run_stop is written: by
the run, by its watchdog (after a signal or a stall), or by the parent if the trial process could
not write it.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from compliance.logs.dialects import Event, LogReader
from compliance.logs.keys import NO_RUN_REASONS, REASONS
from compliance.logs.run_summary import RunSummary
from harness.base.clock import RunClock
from harness.logs.log_writer import make_sink, record_time_ms
from reference_model.base.atomic_files import fsync_folder
from reference_model.events import EventSink, NullSink

# A run that ended for one of these reasons is a result; any other is only an attempt.
RESULT_REASONS = tuple(reason for reason in REASONS if reason not in NO_RUN_REASONS)


@dataclass(frozen=True)
class RunOutcome:
    """The outcome of a run according to its log.

    Attributes:
      reason: Why the run ended; None if the log has no run_stop.
      epochs: Number of evaluations in the log.
      accuracy: Hit rate of the last evaluation.
      seconds: Time from run_start to run_stop.
      seed: The run's seed.
      attempt: (set, number of the attempt) from the log's `attempt` record.
      sha256: SHA-256 of the whole file, in hex.
      is_complete: Whether the log contains its last record, so that nothing must be added.
    """

    reason: str | None
    epochs: int
    accuracy: float | None
    seconds: float | None
    seed: int | None
    attempt: tuple[str, int] | None = None
    sha256: str | None = None
    is_complete: bool = False


def read_outcome(path: Path) -> RunOutcome:
    """Reads a log of either dialect, finished or not. Raises OSError."""
    reader = LogReader(path)
    # The dialect is known after the first record.
    facts: RunSummary | None = None
    for item in reader:
        if isinstance(item, Event):
            if facts is None:
                facts = RunSummary(reader.dialect.name, reader.dialect.ticks_per_second)
            facts.observe(item)
    if facts is None:
        return RunOutcome(None, 0, None, None, None, None, reader.sha256)
    reason = facts.reason
    if facts.is_complete and reason is None:  # v0.5 logs only whether it succeeded
        reason = "target" if facts.status == "success" else "aborted"
    accuracy = facts.last_accuracy[0] if facts.last_accuracy else None
    last_key = "run_final" if reader.dialect.name == "v0.5" else "run_stop"
    return RunOutcome(
        reason, facts.num_accuracies, accuracy, facts.seconds, facts.seed, facts.attempt,
        reader.sha256, last_key in facts.first_events,
    )  # fmt: skip


class RunLog:
    """The log of the run in this process; it is ended exactly once.

    Args:
      log_format: The value of `--log_format`.
      attempt: Path of the log during the run.
      result: Path of the log after it is published as a result.
      clock: The clock for the times of the records.

    Attributes:
      attempt: Path of the log during the run.
      result: Path of the log after it is published as a result.
      clock: The clock for the times of the records.
      sink: The sink for the events of the run.
      epoch: The last evaluated epoch; 0 before the first evaluation.
      published: Path of the published log; None before it is published.
    """

    def __init__(self, log_format: str, attempt: Path, result: Path, clock: RunClock):
        self.attempt, self.result, self.clock = Path(attempt), Path(result), clock
        sink = make_sink(log_format, self.attempt, clock, is_held=True)
        self.sink: EventSink = sink
        self._open_sink = sink.open
        self.epoch = 0
        self.published: Path | None = None
        self._end_lock = threading.Lock()
        self._has_ended = False

    def open(self) -> None:
        """Creates the file and writes all records so far. Raises OSError."""
        self.attempt.parent.mkdir(parents=True, exist_ok=True)
        self._open_sink()

    def stop(self, reason: str, before_close: Callable[[], None] = lambda: None) -> bool:
        """Writes run_stop, flushes the log to the disk and publishes it if it is a result.

        The run and the watchdog may both call this; the first caller ends the log.

        Args:
          reason: Why the run ended, a value of `compliance.logs.keys.REASONS`.
          before_close: Called after run_stop; may log untimed records. The run has ended
            even if it fails, and a second caller does not wait for it.

        Returns:
          Whether this call ended the log.
        """
        with self._end_lock:
            if self._has_ended:
                return False
            self._has_ended = True
            write_run_stop(self.sink, reason, self.epoch, self.clock.wall_ms())
            self.sink.sync()
        before_close()
        with self._end_lock:
            self.sink.close()
            if reason in RESULT_REASONS:
                self.published = publish_result(self.attempt, self.result)
            return True


class NullRunLog:
    """Replaces a RunLog if another process writes the log: ends once, writes nothing."""

    def __init__(self) -> None:
        self.sink: EventSink = NullSink()
        self.epoch = 0
        self.published: Path | None = None
        self._end_lock = threading.Lock()
        self._has_ended = False

    def open(self) -> None:
        """Creates no file."""

    def stop(self, reason: str, before_close: Callable[[], None] = lambda: None) -> bool:
        """Returns whether this is the first call; never calls `before_close`."""
        with self._end_lock:
            is_first, self._has_ended = not self._has_ended, True
            return is_first


def write_run_stop(sink: EventSink, reason: str, epoch: int, wall_time_ms: int) -> None:
    """Writes the record that ends every log.

    Args:
      sink: The log.
      reason: Why the run ended; only "target" has the status "success".
      epoch: The last evaluated epoch.
      wall_time_ms: Time of the raw wall clock.
    """
    status = "success" if reason == "target" else "aborted"
    sink.end(
        "run_stop", status=status, epoch_num=epoch, reason=reason, wall_time_ms=wall_time_ms
    )


def publish_result(attempt: Path, result: Path) -> Path:
    """Moves a finished log to the results and syncs their folder.

    Args:
      attempt: The log of a run that ended for one of `RESULT_REASONS`.
      result: Its path among the results.

    Returns:
      `result`.

    Raises:
      FileExistsError: `result` already exists; a result is never replaced.
    """
    result.parent.mkdir(parents=True, exist_ok=True)
    if result.exists():
        raise FileExistsError(f"{result} already exists; {attempt} was not moved")
    os.replace(attempt, result)
    fsync_folder(result.parent)
    return result


class _FixedClock(RunClock):
    """A clock that has stopped at the last write to a log whose process died."""

    def __init__(self, now_ns: int):
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns


def truncate_partial_line(log: Path) -> None:
    """Removes a last line without a line feed, whose write was interrupted."""
    data = log.read_bytes()
    size_of_whole_lines = data.rfind(b"\n") + 1
    if size_of_whole_lines < len(data):
        with open(log, "r+b") as file:
            file.truncate(size_of_whole_lines)
            os.fsync(file.fileno())


def finalize_log(log: Path, log_format: str, reason: str = "killed") -> str:
    """Completes a log whose process has ended, at whatever record the log ends.

    Args:
      log: A log to which no other process writes.
      log_format: Its format, a value of `--log_format`.
      reason: Why the run ended, used if the log has no run_stop.

    Returns:
      Why the run ended.
    """
    # Added records get the time of the last write, the last time at which the run is known
    # to have been running.
    written_ns = log.stat().st_mtime_ns
    truncate_partial_line(log)
    outcome = read_outcome(log)
    if outcome.is_complete:
        return outcome.reason or reason
    text = log.read_bytes().decode("utf-8", "replace")
    last_ms = record_time_ms(text.rstrip("\n").rpartition("\n")[2])
    # Records contain monotonic time. If the wall clock was set back during the run, the file
    # time may be earlier than the last record. Times in a log must not decrease.
    if last_ms is not None:
        written_ns = max(written_ns, int(last_ms + 1) * 1_000_000)
    sink = make_sink(log_format, log, _FixedClock(written_ns), append=True)
    if outcome.reason is None:
        write_run_stop(sink, reason, outcome.epochs, written_ns // 1_000_000)
    else:  # a v0.5 log that lacks only its last record
        sink.point("run_final")
    sink.close()
    return outcome.reason or reason


def detect_log_format(log: Path, default: str = "mllog") -> str:
    """Returns the `--log_format` of a log from its first 7 bytes; `default` if it is shorter."""
    with open(log, "rb") as file:
        head = file.read(7)
    if len(head) < 7:
        return default
    return "v0.5" if head == b":::MLPv" else "mllog"
