"""Logits of many pairs with fixed weights, for the evaluation of the fused engine.

The first layer and the GMF weights of the output unit are folded into the tables once;
`first_layer.py` describes the folding. After that, a pair costs two gathers and the layers above
the first.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

from reference_model.base.lazy_modules import tf
from reference_model.fused_math.first_layer import half_kernel
from reference_model.fused_math.plan import Plan, operand, product
from reference_model.fused_math.weights import NamedWeights

# Minimum width at which the GMF and MLP terms of the output unit are summed together.
_MIN_WIDTH_OF_ONE_SUM = 32


class ScoringTables(NamedTuple):
    """The folded tables used to score pairs.

    Attributes:
      user_gmf: float [U, mf_dim], the GMF columns times the weights of the output unit.
      user_hidden: float [U, h], the user part of the first layer, including the bias. Without
        hidden layers, [U, 1], the user part of the logit.
      item_gmf: float [M, mf_dim], the GMF columns.
      item_hidden: float [M, h], the item part of the first layer. Without hidden layers,
        [M, 1], the item part of the logit.
    """

    user_gmf: tf.Tensor
    user_hidden: tf.Tensor
    item_gmf: tf.Tensor
    item_hidden: tf.Tensor


def scoring_tables(plan: Plan, weights: Sequence) -> ScoringTables:
    """Computes the tables for `list_scores`; weights in the order of `neumf.weight_names`."""
    named, mf_dim, half = NamedWeights.from_list(weights), plan.mf_dim, plan.mlp_embedding_dim
    user, item, output_kernel = named.user_table, named.item_table, named.output.kernel
    user_mlp, item_mlp = operand(plan, user[:, mf_dim:]), operand(plan, item[:, mf_dim:])
    if named.first is None:
        kernel = operand(plan, output_kernel[mf_dim:])
        user_hidden = product(plan, user_mlp, kernel[:half])
        item_hidden = product(plan, item_mlp, kernel[half:])
    else:
        kernels = [operand(plan, half_kernel(plan, named, side)) for side in (0, 1)]
        user_hidden = product(plan, user_mlp, kernels[0]) + named.first.bias
        item_hidden = product(plan, item_mlp, kernels[1])
    user_gmf = user[:, :mf_dim] * output_kernel[:mf_dim, 0]
    return ScoringTables(user_gmf, user_hidden, item[:, :mf_dim], item_hidden)


def list_scores(plan: Plan, weights: Sequence, tables: ScoringTables, user, items):
    """Scores one list of items for each user.

    Args:
      plan: the execution plan; determines the matmul precision.
      weights: all weights in the order of `neumf.weight_names`.
      tables: the result of `scoring_tables` for the same weights.
      user: int32 [g].
      items: int32 [g, n], the list of each user.

    Returns:
      float [g, n], the logits.
    """
    named = NamedWeights.from_list(weights)
    lists, length = items.shape
    flat = tf.reshape(items, [lists * length])
    item_gmf = tf.reshape(tf.gather(tables.item_gmf, flat), [lists, length, plan.mf_dim])
    user_gmf, output_bias = tf.gather(tables.user_gmf, user), named.output.bias[0]
    hidden = tf.reshape(tf.gather(tables.item_hidden, flat), [lists, length, -1])
    hidden += tf.gather(tables.user_hidden, user)[:, None]
    if named.first is None:
        return tf.linalg.matvec(item_gmf, user_gmf) + output_bias + hidden[:, :, 0]
    hidden = tf.reshape(tf.nn.relu(hidden), [lists * length, -1])
    for kernel, bias in named.upper:
        hidden = tf.nn.relu(product(plan, operand(plan, hidden), operand(plan, kernel)) + bias)
    weighted = hidden * named.output.kernel[plan.mf_dim :, 0]
    weighted = tf.reshape(weighted, [lists, length, -1])
    if plan.mlp_layers[-1] == plan.mf_dim >= _MIN_WIDTH_OF_ONE_SUM:
        # XLA fuses this into one loop of gathers, multiplications and additions. With few
        # columns, a matrix-vector product per list is faster.
        return tf.reduce_sum(weighted + item_gmf * user_gmf[:, None], axis=-1) + output_bias
    return tf.linalg.matvec(item_gmf, user_gmf) + output_bias + tf.reduce_sum(weighted, axis=-1)
