"""The statistics agree with SciPy and with values computed by hand."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import stats

from compliance.base.statistics import (
    RATIO_QUANTILE,
    mann_whitney,
    midranks,
    permutation_p_value,
    ratio_bounds,
    student_t_cdf,
    student_t_quantile,
    trimmed_mean,
)


def test_equal_values_share_their_mean_rank():
    assert midranks([3, 1, 3, math.inf, math.inf]) == [2.5, 1, 2.5, 4.5, 4.5]


@pytest.mark.parametrize("n, m", [(4, 4), (5, 5), (4, 9), (30, 30)])
def test_the_exact_rank_test_agrees_with_scipy(n, m):
    draw = random.Random(n)
    a, b = ([draw.gauss(mean, 1) for _ in range(k)] for mean, k in ((0, n), (0.8, m)))
    assert mann_whitney(a, b) == pytest.approx(
        stats.mannwhitneyu(a, b, method="exact").pvalue, rel=1e-12)
    assert mann_whitney(a, b) == mann_whitney(b, a)


def test_the_exact_rank_test_with_ties_agrees_with_a_permutation_test():
    a, b = [1, 2, 2, 3, 7], [2, 3, 3, 4, math.inf]
    ranks = stats.rankdata([*a, *b])
    found = stats.permutation_test(
        (ranks[:5], ranks[5:]), lambda x, y: x.sum(), vectorized=False, n_resamples=math.inf)
    assert mann_whitney(a, b) == pytest.approx(found.pvalue, rel=1e-9)


def test_the_rank_test_of_many_values_agrees_with_scipys_normal_approximation():
    draw = random.Random(5)
    a, b = ([draw.randrange(k) for _ in range(50)] for k in (8, 9))
    assert mann_whitney(a, b) == pytest.approx(
        stats.mannwhitneyu(a, b, method="asymptotic").pvalue, rel=1e-9)


def test_the_rank_test_of_an_empty_sample_or_equal_values_gives_p_1():
    assert mann_whitney([], [1.0]) == 1 and mann_whitney([2.0] * 50, [2.0] * 50) == 1
    assert mann_whitney([1, 2, 3], [4, 5, 6]) == pytest.approx(0.1)


@pytest.mark.parametrize("freedom", [1, 2, 5, 60.0, 200])
def test_student_t_agrees_with_scipy(freedom):
    for share in (0.6, 0.95, 0.999):
        assert student_t_quantile(share, freedom) == pytest.approx(stats.t.ppf(share, freedom))
    assert student_t_cdf(0.0, freedom) == pytest.approx(0.5)


def test_trimmed_mean_drops_the_smallest_and_the_largest_value():
    assert trimmed_mean([9, 1, 2, 4]) == 3


def test_the_permutation_p_value_is_exact_for_small_samples():
    """Values by hand.

    2 of the 4 choices of 3 from 4 values have a median of at most 2.  3 x 30 + 1 of the 5456
    choices of 3 from 33 values contain at least two of the three ones.
    """
    assert permutation_p_value([1, 2, 3], [10], 4000, seed=1) == pytest.approx(0.5, abs=0.03)
    first, second = (permutation_p_value([1, 2, 3], [10], 100, seed=1) for _ in range(2))
    assert first == second
    p_value = permutation_p_value([1, 1, 1], [9] * 30, 4000, seed=1)
    assert p_value == pytest.approx(91 / 5456, abs=0.006)


def test_the_interval_of_a_ratio_is_welchs_on_the_log_scale():
    """Equal sizes and spreads: n + m - 2 degrees of freedom."""
    first, second = np.array([[-0.1, 0.0, 0.1]]), np.array([[0.1, -0.1, 0.0]])
    half = ratio_bounds(first, second)
    assert half == pytest.approx(stats.t.ppf(RATIO_QUANTILE, 4) * math.sqrt(2 * 0.01 / 3))
    # A batch equals the single intervals, up to interpolation.
    draw = np.random.default_rng(1)
    first, second = draw.normal(0, 0.1, (30, 4)), draw.normal(0, 0.3, (30, 7))
    alone = [ratio_bounds(a[None], b[None])[0] for a, b in zip(first, second)]
    assert ratio_bounds(first, second) == pytest.approx(alone, rel=1e-3)


def test_samples_without_spread_have_an_interval_without_width():
    assert ratio_bounds(np.zeros((1, 4)), np.zeros((1, 9))) == 0
