"""The epoch order made on the device: each example draws a random key, and the keys are sorted.

The keys are 64-bit words of Philox. If all of them differ, each order of the examples is equally
likely. So keys of which two are equal are drawn again, all of them; that happens to one epoch of
ml-20m in 4,000. The sorted examples are cut into batches, and each batch is sorted by example, as in
`epoch_order`. That has the same distribution, but another order for the same seed.

`KeyOrder` is the program for devices, `batches_on_host` the same in NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np

from reference_model.base.lazy_modules import tf
from reference_model.device_sampling.epoch_order import spread_padding
from reference_model.device_sampling.random_words import philox_word_at
from reference_model.sampling.philox import philox

_BLOCK_EXAMPLES = 1 << 20  # on the host, bounds the memory of intermediate values


@dataclass(frozen=True)
class KeyOrder:
    """The order of an epoch as a program.

    Attributes:
      examples: number of examples.
      batch_size: examples per batch.
    """

    examples: int
    batch_size: int

    @property
    def steps(self) -> int:
        """Number of batches."""
        return -(-self.examples // self.batch_size)

    def draw(self, key: tf.Tensor, attempt: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws an order.

        Args:
          key: uint64 [1], from `random_streams.order_key`.
          attempt: int32 scalar, the number of earlier attempts that had equal keys.

        Returns:
          (the batches, int32 [steps, batch_size], each ascending, the last one padded at its end
          by numbers spread over the whole range; bool scalar, whether two keys are equal).
        """
        from tensorflow.compiler.tf2xla.ops import gen_xla_ops

        number = tf.range(self.examples)
        keys, order = gen_xla_ops.xla_key_value_sort(self._keys(key, attempt, number), number)
        has_equal = tf.reduce_any(tf.equal(keys[1:], keys[:-1]))
        padding = self.steps * self.batch_size - self.examples
        # The largest number sorts the padding to the end of its batch.
        order = tf.pad(order, [[0, padding]], constant_values=np.iinfo(np.int32).max)
        batches = gen_xla_ops.xla_sort(tf.reshape(order, [self.steps, self.batch_size]))
        if padding:
            flat = tf.reshape(batches, [-1])[: self.examples]
            spread = tf.constant(spread_padding(self.examples, padding))
            batches = tf.reshape(tf.concat([flat, spread], 0), batches.shape)
        return batches, has_equal

    def _keys(self, key, attempt, number):
        position = tf.cast(number, tf.uint32)
        # Two words for each example, from one block for two examples.
        block, lane = position // 2, position % 2 * 2
        step = tf.constant(0)
        low = tf.cast(philox_word_at(key, step, attempt, block, lane), tf.uint64)
        high = tf.cast(philox_word_at(key, step, attempt, block, lane + 1), tf.uint64)
        return low | tf.bitwise.left_shift(high, tf.constant(32, tf.uint64))


def batches_on_host(examples: int, batch_size: int, key: np.ndarray) -> np.ndarray:
    """Makes the order that a device makes from the same key.

    Args:
      examples: number of examples.
      batch_size: examples per batch.
      key: uint64 [1], from `random_streams.order_key`.

    Returns:
      int32 [steps, batch_size].
    """
    steps = -(-examples // batch_size)
    for attempt in count():
        keys = _host_keys(examples, key, attempt)
        order = np.argsort(keys, kind="stable")
        if not (keys[order[1:]] == keys[order[:-1]]).any():
            break
    out = np.empty((steps, batch_size), np.int32)
    flat, padding = out.reshape(-1), steps * batch_size - examples
    flat[:examples] = order
    flat[examples:] = spread_padding(examples, padding)
    for row in out[: steps - 1]:
        row.sort()
    out[-1, : batch_size - padding].sort()
    return out


def _host_keys(examples: int, key: np.ndarray, attempt: int) -> np.ndarray:
    """Computes the keys of all examples, uint64 [examples]."""
    keys = np.empty(-(-examples // 2) * 2, np.uint64)
    for first in range(0, len(keys), _BLOCK_EXAMPLES):
        part = keys[first : first + _BLOCK_EXAMPLES]
        blocks = np.arange(first // 2, (first + len(part)) // 2, dtype=np.uint64)
        zeros = np.zeros_like(blocks)
        counter = [blocks, zeros, zeros + np.uint64(attempt), zeros]
        words = philox(counter, (int(key[0]) & 0xFFFFFFFF, int(key[0]) >> 32))
        part[0::2] = words[0] | words[1] << np.uint64(32)
        part[1::2] = words[2] | words[3] << np.uint64(32)
    return keys[:examples]
