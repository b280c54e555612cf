"""The statistics behind `compare`, `convergence` and `regress`, without SciPy.

All random draws use a fixed seed, so the same logs give the same answer.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from typing import Sequence

import numpy as np

# The rank test is exact for up to this many values in both samples together. For more it
# uses the normal approximation.
MAX_EXACT_VALUES = 60


def midranks(values: Sequence[float]) -> list[float]:
    """Ranks values from 1; equal values, including infinities, share the mean of their ranks.

    Args:
      values: Numbers, none of them NaN.

    Returns:
      The rank of each value, in the order of `values`.
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        # order[start:end + 1] are the positions of one group of equal values.
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for i in order[start:end + 1]:
            ranks[i] = (start + end) / 2 + 1
        start = end + 1
    return ranks


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> float:
    """Returns the two-sided p value of the Mann-Whitney rank test.

    The null hypothesis is that neither sample tends to larger values: Mann and Whitney
    1947, "On a Test of Whether one of Two Random Variables is Stochastically Larger than
    the Other", Ann. Math. Statist. 18(1). The p value is twice the smaller tail of
    `rank_test_tails`.

    Args:
      first: One sample.
      second: The other sample. Use math.inf for a value that is only known to be larger than
        all others.
    """
    lower, upper = rank_test_tails(first, second)
    return min(2 * min(lower, upper), 1.0)


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Adjusts p values for multiple tests by Holm's method.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Statist.
    6(2): the smallest of k p values is multiplied by k, the next by k - 1, and so on. Each
    adjusted value is at least the one before it and at most 1.

    Args:
      p_values: The p value of each test.

    Returns:
      The adjusted p values, in the same order.
    """
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(p_values[i] * (len(p_values) - rank), 1.0))
        adjusted[i] = largest
    return adjusted


def rank_test_tails(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Returns both one-sided p values of the Mann-Whitney rank test.

    Up to MAX_EXACT_VALUES values the test is exact: it counts all ways to divide the pooled
    values, and ties get midranks. For more values it uses the normal distribution, with
    corrections for ties and for continuity.

    Args:
      first: One sample.
      second: The other sample.

    Returns:
      (p that `second` tends to larger values, p that it tends to smaller ones): the chance
      of a rank sum of `first` at most as large as the observed one, and at least as large.
      The smallest possible p is 1 / C(n + m, n): all values of one sample are larger.
      (1, 1) if a sample is empty.
    """
    if not first or not second:
        return 1.0, 1.0
    ranks = midranks([*first, *second])
    observed = sum(ranks[:len(first)])
    n, m, total = len(first), len(second), len(ranks)
    if total <= MAX_EXACT_VALUES:
        # Twice a midrank is an integer, so rank sums can index an array.
        return _exact_tails(tuple(round(2 * r) for r in ranks), n, round(2 * observed))
    ties = sum(t ** 3 - t for t in Counter(ranks).values())
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0, 1.0
    excess = observed - n * (total + 1) / 2  # over the expected rank sum
    lower, upper = (math.erfc((sign * -excess - 0.5) / math.sqrt(2 * variance)) / 2
                    for sign in (1, -1))
    return lower, upper


def _exact_tails(doubled_ranks: tuple[int, ...], n: int, observed: int) -> tuple[float, float]:
    """Shares of the choices of n doubled ranks with a sum <= observed, and >= observed."""
    counts = _count_rank_sums(tuple(sorted(doubled_ranks)), n)
    ways = math.comb(len(doubled_ranks), n)
    return int(counts[:observed + 1].sum()) / ways, int(counts[observed:].sum()) / ways


