"""Training negatives drawn where the step runs, exactly as `sampling.py` draws them.

A negative is a uniform rank r below the size n of its user's complement, turned
into the r-th item that is not a training positive, by a table of complements or
by bisection over the sorted positives (the proof stands in `sampling.py`).

Random words come from Philox (Salmon et al. 2011), keyed by run and epoch and
counted by step, attempt and place in the global batch, so that no word is ever
used twice, nothing is carried from step to step, and replicas that share a batch
draw what one device would. A 32-bit word w gives
r = floor(w n / 2^32) unless the low half of w n is below 2^32 mod n, when the
word is drawn again: Lemire 2019, "Fast random integer generation in an
interval", algorithm 5; exactly uniform.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
import tensorflow as tf

from reference_model.memory import ALIGNMENT, aligned_zeros
from reference_model.sampling import (
    STREAM_FUSED_NEGATIVES,
    TABLE_ENTRIES,
    ComplementTable,
    NegativeSampler,
    complement_sizes,
    key64,
    table_fits,
)
from reference_model.split import Split

_PHILOX = 1
_BLOCK = 4  # words of 32 bits that one value of the counter gives


def negatives_key(seed: int, epoch: int) -> np.ndarray:
    """uint64 [1]: the Philox key of one epoch of one run."""
    return np.array([key64(seed, STREAM_FUSED_NEGATIVES, epoch, 0)], np.uint64)


@dataclass(frozen=True)
class SamplerShape:
    """What must be known to compile the draw: no data.

    Attributes:
      name: `complement_table` or `bisection`.
      items: number of items M; bisection takes ceil(log2(M + 1)) steps.
      positives: number of positives P.
    """

    name: str
    num_users: int
    items: int
    positives: int

    @classmethod
    def of(
        cls, num_users: int, num_items: int, positives: int, entries: int = TABLE_ENTRIES
    ) -> "SamplerShape":
        """The table where users x items fit into `entries`, else bisection."""
        table = table_fits(num_users, num_items, entries)
        name = "complement_table" if table else "bisection"
        return cls(name, num_users, num_items, positives)

    @property
    def by_table(self) -> bool:
        return self.name == "complement_table"

    def made_up(self) -> list[np.ndarray]:
        """As `arrays` gives them, of no split; all is zeros, which take no memory before
        they are written to, but the sizes."""
        users, items, rows, *table = (
            aligned_zeros(spec.shape[0], spec.dtype.as_numpy_dtype) for spec in self.specs()
        )
        rows += np.uint64(1)
        return [users, items, rows, *table]

    def specs(self) -> list[tf.TensorSpec]:
        """The arrays of `arrays`, in order."""
        positives = tf.TensorSpec([self.positives], tf.int32)
        found = [positives, positives, tf.TensorSpec([self.num_users], tf.uint64)]
        if self.by_table:
            entry = tf.uint16 if self.items <= np.iinfo(np.uint16).max else tf.int32
            places = self.num_users * self.items - self.positives
            found.append(tf.TensorSpec([places], entry))
        return found

    def arrays(self, split: Split, host: NegativeSampler) -> list[np.ndarray]:
        """What a step draws its examples from: users and items of the positives, int32 [P],
        those of `split` and no copy of them; each user's complement size and where its row
        starts, uint64 [U] as `pairs` has it; and, where it is used, the table. The rows are
        the table's, or those of the positives, whose items are what is searched.

        `host` is a sampler of the same split, whose table is not made twice.
        Raises DataError for a user who has every item in training.
        """
        sizes, starts, table = complement_sizes(split), split.row_starts, []
        if self.by_table:
            host = host if isinstance(host, ComplementTable) else ComplementTable(split)
            starts, *table = host.arrays()
        return [split.train_user, split.train_item, pairs(sizes, starts[:-1]), *table]


def pairs(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """uint64 [n]: two numbers of 32 bits in one, so that one look-up finds both."""
    found = high.astype(np.uint64)
    found <<= np.uint64(32)
    found |= low.astype(np.uint32, copy=False)
    return found


def halves(pair: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(low, high), uint32 and int32, of `pairs`."""
    return tf.cast(pair, tf.uint32), _high(pair)


def placed(array: np.ndarray) -> tf.Tensor:
    """The array on the current device, with no copy on the host if it is aligned and may
    be written. On the host's own device the tensor is the array's memory: whoever wrote
    to it afterwards would write to the tensor."""
    if array.ctypes.data % ALIGNMENT or not (array.flags.c_contiguous and array.flags.writeable):
        return tf.constant(array)
    tensor = tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tensor if tf.constant(0).device == tensor.device else tf.identity(tensor)


def _high(wide: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.bitwise.right_shift(wide, tf.constant(32, tf.uint64)), tf.int32)


