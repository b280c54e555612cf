"""The random order of an epoch, cut into batches; rows of a batch sorted.

The order of rows within a batch does not matter to its gradient, so a random
permutation may be replaced by a random assignment of examples to batches of
the same law, and each batch may be kept in ascending order, which makes what
it reads and adds local.

Sorting examples by independent uniform keys and breaking ties at random gives a
uniform permutation. Keys of 16 bits are enough: only the examples whose key
value straddles the border of two batches have to be put in order at all. All
others are assigned by their key, and one integer sort finishes the job.
"""

from __future__ import annotations

import numpy as np

_KEY_VALUES = 1 << 16
_PIECE = 1 << 20


def shuffled_batches(examples: int, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """int32 [S, B]: the numbers 0 .. examples - 1, each once, in random batches.

    Within a batch they ascend. The last batch is filled up with numbers spread
    over the whole range, which are padding (they stand last).
    """
    steps = -(-examples // batch_size)
    if examples >= 2**31:
        raise ValueError(f"{examples} examples in an epoch: at most 2^31 - 1 can be numbered")
    out = _sort_by_batch(assign_batches(examples, batch_size, rng), steps * batch_size)
    spare = len(out) - examples
    out[examples:] = np.arange(spare, dtype=np.int64) * examples // max(spare, 1)
    return out.reshape(steps, batch_size)


def assign_batches(examples: int, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """int32 or smaller [N]: the batch of each example in a uniform permutation."""
    key = rng.integers(0, _KEY_VALUES, examples, dtype=np.uint16)
    count = np.bincount(key, minlength=_KEY_VALUES)
    start = np.cumsum(count) - count
    batch_of = start // batch_size
    small = np.uint16 if (examples - 1) // batch_size < 2**16 - 1 else np.int32
    unknown = np.iinfo(small).max
    batch_of[batch_of != np.maximum(start + count - 1, start) // batch_size] = unknown
    batch = batch_of.astype(small)[key]
    loose = np.flatnonzero(batch == unknown)
    rng.shuffle(loose)
    loose = loose[np.argsort(key[loose], kind="stable")]
    value = key[loose]
    # Place within its key value: the running number less that of the value's first.
    new = np.flatnonzero(np.diff(value, prepend=np.int32(-1)))
    within = np.arange(len(loose)) - np.repeat(new, np.diff(new, append=len(loose)))
    batch[loose] = (start[value] + within) // batch_size
    return batch


def _sort_by_batch(batch: np.ndarray, length: int) -> np.ndarray:
    """int32 [length]: the example numbers by batch, ascending within each; the
    places beyond the last example are left to be filled."""
    examples = len(batch)
    bits = max(1, (examples - 1).bit_length())
    wide = int(batch.max(initial=0)).bit_length() + bits > 32
    kind = np.uint64 if wide else np.uint32
    packed = np.arange(length, dtype=kind)
    # Piece by piece: an epoch of ml-20m has 100 million examples.
    for low in range(0, examples, _PIECE):
        part = batch[low : low + _PIECE].astype(kind)
        part <<= kind(bits)
        packed[low : low + len(part)] |= part
    packed[:examples].sort()
    packed &= kind((1 << bits) - 1)
    return packed.astype(np.int32) if wide else packed.view(np.int32)
