"""Synthetic batches, generated on the device, to measure steps without sampling."""

from __future__ import annotations


from reference_model.base.config import EngineConfig
from reference_model.base.lazy_modules import tf
from reference_model.device_sampling.random_words import random_words, scale_words


def synthetic_examples(config: EngineConfig, count: int, step, key, offset=None):
    """Makes the examples of a part of one step's batch.

    Items are uniform. Users are also uniform, but ascending over the global batch, as in real
    batches. On average one example in 1 + negatives is a positive.

    Args:
      config: the sizes.
      count: number of examples.
      step: int32 scalar, the step number.
      key: uint64 [1], from `random_streams.negatives_key`.
      offset: int32 scalar, the position of the first example in the global batch; None means 0.

    Returns:
      (user int32 [count], item int32 [count], is_positive bool [count]).
    """
    # Two words per example: one for the user, one for the item and the label.
    words = random_words(key, step, 2 * count, None if offset is None else 2 * offset)
    words = tf.reshape(words, [count, 2])
    position = tf.range(count, dtype=tf.int32) + (0 if offset is None else offset)
    # The user is the position in the batch, refined by 12 random bits, scaled to [0, num_users).
    share = tf.cast(position, tf.uint64) * tf.constant(4096, tf.uint64)
    share += tf.cast(tf.bitwise.right_shift(words[:, 0], tf.constant(20, tf.uint32)), tf.uint64)
    user = share * tf.constant(config.num_users, tf.uint64)
    user = tf.cast(user // tf.constant(4096 * config.batch_size, tf.uint64), tf.int32)
    user = tf.minimum(user, config.num_users - 1)  # positions beyond the batch are padding
    item = scale_words(words[:, 1], config.num_items)
    is_positive = tf.equal(words[:, 1] % tf.constant(1 + config.train_negatives, tf.uint32), 0)
    return user, item, is_positive
