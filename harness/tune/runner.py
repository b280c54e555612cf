"""The parent's side of a tuner's trials: starts workers, follows curves, stops hopeless trials."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Sequence

from harness.base.clock import Stopwatch
from harness.config.run_config import RunConfig
from harness.config.trial_spec import TrialSpec
from harness.processes.child_process import (
    ChildProcess,
    Message,
    child_environment,
    last_output_line,
)
from harness.processes.trial_process import Interrupts
from harness.tune.learning.record import (
    CONVERGED,
    FAILED,
    MISSED,
    NAN_LOSS,
    PROBE,
    STOPPED,
    TrialRecord,
)
from harness.tune.learning.settings import Settings
from harness.tune.learning.stopping import is_hopeless, projected_epochs
from harness.tune.study import timing_lock
from reference_model.data.split_file import SplitHeader

# Epochs of a trial that only measures seconds.
PROBE_EPOCHS = 4


@dataclass(frozen=True)
class Plan:
    """A trial to run.

    Attributes:
      settings: Its settings.
      seed: Its seed.
      phase: "search", "race" or "probe".
      time_limit: Seconds of a run beyond which the trial stops; None for no limit.
      curves: Hit rates by epoch of trials that reached the target.
      expected_seconds: Expected seconds per epoch.
      is_timed: Whether other trials with this batch size and so on have measured these seconds.
      fixed_seconds: Seconds of a run outside its epochs.
    """

    settings: Settings
    seed: int
    phase: str
    time_limit: float | None = None
    curves: Sequence[Sequence[float]] = ()
    expected_seconds: float = 1.0
    is_timed: bool = False
    fixed_seconds: float = 0.0


class OutOfTime(Exception):
    """The time of this call ended during a trial, which is not recorded."""


class TrialRunner:
    """Runs trials one after another, in a worker that is kept for the same number of threads.

    Use it in a `with` statement.

    Args:
      config: The settings of the tuning.
      header: Header of the dataset.
      lock_path: The lock of the machine's timings.
      interrupts: Handles this process's signals; a signal ends the worker.
      is_over: Tells, between two epochs, whether the time of this call is over.
      on_epoch: Called with the plan and the hit rates after each epoch.

    Attributes:
      start_seconds: The least seconds in which a worker started and compiled its first programs;
        None before that.
    """

    def __init__(
        self,
        config: RunConfig,
        header: SplitHeader,
        lock_path: Path,
        interrupts: Interrupts,
        is_over: Callable[[], bool],
        on_epoch: Callable[[Plan, list[float]], None],
    ):
        self._config, self._header, self._lock_path = config, header, lock_path
        self._interrupts, self._is_over, self._on_epoch = interrupts, is_over, on_epoch
        self._worker: ChildProcess | None = None
        self._threads: int | None = None
        self._output = tempfile.TemporaryFile()
        self._watch: Stopwatch | None = None  # of the start of a new worker
        self.start_seconds: float | None = None

    def __enter__(self) -> "TrialRunner":
        return self

    def __exit__(self, *_: object) -> None:
        self.end_worker()
        self._output.close()

    def end_worker(self) -> None:
        """Ends the worker, and so frees its memory; the next trial starts another one."""
        if self._worker is not None:
            self._interrupts.forward_to(None)
            with contextlib.suppress(OSError):
                self._worker.kill()
            self._worker.__exit__()
            self._worker = None

    def run(self, plan: Plan) -> TrialRecord:
        """Runs one trial.

        Raises:
          KeyboardInterrupt: A signal was received; the trial is not recorded.
          OutOfTime: The time of this call is over; the trial is not recorded.
        """
        with timing_lock(self._lock_path) as is_timed:
            worker = self._worker_for(plan.settings)
            worker.send_line(self._spec(plan).to_json())
            return self._follow(worker, plan, is_timed)

    def _worker_for(self, settings: Settings) -> ChildProcess:
        """Returns a worker with the settings' number of threads."""
        if self._worker is not None and self._threads != settings.intra_op_threads:
            self.end_worker()
        if self._worker is None:
            self._output.seek(0)
            self._output.truncate()
            self._worker = ChildProcess(
                "harness.tune.worker", [f"--parent={os.getpid()}"], self._output,
                child_environment(),
            )  # fmt: skip
            self._watch = Stopwatch()
            self._threads = settings.intra_op_threads
            self._interrupts.forward_to(self._worker.process)
        return self._worker

    def _spec(self, plan: Plan) -> TrialSpec:
        config = plan.settings.apply_to(self._config)
        if plan.phase == "probe":
            config = replace(config, max_epochs=PROBE_EPOCHS)
        header = self._header
        return TrialSpec(
            config=config, run=0, seed=plan.seed, attempt_log="", result_log="",
            num_users=header.num_users, num_items=header.num_items,
            num_positives=header.num_positives, attempt_record={}, split_digest=header.digest,
        )  # fmt: skip

    def _follow(self, worker: ChildProcess, plan: Plan, is_timed: bool) -> TrialRecord:
        """Follows the messages of a trial until it ends; returns its record."""
        curve: list[float] = []
        seconds: list[float] = []
        load_seconds: float | None = None
        is_out_of_time = False
        end: Message = {}
        for message in worker.messages():
            if self._interrupts.requested:
                break
            if message["type"] == "ready" and self._watch is not None:
                self.start_seconds = min(self._watch.seconds(), self.start_seconds or math.inf)
                self._watch = None
            if message["type"] == "epoch":
                curve.append(message["hr"])
                seconds.append(message["seconds"])
                load_seconds = message["load_seconds"]
                self._on_epoch(plan, curve)
                is_out_of_time = self._is_over()
                done = is_out_of_time or self._is_done(plan, curve, seconds if is_timed else [])
                worker.send_line("stop" if done else "go")
            elif message["type"] == "ended":
                end = message
                break
        if self._interrupts.requested:
            self.end_worker()
            raise KeyboardInterrupt
        target = self._config.target
        is_reached = bool(curve) and curve[-1] >= target and plan.phase != "probe"
        if is_out_of_time and not is_reached:
            raise OutOfTime
        if not end:  # the worker has died
            reason = self._death_reason(worker)
            self.end_worker()
            return TrialRecord(plan.settings, plan.seed, plan.phase, FAILED, tuple(curve),
                               message=reason)
        outcome = self._outcome(plan, end["reason"], is_reached)
        projected = None
        if outcome == STOPPED:
            projected = float(projected_epochs(curve, plan.curves, target))
        return TrialRecord(
            plan.settings, plan.seed, plan.phase, outcome, tuple(curve),
            tuple(round(s, 6) for s in seconds) if is_timed else (),
            load_seconds if is_timed else None, projected, end["message"],
        )  # fmt: skip

    def _is_done(self, plan: Plan, curve: list[float], seconds: list[float]) -> bool:
        """Returns whether a trial has nothing more to show."""
        if plan.phase == "probe":
            return False
        if curve[-1] >= self._config.target:
            return True
        if plan.time_limit is None:
            return False
        # The first epoch waits for its order, so it does not tell the seconds of the others.
        steady = seconds[1:]
        per_epoch = statistics.median(steady) if steady else plan.expected_seconds
        if plan.is_timed:  # what slows the machine down for a while must not stop the trial
            per_epoch = min(per_epoch, plan.expected_seconds)
        elif len(seconds) == 1 and seconds[0] > plan.time_limit:
            return True
        limit = (plan.time_limit - plan.fixed_seconds) / per_epoch
        return is_hopeless(curve, plan.curves, self._config.target, max(limit, 1.0))

    def _outcome(self, plan: Plan, reason: str, is_reached: bool) -> str:
        if reason in ("failed", "nan_loss"):
            return FAILED if reason == "failed" else NAN_LOSS
        if plan.phase == "probe":
            return PROBE
        if is_reached:
            return CONVERGED
        return STOPPED if reason == "stopped" else MISSED

    def _death_reason(self, worker: ChildProcess) -> str:
        """Returns why a worker died, in one line."""
        worker.process.wait()
        code = worker.process.returncode
        if code == -9:
            return "the worker was killed (out of memory?)"
        self._output.seek(0)
        line = last_output_line(self._output.read())
        return line or f"the worker ended with exit code {code}"
