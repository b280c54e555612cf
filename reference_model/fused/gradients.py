"""The loss and gradients of NeuMF, optimized for speed; `model.neumf` is the oracle.

Three optimizations change the arithmetic but not the function:

* the first layer can be folded into the tables; see `first_layer.py`;
* the batch is split into tiles whose activations fit into the cache;
* the backward pass is written by hand. Nothing is computed twice, table gradients are not
  materialized per example, and weight gradients are accumulated transposed, the layout in
  which their products are fastest on CPUs.

All functions take tensors with static shapes and compile under XLA for CPU, GPU and TPU.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

from reference_model.base.lazy_modules import tf
from reference_model.fused.first_layer import FirstLayer, make_first_layer
from reference_model.fused.plan import KernelSums, Plan, operand, product
from reference_model.fused.weights import DenseLayer, NamedWeights


class GradientSums(NamedTuple):
    """Sums over the tiles of a batch.

    Attributes:
      loss: scalar, the sum of the cross-entropies, excluding padding.
      user, item: gradients per row of the arrays of `FirstLayer.lookup_tables`.
      first: the sums of the first layer, in the shapes of `FirstLayer.zero_sums`.
      upper: gradients of the hidden layers above the first, kernels as `KernelSums`.
      output: gradients of the output unit's kernel [mf_dim + top, 1] and bias [1].
    """

    loss: tf.Tensor
    user: tuple
    item: tuple
    first: tuple
    upper: tuple[DenseLayer, ...]
    output: DenseLayer


class _Batch(NamedTuple):
    """The n examples of a batch or a tile.

    Attributes:
      user, item: int32 [n].
      label: float [n], 1 for positives.
      weight: float [n], 0 for padding.
    """

    user: tf.Tensor
    item: tf.Tensor
    label: tf.Tensor
    weight: tf.Tensor


def loss_and_gradients(
    plan: Plan, weights: Sequence, user, item, label, weight, has_sorted_users: bool = False
):
    """Computes the loss and the gradients of one padded batch.

    Args:
      plan: the execution plan.
      weights: all weights in the order of `neumf.weight_names`.
      user, item: int32 [plan.padded_rows].
      label: float [plan.padded_rows], 1 for positives, 0 for negatives.
      weight: float [plan.padded_rows], 0 for padding, otherwise 1.
      has_sorted_users: whether `user` is ascending, and the batch is one tile.

    Returns:
      (scalar sum of the cross-entropies, list of gradients in weight order). The gradients
      are those of the sum divided by `plan.global_batch_size`.
    """
    named, layer = NamedWeights.from_list(weights), make_first_layer(plan)
    tables = layer.lookup_tables(named, 0), layer.lookup_tables(named, 1)
    sums = _zero_sums(plan, layer, named, tables)
    batch = _Batch(user, item, label, weight)

    def loop_body(iteration, sums, _):
        buffers: tuple = ()
        # Over all iterations, tile i traverses the i-th contiguous part of the batch.
        for tile_index in range(plan.tiles_per_iteration):
            tile = _Batch(*(
                _static_slice(
                    x, (tile_index * plan.iterations + iteration) * plan.tile_rows, plan.tile_rows
                )
                for x in batch
            ))  # fmt: skip
            sums, activation_grads = _add_tile(plan, layer, named, tables, tile, sums)
            buffers += activation_grads
        return iteration + 1, sums, buffers if plan.separate_backward_buffers else ()

    if plan.tiles == 1:
        sums, _ = _add_tile(plan, layer, named, tables, batch, sums, has_sorted_users)
    elif plan.iterations == 1:
        _, sums, _ = loop_body(0, sums, ())
    else:
        start = (0, sums, _backward_buffers(plan, named.user_table.dtype))
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


def _static_slice(values, start, count: int):
    """Returns values[start : start + count], with static shape."""
    return tf.ensure_shape(tf.slice(values, [start], [count]), [count])


def _gather_rows(plan: Plan, tables: tuple, ids):
    """Gathers the rows `ids` [n] of a side: (GMF part [n, mf_dim], MLP part)."""
    rows = [tf.gather(table, ids) for table in tables]
    if len(rows) == 2:  # the GMF columns and the projection are separate arrays
        return rows
    return rows[0][:, : plan.mf_dim], rows[0][:, plan.mf_dim :]


def _add_rows(sums: tuple, ids, grad_gmf, grad_mlp, is_sorted: bool = False) -> tuple:
    """Adds the gradients of the rows `ids` to the sums of a side; adjoint of `_gather_rows`.

    With `is_sorted` the ids are ascending and the sums are 0. XLA then adds up the gradients of a
    row before it adds them to the row in memory.
    """
    is_separate = len(sums) == 2
    parts = (grad_gmf, grad_mlp) if is_separate else (tf.concat([grad_gmf, grad_mlp], axis=1),)
    if is_sorted:
        return tuple(
            tf.raw_ops.SegmentSumV2(data=part, segment_ids=ids, num_segments=total.shape[0])
            for total, part in zip(sums, parts)
        )
    return tuple(
        tf.tensor_scatter_nd_add(total, ids[:, None], part) for total, part in zip(sums, parts)
    )


def _zero_sums(plan: Plan, layer: FirstLayer, weights: NamedWeights, tables: tuple) -> GradientSums:
    """Returns the sums before the first tile."""
    dtype = weights.user_table.dtype
    return GradientSums(
        loss=tf.zeros([], dtype),
        user=tuple(tf.zeros(table.shape, dtype) for table in tables[0]),
        item=tuple(tf.zeros(table.shape, dtype) for table in tables[1]),
        first=layer.zero_sums(weights),
        upper=tuple(
            DenseLayer(KernelSums(plan).zeros(kernel), tf.zeros(bias.shape, dtype))
            for kernel, bias in weights.upper
        ),
        output=DenseLayer(*(tf.zeros(array.shape, dtype) for array in weights.output)),
    )


def _forward(plan: Plan, weights: NamedWeights, gmf, activation):
    """Computes the layers above the first.

    Args:
      gmf: [n, mf_dim], the elementwise products of user and item vectors.
      activation: [n, h], the activation of the first layer.

    Returns:
      (activations of all hidden layers from the first on, logits [n]). The last activation is
      float32; the others are operands of products.
    """
    activations = []
    for kernel, bias in weights.upper:
        activations.append(operand(plan, activation))
        activation = tf.nn.relu(product(plan, activations[-1], operand(plan, kernel)) + bias)
    activations.append(activation)
    output_kernel, output_bias = weights.output.kernel[:, 0], weights.output.bias[0]
    logits = tf.linalg.matvec(gmf, output_kernel[: plan.mf_dim]) + tf.linalg.matvec(
        activation, output_kernel[plan.mf_dim :]
    )
    return activations, logits + output_bias


def _cross_entropy(logits, label):
    """Computes the binary cross-entropy [n] as max(x, 0) - x y + log(1 + exp(-|x|)).

    This form does not overflow.
    """
    return tf.nn.relu(logits) - logits * label + tf.math.log1p(tf.exp(-tf.abs(logits)))


def _add_tile(
    plan: Plan,
    layer: FirstLayer,
    weights: NamedWeights,
    tables: tuple,
    tile: _Batch,
    sums: GradientSums,
    has_sorted_users: bool = False,
) -> tuple[GradientSums, tuple]:
    """Adds the loss and the gradients of one tile to the sums.

    Returns:
      (the new sums, the gradients of the upper layers). The latter are first those of the
      pre-activations, then those of the inputs, each from top to bottom, in the shapes of
      `_backward_buffers`.
    """
    user_gmf, user_input = _gather_rows(plan, tables[0], tile.user)
    item_gmf, item_input = _gather_rows(plan, tables[1], tile.item)
    gmf = user_gmf * item_gmf
    # The compiler cannot simplify 1 + 0 * label to 1, because a label could be NaN.
    runtime_one = 1 + 0 * tile.label[0]
    activation = layer.forward(weights, user_input, item_input, runtime_one)
    activations, logits = _forward(plan, weights, gmf, activation)
    loss = sums.loss + tf.reduce_sum(_cross_entropy(logits, tile.label) * tile.weight)

    # The gradient of the mean loss with respect to each logit.
    grad_logit = ((tf.sigmoid(logits) - tile.label) * tile.weight / plan.global_batch_size)[:, None]
    output_kernel = weights.output.kernel[:, 0]
    grad_output = _output_gradient(gmf, activations[-1], grad_logit)
    grad, preact_grads, input_grads = grad_logit * output_kernel[plan.mf_dim :], (), ()
    grad_upper: tuple[DenseLayer, ...] = ()
    # Backpropagate through the hidden layers, from top to bottom.
    for (kernel, bias), below, above in reversed(
        list(zip(weights.upper, activations[:-1], activations[1:]))
    ):
        grad_preact = operand(plan, tf.where(above > 0, grad, tf.zeros([], grad.dtype)))
        preact_grads += (grad_preact,)
        kernel_gradient = KernelSums(plan).of_tile(below, grad_preact)
        bias_gradient = tf.reduce_sum(tf.cast(grad_preact, bias.dtype), axis=0)
        grad_upper = (DenseLayer(kernel_gradient, bias_gradient), *grad_upper)
        grad = product(plan, grad_preact, operand(plan, kernel), transpose_b=True, is_operand=True)
        input_grads += (grad,)
    grad_gmf = grad_logit * output_kernel[: plan.mf_dim]
    grad_user, grad_item, first = layer.backward(
        weights, user_input, item_input, activations[0], grad
    )
    sums = GradientSums(
        loss=loss,
        user=_add_rows(
            sums.user, tile.user, grad_gmf * item_gmf, grad_user, has_sorted_users
        ),
        item=_add_rows(sums.item, tile.item, grad_gmf * user_gmf, grad_item),
        first=tuple(total + part for total, part in zip(sums.first, first)),
        upper=tuple(_add_layers(total, part) for total, part in zip(sums.upper, grad_upper)),
        output=_add_layers(sums.output, grad_output),
    )
    return sums, preact_grads + input_grads


def _output_gradient(gmf, top, grad_logit) -> DenseLayer:
    """Returns the gradient of the output unit: of kernel [mf_dim + top width, 1] and bias [1]."""
    kernel = tf.concat([tf.reduce_sum(x * grad_logit, axis=0) for x in (gmf, top)], axis=0)
    return DenseLayer(kernel[:, None], tf.reduce_sum(grad_logit)[None])


def _add_layers(total: DenseLayer, part: DenseLayer) -> DenseLayer:
    return DenseLayer(total.kernel + part.kernel, total.bias + part.bias)


def _finish(
    plan: Plan, layer: FirstLayer, weights: NamedWeights, sums: GradientSums
) -> NamedWeights:
    """Converts the sums over a batch to weight gradients."""
    finish = KernelSums(plan).finish
    upper = tuple(DenseLayer(finish(kernel), bias) for kernel, bias in sums.upper)
    below = layer.finish(weights, sums.user, sums.item, sums.first)
    return NamedWeights(below.user_table, below.item_table, below.first, upper, sums.output)
