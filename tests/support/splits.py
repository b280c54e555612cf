"""Small splits that several tests use."""

from __future__ import annotations

import numpy as np

from reference_model.data.split import Split, leave_one_out


def random_split(seed: int, users: int, items: int, density: float = 0.5) -> Split:
    """A split of random pairs in which every user has at least two ratings."""
    rng = np.random.default_rng(seed)
    rated = rng.random((users, items)) < density
    for row in rated:
        row[rng.choice(items, 2, replace=False)] = True
    pairs = np.argwhere(rated)
    return leave_one_out(pairs[:, 0], pairs[:, 1], rng.integers(0, 99, len(pairs)), 2)


def clustered_split(users: int = 200, items: int = 80, seed: int = 0) -> Split:
    """Users and items in four groups; a user mostly rates items of its own group.

    A few epochs of NeuMF learn this structure.
    """
    rng = np.random.default_rng(seed)
    same = (np.arange(users)[:, None] % 4) == (np.arange(items)[None, :] % 4)
    rated = rng.random((users, items)) < np.where(same, 0.8, 0.02)
    rated[:, :2] = True
    pairs = np.argwhere(rated)
    return leave_one_out(pairs[:, 0], pairs[:, 1], rng.integers(0, 10**6, len(pairs)), 2)


def positives_of(split: Split, user: int) -> set[int]:
    """The items of a user's training positives."""
    rows = slice(split.row_starts[user], split.row_starts[user + 1])
    return set(split.train_item[rows].tolist())


def split_with_a_full_user() -> Split:
    """A split whose user 0 has rated every item, so only the held-out item can be drawn."""
    return Split(
        2,
        4,
        np.array([0, 0, 0, 1], np.int32),
        np.array([0, 1, 3, 2], np.int32),
        np.array([2, 0], np.int32),
    ).validate()
