"""Makes TensorFlow compute the same bits in every process that does the same work."""

from __future__ import annotations

import keras
import tensorflow as tf


def enable_determinism(seed: int = 0) -> None:
    """Seeds the global random generators and asks for deterministic operators.

    TensorFlow refuses a random operator without a seed while deterministic operators are
    on, so the global seed is set first. It is global state: it holds for the whole process.

    Args:
      seed: seeds the generators of Python, NumPy and TensorFlow. The weights and the
        samples of a run do not depend on it; they have seeds of their own.
    """
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
