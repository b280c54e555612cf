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

An order that is large is made in parts, of some steps each, so that no more than
three parts are ever in memory. Every example draws its part by itself; the draws
are not kept, but drawn again from the same stream for each part. A part that got
too many gives up a uniform choice of them to the last part; one that got too few
takes a uniform choice of what stands in later parts. Again each step treats the
examples alike, so the parts' members are exactly uniform, and each part is then
cut into batches as above. Numbers of examples would not fit 32 bits there, so an
example is told by the row of its positive and whether it is a negative: `coded`.
"""

from __future__ import annotations

import functools
from typing import Callable, Iterator

import numpy as np
import tensorflow as tf

from reference_model.base.errors import Cancelled
from reference_model.sampling.random_streams import STREAM_ORDER, STREAM_PARTS, stream

# The first draw takes one of so many values, each of which means a batch; numpy
# draws all 16 bits several times as fast as a smaller range.
_DRAW_VALUES = 1 << 16
# Examples drawn for at a time: little memory beside the result, used again and again.
_PIECE = 1 << 18
# Above so many batches, groups of batches are made first, then each is cut up.
_MOST_PARTS = 256
# A larger epoch is ordered in parts of about so many examples (32 MiB), as long as
# that makes no more than `_MOST_SCANS` of them: each costs one look at all draws.
PART_EXAMPLES = 1 << 23
_MOST_SCANS = 64


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
        raise ValueError(f"{examples} examples in an order: at most 2^31 - 1 can be numbered")
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
    """Writes ascending numbers ([n], of out's type; None: 0 .. n - 1) to `out` by batch."""
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


# -- in parts -----------------------------------------------------------------------


def coded(numbers: np.ndarray, group: int) -> np.ndarray:
    """uint32 [n]: 2 row for the positive of a row, 2 row + 1 for any of its negatives;
    example e belongs to row e // group, and the first of each group is the positive."""
    row, place = np.divmod(numbers, group)
    return (2 * row + (place > 0)).astype(np.uint32)


class Orders:
    """The orders of a run's epochs, each whole or in parts.

    `group` is the number of examples of one positive. Two parts exist at a time, the
    one that was handed out last and the one being made; what is handed out is written
    over when the next but one is made, since fresh memory costs more than the shuffle.
    """

    def __init__(self, examples: int, batch_size: int, group: int):
        self.examples, self.batch_size, self.group = examples, batch_size, group
        steps = -(-examples // batch_size)
        wanted = min(-(-examples // PART_EXAMPLES), _MOST_SCANS)
        self._steps = -(-steps // wanted)
        self.parts = -(-steps // self._steps)
        if examples // group >= 2**31:
            raise ValueError(f"{examples // group} positives: at most 2^31 - 1 can be numbered")
        self._kept: list[np.ndarray | None] = [None, None]

    @property
    def dtype(self) -> np.dtype:
        """int32, numbers of examples; uint32, `coded`, where the order is made in parts."""
        return np.dtype(np.int32 if self.parts == 1 else np.uint32)

    def of(
        self, seed: int, epoch: int, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[np.ndarray]:
        """[S, B] of one part after the other, as `shuffled_batches` has them."""
        if self.parts == 1:
            rng = stream(seed, STREAM_ORDER, epoch)
            self._keep(shuffled_batches(self.examples, self.batch_size, rng, self._kept[0]))
            yield self._kept[1]
            return
        size = self._steps * self.batch_size
        sizes = np.diff(np.append(np.arange(0, self.examples, size), self.examples))
        members = Members(sizes, self.group, lambda k: stream(seed, STREAM_PARTS, epoch, k))
        for part in range(self.parts):
            rng = stream(seed, STREAM_ORDER, epoch, 1 + part)
            numbers = members.of(part, cancelled)
            self._keep(self._dealt(numbers, self._kept[0], rng))
            del numbers
            yield self._kept[1]

    def _keep(self, made: np.ndarray) -> None:
        self._kept = [self._kept[1], made]

    def _dealt(self, numbers, out: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
        steps = -(-len(numbers) // self.batch_size)
        if out is None or len(out) < steps:
            out = np.empty((self._steps, self.batch_size), np.uint32)
        flat = out[:steps].reshape(-1)
        spare = len(flat) - len(numbers)
        spread = np.arange(spare, dtype=np.int64) * len(numbers) // max(spare, 1)
        flat[len(numbers) :] = numbers[spread]
        _deal(numbers, flat[: len(numbers)], self.batch_size, rng)
        return out[:steps]


class Members:
    """Which examples belong to which part: drawn again whenever it is asked for.

    sizes: int64 [parts], examples of each part; streams(k): the random streams, 0 of
    the draws, 1 + k of what part k gives up or takes. Parts are asked for in order.
    """

    def __init__(
        self, sizes: np.ndarray, group: int, streams: Callable[[int], np.random.Generator]
    ):
        self._sizes, self._streams = sizes, streams
        self._examples = int(sizes.sum())
        # Whole groups, so that the codes of a piece are those of the first, moved on.
        self._piece = max(1, _PIECE // group) * group
        self._codes = coded(np.arange(self._piece), group)
        self._rows = self._piece // group
        self._bounds = _part_bounds(sizes)
        self._moved = np.zeros(0, np.int64), np.zeros(0, np.uint16)
        counts = sum(np.bincount(drawn, minlength=_DRAW_VALUES) for _, drawn in self._draws())
        self._counts = np.add.reduceat(counts, self._bounds[:-1])

    def of(self, part: int, cancelled: Callable[[], bool] = lambda: False) -> np.ndarray:
        """uint32 [sizes[part]], ascending: the members of one part, `coded`."""
        rng, size = self._streams(1 + part), self._sizes[part]
        if self._counts[part] < size:
            self._take(part, size - self._counts[part], rng, cancelled)
        count = self._counts[part]
        gone = np.sort(rng.choice(count, count - size, replace=False, shuffle=False))
        found, filled, seen, given = np.empty(size, np.uint32), 0, 0, []
        for low, drawn in self._draws(cancelled):
            here = np.flatnonzero(self._within(drawn, part, part + 1))
            cut = _between(gone, seen, seen + len(here)) - seen
            seen += len(here)
            if len(cut):
                given.append(low + here[cut])
                here = np.delete(here, cut)
            codes = found[filled : filled + len(here)]
            np.take(self._codes, here, out=codes, mode="clip")
            codes += np.uint32(2 * (low // self._piece) * self._rows)
            filled += len(here)
        if given:
            self._move(np.concatenate(given), part, len(self._sizes) - 1)
        return found

    def _take(self, part: int, missing: int, rng, cancelled) -> None:
        """Moves a uniform choice of what stands in later parts to this one."""
        later = int(self._counts[part + 1 :].sum())
        wanted = np.sort(rng.choice(later, missing, replace=False, shuffle=False))
        seen, found, homes = 0, [], []
        for low, drawn in self._draws(cancelled):
            here = np.flatnonzero(self._within(drawn, part + 1, len(self._sizes)))
            here, seen = here[_between(wanted, seen, seen + len(here)) - seen], seen + len(here)
            found.append(low + here)
            homes.append(np.searchsorted(self._bounds, drawn[here], side="right") - 1)
        found, homes = np.concatenate(found), np.concatenate(homes)
        for home in np.unique(homes):
            self._move(found[homes == home], home, part)

    def _move(self, examples: np.ndarray, old: int, new: int) -> None:
        """From now on they have drawn part `new`."""
        where, value = self._moved
        where = np.concatenate([where, examples])
        value = np.concatenate([value, np.full(len(examples), self._bounds[new], np.uint16)])
        order = np.argsort(where, kind="stable")  # the later of two moves comes last
        self._moved = where[order], value[order]
        self._counts[old] -= len(examples)
        self._counts[new] += len(examples)

    def _draws(self, cancelled: Callable[[], bool] = lambda: False):
        """(number of its first example, uint16 [n] draws) of one piece after the other."""
        rng, (where, value) = self._streams(0), self._moved
        for low in range(0, self._examples, self._piece):
            if cancelled():
                raise Cancelled
            count = min(self._piece, self._examples - low)
            drawn = _draws_of(rng, count)
            moved = slice(*np.searchsorted(where, (low, low + count)))
            drawn[where[moved] - low] = value[moved]
            yield low, drawn

    def _within(self, drawn: np.ndarray, first: int, end: int) -> np.ndarray:
        """bool [n]: whether the part that was drawn is in [first, end)."""
        low, width = self._bounds[first], self._bounds[end] - self._bounds[first]
        return (drawn - np.uint16(low)) <= np.uint16(width - 1)  # unsigned, so it wraps


def _draws_of(rng: np.random.Generator, count: int) -> np.ndarray:
    """uint16 [count] below _DRAW_VALUES. Four to a word: one at a time takes twice as long,
    and every part looks at all."""
    words = rng.integers(0, 1 << 64, -(-count // 4), dtype=np.uint64)
    drawn = words.astype("<u8", copy=False).view("<u2")[:count]
    return drawn if _DRAW_VALUES == 1 << 16 else drawn % np.uint16(_DRAW_VALUES)


def _part_bounds(sizes: np.ndarray) -> np.ndarray:
    """int64 [parts + 1], rising: part k is drawn by the values from bounds[k] to before
    bounds[k + 1]. All but the last are a little more likely than their size, so that
    there is something to give up, hardly ever something to take."""
    parts = len(sizes)
    # Twelve standard deviations, and what the rounding to whole values may take away.
    margin = 12 / np.sqrt(sizes[0]) + parts / _DRAW_VALUES
    bounds = np.ceil(_DRAW_VALUES * np.cumsum(sizes) / sizes.sum() * (1 + margin))
    bounds = np.minimum(bounds, _DRAW_VALUES - np.arange(parts - 1, -1, -1))
    return np.append(0, bounds).astype(np.int64)


def _between(values: np.ndarray, low: int, high: int) -> np.ndarray:
    """Those of rising `values` that are at least `low` and below `high`."""
    return values[slice(*np.searchsorted(values, (low, high)))]
