"""The loss and gradients of NeuMF, optimized for speed; `model.neumf` is the oracle.

Three optimizations change the arithmetic but not the function:

* the first layer can be folded into the tables; see `first_layer.py`;
* the batch is split into tiles whose activations fit into the cache;
* the backward pass is written by hand. Nothing is computed twice, table gradients are not
  materialized per example, and weight gradients are accumulated transposed, the layout in
  which their products are fastest on CPUs.

This module is for CPUs; `accelerator_gradients` has the form for GPUs and TPUs. All functions take
tensors with static shapes and compile under XLA.
"""

from __future__ import annotations

from typing import Sequence

from reference_model.base.lazy_modules import tf
from reference_model.fused_math import accelerator_gradients
from reference_model.fused_math.first_layer import FirstLayer, make_first_layer
from reference_model.fused_math.plan import Plan, operand
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
from reference_model.fused_math.weights import DenseLayer, NamedWeights


def loss_and_gradients(
    plan: Plan,
    weights: Sequence,
    user,
    item,
    label,
    weight,
    has_sorted_users: bool = False,
    is_split: bool = False,
):
    """Computes the loss and the gradients of one padded batch.

    Args:
      plan: the execution plan.
      weights: all weights in the order of `neumf.weight_names`, or, with `is_split`, as
        `split_weights.split_list` makes them; only for accelerators.
      user, item: int32 [plan.padded_rows].
      label: float [plan.padded_rows], 1 for positives, 0 for negatives.
      weight: float [plan.padded_rows], 0 for padding, otherwise 1.
      has_sorted_users: whether `user` is ascending.

    Returns:
      (scalar sum of the cross-entropies, list of gradients in weight order). The gradients
      are those of the sum divided by `plan.global_batch_size`.
    """
    batch = Batch(user, item, label, weight)
    if plan.on_accelerator:
        return accelerator_gradients.loss_and_gradients(
            plan, weights, batch, has_sorted_users, is_split
        )
    named = NamedWeights.from_list(weights)
    layer = make_first_layer(plan)
    tables = layer.lookup_tables(named, 0), layer.lookup_tables(named, 1)
    sums = zero_sums(plan, layer, named, tables)

    def loop_body(iteration, sums, _):
        buffers: tuple = ()
        # Over all iterations, tile i traverses the i-th contiguous part of the batch.
        for tile_index in range(plan.tiles_per_iteration):
            tile = Batch(*(
                static_slice(
                    x, (tile_index * plan.iterations + iteration) * plan.tile_rows, plan.tile_rows
                )
                for x in batch
            ))  # fmt: skip
            sums, activation_grads = _add_tile(plan, layer, named, tables, tile, sums)
            buffers += activation_grads
        return iteration + 1, sums, buffers if plan.separate_backward_buffers else ()

    if plan.tiles == 1:
        sums, _ = _add_tile(plan, layer, named, tables, batch, sums)
    elif plan.iterations == 1:
        _, sums, _ = loop_body(0, sums, ())
    else:
        start = (0, sums, _backward_buffers(plan, named.output.bias.dtype))
        _, sums, buffers = tf.while_loop(lambda k, *_: k < plan.iterations, loop_body, start)
        # Read the buffers, so that XLA does not remove them from the loop. This adds 0, because
        # their values are finite unless training diverges.
        dtype = sums.loss.dtype
        zero = sum(0 * tf.cast(buffer[0, 0], dtype) for buffer in buffers)
        sums = sums._replace(loss=sums.loss + zero)
    return sums.loss, _finish(plan, layer, named, sums).to_list()


def _backward_buffers(plan: Plan, dtype) -> tuple:
    """Returns zeros in the shapes of the activation gradients of one iteration, or ().

    XLA reuses the memory of a value after its last use, and its runtime waits for that use to
    finish. So the products of one tile would wait for those of the other tile. Loop variables
    have separate memory, so the two tiles of an iteration run in parallel. For narrow layers
    the extra writes cost more than this gains.
    """
    if not plan.separate_backward_buffers:
        return ()
    of_preacts, of_inputs = plan.mlp_layers[:1:-1], plan.mlp_layers[-2:0:-1]
    operand_dtype = operand(plan, tf.zeros([], dtype)).dtype
    buffers = [tf.zeros([plan.tile_rows, width], operand_dtype) for width in of_preacts]
    buffers += [tf.zeros([plan.tile_rows, width], dtype) for width in of_inputs]
    return tuple(buffers) * plan.tiles_per_iteration


def _add_rows(sums: tuple, ids, grad_gmf, grad_mlp) -> tuple:
    """Adds the gradients of the rows `ids` to the sums of a side; adjoint of `gather_rows`."""
    is_separate = len(sums) == 2
    parts = (grad_gmf, grad_mlp) if is_separate else (tf.concat([grad_gmf, grad_mlp], axis=1),)
    return tuple(
        tf.tensor_scatter_nd_add(total, ids[:, None], part) for total, part in zip(sums, parts)
    )


def _add_tile(
    plan: Plan,
    layer: FirstLayer,
    weights: NamedWeights,
    tables: tuple,
    tile: Batch,
    sums: GradientSums,
) -> tuple[GradientSums, tuple]:
    """Adds the loss and the gradients of one tile to the sums.

    Returns:
      (the new sums, the gradients of the upper layers). The latter are first those of the
      pre-activations, then those of the inputs, each from top to bottom, in the shapes of
      `_backward_buffers`.
    """
    user_gmf, user_input = gather_rows(plan, tables[0], tile.user)
    item_gmf, item_input = gather_rows(plan, tables[1], tile.item)
    gmf = user_gmf * item_gmf
    # The compiler cannot simplify 1 + 0 * label to 1, because a label could be NaN.
    runtime_one = 1 + 0 * tile.label[0]
    activation = layer.forward(weights, user_input, item_input, runtime_one)
    activations, logits = forward(plan, weights, gmf, activation)
    loss, grad_logit = loss_and_logit_gradient(plan, tile, logits)
    output_kernel = weights.output.kernel[:, 0]
    grad_output = _output_gradient(gmf, activations[-1], grad_logit)
    grad, grad_upper, preact_grads, input_grads = backpropagate(
        plan, weights, activations, grad_logit * output_kernel[plan.mf_dim :]
    )
    grad_gmf = grad_logit * output_kernel[: plan.mf_dim]
    grad_user, grad_item, first = layer.backward(
        weights, user_input, item_input, activations[0] > 0, grad
    )
    user = _add_rows(sums.user, tile.user, grad_gmf * item_gmf, grad_user)
    item = _add_rows(sums.item, tile.item, grad_gmf * user_gmf, grad_item)
    part = GradientSums(loss, user, item, first, grad_upper, grad_output)
    return add_tile_sums(sums, part), preact_grads + input_grads


def _output_gradient(gmf, top, grad_logit) -> DenseLayer:
    """Returns the gradient of the output unit: of kernel [mf_dim + top width, 1] and bias [1]."""
    kernel = tf.concat([tf.reduce_sum(x * grad_logit, axis=0) for x in (gmf, top)], axis=0)
    return DenseLayer(kernel[:, None], tf.reduce_sum(grad_logit)[None])


def _finish(plan: Plan, layer: FirstLayer, weights: NamedWeights, sums: GradientSums):
    """Converts the sums over a batch to weight gradients."""
    upper = finished_upper_layers(plan, sums)
    below = layer.finish(weights, sums.user, sums.item, sums.first)
    return NamedWeights(below.user_table, below.item_table, below.first, upper, sums.output)
