"""Training negatives drawn on the device, within the step.

The complement of a user is the set of items that are not training positives of the user. A
negative is item r of the complement, with a rank r drawn uniformly below the size of the
complement by `random_words.uniform_below`. The item is read from a table of all complements, or
found by bisection over the user's sorted positives. The distribution is that of
`sampling.negatives`; the docstring of that module derives the bisection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from reference_model.base.aligned_arrays import ALIGNMENT, aligned_zeros
from reference_model.base.lazy_modules import tf
from reference_model.data.split import Split
from reference_model.device_sampling.random_words import pack_u32, uniform_below, unpack_u32
from reference_model.sampling.negatives import (
    MAX_TABLE_ENTRIES,
    ComplementTableSampler,
    NegativeSampler,
    complement_sizes,
    table_fits,
)


@dataclass(frozen=True)
class SamplerSpec:
    """The static parameters of the compiled sampler; contains no data.

    Attributes:
      name: `complement_table` or `bisection`.
      num_users: number of users U.
      items: number of items M; bisection takes ceil(log2(M + 1)) steps.
      positives: number of positives P.
    """

    name: str
    num_users: int
    items: int
    positives: int

    @classmethod
    def of(
        cls, num_users: int, num_items: int, positives: int, entries: int = MAX_TABLE_ENTRIES
    ) -> "SamplerSpec":
        """Selects the table if users x items is at most `entries`, otherwise bisection."""
        table = table_fits(num_users, num_items, entries)
        name = "complement_table" if table else "bisection"
        return cls(name, num_users, num_items, positives)

    @property
    def by_table(self) -> bool:
        return self.name == "complement_table"

    def warmup_arrays(self) -> list[np.ndarray]:
        """Makes placeholder arrays in the shapes of `arrays`.

        Every complement has size 1; all other values are zeros. The system allocates no memory
        for zeros that are never written.
        """
        users, items, size_and_start, *table = (
            aligned_zeros(shape[0], np.dtype(dtype)) for dtype, shape in self.array_specs()
        )
        size_and_start += np.uint64(1)  # the low half: a complement of size 1
        return [users, items, size_and_start, *table]

    def array_specs(self) -> list[tuple[str, tuple[int]]]:
        """Returns (name of the dtype, shape) of the arrays of `arrays`, in order."""
        positives = ("int32", (self.positives,))
        specs = [positives, positives, ("uint64", (self.num_users,))]
        if self.by_table:
            entry = "uint16" if self.items <= np.iinfo(np.uint16).max else "int32"
            specs.append((entry, (self.num_users * self.items - self.positives,)))
        return specs

    def arrays(self, split: Split, host: NegativeSampler) -> list[np.ndarray]:
        """Makes the arrays from which a step draws its examples.

        Args:
          split: the dataset; its arrays of users and items are returned without a copy.
          host: a sampler of the same split; its complement table, if any, is reused.

        Returns:
          The users and the items of the positives, int32 [P] each; the size of each user's
          complement and the index of the user's first entry, packed by `pack_u32`, uint64 [U];
          and, with `complement_table`, the table. The index refers to the table or, with
          bisection, to the positives.

        Raises:
          DataError: a user has every item in training.
        """
        sizes, starts, table = complement_sizes(split), split.row_starts, []
        if self.by_table:
            if not isinstance(host, ComplementTableSampler):
                host = ComplementTableSampler(split)
            starts, *table = host.arrays()
        return [split.train_user, split.train_item, pack_u32(sizes, starts[:-1]), *table]


def to_device(array: np.ndarray) -> tf.Tensor:
    """Places an array on the current device, without a copy on the host if possible.

    An aligned, contiguous and writable array is passed by DLPack. On the CPU device the tensor
    then shares the memory of the array, so the caller must not write to it.
    """
    if array.ctypes.data % ALIGNMENT or not (array.flags.c_contiguous and array.flags.writeable):
        return tf.constant(array)
    tensor = tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tensor if tf.constant(0).device == tensor.device else tf.identity(tensor)


def gather_positives(arrays: Sequence, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Gathers (user, item), int32 [n], of the positives in the given rows, int32 [n]."""
    users, items = arrays[:2]
    return tf.gather(users, row), tf.gather(items, row)


def draw_negatives(
    spec: SamplerSpec, arrays: Sequence, user: tf.Tensor, key, step, offset=None, device="cpu"
) -> tf.Tensor:
    """Draws one item for each user, uniformly from the user's complement.

    Args:
      spec: the static parameters.
      arrays: the arrays of `SamplerSpec.arrays`.
      user: int32 [count].
      key: uint64 [1], from `random_streams.negatives_key`.
      step: int32 scalar, the step number within the epoch.
      offset: int32 scalar, the position of the first user in the global batch; None means 0.
      device: the device type, which selects the form of the program; the result is the same.

    Returns:
      int32 [count].
    """
    _, items, size_and_start, *table = arrays
    size, row_start = unpack_u32(tf.gather(size_and_start, user))
    rank = uniform_below(key, step, size, offset=offset, on_gpu=device == "gpu")
    if spec.by_table:
        return tf.cast(tf.gather(table[0], row_start + rank), tf.int32)
    positives = spec.items - tf.cast(size, tf.int32)
    return rank + _count_positives_before(spec, items, row_start, positives, rank, device)


def _count_positives_before(
    spec: SamplerSpec, items, row_start, positives, rank, device: str
) -> tf.Tensor:
    """Counts the user's positives that precede the item of each rank, int32 [n].

    The positives p_0 < p_1 < ... of a user are ascending, so the keys p_j - j do not decrease.
    The result is the largest c such that key c - 1 is at most the rank. Its bits are found from
    highest to lowest.
    """

    def fits(more):
        last = tf.maximum(row_start + tf.minimum(more, positives) - 1, 0)
        return (more <= positives) & (tf.gather(items, last) - (more - 1) <= rank)

    def next_bit(bit, before):
        more = before + tf.bitwise.left_shift(1, bit)
        return bit - 1, tf.where(fits(more), more, before)

    highest = int(spec.items).bit_length() - 1
    if device != "cpu":
        # Without a loop, and two bits at a time, which takes a GPU fewer kernels. On CPUs this form
        # takes longer.
        before = tf.zeros_like(rank)
        for bit in range(highest - highest % 2, -1, -2):
            one = tf.cast(fits(before + (1 << bit)), tf.int32)
            two, three = (tf.cast(fits(before + (k << bit)), tf.int32) for k in (2, 3))
            before += tf.bitwise.left_shift(one + two + three, bit)
        return before
    start = (tf.constant(highest), tf.zeros_like(rank))
    return tf.while_loop(lambda bit, _: bit >= 0, next_bit, start)[1]
