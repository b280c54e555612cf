"""Small splits that several tests share."""

from __future__ import annotations

import numpy as np

from reference_model.data.split import Split, leave_one_out


def random_split(seed: int, users: int, items: int, density: float = 0.5) -> Split:
    """A split of random pairs; every user has at least two and lacks none."""
    rng = np.random.default_rng(seed)
    rated = rng.random((users, items)) < density
    for row in rated:
        row[rng.choice(items, 2, replace=False)] = True
    pairs = np.argwhere(rated)
    return leave_one_out(pairs[:, 0], pairs[:, 1], rng.integers(0, 99, len(pairs)), 2)


def clustered_split(users: int = 200, items: int = 80, seed: int = 0) -> Split:
    """Users and items in four groups; a user rates mostly its own group's items.

    Enough structure that a few epochs of NeuMF learn it.
    """
    rng = np.random.default_rng(seed)
    same = (np.arange(users)[:, None] % 4) == (np.arange(items)[None, :] % 4)
    rated = rng.random((users, items)) < np.where(same, 0.8, 0.02)
    rated[:, :2] = True
    pairs = np.argwhere(rated)
    return leave_one_out(pairs[:, 0], pairs[:, 1], rng.integers(0, 10**6, len(pairs)), 2)
