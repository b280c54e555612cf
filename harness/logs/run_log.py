"""How the log of one run begins, ends and comes to its place, whatever happens.

A log is written under `attempts/` and renamed into the results when its run has
ended in one of `PLACED_REASONS`. Exactly one run_stop is written: by the run,
by its watcher (a signal, a stall), or, where the process could not, by the
parent.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from compliance.logs.dialects import Event, LogReader
from compliance.logs.run_summary import RunFacts
from harness.base.clock import RunClock
from harness.logs.log_writer import last_time_ms, make_sink
from reference_model.base.atomic_files import sync_folder
from reference_model.events import EventSink, NullSink

# A run that ended so is a result; the others are attempts.
PLACED_REASONS = ("target", "epoch_cap", "nan_loss")


@dataclass(frozen=True)
class Outcome:
    """What a log says about its run. `reason` is None where the log has not ended.

    `epochs` counts evaluations; `accuracy` is the last one; `seconds` are those
    between run_start and run_stop; `attempt` is (set, number) where the log says
    it; `sha256` is the whole file's; `whole`: nothing is missing after run_stop.
    """

    reason: str | None
    epochs: int
    accuracy: float | None
    seconds: float | None
    seed: int | None
    attempt: tuple[str, int] | None = None
    sha256: str | None = None
    whole: bool = False


def read_outcome(path: Path) -> Outcome:
    """Reads a log of either dialect, finished or not. Raises OSError."""
    reader = LogReader(path)
    facts: RunFacts | None = None
    for item in reader:
        if isinstance(item, Event):
            if facts is None:
                facts = RunFacts(reader.dialect.name, reader.dialect.ticks)
            facts.see(item)
    if facts is None:
        return Outcome(None, 0, None, None, None, None, reader.sha256)
    reason = facts.reason
    if facts.complete and reason is None:  # v0.5 says only whether it succeeded
        reason = "target" if facts.status == "success" else "aborted"
    accuracy = facts.last[0] if facts.last else None
    last_key = "run_final" if reader.dialect.name == "v0.5" else "run_stop"
    return Outcome(
        reason, facts.accuracies, accuracy, facts.seconds, facts.seed, facts.attempt,
        reader.sha256, last_key in facts.first,
    )  # fmt: skip


class RunLog:
    """The log of a run in this process, and its one ending."""

    def __init__(self, log_format: str, attempt: Path, result: Path, clock: RunClock):
        self.attempt, self.result, self.clock = Path(attempt), Path(result), clock
        self.attempt.parent.mkdir(parents=True, exist_ok=True)
        self.sink: EventSink = make_sink(log_format, self.attempt, clock)
        self.epoch = 0  # the last epoch that was evaluated
        self.placed: Path | None = None
        self._ending = threading.Lock()
        self._ended = False

    def stop(self, reason: str, after: Callable[[], None] = lambda: None) -> bool:
        """Writes run_stop, flushes to the disk and puts the log in its place.

        The first caller ends the log; for others False comes back. `after` may add
        what is not timed; the run has ended whatever becomes of it, and who comes
        second need not wait for it.
        """
        with self._ending:
            if self._ended:
                return False
            self._ended = True
            write_run_stop(self.sink, reason, self.epoch, self.clock.wall_ms())
            self.sink.sync()
        after()
        with self._ending:
            self.sink.close()
            if reason in PLACED_REASONS:
                self.placed = place(self.attempt, self.result)
            return True


class SilentLog:
    """In place of a RunLog where another process writes the log: ends once, writes nothing."""

    def __init__(self) -> None:
        self.sink: EventSink = NullSink()
        self.epoch = 0
        self.placed: Path | None = None
        self._ending = threading.Lock()
        self._ended = False

    def stop(self, reason: str, after: Callable[[], None] = lambda: None) -> bool:
        """Whether this caller is the first; `after`, which is about a result, is left out."""
        with self._ending:
            first, self._ended = not self._ended, True
            return first


def write_run_stop(sink: EventSink, reason: str, epoch: int, wall_time_ms: int) -> None:
    """The record that ends every log."""
    status = "success" if reason == "target" else "aborted"
    sink.end(
        "run_stop", status=status, epoch_num=epoch, reason=reason, wall_time_ms=wall_time_ms
    )


def place(attempt: Path, result: Path) -> Path:
    """Renames a finished log to where results are; never over another one."""
    result.parent.mkdir(parents=True, exist_ok=True)
    if result.exists():
        raise FileExistsError(f"{result} is there already; {attempt} is left where it is")
    os.replace(attempt, result)
    sync_folder(result.parent)
    return result


class _FixedClock(RunClock):
    """The time at which a dead run's log was last written to."""

    def __init__(self, now_ns: int):
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns


def drop_torn_line(log: Path) -> None:
    """Cuts off a last line that has no end: it was being written when all stopped."""
    data = log.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with open(log, "r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())


def ensure_end(log: Path, log_format: str, reason: str = "killed") -> str:
    """Ends a log that its process left, however far that got; returns why its run ended.

    Without a run_stop the run died without a word: aborted, for `reason`. What is added
    is dated when the file was last written to, the last thing that is known of the run.
    """
    written_ns = log.stat().st_mtime_ns
    drop_torn_line(log)
    outcome = read_outcome(log)
    if outcome.whole:
        return outcome.reason or reason
    whole = log.read_bytes()
    last_line = whole.decode("utf-8", "replace").rstrip("\n").rpartition("\n")[2]
    last_ms = last_time_ms(last_line)
    if last_ms is not None:
        written_ns = max(written_ns, int(last_ms + 1) * 1_000_000)
    sink = make_sink(log_format, log, _FixedClock(written_ns), append=True)
    if outcome.reason is None:
        write_run_stop(sink, reason, outcome.epochs, written_ns // 1_000_000)
    else:
        sink.point("run_final")
    sink.close()
    return outcome.reason or reason


def format_of(log: Path, default: str = "mllog") -> str:
    """The `--log_format` that a log was written with, by its first bytes."""
    with open(log, "rb") as file:
        head = file.read(7)
    if len(head) < 7:
        return default
    return "v0.5" if head == b":::MLPv" else "mllog"
