"""One epoch as static-shape batches, and their preparation in the background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np

from reference_model.base.errors import Cancelled
from reference_model.data.split import Split
from reference_model.sampling.negatives import NegativeSampler
from reference_model.sampling.random_streams import STREAM_NEGATIVES, STREAM_ORDER, stream

_CHUNK = 2_000_000


@dataclass(frozen=True, eq=False)
class EpochBatches:
    """Every positive and every drawn negative once, in random order, padded.

    Attributes:
      user, item: int32 [S, B]; label: bool [S, B], True for a positive.
      examples: how many entries are real; those from `examples` on (in the
        last batch) are padding, which carries spread-out ids and no weight.
    """

    user: np.ndarray
    item: np.ndarray
    label: np.ndarray
    examples: int

    @property
    def steps(self) -> int:
        return len(self.user)


def draw_negatives(
    split: Split,
    sampler: NegativeSampler,
    per_positive: int,
    rng: np.random.Generator,
    cancelled: Callable[[], bool] = lambda: False,
) -> np.ndarray:
    """int32 [P * per_positive]: negatives of positive j at [j * n, (j + 1) * n)."""
    drawn = np.empty(split.num_positives * per_positive, np.int32)
    for low in range(0, split.num_positives, _CHUNK):
        if cancelled():
            raise Cancelled
        users = np.repeat(split.train_user[low : low + _CHUNK], per_positive)
        first = low * per_positive
        drawn[first : first + len(users)] = sampler.draw(users, rng)
    return drawn


def build_epoch(
    split: Split,
    sampler: NegativeSampler,
    negatives: int,
    batch_size: int,
    seed: int,
    epoch: int,
    cancelled: Callable[[], bool] = lambda: False,
) -> EpochBatches:
    """The batches of one epoch; the same arguments give the same bits."""
    drawn = draw_negatives(
        split, sampler, negatives, stream(seed, STREAM_NEGATIVES, epoch), cancelled
    )
    positives = split.num_positives
    examples = positives + len(drawn)
    steps = -(-examples // batch_size)
    order = np.arange(examples, dtype=np.int32 if examples < 2**31 else np.int64)
    stream(seed, STREAM_ORDER, epoch).shuffle(order)

    user = np.empty(steps * batch_size, np.int32)
    item = np.empty(steps * batch_size, np.int32)
    label = np.zeros(steps * batch_size, bool)
    for low in range(0, examples, _CHUNK):
        if cancelled():
            raise Cancelled
        part = order[low : low + _CHUNK]
        here = slice(low, low + len(part))
        is_positive = part < positives
        drawn_from = np.where(is_positive, 0, part - positives)
        row = np.where(is_positive, part, drawn_from // max(negatives, 1))
        user[here] = split.train_user[row]
        item[here] = split.train_item[row]
        if negatives:
            item[here] = np.where(is_positive, item[here], drawn[drawn_from])
        label[here] = is_positive
    _pad(user, examples, split.num_users)
    _pad(item, examples, split.num_items)
    shape = (steps, batch_size)
    return EpochBatches(user.reshape(shape), item.reshape(shape), label.reshape(shape), examples)


def filled_up(rows: np.ndarray, count: int) -> np.ndarray:
    """rows [k, B] with rows of zeros up to [count, B]: a program that got fewer would be
    compiled again for their number."""
    missing = count - len(rows)
    if not missing:
        return rows
    return np.concatenate([rows, np.zeros((missing, rows.shape[1]), rows.dtype)])


def _pad(ids: np.ndarray, start: int, size: int) -> None:
    """Fills ids[start:] with ids spread over the table: one hot row is slow."""
    ids[start:] = np.arange(len(ids) - start) % size


