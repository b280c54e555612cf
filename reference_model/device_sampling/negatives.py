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

from reference_model.base.aligned_arrays import ALIGNMENT, aligned_zeros
from reference_model.data.split import Split
from reference_model.device_sampling.random_words import halves, pairs, uniform_below
from reference_model.sampling.negatives import (
    TABLE_ENTRIES,
    ComplementTable,
    NegativeSampler,
    complement_sizes,
    table_fits,
)


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


def placed(array: np.ndarray) -> tf.Tensor:
    """The array on the current device, with no copy on the host if it is aligned and may
    be written. On the host's own device the tensor is the array's memory: whoever wrote
    to it afterwards would write to the tensor."""
    if array.ctypes.data % ALIGNMENT or not (array.flags.c_contiguous and array.flags.writeable):
        return tf.constant(array)
    tensor = tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tensor if tf.constant(0).device == tensor.device else tf.identity(tensor)


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
