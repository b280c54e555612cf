"""Negative sampling: never a positive, uniform, the two strategies alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reference_model.base.errors import DataError
from reference_model.data.split import Split
from reference_model.sampling.evaluation_lists import (
    EvaluationLists,
    draw_evaluation_lists,
    repeats,
)
from reference_model.sampling.negatives import Bisection, ComplementTable, make_sampler
from reference_model.sampling.random_streams import stream
from tests.support.splits import random_split

STRATEGIES = [ComplementTable, Bisection]


def positives_of(split: Split, user: int) -> set[int]:
    rows = slice(split.row_starts[user], split.row_starts[user + 1])
    return set(split.train_item[rows].tolist())


def nearly_full_user() -> Split:
    """User 0 has rated everything: only its held-out item is left to draw."""
    return Split(
        2,
        4,
        np.array([0, 0, 0, 1], np.int32),
        np.array([0, 1, 3, 2], np.int32),
        np.array([2, 0], np.int32),
    ).validate()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(3, 40), st.floats(0, 1))
def test_both_strategies_draw_the_same_item_for_the_same_rank(seed, users, items, density):
    """Same stream, same ranks, hence the same negatives: one distribution."""
    split = random_split(seed, users, items, density)
    who = np.random.default_rng(seed).integers(0, users, 200).astype(np.int32)
    drawn = [s(split).draw(who, stream(seed, 2)) for s in STRATEGIES]
    np.testing.assert_array_equal(*drawn)
    for user, item in zip(who, drawn[0]):
        assert 0 <= item < split.num_items
        assert item not in positives_of(split, user)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_complement_item_is_reached_uniformly(strategy):
    """Chi-square over one user's complement, with a fixed seed."""
    split = random_split(5, 3, 37, 0.4)
    for user in range(3):
        complement = sorted(set(range(split.num_items)) - positives_of(split, user))
        drawn = strategy(split).draw(np.full(20_000, user, np.int32), stream(11, 2))
        counts = np.bincount(drawn, minlength=split.num_items)
        assert counts.sum() == counts[complement].sum()
        assert stats.chisquare(counts[complement]).pvalue > 1e-3


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_five_epochs_are_independent(strategy):
    """Counts of (user, item) pairs over five epochs are binomial.

    If every epoch repeated the first, one epoch's counts would still look
    uniform; the variance over five would be five times too large.
    """
    split = random_split(3, 4, 50, 0.3)
    sampler = strategy(split)
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
    # The check has teeth: one epoch counted five times fails it.
    once = np.zeros((4, split.num_items))
    np.add.at(once, (users, sampler.draw(users, stream(7, 2, 1))), 5)
    repeated = sum(
        ((once[u, c] - 3000 / len(c)) ** 2 / (3000 / len(c))).sum()
        for u in range(4)
        for c in [sorted(set(range(split.num_items)) - positives_of(split, u))]
    )
    assert repeated > high


def test_streams_are_distinct_by_run_purpose_epoch_and_replica():
    keys = [(1, 2, 1, 0), (2, 2, 1, 0), (1, 3, 1, 0), (1, 2, 2, 0), (1, 2, 1, 1)]
    draws = {tuple(stream(*key).integers(0, 2**63, 4)) for key in keys}
    assert len(draws) == len(keys)
    assert tuple(stream(*keys[0]).integers(0, 2**63, 4)) in draws


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_user_who_has_rated_everything(strategy):
    """Only the held-out item is outside training, so only it is drawn."""
    drawn = strategy(nearly_full_user()).draw(np.zeros(50, np.int32), stream(0, 2))
    assert set(drawn.tolist()) == {2}


def test_evaluation_of_a_user_who_has_rated_everything_masks_all_rivals():
    split = nearly_full_user()
    lists = draw_evaluation_lists(split, 5, make_sampler(split), stream(0, 1))
    assert lists.masked[0].tolist() == [True] * 5 + [False]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_negative_at_all_is_refused(strategy):
    """A given split may put all items into training; that cannot be sampled."""
    full = Split(
        1, 2, np.zeros(2, np.int32), np.array([0, 1], np.int32), np.array([1], np.int32)
    )
    with pytest.raises(DataError, match="no negative exists"):
        strategy(full)


def test_the_strategy_follows_the_size():
    split = random_split(0, 5, 10)
    assert make_sampler(split).name == "complement_table"
    assert make_sampler(split, table_entries=49).name == "bisection"


def test_repeats_by_hand():
    items = np.array([[5, 6, 5, 7, 6, 7]])
    # 5 repeats at 2, 6 at 4; 7 equals the held-out item wherever it stands.
    assert repeats(items).tolist() == [[False, False, True, True, True, False]]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 30), st.integers(1, 12))
def test_repeats_against_a_plain_loop(seed, users, negatives, items):
    lists = np.random.default_rng(seed).integers(0, items, (users, negatives + 1))
    expected = np.zeros_like(lists, bool)
    for u, row in enumerate(lists):
        seen = {row[-1]}
        for k, item in enumerate(row[:-1]):
            expected[u, k] = item in seen
            seen.add(item)
    np.testing.assert_array_equal(repeats(lists), expected)


def test_evaluation_lists_are_as_defined():
    split = random_split(1, 6, 60, 0.3)
    lists = draw_evaluation_lists(split, 40, make_sampler(split), stream(3, 1))
    assert lists.items.shape == lists.masked.shape == (6, 41)
    np.testing.assert_array_equal(lists.items[:, -1], split.test_item)
    assert not lists.masked[:, -1].any()
    assert lists.masked.any(), "with replacement, so 40 of 60 items do repeat"
    for user in range(6):
        assert not positives_of(split, user) & set(lists.items[user].tolist())


def test_given_negatives_are_used_as_they_are():
    split = random_split(1, 2, 9, 0.2)
    given_items = np.array([[0, 1], [2, 2]], np.int32)
    split = Split(2, 9, split.train_user, split.train_item, split.test_item, given_items)
    lists = draw_evaluation_lists(split, 2, make_sampler(split), stream(3, 1))
    np.testing.assert_array_equal(lists.items[:, :2], given_items)
    with pytest.raises(DataError, match="publishes 2"):
        draw_evaluation_lists(split, 3, make_sampler(split), stream(3, 1))


def test_lists_of_negatives_and_held_out_items():
    lists = EvaluationLists.of(np.array([[4, 4]]), np.array([3]))
    assert lists.items.tolist() == [[4, 4, 3]]
    assert lists.masked.tolist() == [[False, True, False]]
