"""Shows the messages of one trial process on the console.

The same class serves the process that writes results (a single machine, or the chief of
several workers) and the process of another worker, which gets the run from a message and
shows shorter lines.
"""

from __future__ import annotations

from typing import NamedTuple

from harness.base.console import Console, format_epoch_line
from harness.config.run_config import RunConfig
from harness.launcher.stage_clock import StageClock
from harness.processes.trial_process import Message

# Stages of epochs with a shorter mean duration are not shown: the line would flicker.
_MIN_STAGE_EPOCH_SECONDS = 1.0


class OwnRun(NamedTuple):
    """The run that a process started itself, as the chief or alone.

    Attributes:
      run: Number of the run in its set, from 0.
      num_runs: Runs of the set.
      seed: Seed of the run.
    """

    run: int
    num_runs: int
    seed: int


class TrialView:
    """Shows the messages of one trial.

    Args:
      console: Shows the messages.
      config: The settings of the set.
      name: Name of the trial in its lines: "run 1/5" or "worker 1 of 2".
      own_run: The run that this process started; None on a worker that is not the chief,
        which gets the run from the message `assigned`.
      clock: Shows the stages before the first epoch; None for a plain line per stage.

    Attributes:
      more: Whether another run follows this one; None until the chief has reported it.
    """

    def __init__(
        self,
        console: Console,
        config: RunConfig,
        name: str,
        own_run: OwnRun | None,
        clock: StageClock | None = None,
    ):
        self._console, self._config, self._clock = console, config, clock
        self._name, self._own_run = name, own_run
        # On other workers: a text with the number of the run; empty until it is known.
        self._assigned_run = ""
        self.more: bool | None = None
        self._epochs, self._epoch_seconds, self._last_result = 0, 0.0, ""

    def show(self, message: Message) -> None:
        """Shows one message; kinds that are not for the user are ignored."""
        kind = message["type"]
        if kind == "stage":
            if self._own_run is not None:
                self._show_own_stage(message["name"], self._own_run)
            else:
                self._show_worker_stage(message["name"])
        elif kind == "note":
            self._console.line(f"{self._name}: {message['text']}")
        elif kind == "info":  # left out if quiet
            self._console.note(f"{self._name}: {message['text']}")
        elif kind == "text":
            self._console.note(message["text"])
        elif kind == "epoch":
            if self._own_run is not None:
                self._show_own_epoch(message, self._own_run)
            else:
                self._show_worker_epoch(message)
        elif kind == "device" and self._own_run is not None:
            self._console.note(f"{self._name} trains on {message['text']}")
        elif kind == "assigned" and self._own_run is None:
            self._assigned_run = f", run {message['run'] + 1}"
            self._console.progress(f"{self._name}{self._assigned_run}: seed {message['seed']}")
        elif kind == "next_run":
            self.more = message["more"]

    def _show_own_stage(self, stage: str, own_run: OwnRun) -> None:
        """Shows a stage with the result of the last epoch, unless epochs are short."""
        if stage in ("training", "evaluating"):
            if self._clock is not None:
                self._clock.end()
            if self._epoch_seconds >= _MIN_STAGE_EPOCH_SECONDS * self._epochs:
                text = f"{self._name} ep {self._epochs + 1:<2} {stage}{self._last_result}"
                self._console.progress(text, lasting=False)
            return
        text = f"{self._name} seed {own_run.seed}: {stage}"
        is_lasting = stage.startswith(("setting up", "waiting"))
        if self._clock is not None and not self._epochs:
            self._clock.begin(stage, text, is_lasting)
        else:
            self._console.progress(text, lasting=is_lasting)

    def _show_worker_stage(self, stage: str) -> None:
        """Shows a stage on a worker that is not the chief."""
        text = f"{self._name}{self._assigned_run}: {stage}"
        self._console.progress(text, lasting=stage.startswith("waiting"))

    def _show_own_epoch(self, message: Message, own_run: OwnRun) -> None:
        """Shows the line of an epoch, with an upper bound on the run's remaining time."""
        target, top_k = self._config.target, self._config.track.evaluation.top_k
        self._epochs = epoch = message["epoch"]
        self._epoch_seconds += message["train_seconds"] + message["eval_seconds"]
        is_reached = target is not None and message["hr"] >= target
        epochs_left = 0 if is_reached else self._config.max_epochs - epoch
        goal = "" if target is None else f" / {target:.4f}"
        self._last_result = f"  (ep {epoch}: HR@{top_k} {message['hr']:.4f}{goal})"
        self._console.progress(
            format_epoch_line(
                own_run.run, own_run.num_runs, message, target, epochs_left,
                self._epoch_seconds / epoch, top_k,
            )  # fmt: skip
        )

    def _show_worker_epoch(self, message: Message) -> None:
        """Shows the line of an epoch on a worker that is not the chief."""
        top_k = self._config.track.evaluation.top_k
        self._console.progress(
            f"{self._name}{self._assigned_run} ep {message['epoch']:<2} "
            f"HR@{top_k} {message['hr']:.4f}  loss {message['loss']:.4f}"
        )
