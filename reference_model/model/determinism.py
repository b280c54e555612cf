"""Bitwise reproducibility of TensorFlow across processes."""

from __future__ import annotations

import random

import numpy as np
import tensorflow as tf


def enable_determinism(seed: int = 0) -> None:
    """Seeds the global random generators and enables deterministic operators.

    With deterministic operators, TensorFlow rejects random operators without a seed, so the
    global seed is set first. Both settings are global and affect the whole process.

    Args:
      seed: seed of the generators of Python, NumPy and TensorFlow. The weights and the
        samples of a run have separate seeds.
    """
    random.seed(seed)
    np.random.seed(seed)
    tf.random.set_seed(seed)
    tf.config.experimental.enable_op_determinism()
