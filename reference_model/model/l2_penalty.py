"""The L2 penalty on plain tensors, with the same factors as the Keras model's regularizers."""

from __future__ import annotations

from typing import Sequence


from reference_model.base.config import EngineConfig
from reference_model.base.lazy_modules import tf


def add_penalty(config: EngineConfig, weights: Sequence, gradients: list) -> tuple:
    """Adds the gradients of the L2 penalty to the gradients of the data loss.

    Args:
      config: provides the L2 factors.
      weights: all weights, in weight order.
      gradients: gradients of the data loss, in weight order.

    Returns:
      (L2 penalty, gradients of data loss plus penalty).
    """
    value, penalty_gradients = l2_penalty(config, weights)
    if penalty_gradients is None:
        return value, gradients
    return value, [a + b for a, b in zip(gradients, penalty_gradients)]


def l2_penalty(config: EngineConfig, weights: Sequence):
    """Computes the L2 penalty and its gradients.

    The penalty is the sum of factor x squares, as in Keras' regularizers. The factor is
    `l2_mf` for the GMF columns of the tables, `l2_mlp[0]` for their MLP columns and
    `l2_mlp[i]` for hidden kernel i. Biases and the output unit have no penalty.

    Args:
      config: provides the L2 factors.
      weights: all weights, in the order of `neumf.weight_names`.

    Returns:
      (penalty, gradients in weight order), or (0.0, None) if all factors are zero.
    """
    l2_mlp = config.l2_mlp or (0.0,) * len(config.mlp_layers)
    if not (config.l2_mf or any(l2_mlp)):
        return 0.0, None
    dtype, table_width = weights[0].dtype, weights[0].shape[1]
    # One factor per column; both tables have the same columns.
    column_factors = [config.l2_mf] * config.mf_dim + [l2_mlp[0]] * (table_width - config.mf_dim)
    factors = [tf.constant(column_factors, dtype)] * 2
    # A hidden layer has a kernel with a factor and a bias without one.
    for factor in l2_mlp[1:]:
        factors += [tf.constant(factor, dtype), tf.zeros([], dtype)]
    # Kernel and bias of the output unit.
    factors += [tf.zeros([], dtype)] * 2
    total = tf.add_n([tf.reduce_sum(f * tf.square(w)) for f, w in zip(factors, weights)])
    return total, [2 * f * w for f, w in zip(factors, weights)]
