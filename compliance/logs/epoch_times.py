"""The seconds of a run's epochs, and how much they vary.

All epochs of a run do about the same work, so on a quiet machine they take about the same time. The
first epoch is left out: it may contain work that is done once, such as placing the data.

The excess is the mean of the other epochs over the mean of their fastest quarter (rounded up),
minus 1: the share by which the run took longer than at its own fastest pace. Noise that slows a
few percent of the time barely changes it, and a slow epoch counts only as much as it lengthens the
run. docs/log-format.md and tests/compliance/logs/test_epoch_noise_simulation.py state its error
rates.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Mapping, Sequence

from compliance.logs.dialects.event import Event

# With fewer epochs, counting the first, nothing is said about their variation.
MIN_EPOCHS = 4
# Seconds are kept for at most this many epochs; a real run has far fewer.
MAX_EPOCHS = 1000
# The records that begin an epoch, in MLLOG and v0.6, and in v0.5.
_STARTS = ("epoch_start", "train_epoch")


class EpochTimes:
    """Collects the time from the start of each epoch to the end of its evaluation.

    An epoch that is not evaluated is left out, unless the log has no evaluation at all. Epochs
    before run_start are not part of the run.
    """

    KEYS = frozenset(("run_start", *_STARTS, "epoch_stop", "eval_stop"))

    def __init__(self, ticks_per_second: int) -> None:
        self._ticks_per_second = ticks_per_second
        self._start: float | None = None  # of the current epoch, in ticks
        self._trained: list[float] = []  # ticks from the start to the end of training
        self._evaluated: list[float] = []  # ticks from the start to the end of the evaluation

    def observe(self, event: Event) -> None:
        """Processes the next event of one of KEYS."""
        now = event.time
        if now != now:
            return  # the record has no time
        if event.key == "run_start":
            self._start = None
            self._trained.clear()
            self._evaluated.clear()
        elif event.key in _STARTS:
            self._start = now
        elif self._start is not None:
            kept = self._evaluated if event.key == "eval_stop" else self._trained
            if len(kept) < MAX_EPOCHS:
                kept.append(now - self._start)
            if event.key == "eval_stop":
                self._start = None  # a later record of another host is about the same epoch

    @property
    def seconds(self) -> list[float]:
        """The seconds of each epoch, in order."""
        return [ticks / self._ticks_per_second for ticks in self._evaluated or self._trained]


@dataclass(frozen=True)
class EpochVariation:
    """How much the epochs of a run vary, without the first.

    Attributes:
      epochs: The number of epochs that were compared.
      fastest_s: Seconds of the fastest one.
      slowest_s: Seconds of the slowest one.
      mean_s: Mean seconds.
      pace_s: Mean seconds of the fastest quarter.
    """

    epochs: int
    fastest_s: float
    slowest_s: float
    mean_s: float
    pace_s: float

    @property
    def range(self) -> float:
        """The share by which the slowest epoch took longer than the fastest."""
        return self.slowest_s / self.fastest_s - 1

    @property
    def excess(self) -> float:
        """The share by which the epochs took longer than their fastest quarter."""
        return self.mean_s / self.pace_s - 1


def epoch_variation(seconds: Sequence[float]) -> EpochVariation | None:
    """Returns how much the epochs of a run vary.

    Args:
      seconds: The seconds of each epoch, in order.

    Returns:
      None if there are fewer than MIN_EPOCHS epochs, or if one of them took no time, which no
      real epoch does.
    """
    if len(seconds) < MIN_EPOCHS:
        return None
    compared = sorted(seconds[1:])
    if not 0 < compared[0] or not math.isfinite(compared[-1]):
        return None
    return EpochVariation(len(compared), compared[0], compared[-1],
                          math.fsum(compared) / len(compared), fastest_quarter_mean(compared))


def fastest_quarter_mean(values: Sequence[float]) -> float:
    """Returns the mean of the smallest quarter of the values, rounded up to whole values."""
    count = -(-len(values) // 4)
    return math.fsum(sorted(values)[:count]) / count


def median_epoch(seconds: Sequence[float]) -> float | None:
    """Returns the median seconds of a run's epochs without the first; None as `epoch_variation`."""
    if epoch_variation(seconds) is None:
        return None
    return statistics.median(seconds[1:])


def run_delays(medians: Mapping[int, float]) -> dict[int, float]:
    """Returns the share by which the epochs of each run took longer than those of the fastest.

    Args:
      medians: The median epoch of each run of a set with equal settings, by a number of the run.

    Returns:
      For each run, its median over the mean of the fastest quarter of the medians, minus 1.
    """
    pace = fastest_quarter_mean(list(medians.values())) if medians else 1.0
    return {run: median / pace - 1 for run, median in medians.items()}
