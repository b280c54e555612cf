"""Generated data has the requested shape and a structure that can be learned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_model.data import synthetic
from reference_model.data.synthetic import (
    SyntheticShape,
    generate_split,
    plant_factors,
    ratings_per_user,
)

SHAPE = SyntheticShape(num_users=1500, num_items=800, num_ratings=75_000, seed=3)


def all_pairs(split):
    user = np.concatenate([split.train_user, np.arange(split.num_users)])
    return user, np.concatenate([split.train_item, split.test_item])


@st.composite
def shapes(draw):
    users, items = draw(st.integers(1, 60)), draw(st.integers(20, 90))
    ratings = draw(st.integers(20 * users, users * items))
    return SyntheticShape(users, items, ratings, draw(st.integers(0, 3)))


@settings(max_examples=60, deadline=None)
@given(shapes())
def test_generated_data_has_exactly_the_requested_shape(shape):
    split = generate_split(shape).validate()
    user, item = all_pairs(split)
    assert len(user) == shape.num_ratings == split.num_positives + shape.num_users
    assert len(np.unique(user * shape.num_items + item)) == shape.num_ratings
    assert np.bincount(user, minlength=shape.num_users).min() >= 20
    assert (split.num_users, split.num_items) == (shape.num_users, shape.num_items)


def test_the_data_does_not_depend_on_the_number_of_threads(monkeypatch):
    digest = generate_split(SHAPE).digest
    monkeypatch.setattr(synthetic.os, "cpu_count", lambda: 1)
    assert generate_split(SHAPE).digest == digest


def test_another_seed_gives_other_data():
    other = SyntheticShape(SHAPE.num_users, SHAPE.num_items, SHAPE.num_ratings, seed=4)
    assert generate_split(other).digest != generate_split(SHAPE).digest


def test_popularity_and_activity_have_long_tails():
    user, item = all_pairs(generate_split(SHAPE))
    for counts in (np.bincount(user), np.bincount(item)):
        counts = np.sort(counts)
        assert counts[-1] > 5 * np.median(counts)


def hit_rate(split, score, users, negatives=999, top=10):
    """Returns the HR@10 of score(user) [M] against items outside the user's positives."""
    rng, hits = np.random.default_rng(0), 0
    for user in users:
        held = split.test_item[user]
        own = split.train_item[split.row_starts[user] : split.row_starts[user + 1]]
        free = np.setdiff1d(np.arange(split.num_items), np.append(own, held))
        values = score(user)
        hits += (values[rng.choice(free, negatives)] >= values[held]).sum() < top
    return hits / len(users)


def test_the_planted_factors_predict_far_more_than_the_popularity():
    split, factors = generate_split(SHAPE), plant_factors(SHAPE)
    popularity = np.bincount(split.train_item, minlength=split.num_items)
    users = np.arange(0, SHAPE.num_users, 3)
    popular = hit_rate(split, lambda user: popularity, users)
    planted = hit_rate(split, lambda user: factors.weight(np.array([user]))[0], users)
    assert planted > popular + 0.2


def test_the_factors_can_be_learnt_from_the_positives():
    """Sixteen singular vectors of the damped interactions approximate the planted factors."""
    split = generate_split(SHAPE)
    matrix = np.zeros((split.num_users, split.num_items))
    matrix[split.train_user, split.train_item] = 1
    popularity = matrix.sum(0)
    damped = matrix / np.sqrt(matrix.sum(1, keepdims=True)) / np.maximum(popularity, 1) ** 0.25
    vectors = np.random.default_rng(0).normal(size=(split.num_items, 16))
    for _ in range(20):  # power iteration
        vectors = np.linalg.qr(damped.T @ (damped @ vectors))[0]
    scores = (damped @ vectors) @ vectors.T * popularity**0.25
    users = np.arange(0, SHAPE.num_users, 3)
    popular = hit_rate(split, lambda user: popularity, users)
    assert hit_rate(split, lambda user: scores[user], users) > popular + 0.15


def test_a_user_may_rate_every_item():
    split = generate_split(SyntheticShape(3, 25, 75))
    assert np.bincount(split.train_user).tolist() == [24, 24, 24]


def test_ratings_per_user_add_up_and_stay_within_bounds():
    counts = ratings_per_user(SyntheticShape(100, 50, 4_999))
    assert counts.sum() == 4_999 and counts.min() >= 20 and counts.max() <= 50


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 100, 100), "at least one user"),
        ((10, 19, 190), "at least one user and 20 items"),
        ((10, 100, 199), "must be between 200"),
        ((10, 100, 1001), "and 1000"),
        ((10, 100, 500, -1), "whole numbers"),
        ((10, 100, 500.0), "whole numbers"),
        ((True, 100, 50), "whole numbers"),
    ],
)
def test_an_impossible_shape_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SyntheticShape(*values)


@pytest.mark.slow
def test_data_of_the_shape_of_ml_20m_can_be_generated():
    shape = SyntheticShape(138_493, 26_744, 20_000_263)
    split = generate_split(shape).validate()
    assert split.num_positives == 19_861_770
    assert np.bincount(split.train_user).min() >= 19
