"""The power of `compare`: how small a difference a comparison of two sets can find.

Times of runs are simulated from lognormal distributions with the spreads of the two sets. The
decision rule is that of `compliance.results.comparison`: the rank test and the interval must
agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np

from compliance.base.rank_test_power import WANTED_POWER
from compliance.base.statistics import lower_tail_p_values, ratio_bounds

# The difference for which `Power.example` reports the power.
EXAMPLE_SLOWDOWN, EXAMPLE_RUNS = 1.15, 20
# The number of simulated pairs of sets; fewer if the sets are large.
_PAIRS, _MAX_CELLS, _SEED = 2000, 8_000_000, 20181108
# Larger sets are simulated with this many runs, so their power is a lower bound.
_MAX_RUNS = 30
_SLOWDOWNS = tuple(1 + x / 100 for x in (
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300))


@dataclass(frozen=True)
class Power:
    """The power of a comparison of mean times.

    Attributes:
      runs: The number of runs of both sets.
      spreads: The standard deviation of the times of both sets, as a share of their mean.
      detectable: The smallest slowdown from 1% to 300% that is found in 8 of 10 cases, as a
        ratio; None if no slowdown in this range is.
      example: The share of cases in which a slowdown of EXAMPLE_SLOWDOWN is found.
      example_more_runs: The same share with EXAMPLE_RUNS runs per set.
    """

    runs: tuple[int, int]
    spreads: tuple[float, float]
    detectable: float | None
    example: float
    example_more_runs: float

    def as_json(self) -> dict[str, Any]:
        """Returns the member `power` of `compare --format json`."""
        return {"runs": list(self.runs), "spreads": list(self.spreads),
                "detectable_ratio": self.detectable, "wanted_power": WANTED_POWER,
                "example_ratio": EXAMPLE_SLOWDOWN, "power": self.example,
                "power_with_20_runs": self.example_more_runs}

    def sentence(self) -> str:
        """Returns the power as a sentence."""
        n, m = self.runs
        found = f"{n} against {m} runs with this spread find a difference of " + (
            f"{_percent(self.detectable)} in 8 of 10 cases" if self.detectable
            else f"{_percent(_SLOWDOWNS[-1])} in fewer than 8 of 10 cases")
        return (f"{found}, and a difference of {_percent(EXAMPLE_SLOWDOWN)} in "
                f"{_cases(self.example)}; {EXAMPLE_RUNS} against {EXAMPLE_RUNS} runs would find "
                f"the latter in {_cases(self.example_more_runs)}")


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):.0f}%"


def _cases(share: float) -> str:
    return f"{10 * share:.0f} of 10"


def power_of(times_a: Sequence[float], times_b: Sequence[float], alpha: float) -> Power:
    """Estimates the power of the comparison of two sets by simulation.

    Args:
      times_a: Seconds of the converged runs of one set, at least two.
      times_b: Seconds of the converged runs of the other set.
      alpha: The significance level of the rank test.
    """
    spreads = (_spread(times_a), _spread(times_b))
    sizes = (len(times_a), len(times_b))
    pair = _Pairs(spreads, sizes, alpha)
    more = _Pairs(spreads, (EXAMPLE_RUNS, EXAMPLE_RUNS), alpha)
    # The power grows with the slowdown, so bisection finds the threshold.
    low, high = 0, len(_SLOWDOWNS)
    while low < high:
        middle = (low + high) // 2
        if pair.power(_SLOWDOWNS[middle]) >= WANTED_POWER:
            high = middle
        else:
            low = middle + 1
    detectable = _SLOWDOWNS[low] if low < len(_SLOWDOWNS) else None
    return Power(sizes, spreads, detectable, pair.power(EXAMPLE_SLOWDOWN),
                 more.power(EXAMPLE_SLOWDOWN))


def _spread(times: Sequence[float]) -> float:
    mean = math.fsum(times) / len(times)
    return math.sqrt(math.fsum((t - mean) ** 2 for t in times) / (len(times) - 1)) / mean


class _Pairs:
    """Simulated pairs of sets with equal mean times."""

    def __init__(self, spreads: tuple[float, float], sizes: tuple[int, int],
                 alpha: float) -> None:
        self._alpha = alpha
        n, m = (min(size, _MAX_RUNS) for size in sizes)
        pairs = min(_PAIRS, _MAX_CELLS // (n * m))
        generator = np.random.Generator(np.random.PCG64(_SEED))
        self._times = []  # float64 [pairs, runs] for each set
        for spread, size in zip(spreads, (n, m)):
            sigma = math.sqrt(math.log1p(spread * spread))
            self._times.append(
                np.exp(sigma * generator.standard_normal((pairs, size)) - sigma**2 / 2))
        means = [x.mean(axis=1, keepdims=True) for x in self._times]
        half = ratio_bounds(*(x / mean - 1 for x, mean in zip(self._times, means)))
        # The lower ends of the intervals of the log ratios; a slowdown shifts them by its log.
        self._lower = np.log(means[1] / means[0])[:, 0] - half

    def power(self, slowdown: float) -> float:
        """The share of the pairs in which B, slower by this ratio, is found to be slower."""
        p_values = lower_tail_p_values(self._times[0], self._times[1] * slowdown)
        finds = 2 * p_values <= self._alpha  # the test is two-sided
        return float((finds & (self._lower + math.log(slowdown) > 0)).mean())
