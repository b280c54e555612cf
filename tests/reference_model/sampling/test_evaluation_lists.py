"""Evaluation lists: their candidates, their masks, and published negatives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_model.base.errors import DataError
from reference_model.data.split import Split
from reference_model.sampling.evaluation_lists import (
    EvaluationLists,
    draw_evaluation_lists,
    duplicate_mask,
)
from reference_model.sampling.negatives import make_sampler
from reference_model.sampling.random_streams import stream
from tests.support.splits import positives_of, random_split, split_with_a_full_user


def test_evaluation_of_a_user_who_has_rated_everything_masks_all_rivals():
    split = split_with_a_full_user()
    lists = draw_evaluation_lists(split, 5, make_sampler(split), stream(0, 1))
    assert lists.masked[0].tolist() == [True] * 5 + [False]


def test_duplicate_mask_equals_a_hand_computed_one():
    items = np.array([[5, 6, 5, 7, 6, 7]])
    # 5 repeats at 2, 6 at 4; 7 equals the held-out item in any position.
    assert duplicate_mask(items).tolist() == [[False, False, True, True, True, False]]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 30), st.integers(1, 12))
def test_duplicate_mask_equals_a_plain_loop(seed, users, negatives, items):
    lists = np.random.default_rng(seed).integers(0, items, (users, negatives + 1))
    expected = np.zeros_like(lists, bool)
    for u, row in enumerate(lists):
        seen = {row[-1]}
        for k, item in enumerate(row[:-1]):
            expected[u, k] = item in seen
            seen.add(item)
    np.testing.assert_array_equal(duplicate_mask(lists), expected)


def test_evaluation_lists_are_as_defined():
    split = random_split(1, 6, 60, 0.3)
    lists = draw_evaluation_lists(split, 40, make_sampler(split), stream(3, 1))
    assert lists.items.shape == lists.masked.shape == (6, 41)
    np.testing.assert_array_equal(lists.items[:, -1], split.test_item)
    assert not lists.masked[:, -1].any()
    assert lists.masked.any(), "40 draws with replacement from 60 items contain repetitions"
    for user in range(6):
        assert not positives_of(split, user) & set(lists.items[user].tolist())


def test_published_negatives_are_used_unchanged():
    split = random_split(1, 2, 9, 0.2)
    given_items = np.array([[0, 1], [2, 2]], np.int32)
    split = Split(2, 9, split.train_user, split.train_item, split.test_item, given_items)
    lists = draw_evaluation_lists(split, 2, make_sampler(split), stream(3, 1))
    np.testing.assert_array_equal(lists.items[:, :2], given_items)
    with pytest.raises(DataError, match="publishes 2"):
        draw_evaluation_lists(split, 3, make_sampler(split), stream(3, 1))


def test_lists_are_built_from_negatives_and_held_out_items():
    lists = EvaluationLists.from_negatives(np.array([[4, 4]]), np.array([3]))
    assert lists.items.tolist() == [[4, 4, 3]]
    assert lists.masked.tolist() == [[False, True, False]]
