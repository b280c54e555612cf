"""The smallest slowdown that the rank test of `regress` finds in a benchmark.

The logarithms of process times are simulated as normal, with the pooled spread of both
recordings. The level of the test is the one that Holm's correction applies to the most
significant benchmark.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Sequence

import numpy as np

from compliance.base.statistics import lower_tail_p_values

# The share of cases in which a detectable difference is found.
WANTED_POWER = 0.8
_PAIRS, _SEED = 4000, 20181108
# Larger recordings are simulated with this many processes, so their power is a lower bound.
_MAX_PROCESSES = 30
# The largest slowdown of the search, in standard deviations of the logarithm of a process's
# time, and the number of bisection steps.
_LARGEST, _STEPS = 64.0, 24


def log_spread(first: Sequence[float], second: Sequence[float]) -> float:
    """The standard deviation of the log times around the mean of their own recording.

    Args:
      first: Seconds of the processes of one recording, more than 0.
      second: Seconds of the processes of the other recording, more than 0.
    """
    squares = freedom = 0.0
    for times in (first, second):
        logs = [math.log(t) for t in times]
        mean = math.fsum(logs) / len(logs)
        squares += math.fsum((x - mean) ** 2 for x in logs)
        freedom += len(logs) - 1
    return math.sqrt(squares / freedom)


def detectable_ratio(first: Sequence[float], second: Sequence[float], level: float) -> float:
    """The smallest slowdown, as a ratio of times, that is significant in 8 of 10 cases.

    Args:
      first: Seconds of the processes of the baseline.
      second: Those of the new recording.
      level: The significance level of the one-sided rank test.

    Returns:
      The ratio; infinite if no slowdown is significant that often.
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

    # At the largest shift all values of one sample are above all values of the other.
    if power(_LARGEST) < WANTED_POWER:
        return math.inf
    low, high = 0.0, _LARGEST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= WANTED_POWER else (middle, high)
    return high
