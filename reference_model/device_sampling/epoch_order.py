"""The random epoch order, split into batches with sorted rows.

The gradient of a batch does not depend on the order of its rows. So a random permutation can be
replaced by a random assignment of examples to batches with the same distribution. Each batch is
sorted, which makes its reads and scatter-adds local.

Each example draws a batch. A batch with too many examples releases a uniform sample of them, and
the released examples are assigned at random to the batches with too few. The result is exactly
uniform over all assignments with the required batch sizes; see the proof in
`docs/epoch-order.md`. The epoch as a whole is not sorted.

A large order is made in parts of several steps, so that at most three parts are in memory. Each
example draws its part; the draws are not stored, but redrawn from the same stream for each part.
The number of an example may then exceed 32 bits, so examples are identified by the row of their
positive and a flag for negatives; see `pack_example_ids`.

Variable names indicate the index space:

* `example`: the number of an example in the epoch, 0 .. examples - 1;
* `value`: the random value drawn by an example, 0 .. 2^16 - 1;
* `bin`: a batch, or a group of consecutive batches that is split later;
* `part`: a part of the order;
* `piece`: a group of examples processed together;
* `position`: an index into the current array;
* `rank`: the index of an example among those that drew the current part.
"""

from __future__ import annotations

import functools
from typing import Callable, Iterator

import numpy as np

from reference_model.base.errors import Cancelled
from reference_model.base.lazy_modules import tf
from reference_model.sampling.random_streams import STREAM_ORDER, STREAM_ORDER_PARTS, stream

# Number of values of the first draw, each of which is mapped to a bin. NumPy draws 16-bit values
# several times as fast as values of a smaller range.
_DRAW_VALUES = 1 << 16
# Examples per piece; bounds the memory of the draws.
_PIECE_EXAMPLES = 1 << 18
# With more batches than this, groups of batches are filled first, then each group is split.
_MAX_BINS = 256
# Epochs with more examples than this are ordered in parts of about this size (32 MiB).
PART_EXAMPLES = 1 << 23
# Maximum number of parts, because each part scans the draws of all examples.
_MAX_PARTS = 64


