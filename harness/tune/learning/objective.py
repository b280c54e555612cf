"""The objective of a tuner: the expected score of a set of runs, in seconds.

A set may contain runs that do not converge. Under the rule "olympic-mean" one such run counts as
the slowest; with two, the set has no score and is run again. So the objective is the expected
score of a set that has one, divided by the chance that a set has one: the expected seconds of a
scored run times the expected number of sets. The chance that a run fails is not known but has a
Beta distribution: the observed runs of the settings, and a weak prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Sequence

import numpy as np

from compliance.base.statistics import student_t_quantile
from compliance.tracks.track import V05_FIRST_50

# The prior of the chance that a run fails: a mean of 5% with the weight of 4 runs.
PRIOR_FAILURES, PRIOR_SUCCESSES = 0.2, 3.8
# Relative spread of the epochs between seeds before any setting has two runs, and its weight in
# runs; the measured pools in compliance/reference_points have 8 to 15%.
PRIOR_SPREAD, PRIOR_WEIGHT = 0.12, 4
DRAWS, SEED = 2000, 20201201


@lru_cache(maxsize=1024)  # the race asks again after every run, mostly for unchanged settings
def expected_score(
    seconds: tuple[float, ...], failures: int, rule: str, required: int
) -> tuple[float, float]:
    """Computes the expected score of a set and the chance that it has one, by simulation.

    Args:
      seconds: Seconds of the runs that converged, at least one.
      failures: Runs that did not converge.
      rule: The track's scoring rule.
      required: Runs of a set.

    Returns:
      (Expected seconds of a set that has a score, chance that a set has one.) The simulation has
      a fixed seed.
    """
    generator = np.random.Generator(np.random.PCG64(SEED))
    chance = generator.beta(
        PRIOR_FAILURES + failures, PRIOR_SUCCESSES + len(seconds), (DRAWS, 1)
    )
    has_failed = generator.random((DRAWS, required)) < chance
    times = generator.choice(np.asarray(seconds, np.float64), (DRAWS, required))
    if rule == V05_FIRST_50:
        is_scored = (~has_failed).sum(axis=1) >= required // 2
        # The mean of 48 of 50 runs hardly differs from the mean of all.
        scores = np.full(DRAWS, float(np.mean(seconds)))
    else:
        is_scored = has_failed.sum(axis=1) <= 1
        ordered = np.sort(np.where(has_failed, np.inf, times), axis=1)
        inner = ordered[:, 1:-1] if required > 2 else ordered
        scores = inner.mean(axis=1)
    share = float(is_scored.mean())
    return float(scores[is_scored].mean()) if share else math.inf, share


@lru_cache(maxsize=1024)
def t_quantile(probability: float, freedom: int) -> float:
    """Returns `student_t_quantile`; the race asks for the same ones after every run."""
    return student_t_quantile(probability, freedom)


def objective(seconds: Sequence[float], failures: int, rule: str, required: int) -> float:
    """Returns the expected seconds to a score; infinite if no run converged."""
    if not seconds:
        return math.inf
    score, share = expected_score(tuple(seconds), failures, rule, required)
    return score / share if share else math.inf


@dataclass(frozen=True)
class Standing:
    """What is known of one setting.

    Attributes:
      epochs: Epochs to the target of each run that reached it.
      failures: Runs that missed the target or lost their loss to NaN.
      objective: Expected seconds to a score.
      error: Standard error of the log of the objective.
      low, high: 95% interval of the objective; None with fewer than two runs.
      seconds_per_epoch: Measured, or predicted.
      freedom: Degrees of freedom of the error.
    """

    epochs: tuple[int, ...]
    failures: int
    objective: float
    error: float
    low: float | None
    high: float | None
    seconds_per_epoch: float
    freedom: int = PRIOR_WEIGHT

    @property
    def runs(self) -> int:
        """Runs that show whether the settings converge."""
        return len(self.epochs) + self.failures

    @property
    def mean_epochs(self) -> float | None:
        """Mean epochs of the runs that reached the target."""
        return sum(self.epochs) / len(self.epochs) if self.epochs else None


def pooled_spread(pools: Sequence[Sequence[int]]) -> tuple[float, int]:
    """Estimates the relative spread of epochs between seeds from all settings with several runs.

    Args:
      pools: The epochs of each setting.

    Returns:
      (Standard deviation over mean, its degrees of freedom), with the prior of PRIOR_SPREAD.
    """
    squares, freedom = PRIOR_WEIGHT * PRIOR_SPREAD**2, PRIOR_WEIGHT
    for pool in pools:
        if len(pool) > 1:
            mean = sum(pool) / len(pool)
            squares += sum((e / mean - 1) ** 2 for e in pool)
            freedom += len(pool) - 1
    return math.sqrt(squares / freedom), freedom


def make_standing(
    epochs: Sequence[int], failures: int, fixed_seconds: float, seconds_per_epoch: float,
    seconds_error: float, spread: tuple[float, int], rule: str, required: int,
) -> Standing:  # fmt: skip
    """Computes what is known of one setting.

    Args:
      epochs: Epochs of the runs that reached the target.
      failures: Runs that did not.
      fixed_seconds: Seconds of a run outside its epochs.
      seconds_per_epoch: Seconds per epoch.
      seconds_error: Relative standard error of the seconds per epoch.
      spread: The result of `pooled_spread`.
      rule: The track's scoring rule.
      required: Runs of a set.
    """
    seconds = [fixed_seconds + e * seconds_per_epoch for e in epochs]
    value = objective(seconds, failures, rule, required)
    if not epochs:
        return Standing((), failures, math.inf, math.inf, None, None, seconds_per_epoch)
    share = 1 - fixed_seconds / (sum(seconds) / len(seconds))  # of the time, in epochs
    deviation, freedom = spread
    error = share * math.hypot(deviation / math.sqrt(len(epochs)), seconds_error)
    low = high = None
    if len(epochs) > 1:
        reach = t_quantile(0.975, freedom) * error
        low, high = value * math.exp(-reach), value * math.exp(reach)
    return Standing(tuple(epochs), failures, value, error, low, high, seconds_per_epoch, freedom)
