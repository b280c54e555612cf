"""The statistics behind `compare`, `convergence` and `regress`, without SciPy.

Everything random takes a fixed seed: the same logs give the same answer.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from typing import Callable, Sequence

import numpy as np

# Up to so many values in both samples the rank test is exact; beyond, normal.
EXACT_RANKS = 60


def midranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of their ranks (infinities too)."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    ranks = [0.0] * len(values)
    at = 0
    while at < len(order):
        end = at
        while end + 1 < len(order) and values[order[end + 1]] == values[order[at]]:
            end += 1
        for i in order[at:end + 1]:
            ranks[i] = (at + end) / 2 + 1
        at = end + 1
    return ranks


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of the rank test that neither sample tends to larger values.

    Mann and Whitney 1947, "On a Test of Whether one of Two Random Variables is
    Stochastically Larger than the Other", Ann. Math. Statist. 18(1).  Exact over
    all ways to divide the pooled values (ties by midranks) up to EXACT_RANKS
    values; beyond, normal with corrections for ties and continuity.  Twice the
    smaller tail.  math.inf may stand for values known only to be the largest.
    """
    lower, upper = rank_tails(first, second)
    return min(2 * min(lower, upper), 1.0)


def holm(ps: Sequence[float]) -> list[float]:
    """The p values corrected for being so many, in the given order.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J.
    Statist. 6(2): the smallest times their number k, the next times k - 1, and so on,
    none smaller than the one before, at most 1.
    """
    adjusted, so_far = [1.0] * len(ps), 0.0
    for place, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        so_far = max(so_far, min(ps[i] * (len(ps) - place), 1.0))
        adjusted[i] = so_far
    return adjusted


def rank_tails(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """One-sided p of the same test: that `second` tends to larger values, to smaller ones.

    By chance, a rank sum of `first` at most that observed, and at least it.  The smallest
    either can be is 1 / C(n + m, n), where all values of one side are the larger ones.
    """
    if not first or not second:
        return 1.0, 1.0
    ranks = midranks([*first, *second])
    observed = sum(ranks[:len(first)])
    n, m, total = len(first), len(second), len(ranks)
    if total <= EXACT_RANKS:
        return _exact_tails(tuple(round(2 * r) for r in ranks), n, round(2 * observed))
    ties = sum(t ** 3 - t for t in Counter(ranks).values())
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0, 1.0
    above = observed - n * (total + 1) / 2
    lower, upper = (math.erfc((sign * -above - 0.5) / math.sqrt(2 * variance)) / 2
                    for sign in (1, -1))
    return lower, upper


def _exact_tails(doubled: tuple[int, ...], n: int, at: int) -> tuple[float, float]:
    """Shares of the ways to take n of the doubled (so whole) ranks: sum <= at, sum >= at."""
    sums = _rank_sums(tuple(sorted(doubled)), n)
    ways = math.comb(len(doubled), n)
    return int(sums[:at + 1].sum()) / ways, int(sums[at:].sum()) / ways


@lru_cache(maxsize=64)
def _rank_sums(doubled: tuple[int, ...], n: int) -> np.ndarray:
    """int64 [sum of all + 1]: how many ways to take n of the doubled ranks give each sum.

    Fits: there are at most C(EXACT_RANKS, EXACT_RANKS / 2) = 1.2e17 ways.
    """
    ways = np.zeros((n + 1, sum(doubled) + 1), np.int64)
    ways[0, 0] = 1
    for rank in doubled:
        ways[1:, rank:] += ways[:-1, :-rank].copy()
    return ways[n]


def bootstrap(
    first: np.ndarray, second: np.ndarray,
    figure: Callable[[np.ndarray, np.ndarray], np.ndarray], resamples: int, seed: int,
    confidence: float = 0.95,
) -> list[tuple[float, float]]:
    """Percentile intervals of figures of two samples of runs.

    first, second: [runs, features].  Each resample draws runs with replacement
    on either side.  figure: means [resamples, features] of both sides to figures
    [resamples, figures].  Efron and Tibshirani 1993, "An Introduction to the
    Bootstrap", chapter 13.
    """
    draw = np.random.Generator(np.random.PCG64(seed))
    means = [rows[(draw.random((resamples, len(rows))) * len(rows)).astype(np.int64)].mean(axis=1)
             for rows in (first, second)]
    values = figure(*means)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(values, [tail, 100 - tail], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high)]


def trimmed_mean(values: Sequence[float]) -> float:
    """MLPerf's olympic mean: without the smallest and the largest; at least three values."""
    ordered = sorted(values)[1:-1]
    return math.fsum(ordered) / len(ordered)


def permutation_p(sample: Sequence[float], reference: Sequence[float], draws: int,
                  seed: int) -> float:
    """One-sided p that the sample's olympic mean is as small as it is by chance.

    The pooled values are divided anew at random; p is the share of divisions
    whose mean is not larger, the observed one included, so that p <= alpha has a
    chance of at most alpha where both come from one distribution, whatever it is.
    Phipson and Smyth 2010, "Permutation P-values Should Never Be Zero", SAGMB 9(1).
    """
    pooled = np.asarray([*sample, *reference], dtype=np.float64)
    size = len(sample)
    observed = trimmed_mean(sample)
    draw = np.random.Generator(np.random.PCG64(seed))
    hits, left = 0, draws
    while left:
        rows = min(left, max(1, 2_000_000 // len(pooled)))
        keys = draw.random((rows, len(pooled)))
        chosen = pooled[np.argpartition(keys, size - 1, axis=1)[:, :size]]
        means = (chosen.sum(axis=1) - chosen.min(axis=1) - chosen.max(axis=1)) / (size - 2)
        hits += int(np.count_nonzero(means <= observed + 1e-9))
        left -= rows
    return (hits + 1) / (draws + 1)


def student_quantile(confidence: float, freedom: float) -> float:
    """t with P(T <= t) = confidence, for confidence from 0.5 up; by bisection."""
    low, high = 0.0, 1.0
    while student_cdf(high, freedom) < confidence:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, freedom) < confidence else (low, middle)
    return (low + high) / 2


def student_cdf(t: float, freedom: float) -> float:
    """P(T <= t) for t >= 0: 1 - I_x(freedom / 2, 1/2) / 2 with x = freedom / (freedom + t^2)."""
    return 1 - _beta_share(freedom / (freedom + t * t), freedom / 2, 0.5) / 2


def _beta_share(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function, by its continued fraction.

    Abramowitz and Stegun 1964, 26.5.8, evaluated as Lentz does.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_share(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
                     + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), tiny)
    result = d
    for m in range(1, 500):
        for term in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                     -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1 + term * d
            c = 1 + term / c
            d, c = 1 / (d if abs(d) > tiny else tiny), c if abs(c) > tiny else tiny
            result *= d * c
        if abs(d * c - 1) < 1e-14:
            break
    return front * result
