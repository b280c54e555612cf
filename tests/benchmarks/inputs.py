"""The pinned data of the suite: generated, so that nothing is downloaded."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from reference_model.data.split import Split
from reference_model.data.synthetic import SyntheticShape, generate_split

# The shape of MovieLens 1M, for host work that is done once per run or once per epoch.
ML_1M = SyntheticShape(num_users=6040, num_items=3706, num_ratings=1_000_209, seed=20181108)
# Two batches of 98,304 examples per epoch; tables and lists small enough for the slowest engine.
TWO_BATCHES = SyntheticShape(num_users=1000, num_items=1200, num_ratings=40_321, seed=20181108)
# Training reaches a hit rate of 0.46 in 4 epochs.
LEARNABLE = SyntheticShape(num_users=500, num_items=600, num_ratings=25_000, seed=1)

SEED = 7


@lru_cache(maxsize=4)
def split_of(shape: SyntheticShape) -> Split:
    """Returns the generated split of a shape."""
    return generate_split(shape)


@lru_cache(maxsize=4)
def one_step(batch_size: int, negatives: int = 4) -> Split:
    """Returns a split of one batch: evenly spaced positives of TWO_BATCHES."""
    whole = split_of(TWO_BATCHES)
    count = batch_size // (1 + negatives)
    kept = np.linspace(0, whole.num_positives - 1, count).astype(np.int64)
    return Split(
        whole.num_users,
        whole.num_items,
        whole.train_user[kept],
        whole.train_item[kept],
        whole.test_item,
    )


def version_of(split: Split, *settings: object) -> str:
    """Returns the version of an input: the split's digest and the settings used on it."""
    return " ".join([split.digest[:16], *map(str, settings)])


def ratings_of(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns user, item and timestamp (int64 [R]); each user's held-out item is the latest."""
    user = np.concatenate([split.train_user, np.arange(split.num_users)]).astype(np.int64)
    item = np.concatenate([split.train_item, split.test_item]).astype(np.int64)
    timestamp = np.random.default_rng(SEED).integers(789_652_009, 1_427_784_002, len(user))
    timestamp[split.num_positives :] = 1_427_784_003
    order = np.lexsort((item, user))
    return user[order], item[order], timestamp[order]
