"""Negative sampling: never a positive, uniform, the same with both samplers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reference_model.base.errors import DataError
from reference_model.data.split import Split
from reference_model.sampling.negatives import (
    BisectionSampler,
    ComplementTableSampler,
    make_sampler,
)
from reference_model.sampling.random_streams import stream
from tests.support.splits import positives_of, random_split, split_with_a_full_user

SAMPLERS = [ComplementTableSampler, BisectionSampler]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(3, 40), st.floats(0, 1))
def test_both_samplers_draw_the_same_items_from_one_stream(seed, users, items, density):
    """The same stream gives the same ranks, so the negatives are equal."""
    split = random_split(seed, users, items, density)
    who = np.random.default_rng(seed).integers(0, users, 200).astype(np.int32)
    drawn = [s(split).draw(who, stream(seed, 2)) for s in SAMPLERS]
    np.testing.assert_array_equal(*drawn)
    for user, item in zip(who, drawn[0]):
        assert 0 <= item < split.num_items
        assert item not in positives_of(split, user)


@pytest.mark.parametrize("make", SAMPLERS)
def test_every_complement_item_is_reached_uniformly(make):
    """Chi-square over one user's complement, with a fixed seed."""
    split = random_split(5, 3, 37, 0.4)
    for user in range(3):
        complement = sorted(set(range(split.num_items)) - positives_of(split, user))
        drawn = make(split).draw(np.full(20_000, user, np.int32), stream(11, 2))
        counts = np.bincount(drawn, minlength=split.num_items)
        assert counts.sum() == counts[complement].sum()
        assert stats.chisquare(counts[complement]).pvalue > 1e-3


@pytest.mark.parametrize("make", SAMPLERS)
def test_five_epochs_are_independent(make):
    """Counts of (user, item) pairs over five epochs are binomial.

    If every epoch repeated the first, one epoch's counts would still look
    uniform; the variance over five would be five times too large.
    """
    split = random_split(3, 4, 50, 0.3)
    sampler = make(split)
    users = np.repeat(np.arange(4, dtype=np.int32), 600)
    counts = np.zeros((4, split.num_items))
    for epoch in range(1, 6):
        np.add.at(counts, (users, sampler.draw(users, stream(7, 2, epoch))), 1)
    statistic = freedom = 0.0
    for user in range(4):
        complement = sorted(set(range(split.num_items)) - positives_of(split, user))
        expected = 3000 / len(complement)
        statistic += ((counts[user, complement] - expected) ** 2 / expected).sum()
        freedom += len(complement) - 1
    low, high = stats.chi2.ppf([5e-4, 1 - 5e-4], freedom)
    assert low < statistic < high
    # One epoch counted five times must fail the test.
    once = np.zeros((4, split.num_items))
    np.add.at(once, (users, sampler.draw(users, stream(7, 2, 1))), 5)
    repeated = sum(
        ((once[u, c] - 3000 / len(c)) ** 2 / (3000 / len(c))).sum()
        for u in range(4)
        for c in [sorted(set(range(split.num_items)) - positives_of(split, u))]
    )
    assert repeated > high


@pytest.mark.parametrize("make", SAMPLERS)
def test_a_user_who_has_rated_everything_gets_the_held_out_item(make):
    """Only the held-out item is outside training, so only it is drawn."""
    drawn = make(split_with_a_full_user()).draw(np.zeros(50, np.int32), stream(0, 2))
    assert set(drawn.tolist()) == {2}


@pytest.mark.parametrize("make", SAMPLERS)
def test_a_user_without_negatives_is_refused(make):
    """A given split may use all items for training; then no negative exists."""
    full = Split(
        1, 2, np.zeros(2, np.int32), np.array([0, 1], np.int32), np.array([1], np.int32)
    )
    with pytest.raises(DataError, match="no negative exists"):
        make(full)


def test_the_sampler_is_chosen_by_size():
    split = random_split(0, 5, 10)
    assert make_sampler(split).name == "complement_table"
    assert make_sampler(split, table_entries=49).name == "bisection"