def random_words(key: tf.Tensor, step: tf.Tensor, count: int, place=None) -> tf.Tensor:
    """uint32 [count]: the words of one step's batch from `place` on (None: from its
    beginning); key uint64 [1], step and place int32."""
    if place is None:
        return _words(key, step, 0, 0, count)
    # A block of the counter gives four words, so the first ones may be those before.
    words = _words(key, step, 0, place // _BLOCK, count + _BLOCK)
    return tf.slice(words, [place % _BLOCK], [count])


def _words(key: tf.Tensor, step: tf.Tensor, attempt, block, count: int) -> tf.Tensor:
    """uint32 [count] from the given block on of one step's attempt."""
    high = tf.cast(step, tf.uint64) * tf.constant(1 << 32, tf.uint64) + tf.cast(attempt, tf.uint64)
    counter = tf.stack([tf.cast(block, tf.uint64), high])
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[count], key=key, counter=counter, alg=_PHILOX, dtype=tf.uint32
    )


def _wide(words: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    return tf.cast(words, tf.uint64) * tf.cast(sizes, tf.uint64)


def scaled(words: tf.Tensor, size: int) -> tf.Tensor:
    """int32 [n] in [0, size): uniform up to a bias of size / 2^32; uint32 [n]."""
    return _high(_wide(words, tf.constant(size, tf.uint32)))


def uniform_below(
    key, step, sizes: tf.Tensor, words: tf.Tensor | None = None, place=None
) -> tf.Tensor:
    """int32 [count]: exactly uniform integers in [0, sizes); sizes uint32 [count] > 0.

    They are those of the batch's places from `place` on. `words` (uint32 [count])
    stand in for the first attempt in tests.
    """
    if words is None:
        words = random_words(key, step, sizes.shape[0], place)
    base = tf.constant(0) if place is None else place
    count = int(sizes.shape[0])
    places = tf.range(count)

    def examine_one(_, first, attempts, words):
        """Looks at the first word from place `first` on that may be bad, and replaces a bad
        one; `attempts` of its place have been replaced before.

        2^32 mod n < n: only where the low half is below n can a word be bad, which is rare,
        so the remainder, a division, is taken of one size and not of all.
        """
        suspect = (tf.cast(_wide(words, sizes), tf.uint32) < sizes) & (places >= first)
        here = tf.reduce_min(tf.where(suspect, places, count))
        found = here < count
        here = tf.minimum(here, count - 1)
        word, size = (tf.gather(x, here)[None] for x in (words, sizes))
        bad = found & (tf.cast(_wide(word, size), tf.uint32) < _excess(size))[0]
        # Attempts are counted by place, so that a part of a batch draws as the whole does.
        attempts = tf.where(bad, tf.where(tf.equal(here, first), attempts, 0) + 1, 0)
        fresh = _words(key, step, attempts, base + here, _BLOCK)[:1]
        words = tf.tensor_scatter_nd_update(words, [[here]], tf.where(bad, fresh, word))
        return found, tf.where(bad, here, here + 1), attempts, words

    # The words go into the loop and nowhere else: XLA would make them once for each use.
    start = (tf.constant(True), tf.constant(0), tf.constant(0), words)
    *_, words = tf.while_loop(lambda more, *_: more, examine_one, start)
    return _high(_wide(words, sizes))


def _excess(sizes: tf.Tensor) -> tf.Tensor:
    """2^32 mod n, as (2^32 - n) mod n in unsigned arithmetic."""
    return tf.math.floormod(tf.zeros_like(sizes) - sizes, sizes)


def positive_of(arrays: Sequence, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(user, item) int32 [n] of the positives in the given rows."""
    users, items = arrays[:2]
    return tf.gather(users, row), tf.gather(items, row)


def draw(
    shape: SamplerShape, arrays: Sequence, user: tf.Tensor, key, step, place=None
) -> tf.Tensor:
    """int32 [count]: one item for each of `user`, uniform over its complement; `user`
    stands in the batch from `place` on; arrays: `SamplerShape.arrays`."""
    _, items, rows, *table = arrays
    size, first = halves(tf.gather(rows, user))
    rank = uniform_below(key, step, size, place=place)
    if shape.by_table:
        return tf.cast(tf.gather(table[0], first + rank), tf.int32)
    taken = shape.items - tf.cast(size, tf.int32)
    return rank + _positives_before(shape, items, first, taken, rank)


def _positives_before(shape: SamplerShape, items, first, count, rank) -> tf.Tensor:
    """int32 [n]: how many of the `count` keys p_j - j of a row that begins at `first` are
    at most `rank`. They ascend, so it is the largest number whose last key is: its bits are
    found from the highest down. A loop, since XLA's CPU backend takes twice as long for the
    same steps one after the other."""

    def next_bit(bit, before):
        more = before + tf.bitwise.left_shift(1, bit)
        last = tf.maximum(first + tf.minimum(more, count) - 1, 0)
        fits = (more <= count) & (tf.gather(items, last) - (more - 1) <= rank)
        return bit - 1, tf.where(fits, more, before)

    start = (tf.constant(int(shape.items).bit_length() - 1), tf.zeros_like(rank))
    return tf.while_loop(lambda bit, _: bit >= 0, next_bit, start)[1]
