"""Calibration: the curves from which a track's target and reference point are computed.

A calibration is a file of HR@K curves, one for each seed, each trained for the same
number of epochs without early stopping (`python -m harness.calibrate` writes it). It
determines the target, the epochs that each run needed to reach it, and a bound on the share
of runs that reach it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

REFERENCE_POINTS_DIR = Path(__file__).resolve().parents[1] / "reference_points"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Calibration:
    """The curves of one track.

    Attributes:
      track: The track's name.
      users: The number of users, each of whom is one evaluation case.
      epochs: The number of epochs of every run.
      hit_rates: HR@K, indexed by [run][epoch].
    """

    track: str
    users: int
    epochs: int
    hit_rates: tuple[tuple[float, ...], ...]

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """Reads a calibration file.

        Raises:
          ValueError: The file is not a calibration; the message names the file.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            curves = tuple(tuple(run["hit_rate"]) for run in data["runs"])
            return cls(data["track"], data["users"], data["epochs"], curves)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a calibration file: {error!r}") from None


def target_from_curves(calibration: Calibration) -> float:
    """Computes a track's target from its calibration.

    It is the best hit rate of the worst run, minus one binomial standard error, rounded
    down to three digits. The standard error of a hit rate p over U users is
    sqrt(p (1 - p) / U).
    """
    lowest_best = min(max(curve) for curve in calibration.hit_rates)
    standard_error = math.sqrt(lowest_best * (1 - lowest_best) / calibration.users)
    # The small term prevents rounding errors from turning 0.235 into 0.234.
    return math.floor((lowest_best - standard_error) * 1000 + 1e-9) / 1000


def epochs_to_target(curve: tuple[float, ...], target: float) -> int | None:
    """Returns the first epoch (from 1) whose hit rate is at least the target, or None."""
    return next((e for e, hr in enumerate(curve, start=1) if hr >= target), None)


def clopper_pearson(
    successes: int, trials: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Computes the exact two-sided confidence interval of a binomial proportion.

    Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the
    case of the binomial", Biometrika 26(4). The bounds are found by bisection on the
    binomial tails.

    Args:
      successes: The number of successes.
      trials: The number of trials, at least 1.
      confidence: The minimum probability that the interval covers the proportion.

    Returns:
      The lower and the upper bound of the proportion.

    Raises:
      ValueError: There are more successes than trials, or no trials.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes of {trials} trials: give at least 1 trial and "
                         "from 0 to all successes")
    tail = (1 - confidence) / 2

    def at_least(p: float) -> float:
        return math.fsum(
            math.comb(trials, k) * p**k * (1 - p) ** (trials - k)
            for k in range(successes, trials + 1)
        )

    def at_most(p: float) -> float:
        return math.fsum(
            math.comb(trials, k) * p**k * (1 - p) ** (trials - k)
            for k in range(successes + 1)
        )

    low = 0.0 if successes == 0 else _find_root(lambda p: at_least(p) - tail)
    high = 1.0 if successes == trials else _find_root(lambda p: tail - at_most(p))
    return low, high


def _find_root(increasing: Callable[[float], float]) -> float:
    """Finds the root of an increasing function on [0, 1] by bisection."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if increasing(middle) < 0 else (low, middle)
    return (low + high) / 2
