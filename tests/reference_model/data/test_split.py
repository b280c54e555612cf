"""The leave-one-out split: filter, numbering, held-out ratings, ties, digest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_model.base.errors import DataError
from reference_model.data.split import Split, _splitmix64, leave_one_out


def test_the_split_equals_a_hand_computed_one():
    """Two users stay, one has too few ratings; numbers follow the first appearance."""
    user = np.array([7, 7, 3, 9, 3, 7, 3])
    item = np.array([50, 40, 40, 50, 60, 60, 50])
    when = np.array([1, 3, 9, 1, 2, 2, 5])
    split = leave_one_out(user, item, when, min_ratings=3)
    # Users 7 -> 0, 3 -> 1; items 50 -> 0, 40 -> 1, 60 -> 2; user 9 is dropped.
    assert (split.num_users, split.num_items) == (2, 3)
    assert split.test_item.tolist() == [1, 1]
    assert split.train_user.tolist() == [0, 0, 1, 1]
    assert split.train_item.tolist() == [0, 2, 0, 2]


def test_an_item_that_only_dropped_users_rated_gets_no_index():
    split = leave_one_out(
        np.array([5, 1, 1]), np.array([99, 10, 11]), np.array([0, 0, 1]), min_ratings=2
    )
    assert split.num_items == 2


def test_the_largest_hash_wins_a_tie_not_the_last_line():
    items = np.arange(30)
    split = leave_one_out(np.zeros(30, int), items, np.full(30, 8), min_ratings=20)
    mixes = [int(_splitmix64(np.array([0]), np.array([i]))[0]) for i in items]
    assert split.test_item.tolist() == [int(np.argmax(mixes))]


def test_order_of_tied_rows_within_a_user_does_not_matter():
    """Numbers depend on the first appearance; the tie-break ignores the row order."""
    user = np.repeat([0, 1], 25)
    item = np.concatenate([np.arange(25), np.random.default_rng(0).permutation(25)])
    first = leave_one_out(user, item, np.full(50, 3))
    item_again = np.concatenate([np.arange(25), np.random.default_rng(1).permutation(25)])
    assert first.digest == leave_one_out(user, item_again, np.full(50, 3)).digest


def test_the_hash_is_splitmix64():
    """The finalizer's published first output for state 0x9E3779B97F4A7C15."""
    state = 0x9E3779B97F4A7C15
    user, item = np.array([state >> 32]), np.array([state & 0xFFFFFFFF])
    assert int(_splitmix64(user, item)[0]) == 0xE220A8397B1DCDAF


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(2, 30))
def test_split_keeps_every_rating_exactly_once(seed, users, items):
    rng = np.random.default_rng(seed)
    pairs = np.argwhere(rng.random((users, items)) < 0.6)
    rng.shuffle(pairs)
    when = rng.integers(0, 4, len(pairs))
    counts = np.bincount(pairs[:, 0], minlength=users) if len(pairs) else np.zeros(1)
    if counts.max() < 2:
        return
    split = leave_one_out(pairs[:, 0], pairs[:, 1], when, min_ratings=2)
    kept = counts[counts >= 2]
    assert split.num_users == len(kept)
    assert split.num_positives == kept.sum() - len(kept)
    assert sorted(np.diff(split.row_starts) + 1) == sorted(kept)
    split.validate()


def test_too_few_ratings_give_a_one_line_error():
    with pytest.raises(DataError, match="no user has at least 20 ratings"):
        leave_one_out(np.arange(5), np.arange(5), np.arange(5))


def test_a_pair_rated_twice_is_refused():
    with pytest.raises(DataError, match="unique"):
        leave_one_out(np.zeros(4, int), np.array([1, 1, 1, 2]), np.arange(4), min_ratings=2)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"test_item": np.array([0], np.int32)}, "also training positives"),
        ({"test_item": np.array([9], np.int32)}, "held-out item indices"),
        ({"test_item": np.array([2, 2], np.int32)}, "one for each"),
        ({"train_item": np.array([1, 0], np.int32)}, "sorted"),
        ({"eval_negatives": np.array([[3]], np.int32)}, "evaluation negative"),
    ],
)
def test_validate_reports_the_broken_property(change, message):
    good = dict(
        num_users=1,
        num_items=3,
        train_user=np.array([0, 0], np.int32),
        train_item=np.array([0, 1], np.int32),
        test_item=np.array([2], np.int32),
    )
    Split(**good).validate()
    with pytest.raises(DataError, match=message):
        Split(**{**good, **change}).validate()


def test_digest_covers_every_array():
    base = dict(
        num_users=1,
        num_items=4,
        train_user=np.array([0, 0], np.int32),
        train_item=np.array([0, 1], np.int32),
        test_item=np.array([2], np.int32),
    )
    digests = {
        Split(**base).digest,
        Split(**{**base, "num_items": 5}).digest,
        Split(**{**base, "train_item": np.array([0, 3], np.int32)}).digest,
        Split(**{**base, "test_item": np.array([3], np.int32)}).digest,
        Split(**base, eval_negatives=np.array([[3]], np.int32)).digest,
    }
    assert len(digests) == 5
