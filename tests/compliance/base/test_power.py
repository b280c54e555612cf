"""Tests of the power of a comparison: the differences that its rule can detect."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from compliance.base.power import power_of
from compliance.base.statistics import lower_tail_p_values, mann_whitney, rank_test_tails


def times(spread, runs):
    """Returns times with a given spread."""
    values = np.linspace(-1, 1, runs)
    return list(100 * (1 + spread * values / values.std(ddof=1)))


def test_the_vectorized_rank_test_is_the_exact_one():
    draw = np.random.default_rng(2)
    a, b = draw.lognormal(0, 0.2, (200, 4)), draw.lognormal(0.2, 0.3, (200, 7))
    p_values = lower_tail_p_values(a, b)
    assert p_values == pytest.approx([rank_test_tails(list(x), list(y))[0] for x, y in zip(a, b)])
    expected = [mann_whitney(list(x), list(y)) <= 0.05
                and stats.mannwhitneyu(y, x, alternative="greater").pvalue < 0.5
                for x, y in zip(a, b)]
    assert (2 * p_values <= 0.05).tolist() == expected


def test_more_runs_and_less_spread_find_smaller_differences():
    few, many = (power_of(times(0.15, n), times(0.15, n), 0.05) for n in (5, 20))
    assert few.detectable > many.detectable > 1
    assert few.example < 0.4 < 0.7 < many.example
    assert few.example_more_runs == pytest.approx(many.example)
    assert power_of(times(0.05, 5), times(0.05, 5), 0.05).detectable < few.detectable


def test_a_difference_that_is_never_found_is_said_to_be_none():
    power = power_of(times(1.5, 4), times(1.5, 4), 0.05)
    assert power.detectable is None and "fewer than 8 of 10" in power.sentence()


def test_large_sets_are_simulated_with_fewer_runs():
    assert power_of(times(0.1, 100), times(0.1, 90), 0.05).runs == (100, 90)