def shuffled_batches(
    examples: int,
    batch_size: int,
    rng: np.random.Generator,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Assigns the numbers 0 .. examples - 1, each once, to random batches.

    Args:
      examples: number of examples.
      batch_size: examples per batch.
      rng: the random stream.
      out: an earlier result of the same sizes to overwrite; None to allocate a new array.

    Returns:
      int32 [steps, batch_size]; each batch is ascending. The last batch ends with padding:
      numbers spread over the whole range.

    Raises:
      ValueError: more than 2^31 - 1 examples.
    """
    if examples >= 2**31:
        raise ValueError(f"{examples} examples exceed the maximum of an order, 2^31 - 1")
    steps = -(-examples // batch_size)
    if out is None:
        out = np.empty((steps, batch_size), np.int32)
    flat = out.reshape(-1)
    padding = len(flat) - examples
    flat[examples:] = spread_padding(examples, padding)
    _assign_batches(None, flat[:examples], batch_size, rng)
    return out


def spread_padding(examples: int, count: int) -> np.ndarray:
    """Returns numbers spread over all examples, since one hot row is slow; int32 [count]."""
    return (np.arange(count, dtype=np.int64) * examples // max(count, 1)).astype(np.int32)


def _assign_batches(
    ids: np.ndarray | None, out: np.ndarray, batch_size: int, rng: np.random.Generator
) -> None:
    """Writes ids to `out` in random batches, each ascending.

    Args:
      ids: [n], ascending, with the dtype of `out`; None for 0 .. n - 1.
      out: [n], the concatenated batches; the last one may be short.
      batch_size: ids per batch.
      rng: the random stream.
    """
    batches = -(-len(out) // batch_size)
    bin_size = batch_size * -(-batches // _MAX_BINS)
    bins = [out[first : first + bin_size] for first in range(0, len(out), bin_size)]
    counts, surplus = _draw_bins(ids, bins, rng)
    # Bins with too many ids release a uniform sample of them.
    pool = [out[:0]]
    for bin_ids, excess in zip(bins, surplus):
        if excess:
            pool.append(_remove_surplus(bin_ids, np.concatenate(excess), rng))
    # Assign the released ids, in random order, to the bins with too few.
    dealt = rng.permutation(np.concatenate(pool))
    for bin_ids, count in zip(bins, counts):
        if missing := len(bin_ids) - count:
            new, dealt = np.sort(dealt[:missing]), dealt[missing:]
            positions = np.searchsorted(bin_ids[:count], new)
            bin_ids[:] = np.insert(bin_ids[:count], positions, new)
    if bin_size > batch_size:
        for bin_ids in bins:
            _assign_batches(bin_ids.copy(), bin_ids, batch_size, rng)


def _draw_bins(
    ids: np.ndarray | None, bins: list[np.ndarray], rng: np.random.Generator
) -> tuple[list[int], list[list[np.ndarray]]]:
    """Writes each id, in ascending order, to the bin that it draws.

    Returns:
      (number of ids written to each bin, the ids that did not fit into each bin).
    """
    total = sum(map(len, bins))
    bin_of_value = _value_to_bin(_DRAW_VALUES, total, len(bins[0]))
    counts, surplus = [0] * len(bins), [[] for _ in bins]
    for first in range(0, total, _PIECE_EXAMPLES):
        end = min(first + _PIECE_EXAMPLES, total)
        piece = np.arange(first, end, dtype=np.int32) if ids is None else ids[first:end]
        values = rng.integers(0, len(bin_of_value), len(piece), dtype=np.uint16)
        split = _stable_partition(piece, bin_of_value[values], len(bins))
        for k, (bin_ids, drawn) in enumerate(zip(bins, split)):
            fits = drawn[: len(bin_ids) - counts[k]]
            bin_ids[counts[k] : counts[k] + len(fits)] = fits
            counts[k] += len(fits)
            if len(fits) < len(drawn):
                surplus[k].append(drawn[len(fits) :])
    return counts, surplus


def _stable_partition(values: np.ndarray, bins: np.ndarray, count: int) -> list[np.ndarray]:
    """Splits values [n] by their bins, int32 [n] in 0 .. count - 1, and keeps their order."""
    if tf.if_imported() is not None:
        # About half the time of NumPy's sort.
        with tf.device("/CPU:0"):
            return [part.numpy() for part in tf.dynamic_partition(values, bins, count)]
    # There are at most 256 bins; NumPy sorts bytes by radix.
    order = np.argsort(bins.astype(np.uint8), kind="stable")
    return np.split(values[order], np.cumsum(np.bincount(bins, minlength=count))[:-1])


@functools.lru_cache(maxsize=4)
def _value_to_bin(values: int, total: int, bin_size: int) -> np.ndarray:
    """Returns the bin of each value of the first draw, int32 [values]."""
    return (np.arange(values) * total // values // bin_size).astype(np.int32)


def _remove_surplus(
    bin_ids: np.ndarray, excess: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Removes a uniform sample of len(excess) ids from both arrays; `bin_ids` keeps the rest."""
    both = np.concatenate([bin_ids, excess])
    positions = rng.choice(len(both), len(excess), replace=False, shuffle=False)
    bin_ids[:] = np.delete(both, positions)
    return both[positions]


# -- orders in parts ------------------------------------------------------------------


def pack_example_ids(examples: np.ndarray, group_size: int) -> np.ndarray:
    """Encodes examples in 32 bits, by the row of their positive.

    Args:
      examples: int [n], numbers of examples.
      group_size: number of examples per positive: the positive, which is first, and its
        negatives.

    Returns:
      uint32 [n]: 2 row for the positive of a row, 2 row + 1 for each of its negatives.
    """
    row, position = np.divmod(examples, group_size)
    return (2 * row + (position > 0)).astype(np.uint32)


class EpochOrders:
    """The epoch orders of a run, each made as a whole or in parts.

    There are two alternating buffers: one contains the part returned last, the other the part
    in progress. Allocating memory for each part would take longer than the shuffle.

    Attributes:
      examples: examples per epoch.
      batch_size: examples per batch.
      group_size: examples per positive, itself included.
      parts: number of parts of an order.
    """

    def __init__(self, examples: int, batch_size: int, group_size: int):
        """Raises ValueError if there are more than 2^31 - 1 positives."""
        self.examples, self.batch_size, self.group_size = examples, batch_size, group_size
        steps = -(-examples // batch_size)
        wanted_parts = min(-(-examples // PART_EXAMPLES), _MAX_PARTS)
        self._steps_per_part = -(-steps // wanted_parts)
        self.parts = -(-steps // self._steps_per_part)
        if examples // group_size >= 2**31:
            raise ValueError(
                f"{examples // group_size} positives exceed the maximum of an order, 2^31 - 1"
            )
        # The buffer to overwrite next, and the one with the part returned last.
        self._buffers: list[np.ndarray | None] = [None, None]

    @property
    def dtype(self) -> np.dtype:
        """int32 for numbers of examples; uint32 for packed ids, if there are several parts."""
        return np.dtype(np.int32 if self.parts == 1 else np.uint32)

    def of(
        self, seed: int, epoch: int, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[np.ndarray]:
        """Yields the parts of an epoch order.

        Args:
          seed: the run's seed.
          epoch: the epoch number, from 1.
          cancelled: polled periodically; True cancels the work.

        Yields:
          [steps, batch_size] of `dtype`, as returned by `shuffled_batches`.

        Raises:
          Cancelled: `cancelled` returned True.
        """
        if self.parts == 1:
            rng = stream(seed, STREAM_ORDER, epoch)
            out = shuffled_batches(self.examples, self.batch_size, rng, self._buffers[0])
            yield self._hand_out(out)
            return
        part_size = self._steps_per_part * self.batch_size
        bounds = np.append(np.arange(0, self.examples, part_size), self.examples)
        sampler = PartAssignment(
            np.diff(bounds), self.group_size, lambda k: stream(seed, STREAM_ORDER_PARTS, epoch, k)
        )
        for part in range(self.parts):
            rng = stream(seed, STREAM_ORDER, epoch, 1 + part)
            ids = sampler.members_of(part, cancelled)
            out = self._batches_of(ids, self._buffers[0], rng)
            del ids  # otherwise a third part would stay in memory
            yield self._hand_out(out)

    def _hand_out(self, part: np.ndarray) -> np.ndarray:
        self._buffers = [self._buffers[1], part]
        return part

    def _batches_of(
        self, ids: np.ndarray, out: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """Assigns the ids of a part to batches; overwrites `out` if it is large enough."""
        steps = -(-len(ids) // self.batch_size)
        if out is None or len(out) < steps:
            out = np.empty((self._steps_per_part, self.batch_size), np.uint32)
        flat = out[:steps].reshape(-1)
        padding = len(flat) - len(ids)
        spread = np.arange(padding, dtype=np.int64) * len(ids) // max(padding, 1)
        flat[len(ids) :] = ids[spread]
        _assign_batches(ids, flat[: len(ids)], self.batch_size, rng)
        return out[:steps]


class PartAssignment:
    """Assigns examples to the parts of an order; redraws the assignment for each part.

    Parts must be requested in order. If a part has too many examples, a uniform sample of them
    moves to the last part; if it has too few, a uniform sample of the examples of later parts
    moves to it.
    """

    def __init__(
        self,
        part_sizes: np.ndarray,
        group_size: int,
        streams: Callable[[int], np.random.Generator],
    ):
        """Draws once to count the examples of each part.

        Args:
          part_sizes: int64 [parts], the required number of examples of each part.
          group_size: examples per positive, itself included.
          streams: returns a random stream by index: 0 for the draws, 1 + k for the moves of
            part k.
        """
        self._part_sizes, self._streams = part_sizes, streams
        self._examples = int(part_sizes.sum())
        # A piece consists of whole groups, so its packed ids are those of the first piece plus a
        # constant.
        self._piece_size = max(1, _PIECE_EXAMPLES // group_size) * group_size
        self._piece_ids = pack_example_ids(np.arange(self._piece_size), group_size)
        self._piece_rows = self._piece_size // group_size
        self._value_bounds = _part_bounds(part_sizes)
        # Moved examples, ascending, and the value that replaces the draw of each.
        self._moved = np.zeros(0, np.int64), np.zeros(0, np.uint16)
        counts = sum(np.bincount(values, minlength=_DRAW_VALUES) for _, values in self._draws())
        self._counts = np.add.reduceat(counts, self._value_bounds[:-1])

    def members_of(
        self, part: int, cancelled: Callable[[], bool] = lambda: False
    ) -> np.ndarray:
        """Draws the examples of one part.

        Args:
          part: the part number; parts must be requested in order.
          cancelled: polled periodically; True cancels the work.

        Returns:
          uint32 [part_sizes[part]], ascending packed ids.

        Raises:
          Cancelled: `cancelled` returned True.
        """
        rng, size = self._streams(1 + part), self._part_sizes[part]
        if self._counts[part] < size:
            self._take_from_later_parts(part, size - self._counts[part], rng, cancelled)
        count = self._counts[part]
        surplus_ranks = np.sort(rng.choice(count, count - size, replace=False, shuffle=False))
        ids, filled, first_rank, surplus = np.empty(size, np.uint32), 0, 0, []
        for first_example, values in self._draws(cancelled):
            positions = np.flatnonzero(self._drew_parts(values, part, part + 1))
            end_rank = first_rank + len(positions)
            removed = _between(surplus_ranks, first_rank, end_rank) - first_rank
            first_rank = end_rank
            if len(removed):
                surplus.append(first_example + positions[removed])
                positions = np.delete(positions, removed)
            piece_ids = ids[filled : filled + len(positions)]
            np.take(self._piece_ids, positions, out=piece_ids, mode="clip")
            piece_ids += np.uint32(2 * (first_example // self._piece_size) * self._piece_rows)
            filled += len(positions)
        if surplus:
            self._move(np.concatenate(surplus), part, len(self._part_sizes) - 1)
        return ids

    def _take_from_later_parts(self, part: int, missing: int, rng, cancelled) -> None:
        """Moves a uniform sample of the examples of later parts to this part."""
        later = int(self._counts[part + 1 :].sum())
        wanted_ranks = np.sort(rng.choice(later, missing, replace=False, shuffle=False))
        first_rank, examples, old_parts = 0, [], []
        for first_example, values in self._draws(cancelled):
            positions = np.flatnonzero(self._drew_parts(values, part + 1, len(self._part_sizes)))
            end_rank = first_rank + len(positions)
            positions = positions[_between(wanted_ranks, first_rank, end_rank) - first_rank]
            first_rank = end_rank
            examples.append(first_example + positions)
            old_parts.append(
                np.searchsorted(self._value_bounds, values[positions], side="right") - 1
            )
        examples, old_parts = np.concatenate(examples), np.concatenate(old_parts)
        for old_part in np.unique(old_parts):
            self._move(examples[old_parts == old_part], old_part, part)

    def _move(self, examples: np.ndarray, old_part: int, new_part: int) -> None:
        """Records that examples belong to `new_part` in all later draws."""
        moved, values = self._moved
        moved = np.concatenate([moved, examples])
        new_values = np.full(len(examples), self._value_bounds[new_part], np.uint16)
        values = np.concatenate([values, new_values])
        order = np.argsort(moved, kind="stable")  # of two moves of an example, the later comes last
        self._moved = moved[order], values[order]
        self._counts[old_part] -= len(examples)
        self._counts[new_part] += len(examples)

    def _draws(self, cancelled: Callable[[], bool] = lambda: False):
        """Yields (number of the first example, uint16 [n] values drawn) for each piece."""
        rng, (moved, new_values) = self._streams(0), self._moved
        for first_example in range(0, self._examples, self._piece_size):
            if cancelled():
                raise Cancelled
            count = min(self._piece_size, self._examples - first_example)
            values = _draw_values(rng, count)
            here = slice(*np.searchsorted(moved, (first_example, first_example + count)))
            values[moved[here] - first_example] = new_values[here]
            yield first_example, values

    def _drew_parts(self, values: np.ndarray, first_part: int, end_part: int) -> np.ndarray:
        """Returns whether each value maps to a part in [first_part, end_part), bool [n]."""
        low = self._value_bounds[first_part]
        width = self._value_bounds[end_part] - low
        # Unsigned differences wrap around, so one comparison tests both bounds.
        return (values - np.uint16(low)) <= np.uint16(width - 1)


def _draw_values(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draws values below _DRAW_VALUES, uint16 [count].

    Each 64-bit word yields four values. Drawing one value at a time takes twice as long, which
    matters because every part draws all values.
    """
    words = rng.integers(0, 1 << 64, -(-count // 4), dtype=np.uint64)
    values = words.astype("<u8", copy=False).view("<u2")[:count]
    return values if _DRAW_VALUES == 1 << 16 else values % np.uint16(_DRAW_VALUES)


def _part_bounds(part_sizes: np.ndarray) -> np.ndarray:
    """Returns bounds, int64 [parts + 1]: values in [bounds[k], bounds[k + 1]) map to part k.

    All parts but the last are drawn slightly more often than in proportion to their sizes. So
    nearly every part has a surplus, which moves to the last part, and rarely takes examples from
    later parts.
    """
    parts = len(part_sizes)
    # Twelve standard deviations, plus the largest reduction by rounding to whole values.
    margin = 12 / np.sqrt(part_sizes[0]) + parts / _DRAW_VALUES
    bounds = np.ceil(_DRAW_VALUES * np.cumsum(part_sizes) / part_sizes.sum() * (1 + margin))
    # Every later part keeps at least one value.
    bounds = np.minimum(bounds, _DRAW_VALUES - np.arange(parts - 1, -1, -1))
    return np.append(0, bounds).astype(np.int64)


def _between(rising: np.ndarray, low: int, high: int) -> np.ndarray:
    """Returns the values in [low, high) of a sorted array."""
    return rising[slice(*np.searchsorted(rising, (low, high)))]
