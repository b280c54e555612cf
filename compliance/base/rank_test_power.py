"""The smallest slowdown that the rank test of `regress` finds in a benchmark.

Processes are simulated as normal in the logarithm of their times, with the spread that both
recordings have, and tested at the level that Holm's correction leaves the most significant one.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Sequence

import numpy as np

from compliance.base.statistics import lower_tail_p_values

# The share of cases in which a difference has to be found.
WANTED_POWER = 0.8
_PAIRS, _SEED = 4000, 20181108
# Larger recordings are simulated with so many processes, which find no more.
_MAX_PROCESSES = 30
# Slowdowns, in standard deviations of the logarithm of a process's time, between which the
# answer is looked for.
_LARGEST, _STEPS = 64.0, 24


def log_spread(first: Sequence[float], second: Sequence[float]) -> float:
    """The standard deviation of the logarithms of times around the mean of their own side.

    Args:
      first: Seconds of the processes of one recording, more than 0.
      second: Those of the other recording.
    """
    squares = freedom = 0.0
    for times in (first, second):
        logs = [math.log(t) for t in times]
        mean = math.fsum(logs) / len(logs)
        squares += math.fsum((x - mean) ** 2 for x in logs)
        freedom += len(logs) - 1
    return math.sqrt(squares / freedom)


def detectable_ratio(first: Sequence[float], second: Sequence[float], level: float) -> float:
    """The smallest slowdown that is significant in 8 of 10 cases, as a ratio of times.

    Args:
      first: Seconds of the processes of the baseline.
      second: Those of the new recording.
      level: The level of the one-sided rank test.

    Returns:
      The ratio; infinite where none is significant.
    """
    sizes = (min(len(first), _MAX_PROCESSES), min(len(second), _MAX_PROCESSES))
    shift = _detectable_shift(*sizes, level)
    return math.inf if math.isinf(shift) else math.exp(shift * log_spread(first, second))


@lru_cache(maxsize=256)
def _detectable_shift(n: int, m: int, level: float) -> float:
    """The shift of normal samples, in standard deviations, that is found in 8 of 10 cases."""
    draw = np.random.Generator(np.random.PCG64(_SEED))
    first, second = draw.standard_normal((_PAIRS, n)), draw.standard_normal((_PAIRS, m))

    def power(shift: float) -> float:
        return float((lower_tail_p_values(first, second + shift) <= level).mean())

    # Beyond the largest shift all of one sample lie above all of the other.
    if power(_LARGEST) < WANTED_POWER:
        return math.inf
    low, high = 0.0, _LARGEST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= WANTED_POWER else (middle, high)
    return high
