"""The batches of one epoch, drawn on the host, with static shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np

from reference_model.base.config import EngineConfig
from reference_model.base.errors import Cancelled
from reference_model.data.split import Split
from reference_model.sampling.negatives import NegativeSampler
from reference_model.sampling.random_streams import STREAM_NEGATIVES, STREAM_ORDER, stream

# Examples processed at a time, to bound temporary arrays. Cancellation is checked between these
# chunks.
_CHUNK_EXAMPLES = 2_000_000


@dataclass(frozen=True, eq=False)
class EpochBatches:
    """The batches of S steps: every positive and every drawn negative once, in random order.

    The last batch is padded to the full batch size. Padding has valid ids for embedding lookups;
    engines mask it out of the loss.

    Attributes:
      user: int32 [S, B], user indices.
      item: int32 [S, B], item indices.
      label: bool [S, B], True for a positive.
      examples: number of examples; entries from `examples` on, in row-major order, are
        padding.
    """

    user: np.ndarray
    item: np.ndarray
    label: np.ndarray
    examples: int

    @property
    def steps(self) -> int:
        """Number of batches, S."""
        return len(self.user)


def draw_epoch_negatives(
    split: Split,
    sampler: NegativeSampler,
    per_positive: int,
    rng: np.random.Generator,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> np.ndarray:
    """Draws the negatives of one epoch.

    Args:
      split: the dataset, with P positives.
      sampler: draws the negatives.
      per_positive: number of negatives per positive, n.
      rng: the random stream.
      is_cancelled: polled periodically; True cancels the work.

    Returns:
      int32 [P * n]; the negatives of positive j are at [j * n, (j + 1) * n).

    Raises:
      Cancelled: `is_cancelled` returned True.
    """
    drawn = np.empty(split.num_positives * per_positive, np.int32)
    for low in range(0, split.num_positives, _CHUNK_EXAMPLES):
        if is_cancelled():
            raise Cancelled
        users = np.repeat(split.train_user[low : low + _CHUNK_EXAMPLES], per_positive)
        start = low * per_positive
        drawn[start : start + len(users)] = sampler.draw(users, rng)
    return drawn


def build_epoch(
    split: Split,
    sampler: NegativeSampler,
    negatives: int,
    batch_size: int,
    seed: int,
    epoch: int,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> EpochBatches:
    """Draws the batches of one epoch, deterministically from the arguments.

    Args:
      split: the dataset.
      sampler: draws the negatives.
      negatives: number of negatives per positive.
      batch_size: examples per batch.
      seed: the run's seed.
      epoch: the epoch number, from 1.
      is_cancelled: polled periodically; True cancels the work.

    Raises:
      Cancelled: `is_cancelled` returned True.
    """
    drawn = draw_epoch_negatives(
        split, sampler, negatives, stream(seed, STREAM_NEGATIVES, epoch), is_cancelled
    )
    # Example numbers: first the positives, then the negatives in the order of `drawn`.
    positives = split.num_positives
    examples = positives + len(drawn)
    steps = -(-examples // batch_size)
    order = np.arange(examples, dtype=np.int32 if examples < 2**31 else np.int64)
    stream(seed, STREAM_ORDER, epoch).shuffle(order)

    user = np.empty(steps * batch_size, np.int32)
    item = np.empty(steps * batch_size, np.int32)
    label = np.zeros(steps * batch_size, bool)
    for low in range(0, examples, _CHUNK_EXAMPLES):
        if is_cancelled():
            raise Cancelled
        part = order[low : low + _CHUNK_EXAMPLES]
        here = slice(low, low + len(part))
        is_positive = part < positives
        # For each example: its position in `drawn` (unused for positives, 0), and the row in the
        # split of the positive that it belongs to.
        negative = np.where(is_positive, 0, part - positives)
        row = np.where(is_positive, part, negative // max(negatives, 1))
        user[here] = split.train_user[row]
        item[here] = split.train_item[row]
        if negatives:
            item[here] = np.where(is_positive, item[here], drawn[negative])
        label[here] = is_positive
    _fill_padding(user, examples, split.num_users)
    _fill_padding(item, examples, split.num_items)
    shape = (steps, batch_size)
    return EpochBatches(user.reshape(shape), item.reshape(shape), label.reshape(shape), examples)


def random_batch(config: EngineConfig) -> EpochBatches:
    """Makes one batch of random ids, to compile and warm up training programs."""
    rng, shape = np.random.default_rng(0), (1, config.batch_size)
    user = rng.integers(0, config.num_users, shape, np.int32)
    item = rng.integers(0, config.num_items, shape, np.int32)
    return EpochBatches(user, item, rng.random(shape) < 0.2, config.batch_size)


def pad_rows(rows: np.ndarray, count: int) -> np.ndarray:
    """Pads with rows of zeros, so that all calls of a program have the same shape.

    A different number of rows would trigger recompilation.

    Args:
      rows: [k, B].
      count: number of output rows, at least k.

    Returns:
      [count, B]; `rows` itself if k is `count`.
    """
    missing = count - len(rows)
    if not missing:
        return rows
    return np.concatenate([rows, np.zeros((missing, rows.shape[1]), rows.dtype)])


def _fill_padding(ids: np.ndarray, start: int, size: int) -> None:
    """Fills ids[start:] with varying ids, because many reads of one table row are slow."""
    ids[start:] = np.arange(len(ids) - start) % size
