"""The loss and gradients of NeuMF on GPUs and TPUs, where main memory limits a step.

The function is that of `gradients`. What differs is what moves through main memory:

* GMF columns and MLP columns of a table are separate arrays, and so are the parts of the first and
  the last kernel (`split_weights`);
* a batch whose users are ascending adds up a user's gradients before it adds them to memory. A GPU
  sorts the examples by item for the same purpose, since atomic additions to one row are serialized;
* on a GPU, the sign of the first layer's activation is stored as one bit;
* on a TPU, the batch is processed in tiles whose activations stay in vector memory;
* the output unit's gradient for GMF is computed from sums by row. With g the gradient of the logits,
  u and v the GMF vectors of the users and items, and w the weights of the output unit, the gradient
  of user i is w S_i, with S_i the sum of g v over the examples of i. The gradient of w is the sum of
  g u v over all examples, that is the sum of u_i S_i over all users.
"""

from __future__ import annotations

from typing import Sequence

from reference_model.base.lazy_modules import tf
from reference_model.fused_math.first_layer import FirstLayer, FoldedFirstLayer, make_first_layer
from reference_model.fused_math.plan import Plan
from reference_model.fused_math.tile_math import (
    Batch,
    GradientSums,
    add_tile_sums,
    backpropagate,
    finished_upper_layers,
    forward,
    gather_rows,
    loss_and_logit_gradient,
    static_slice,
    zero_sums,
)
from reference_model.fused_math.split_weights import from_split_list, join, split, to_split_list
from reference_model.fused_math.weights import DenseLayer, NamedWeights, SplitKernel

_BITS = 32  # of a word in which signs are packed


def loss_and_gradients(
    plan: Plan, weights: Sequence, batch: Batch, has_sorted_users: bool, is_split: bool
) -> tuple[tf.Tensor, list]:
    """Computes the loss and the gradients of one padded batch; see `gradients`."""
    if not is_split:
        named = split(NamedWeights.from_list(weights), plan.mf_dim)
        loss, gradients = _loss_and_gradients(plan, named, batch, has_sorted_users)
        return loss, join(gradients).to_list()
    loss, gradients = _loss_and_gradients(plan, from_split_list(weights), batch, has_sorted_users)
    return loss, to_split_list(gradients)


def _loss_and_gradients(
    plan: Plan, weights: NamedWeights, batch: Batch, has_sorted_users: bool
) -> tuple[tf.Tensor, NamedWeights]:
    layer = make_first_layer(plan)
    tables = layer.lookup_tables(weights, 0), layer.lookup_tables(weights, 1)
    sums = zero_sums(plan, layer, weights, tables)

    def tile_body(index, sums):
        tile = Batch(*(static_slice(x, index * plan.tile_rows, plan.tile_rows) for x in batch))
        return index + 1, _add_tile(plan, layer, weights, tables, tile, sums, False)

    if plan.tiles == 1:
        sums = _add_tile(plan, layer, weights, tables, batch, sums, has_sorted_users)
    else:
        _, sums = tf.while_loop(lambda k, _: k < plan.tiles, tile_body, (0, sums))
    return sums.loss, _finish(plan, layer, weights, sums)


