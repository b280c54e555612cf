"""Calibration: a track's target and its reference convergence points.

A calibration is a file of HR@K curves, one for each seed, each trained for the
same number of epochs without stopping (`python -m harness.calibrate` writes it).
From it follow the target, the epochs that each run needed to reach it, and a
bound on the share of runs that do.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

POINTS_DIR = Path(__file__).resolve().parents[1] / "reference_points"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Calibration:
    """HR curves [runs][epochs] of one track, and what was run to get them."""

    track: str
    users: int
    epochs: int
    hit_rates: tuple[tuple[float, ...], ...]

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """Raises ValueError naming the file where it is not a calibration."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            curves = tuple(tuple(run["hit_rate"]) for run in data["runs"])
            return cls(data["track"], data["users"], data["epochs"], curves)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a calibration file: {error!r}") from None


def target_of(calibration: Calibration) -> float:
    """The worst run's best HR less one binomial standard error, three digits down.

    The standard error of a hit rate p over U users is sqrt(p (1 - p) / U).
    """
    worst = min(max(curve) for curve in calibration.hit_rates)
    error = math.sqrt(worst * (1 - worst) / calibration.users)
    # The tiny term keeps 0.235 from becoming 0.234 by its binary fraction.
    return math.floor((worst - error) * 1000 + 1e-9) / 1000


def epochs_to(curve: tuple[float, ...], target: float) -> int | None:
    """The first epoch (from 1) whose HR is at least the target, else None."""
    return next((e for e, hr in enumerate(curve, start=1) if hr >= target), None)


def clopper_pearson(
    successes: int, trials: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The exact two-sided interval of a binomial share.

    Clopper and Pearson 1934, "The use of confidence or fiducial limits
    illustrated in the case of the binomial", Biometrika 26(4). Found by
    bisection on the binomial tails.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes of {trials} trials")
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

    low = 0.0 if successes == 0 else _root(lambda p: at_least(p) - tail)
    high = 1.0 if successes == trials else _root(lambda p: tail - at_most(p))
    return low, high


def _root(rising) -> float:
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