def lower_tail_p_values(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns exact p values, for many pairs at once, that `second` tends to larger values.

    Each is the first result of `rank_test_tails`, for samples without ties.

    Args:
      first: float64 [pairs, n].
      second: float64 [pairs, m].

    Returns:
      float64 [pairs].
    """
    n, m = first.shape[1], second.shape[1]
    # The rank sum of `first`: its ranks within itself, plus 1 for each pair with a smaller value
    # of `second`.
    sums = n * (n + 1) // 2 + (first[:, :, None] > second[:, None, :]).sum(axis=(1, 2))
    counts = _count_rank_sums(tuple(range(2, 2 * (n + m) + 1, 2)), n)
    return np.cumsum(counts[::2].astype(np.float64))[sums] / math.comb(n + m, n)


@lru_cache(maxsize=64)
def _count_rank_sums(doubled_ranks: tuple[int, ...], n: int) -> np.ndarray:
    """Counts the ways to choose n of the doubled ranks, by their sum.

    Returns:
      int64 [sum of all doubled ranks + 1]: entry s is the number of choices with sum s. No
      entry overflows: there are at most C(60, 30) = 1.2e17 choices of MAX_EXACT_VALUES.
    """
    # counts[k, s]: choices of k of the ranks considered so far with sum s.
    counts = np.zeros((n + 1, sum(doubled_ranks) + 1), np.int64)
    counts[0, 0] = 1
    for rank in doubled_ranks:
        counts[1:, rank:] += counts[:-1, :-rank].copy()
    return counts[n]


# The quantile of Student's t for the intervals of a ratio: that for samples of equal size, and what
# is added in proportion to the imbalance of the sizes. Calibrated by simulation: the intervals cover
# 94 to 98%. With Welch's quantile, 0.975, they would cover 92 to 97.5%, for the sizes and spreads of
# docs/comparing.md.
RATIO_QUANTILE, IMBALANCE_QUANTILE = 0.98, 0.0075


def ratio_bounds(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Half the width of the 95% interval of the log of a ratio of two samples' statistics.

    It is the delta method on the log scale, with the degrees of freedom of Welch 1947, "The
    Generalization of 'Student's' Problem when Several Different Population Variances are
    Involved", Biometrika 34. These are too many if one sample is small and happens to have
    little spread. The function therefore uses their geometric mean with the degrees of freedom for
    equal spreads, if that is less. docs/comparing.md lists the coverage.

    Args:
      first: float64 [..., n], the influence of each run of one sample on the log of its
        statistic. If the statistic is the mean, it is each value divided by the mean, minus 1.
        The mean of the influences is 0.
      second: float64 [..., m], the same for the other sample.

    Returns:
      float64 [...]; 0 if neither sample varies.
    """
    n, m = first.shape[-1], second.shape[-1]
    # The variance of each log statistic.
    of_first, of_second = (x.var(axis=-1, ddof=1) / x.shape[-1] for x in (first, second))
    total = of_first + of_second
    safe = np.where(total > 0, total, 1.0)
    share = np.where(total > 0, of_first / safe, 0.5)
    freedom = 1 / (share**2 / (n - 1) + (1 - share) ** 2 / (m - 1))
    equal_share = m / (n + m)  # of the variance, if both samples have the same spread
    equal = 1 / (equal_share**2 / (n - 1) + (1 - equal_share) ** 2 / (m - 1))
    freedom = np.minimum(freedom, np.sqrt(freedom * equal))
    quantile = RATIO_QUANTILE + IMBALANCE_QUANTILE * abs(n - m) / (n + m)
    return _t_quantiles(quantile, freedom) * np.sqrt(total)


def _t_quantiles(quantile: float, freedom: np.ndarray) -> np.ndarray:
    """A quantile of Student's t by degrees of freedom; for more than 8, interpolated on a grid."""
    freedom = np.asarray(freedom, np.float64)
    if freedom.size <= 8:
        found = [student_t_quantile(quantile, f) for f in freedom.ravel().tolist()]
        return np.array(found).reshape(freedom.shape)
    # The quantile is nearly linear in 1 / freedom.
    low, high = float(1 / freedom.max()), float(1 / freedom.min())
    grid = np.linspace(low, high, 40)
    quantiles = [student_t_quantile(quantile, 1 / x) for x in grid.tolist()]
    return np.interp(1 / freedom, grid, quantiles)


def trimmed_mean(values: Sequence[float]) -> float:
    """Returns MLPerf's olympic mean: the mean without the smallest and the largest value.

    Args:
      values: At least three numbers.
    """
    ordered = sorted(values)[1:-1]
    return math.fsum(ordered) / len(ordered)


def permutation_p_value(sample: Sequence[float], reference: Sequence[float], draws: int,
                        seed: int) -> float:
    """Returns the one-sided p value of the sample's olympic mean being this small by chance.

    The pooled values are split at random `draws` times. The p value is the share of splits,
    including the observed one, whose olympic mean is not larger than the observed one. If
    both samples come from the same distribution, p <= alpha has a probability of at most
    alpha: Phipson and Smyth 2010, "Permutation P-values
    Should Never Be Zero", SAGMB 9(1).

    Args:
      sample: At least three numbers.
      reference: The numbers to compare with.
      draws: The number of random splits.
      seed: Seed of the splits.
    """
    pooled = np.asarray([*sample, *reference], dtype=np.float64)
    size = len(sample)
    observed = trimmed_mean(sample)
    generator = np.random.Generator(np.random.PCG64(seed))
    hits, remaining = 0, draws
    while remaining:
        # Bounded memory: at most about 2 million random keys at a time.
        rows = min(remaining, max(1, 2_000_000 // len(pooled)))
        keys = generator.random((rows, len(pooled)))
        # The values with the `size` smallest random keys are a random subset.
        chosen = pooled[np.argpartition(keys, size - 1, axis=1)[:, :size]]
        means = (chosen.sum(axis=1) - chosen.min(axis=1) - chosen.max(axis=1)) / (size - 2)
        # The tolerance absorbs the rounding difference from the sum in `trimmed_mean`.
        hits += int(np.count_nonzero(means <= observed + 1e-9))
        remaining -= rows
    return (hits + 1) / (draws + 1)


def student_t_quantile(probability: float, degrees_of_freedom: float) -> float:
    """Returns the t with P(T <= t) = probability, by bisection.

    Args:
      probability: From 0.5 up, below 1.
      degrees_of_freedom: The degrees of freedom of Student's t distribution.
    """
    low, high = 0.0, 1.0
    while student_t_cdf(high, degrees_of_freedom) < probability:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if not low < middle < high:  # there is no number between them
            break
        if student_t_cdf(middle, degrees_of_freedom) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def student_t_cdf(t: float, degrees_of_freedom: float) -> float:
    """Returns P(T <= t) of Student's t distribution, for t >= 0.

    With n degrees of freedom it is 1 - I_x(n / 2, 1 / 2) / 2, where x = n / (n + t^2) and I
    is the regularized incomplete beta function.
    """
    n = degrees_of_freedom
    return 1 - _regularized_incomplete_beta(n / (n + t * t), n / 2, 0.5) / 2


def _regularized_incomplete_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b) by its continued fraction.

    Abramowitz and Stegun 1964, 26.5.8, evaluated by Lentz's method.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    # The fraction converges quickly only below the mean; above it, use
    # I_x(a, b) = 1 - I_(1-x)(b, a).
    if x > (a + 1) / (a + b + 2):
        return 1 - _regularized_incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
                     + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300  # in place of a zero denominator
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), tiny)
    result = d
    for m in range(1, 500):
        # The even and the odd coefficient of the fraction.
        for term in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                     -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1 + term * d
            c = 1 + term / c
            d, c = 1 / (d if abs(d) > tiny else tiny), c if abs(c) > tiny else tiny
            result *= d * c
        if abs(d * c - 1) < 1e-14:
            break
    return front * result
