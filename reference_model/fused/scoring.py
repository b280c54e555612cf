"""Logits of many pairs with fixed weights: the arithmetic of the fused engine's evaluation.

The first layer and the output unit's GMF weights are folded into the tables once
(`first_layer.py` says how the layer folds). Then a pair costs two gathers and the layers
above the first.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import tensorflow as tf

from reference_model.fused.first_layer import half_kernel
from reference_model.fused.plan import Plan, product
from reference_model.fused.weights import NamedWeights

# From this width on, GMF's products and the last layer's are added up in one sum.
_MIN_WIDTH_OF_ONE_SUM = 32


class ScoringTables(NamedTuple):
    """Tables from which pairs are scored.

    Attributes:
      user_gmf: float [U, mf_dim], GMF's columns times the output unit's weights.
      user_hidden: float [U, h], the user's part of the first layer, bias included. Without
        hidden layers: the user's part of the logit, [U, 1].
      item_gmf: float [M, mf_dim], GMF's columns.
      item_hidden: float [M, h], the item's part of the first layer; [M, 1] without hidden
        layers.
    """

    user_gmf: tf.Tensor
    user_hidden: tf.Tensor
    item_gmf: tf.Tensor
    item_hidden: tf.Tensor


def scoring_tables(plan: Plan, weights: Sequence) -> ScoringTables:
    """Makes the tables of `list_scores` from weights in the order of `neumf.weight_names`."""
    named, mf_dim, half = NamedWeights.from_list(weights), plan.mf_dim, plan.mlp_embedding_dim
    user, item, output_kernel = named.user_table, named.item_table, named.output.kernel
    if named.first is None:
        user_hidden = product(plan, user[:, mf_dim:], output_kernel[mf_dim : mf_dim + half])
        item_hidden = product(plan, item[:, mf_dim:], output_kernel[mf_dim + half :])
    else:
        user_kernel = half_kernel(plan, named, 0)
        user_hidden = product(plan, user[:, mf_dim:], user_kernel) + named.first.bias
        item_hidden = product(plan, item[:, mf_dim:], half_kernel(plan, named, 1))
    user_gmf = user[:, :mf_dim] * output_kernel[:mf_dim, 0]
    return ScoringTables(user_gmf, user_hidden, item[:, :mf_dim], item_hidden)


def list_scores(plan: Plan, weights: Sequence, tables: ScoringTables, user, items):
    """Scores lists of items, each for one user.

    Args:
      plan: how products are computed.
      weights: all weights in the order of `neumf.weight_names`.
      tables: `scoring_tables` of the same weights.
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
        hidden = tf.nn.relu(product(plan, hidden, kernel) + bias)
    weighted = hidden * named.output.kernel[plan.mf_dim :, 0]
    weighted = tf.reshape(weighted, [lists, length, -1])
    if plan.mlp_layers[-1] == plan.mf_dim >= _MIN_WIDTH_OF_ONE_SUM:
        # XLA then gathers, multiplies and adds in one loop. With few columns the product of
        # each list with its user is faster.
        return tf.reduce_sum(weighted + item_gmf * user_gmf[:, None], axis=-1) + output_bias
    return tf.linalg.matvec(item_gmf, user_gmf) + output_bias + tf.reduce_sum(weighted, axis=-1)
