"""TODO."""

from __future__ import annotations

import tensorflow as tf

from reference_model.base.config import EngineConfig
from reference_model.device_sampling.random_words import random_words, scaled


def synthetic_examples(config: EngineConfig, count: int, step, key, place=None):
    """(user, item int32 [count], label bool [count]) made up from random words: items
    uniform, users too but in ascending order over the global batch, as real batches have
    them; one in 1 + negatives a positive. For measuring steps alone."""
    words = random_words(key, step, 2 * count, None if place is None else 2 * place)
    words = tf.reshape(words, [count, 2])
    here = tf.range(count, dtype=tf.int32) + (0 if place is None else place)
    # A place and 12 bits within it, as a share of the batch.
    share = tf.cast(here, tf.uint64) * tf.constant(4096, tf.uint64)
    share += tf.cast(tf.bitwise.right_shift(words[:, 0], tf.constant(20, tf.uint32)), tf.uint64)
    user = share * tf.constant(config.num_users, tf.uint64)
    user = tf.cast(user // tf.constant(4096 * config.batch_size, tf.uint64), tf.int32)
    user = tf.minimum(user, config.num_users - 1)  # places beyond the batch are padding
    item = scaled(words[:, 1], config.num_items)
    return user, item, tf.equal(words[:, 1] % tf.constant(1 + config.train_negatives, tf.uint32), 0)
