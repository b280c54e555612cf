"""The random order of an epoch, cut into batches; rows of a batch sorted.

The order of rows within a batch does not matter to its gradient, so a random
permutation may be replaced by a random assignment of examples to batches of
the same law, and each batch may be kept in ascending order, which makes what
it reads and adds local.

Every example draws a batch by itself; batches that got too many give up a
uniform choice of them, which is dealt out at random to those that got too few.
The result is exactly uniform over all assignments with batches of the right
sizes: each step treats the examples alike, so the law of the result does not
change when the examples are renumbered, and any such assignment can be
renumbered into any other. How the first draw weighs the batches is therefore
free; nearly even weights leave little to move. No sort is needed.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

# The first draw takes one of so many values, each of which means a batch; numpy
# draws all 16 bits several times as fast as a smaller range.
_DRAW_VALUES = 1 << 16
# Examples drawn for at a time: little memory beside the result, used again and again.
_PIECE = 1 << 18
# Above so many batches, groups of batches are made first, then each is cut up.
_MOST_PARTS = 256


def shuffled_batches(
    examples: int,
    batch_size: int,
    rng: np.random.Generator,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """int32 [S, B]: the numbers 0 .. examples - 1, each once, in random batches.

    Within a batch they ascend. The last batch is filled up with numbers spread
    over the whole range, which are padding (they stand last). `out`, if given,
    is an earlier result of the same sizes that is written over.
    """
    if examples >= 2**31:
        raise ValueError(f"{examples} examples in an epoch: at most 2^31 - 1 can be numbered")
    steps = -(-examples // batch_size)
    if out is None:
        out = np.empty((steps, batch_size), np.int32)
    flat = out.reshape(-1)
    spare = len(flat) - examples
    flat[examples:] = np.arange(spare, dtype=np.int64) * examples // max(spare, 1)
    _deal(None, flat[:examples], batch_size, rng)
    return out


def _deal(
    numbers: np.ndarray | None, out: np.ndarray, batch_size: int, rng: np.random.Generator
) -> None:
    """Writes ascending numbers (int32 [n]; None: 0 .. n - 1) to `out` by batch."""
    batches = -(-len(out) // batch_size)
    size = batch_size * -(-batches // _MOST_PARTS)
    rows = [out[low : low + size] for low in range(0, len(out), size)]
    filled, surplus = _first_draw(numbers, rows, rng)
    pool = [out[:0]]
    for row, more in zip(rows, surplus):
        if more:
            pool.append(_give_up(row, np.concatenate(more), rng))
    dealt = rng.permutation(np.concatenate(pool))
    for row, count in zip(rows, filled):
        if missing := len(row) - count:
            new, dealt = np.sort(dealt[:missing]), dealt[missing:]
            row[:] = np.insert(row[:count], np.searchsorted(row[:count], new), new)
    if size > batch_size:
        for row in rows:
            _deal(row.copy(), row, batch_size, rng)


def _first_draw(
    numbers: np.ndarray | None, rows: list[np.ndarray], rng: np.random.Generator
) -> tuple[list[int], list[list[np.ndarray]]]:
    """Writes each number, in ascending order, to a row drawn by itself.

    Returns how far each row is filled, and what did not fit into it.
    """
    total = sum(map(len, rows))
    row_of = _meanings(_DRAW_VALUES, total, len(rows[0]))
    filled, surplus = [0] * len(rows), [[] for _ in rows]
    for low in range(0, total, _PIECE):
        high = min(low + _PIECE, total)
        piece = np.arange(low, high, dtype=np.int32) if numbers is None else numbers[low:high]
        drawn = row_of[rng.integers(0, len(row_of), len(piece), dtype=np.uint16)]
        with tf.device("/CPU:0"):
            found = tf.dynamic_partition(piece, drawn, len(rows))
        for k, (row, part) in enumerate(zip(rows, found)):
            part = part.numpy()
            fits = part[: len(row) - filled[k]]
            row[filled[k] : filled[k] + len(fits)] = fits
            filled[k] += len(fits)
            if len(fits) < len(part):
                surplus[k].append(part[len(fits) :])
    return filled, surplus


@functools.lru_cache(maxsize=4)
def _meanings(values: int, total: int, size: int) -> np.ndarray:
    """int32 [values]: the row that each value of the first draw means."""
    return (np.arange(values) * total // values // size).astype(np.int32)


def _give_up(row: np.ndarray, more: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A uniform choice of len(more) out of both; what remains stands in `row`."""
    both = np.concatenate([row, more])
    gone = rng.choice(len(both), len(more), replace=False, shuffle=False)
    row[:] = np.delete(both, gone)
    return both[gone]
