"""TODO."""

from __future__ import annotations

from harness.base.console import Console, epoch_line
from harness.config.trial_spec import TrialSpec
from harness.processes.trial_process import Message


class _TrialView:
    """Shows one trial's messages as they come."""

    # Epochs that are shorter on average pass without their stages being shown.
    SHOWN_SECONDS = 1.0

    def __init__(self, console: Console, spec: TrialSpec, num_runs: int):
        self._console, self._spec = console, spec
        self._num_runs = num_runs
        self._name = f"run {spec.run + 1}/{num_runs}"
        self._epochs, self._seconds, self._found = 0, 0.0, ""

    def show(self, message: Message) -> None:
        if message["type"] == "stage":
            self._stage(message["name"])
        elif message["type"] == "note":
            self._console.line(f"{self._name}: {message['text']}")
        elif message["type"] == "picked":
            self._console.note(f"{self._name} trains on {message['text']}")
        elif message["type"] == "epoch":
            self._epoch(message)

    def _stage(self, stage: str) -> None:
        if stage in ("training", "evaluating"):
            if self._seconds >= self.SHOWN_SECONDS * self._epochs:
                text = f"{self._name} ep {self._epochs + 1:<2} {stage}{self._found}"
                self._console.progress(text, lasting=False)
            return
        text = f"{self._name} seed {self._spec.seed}: {stage}"
        self._console.progress(text, lasting=stage.startswith(("setting up", "waiting")))

    def _epoch(self, message: Message) -> None:
        config = self._spec.config
        target, top_k = config.target, config.track.evaluation.top_k
        self._epochs = epoch = message["epoch"]
        self._seconds += message["train_seconds"] + message["eval_seconds"]
        reached = target is not None and message["hr"] >= target
        left = 0 if reached else config.max_epochs - epoch
        goal = "" if target is None else f" / {target:.4f}"
        self._found = f"  (ep {epoch}: HR@{top_k} {message['hr']:.4f}{goal})"
        self._console.progress(
            epoch_line(
                self._spec.run, self._num_runs, message, target, left,
                self._seconds / epoch, top_k,
            )  # fmt: skip
        )