def _add_tile(
    plan: Plan,
    layer: FirstLayer,
    weights: NamedWeights,
    tables: tuple,
    tile: Batch,
    sums: GradientSums,
    has_sorted_users: bool,
) -> GradientSums:
    """Adds the loss and the gradients of one tile to the sums.

    The sums by row of GMF leave out the factor of the output unit, and those of the output unit
    contain only the part for the last hidden layer. If there is one tile, the sums are 0 and only
    their shapes matter.
    """
    user_gmf, user_input = gather_rows(plan, tables[0], tile.user)
    item_gmf, item_input = gather_rows(plan, tables[1], tile.item)
    # A GPU would otherwise compute the activation twice; see `FoldedFirstLayer.forward`.
    runtime_one = 1 + 0 * tile.label[0] if plan.device == "gpu" else None
    activation = layer.forward(weights, user_input, item_input, runtime_one)
    activations, logits = forward(plan, weights, user_gmf * item_gmf, activation)
    loss, grad_logit = loss_and_logit_gradient(plan, tile, logits)
    grad_output = DenseLayer(
        tf.reduce_sum(activations[-1] * grad_logit, axis=0)[:, None], tf.reduce_sum(grad_logit)[None]
    )
    grad, grad_upper, *_ = backpropagate(
        plan, weights, activations, grad_logit * weights.output.kernel.second[:, 0]
    )
    is_active = activations[0] > 0
    has_bits = plan.device == "gpu" and isinstance(layer, FoldedFirstLayer)
    if has_bits:
        bits = pack_signs(is_active)
        is_active = unpack_signs(bits, is_active.shape[1])
    grad_user, grad_item, first = layer.backward(weights, user_input, item_input, is_active, grad)
    user_sums = _add_rows(sums.user, tile.user, grad_logit * item_gmf, grad_user, has_sorted_users)
    if plan.device == "gpu":
        item, order = _sorted_items(tile.item, tables[1][0].shape[0])
        if has_bits and plan.fold_item:
            # The rows of the activation's gradient, read in the order of the items.
            is_active = unpack_signs(tf.gather(bits, order), is_active.shape[1])
            grad_item = tf.where(is_active, tf.gather(grad, order), tf.zeros([], grad.dtype))
            grad_item = tf.cast(grad_item, grad_user.dtype)
        else:
            grad_item = tf.gather(grad_item, order)
        users = tf.gather(tile.user, order)
        grad_gmf = tf.gather(grad_logit, order) * tf.gather(tables[0][0], users)
        item_sums = _add_rows(sums.item, item, grad_gmf, grad_item, True)
    else:
        item_sums = _add_rows(sums.item, tile.item, grad_logit * user_gmf, grad_item, False)
    part = GradientSums(loss, user_sums, item_sums, first, grad_upper, grad_output)
    return part if plan.tiles == 1 else add_tile_sums(sums, part)


def _add_rows(sums: tuple, ids, grad_gmf, grad_mlp, is_only_part: bool) -> tuple:
    """Adds the gradients of the rows `ids` to the sums (GMF, MLP) of a side.

    With `is_only_part` the ids are ascending and the sums are 0. XLA then adds up the gradients of a
    row before it adds them to the row in memory.
    """
    parts = zip(sums, (grad_gmf, grad_mlp))
    if is_only_part:
        return tuple(
            tf.raw_ops.SegmentSumV2(data=part, segment_ids=ids, num_segments=total.shape[0])
            for total, part in parts
        )
    return tuple(tf.tensor_scatter_nd_add(total, ids[:, None], part) for total, part in parts)


def _sorted_items(item, num_items: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the sorted items and the position of each in `item`; int32 [n] both."""
    from tensorflow.compiler.tf2xla.ops import gen_xla_ops

    # A radix sort takes a pass for each 8 bits of the keys.
    keys = tf.cast(item, tf.uint16) if num_items <= 1 << 16 else item
    keys, order = gen_xla_ops.xla_key_value_sort(keys, tf.range(item.shape[0]))
    return tf.cast(keys, tf.int32), order


def _shifts():
    return tf.constant(list(range(_BITS)), tf.uint32)


def pack_signs(is_active):
    """Packs bool [n, width] into uint32 [n, width / 32, rounded up]; the first is the lowest bit."""
    words = -(-is_active.shape[1] // _BITS)
    padded = tf.pad(is_active, [[0, 0], [0, words * _BITS - is_active.shape[1]]])
    bits = tf.reshape(tf.cast(padded, tf.uint32), [-1, words, _BITS])
    return tf.reduce_sum(tf.bitwise.left_shift(bits, _shifts()), axis=2)


def unpack_signs(words, width: int):
    """Inverts `pack_signs` for [n, width]."""
    bits = tf.bitwise.right_shift(words[:, :, None], _shifts()) & 1
    return tf.reshape(tf.cast(bits, tf.bool), [words.shape[0], -1])[:, :width]


def _finish(
    plan: Plan, layer: FirstLayer, weights: NamedWeights, sums: GradientSums
) -> NamedWeights:
    """Converts the sums over a batch to weight gradients."""
    upper = finished_upper_layers(plan, sums)
    gmf_kernel = tf.reduce_sum(weights.user_table.gmf * sums.user[0], axis=0)[:, None]
    output = DenseLayer(SplitKernel(gmf_kernel, sums.output.kernel), sums.output.bias)
    factor = weights.output.kernel.first[:, 0]
    row_sums = ((gmf * factor, mlp) for gmf, mlp in (sums.user, sums.item))
    below = layer.finish(weights, *row_sums, sums.first)
    return NamedWeights(below.user_table, below.item_table, below.first, upper, output)
