"""The statistics against SciPy and by hand."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import stats

from compliance.base.statistics import (
    bootstrap,
    mann_whitney,
    midranks,
    permutation_p,
    student_cdf,
    student_quantile,
    trimmed_mean,
)


def test_midranks():
    assert midranks([3, 1, 3, math.inf, math.inf]) == [2.5, 1, 2.5, 4.5, 4.5]


@pytest.mark.parametrize("n, m", [(4, 4), (5, 5), (4, 9), (30, 30)])
def test_the_exact_rank_test_is_scipys(n, m):
    draw = random.Random(n)
    a, b = ([draw.gauss(mean, 1) for _ in range(k)] for mean, k in ((0, n), (0.8, m)))
    assert mann_whitney(a, b) == pytest.approx(
        stats.mannwhitneyu(a, b, method="exact").pvalue, rel=1e-12)
    assert mann_whitney(a, b) == mann_whitney(b, a)


def test_the_exact_rank_test_with_ties_is_a_permutation_test():
    a, b = [1, 2, 2, 3, 7], [2, 3, 3, 4, math.inf]
    ranks = stats.rankdata([*a, *b])
    found = stats.permutation_test(
        (ranks[:5], ranks[5:]), lambda x, y: x.sum(), vectorized=False, n_resamples=math.inf)
    assert mann_whitney(a, b) == pytest.approx(found.pvalue, rel=1e-9)


def test_beyond_exact_ranks_it_is_scipys_normal_approximation():
    draw = random.Random(5)
    a, b = ([draw.randrange(k) for _ in range(50)] for k in (8, 9))
    assert mann_whitney(a, b) == pytest.approx(
        stats.mannwhitneyu(a, b, method="asymptotic").pvalue, rel=1e-9)


def test_the_rank_test_of_nothing_says_nothing():
    assert mann_whitney([], [1.0]) == 1 and mann_whitney([2.0] * 50, [2.0] * 50) == 1
    assert mann_whitney([1, 2, 3], [4, 5, 6]) == pytest.approx(0.1)


@pytest.mark.parametrize("freedom", [1, 2, 5, 60.0, 200])
def test_students_t_is_scipys(freedom):
    for share in (0.6, 0.95, 0.999):
        assert student_quantile(share, freedom) == pytest.approx(stats.t.ppf(share, freedom))
    assert student_cdf(0.0, freedom) == pytest.approx(0.5)


def test_trimmed_mean_drops_both_ends():
    assert trimmed_mean([9, 1, 2, 4]) == 3


def test_the_permutation_p_is_exact_over_small_sets():
    """Of the 4 ways to take 3 of 4 two have a middle of at most 2; at least two of three
    ones are taken in (3 x 30 + 1) / 5456 of the ways to take 3 of 33."""
    assert permutation_p([1, 2, 3], [10], 4000, seed=1) == pytest.approx(0.5, abs=0.03)
    assert permutation_p([1, 2, 3], [10], 100, seed=1) == permutation_p([1, 2, 3], [10], 100, seed=1)
    assert permutation_p([1, 1, 1], [9] * 30, 4000, seed=1) == pytest.approx(91 / 5456, abs=0.006)


def test_the_bootstrap_interval_covers_a_ratio():
    """Of 200 pairs of sets with a true ratio of 1.2 about 95% of intervals hold it."""
    draw = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        a, b = (draw.normal(mean, 10, (20, 1)) for mean in (100, 120))
        (low, high), = bootstrap(a, b, lambda x, y: y / x, 400, seed=1)
        held += low <= 1.2 <= high
    assert 0.88 <= held / 200 <= 0.99
