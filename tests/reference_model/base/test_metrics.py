"""HR@K and NDCG@K on hand-computed cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reference_model.base.metrics import NonFiniteScore, hit_rate_at, hits_at, ndcg_at, ranks
from reference_model.sampling.evaluation_lists import duplicate_mask


def test_ranks_of_the_published_case_with_duplicates_and_ties():
    """By the definitions of the design, the held-out item comes last."""
    items = np.array([[2, 2, 3, 1], [2, 3, 4, 1], [2, 3, 2, 1], [3, 2, 1, 4]])
    scores = np.array([[2, 2, 3, 1], [1, 0, 2, 3], [2, 3, 2, 0], [2, 4, 2, 3]], float)
    assert (ranks(scores, duplicate_mask(items)) + 1).tolist() == [3, 1, 3, 2]


def test_the_held_out_item_loses_ties():
    assert ranks(np.array([[1.0, 1.0, 1.0]]), np.zeros((1, 3), bool)).tolist() == [2]


def test_a_masked_candidate_does_not_compete():
    masked = np.array([[True, False, False]])
    assert ranks(np.array([[9.0, 1.0, 2.0]]), masked).tolist() == [0]


def test_the_held_out_item_cannot_be_masked():
    assert ranks(np.array([[3.0, 1.0]]), np.array([[True, True]])).tolist() == [0]


def test_hit_rate_counts_ranks_below_k():
    rank = np.array([0, 9, 10, 500])
    assert hits_at(rank, 10) == 2
    assert hit_rate_at(rank, 10) == 0.5
    assert hit_rate_at(rank, 1) == 0.25


def test_ndcg_equals_hand_computed_values():
    """Ranks 0, 2 and 10: gains 1, ln2/ln4 = 1/2, 0."""
    assert ndcg_at(np.array([0, 2, 10]), 10) == pytest.approx(1.5 / 3)
    assert ndcg_at(np.array([9]), 10) == pytest.approx(math.log(2) / math.log(11))


@pytest.mark.parametrize("place", [0, 2])
def test_a_nan_score_is_an_error_and_never_a_hit(place):
    scores = np.array([[1.0, 2.0, 3.0]])
    scores[0, place] = np.nan
    with pytest.raises(NonFiniteScore):
        ranks(scores, np.zeros((1, 3), bool))


def test_nan_of_a_masked_candidate_is_ignored():
    scores = np.array([[np.nan, 2.0, 3.0]])
    assert ranks(scores, np.array([[True, False, False]])).tolist() == [0]


def test_infinite_scores_are_ranked():
    scores = np.array([[np.inf, 0.0, 1.0], [-np.inf, 0.0, 1.0]])
    assert ranks(scores, np.zeros((2, 3), bool)).tolist() == [1, 0]
