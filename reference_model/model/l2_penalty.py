"""TODO."""

from __future__ import annotations

from typing import Sequence

import tensorflow as tf

from reference_model.base.config import EngineConfig


def add_penalty(config: EngineConfig, weights: Sequence, gradients: list) -> tuple:
    """(L2 penalty, gradients with the penalty's own)."""
    value, added = penalty(config, weights)
    if added is None:
        return value, gradients
    return value, [a + b for a, b in zip(gradients, added)]


def penalty(config: EngineConfig, weights: Sequence):
    """(L2 penalty, its gradients in weight order); (0, None) without L2 factors.

    factor x sum of squares, as Keras' regularisers: the tables' GMF columns have
    `l2_mf`, their MLP columns `l2_mlp[0]`, hidden kernel i has `l2_mlp[i]`;
    biases and the output unit have none.
    """
    l2_mlp = config.l2_mlp or (0.0,) * len(config.mlp_layers)
    if not (config.l2_mf or any(l2_mlp)):
        return 0.0, None
    dtype, width = weights[0].dtype, weights[0].shape[1]
    columns = [config.l2_mf] * config.mf_dim + [l2_mlp[0]] * (width - config.mf_dim)
    factors = [tf.constant(columns, dtype)] * 2
    for factor in l2_mlp[1:]:
        factors += [tf.constant(factor, dtype), tf.zeros([], dtype)]
    factors += [tf.zeros([], dtype)] * 2
    total = tf.add_n([tf.reduce_sum(f * tf.square(w)) for f, w in zip(factors, weights)])
    return total, [2 * f * w for f, w in zip(factors, weights)]
