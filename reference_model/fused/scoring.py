"""Logits of many pairs with the weights of one moment: the fused engine's evaluation.

The first layer and the output unit's GMF weights go into the tables once
(`fused_math.py` says how the layer folds), so a pair costs two gathers and the
layers above.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import tensorflow as tf

from reference_model.fused.gradients import half_kernel
from reference_model.fused.plan import Plan, product

# From this width on GMF's products and the last layer's are added up as one.
_ONE_SUM = 32


class ScoringTables(NamedTuple):
    """What scoring many pairs reads: the whole first layer and the output unit's
    GMF weights are taken into the tables, once.

    Attributes:
      user_gmf: [U, mf], times the output unit's weights; item_gmf: [M, mf].
      user_hidden: [U, h], the user's part of the first layer with its bias;
        item_hidden: [M, h]. Without hidden layers their parts of the logit, [., 1].
    """

    user_gmf: tf.Tensor
    user_hidden: tf.Tensor
    item_gmf: tf.Tensor
    item_hidden: tf.Tensor


def scoring_tables(plan: Plan, weights: Sequence) -> ScoringTables:
    """The tables of `list_scores`."""
    mf, out = plan.mf, weights[-2]
    user, item = weights[0], weights[1]
    if len(plan.layers) == 1:
        user_hidden = product(plan, user[:, mf:], out[mf : mf + plan.half])
        item_hidden = product(plan, item[:, mf:], out[mf + plan.half :])
    else:
        user_hidden = product(plan, user[:, mf:], half_kernel(plan, weights, 0)) + weights[3]
        item_hidden = product(plan, item[:, mf:], half_kernel(plan, weights, 1))
    return ScoringTables(user[:, :mf] * out[:mf, 0], user_hidden, item[:, :mf], item_hidden)


def list_scores(plan: Plan, weights: Sequence, tables: ScoringTables, user, items):
    """Logits [g, n] of users [g] with their lists of items [g, n]."""
    lists, length = items.shape
    flat = tf.reshape(items, [lists * length])
    gmf = tf.reshape(tf.gather(tables.item_gmf, flat), [lists, length, plan.mf])
    gmf_user, bias = tf.gather(tables.user_gmf, user), weights[-1][0]
    hidden = tf.reshape(tf.gather(tables.item_hidden, flat), [lists, length, -1])
    hidden += tf.gather(tables.user_hidden, user)[:, None]
    if len(plan.layers) == 1:
        return tf.linalg.matvec(gmf, gmf_user) + bias + hidden[:, :, 0]
    hidden = tf.reshape(tf.nn.relu(hidden), [lists * length, -1])
    upper = weights[4:]
    for k in range(0, len(upper) - 2, 2):
        hidden = tf.nn.relu(product(plan, hidden, upper[k]) + upper[k + 1])
    top = tf.reshape(hidden * upper[-2][plan.mf :, 0], [lists, length, -1])
    if plan.layers[-1] == plan.mf >= _ONE_SUM:
        # Then XLA gathers, multiplies and adds vectors in one loop; with few columns the
        # product of each list with its user is the faster.
        return tf.reduce_sum(top + gmf * gmf_user[:, None], axis=-1) + bias
    return tf.linalg.matvec(gmf, gmf_user) + bias + tf.reduce_sum(top, axis=-1)
