"""The record of one trial of a tuner: what was trained, and what came out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from harness.tune.learning.settings import Settings

# How a trial ended. A stopped trial would have needed too many epochs to be the best; a probe
# only measured seconds.
CONVERGED, MISSED, NAN_LOSS, STOPPED, PROBE, FAILED = (
    "converged", "missed", "nan_loss", "stopped", "probe", "failed")  # fmt: skip
OUTCOMES = (CONVERGED, MISSED, NAN_LOSS, STOPPED, PROBE, FAILED)


@dataclass(frozen=True)
class TrialRecord:
    """One finished trial.

    Attributes:
      settings: Its settings.
      seed: Its seed.
      phase: "search", "race" or "probe".
      outcome: One of OUTCOMES.
      hit_rates: The hit rate of each epoch.
      seconds: Seconds of each epoch, training and evaluation; empty if the trial was not timed,
        because another process was using the machine for timing.
      load_seconds: Seconds from the start of the clock to the first epoch; None if not timed.
      projected_epochs: For a stopped trial, the epochs that it would have needed at least.
      message: Why the trial failed; empty otherwise.
    """

    settings: Settings
    seed: int
    phase: str
    outcome: str
    hit_rates: tuple[float, ...]
    seconds: tuple[float, ...] = ()
    load_seconds: float | None = None
    projected_epochs: float | None = None
    message: str = ""

    @property
    def epochs(self) -> int | None:
        """Epochs to the target; None if the trial did not reach it."""
        return len(self.hit_rates) if self.outcome == CONVERGED else None

    @property
    def is_complete(self) -> bool:
        """Whether it shows if the settings converge: it was not stopped, and nothing broke."""
        return self.outcome in (CONVERGED, MISSED, NAN_LOSS)


def crossing(hit_rates: Sequence[float], target: float) -> float | None:
    """Returns where a curve crosses the target, in epochs, interpolated between two epochs.

    The whole number of epochs is at least this. The fraction tells more about the settings than
    the whole number, so that fewer runs are needed to learn from.

    Args:
      hit_rates: The hit rate of each epoch, from 1; an untrained model has 0.
      target: The hit rate to reach.

    Returns:
      The epoch; None if the curve stays below the target.
    """
    before = 0.0
    for epoch, hit_rate in enumerate(hit_rates, 1):
        if hit_rate >= target:
            return epoch - 1 + (target - before) / (hit_rate - before)
        before = hit_rate
    return None
