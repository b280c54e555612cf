"""The L2 penalty on plain tensors, with the same factors as the Keras model's regularizers."""

from __future__ import annotations

from typing import Sequence


from reference_model.base.config import EngineConfig
from reference_model.base.lazy_modules import tf


def add_penalty(
    config: EngineConfig, weights: Sequence, gradients: list, is_split: bool = False
) -> tuple:
    """Adds the gradients of the L2 penalty to the gradients of the data loss.

    Args:
      config: provides the L2 factors.
      weights: all weights, in weight order.
      gradients: gradients of the data loss, in weight order.
      is_split: as in `l2_penalty`.

    Returns:
      (L2 penalty, gradients of data loss plus penalty).
    """
    value, penalty_gradients = l2_penalty(config, weights, is_split)
    if penalty_gradients is None:
        return value, gradients
    return value, [a + b for a, b in zip(gradients, penalty_gradients)]


def l2_penalty(config: EngineConfig, weights: Sequence, is_split: bool = False):
    """Computes the L2 penalty and its gradients.

    The penalty is the sum of factor x squares, as in Keras' regularizers. The factor is
    `l2_mf` for the GMF columns of the tables, `l2_mlp[0]` for their MLP columns and
    `l2_mlp[i]` for hidden kernel i. Biases and the output unit have no penalty.

    Args:
      config: provides the L2 factors.
      weights: all weights, in the order of `neumf.weight_names`.
      is_split: whether the arrays are in two parts that different inputs use: GMF columns and MLP
        columns of each table, and the rows of the first and the last kernel.

    Returns:
      (penalty, gradients in weight order), or (0.0, None) if all factors are zero.
    """
    l2_mlp = config.l2_mlp or (0.0,) * len(config.mlp_layers)
    if not (config.l2_mf or any(l2_mlp)):
        return 0.0, None
    dtype, table_width = weights[0].dtype, weights[0].shape[1]
    if is_split:
        factors = [tf.constant(config.l2_mf, dtype), tf.constant(l2_mlp[0], dtype)] * 2
        factors += [tf.constant(factor, dtype) for factor in l2_mlp[1:2]]  # second half below
    else:
        # One factor per column; both tables have the same columns.
        mlp_columns = table_width - config.mf_dim
        column_factors = [config.l2_mf] * config.mf_dim + [l2_mlp[0]] * mlp_columns
        factors = [tf.constant(column_factors, dtype)] * 2
    # A hidden layer has a kernel with a factor and a bias without one.
    for factor in l2_mlp[1:]:
        factors += [tf.constant(factor, dtype), tf.zeros([], dtype)]
    # Kernel and bias of the output unit.
    factors += [tf.zeros([], dtype)] * (3 if is_split else 2)
    total = tf.add_n([tf.reduce_sum(f * tf.square(w)) for f, w in zip(factors, weights)])
    return total, [2 * f * w for f, w in zip(factors, weights)]
