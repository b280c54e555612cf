"""The parts of a training step that `gradients` and `accelerator_gradients` have in common.

All functions take tensors with static shapes.
"""

from __future__ import annotations

from typing import NamedTuple

from reference_model.base.lazy_modules import tf
from reference_model.fused_math.first_layer import FirstLayer
from reference_model.fused_math.plan import KernelSums, Plan, operand, product
from reference_model.fused_math.weights import DenseLayer, NamedWeights, SplitKernel


_COLUMNS = 8  # of the kernel of `_wide_matvec`


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


class Batch(NamedTuple):
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


def static_slice(values, start, count: int):
    """Returns values[start : start + count], with static shape."""
    return tf.ensure_shape(tf.slice(values, [start], [count]), [count])


def gather_rows(plan: Plan, tables: tuple, ids):
    """Gathers the rows `ids` [n] of a side: (GMF part [n, mf_dim], MLP part)."""
    rows = [tf.gather(table, ids) for table in tables]
    if len(rows) == 2:  # the GMF columns and the projection are separate arrays
        return rows
    return rows[0][:, : plan.mf_dim], rows[0][:, plan.mf_dim :]


def zero_sums(plan: Plan, layer: FirstLayer, weights: NamedWeights, tables: tuple) -> GradientSums:
    """Returns the sums before the first tile."""
    dtype, output_kernel = weights.output.bias.dtype, weights.output.kernel
    if isinstance(output_kernel, SplitKernel):  # the part for GMF comes from the row sums
        output_kernel = output_kernel.second
    return GradientSums(
        loss=tf.zeros([], dtype),
        user=tuple(tf.zeros(table.shape, dtype) for table in tables[0]),
        item=tuple(tf.zeros(table.shape, dtype) for table in tables[1]),
        first=layer.zero_sums(weights),
        upper=tuple(
            DenseLayer(KernelSums(plan).zeros(kernel), tf.zeros(bias.shape, dtype))
            for kernel, bias in weights.upper
        ),
        output=DenseLayer(tf.zeros(output_kernel.shape, dtype), tf.zeros([1], dtype)),
    )


def forward(plan: Plan, weights: NamedWeights, gmf, activation):
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
    output_kernel, output_bias = weights.output
    if isinstance(output_kernel, SplitKernel):
        gmf_kernel, top_kernel = (part[:, 0] for part in output_kernel)
    else:
        gmf_kernel, top_kernel = output_kernel[: plan.mf_dim, 0], output_kernel[plan.mf_dim :, 0]
    of_gmf, of_top = _MATVECS[plan.device]
    logits = of_gmf(gmf, gmf_kernel) + of_top(activation, top_kernel)
    return activations, logits + output_bias[0]


def _sum_of_products(matrix, vector):
    return tf.reduce_sum(matrix * vector, axis=1)


def _wide_matvec(matrix, vector):
    """Multiplies by a kernel of equal columns, in full float32 precision.

    XLA computes a product with one column as a sum over lanes, for which TPUs are slow; products
    with several columns take the matrix unit.
    """
    from tensorflow.compiler.tf2xla.python import xla
    from tensorflow.compiler.xla import xla_data_pb2

    numbers = xla_data_pb2.DotDimensionNumbers(
        lhs_contracting_dimensions=[1], rhs_contracting_dimensions=[0]
    )
    highest = xla_data_pb2.PrecisionConfig(
        operand_precision=[xla_data_pb2.PrecisionConfig.HIGHEST] * 2
    )
    columns = tf.tile(vector[:, None], [1, _COLUMNS])
    return tf.reduce_max(xla.dot_general(matrix, columns, numbers, highest), axis=1)


def _matvec(matrix, vector):
    return tf.linalg.matvec(matrix, vector)


# How GMF and the last activation are multiplied by the output unit's kernel, by device type. On a
# GPU, a sum is fused with what makes its terms; a product would store them first.
_MATVECS = {
    "cpu": (_matvec, _matvec),
    "gpu": (_sum_of_products, _sum_of_products),
    "tpu": (_wide_matvec, _matvec),
}


def cross_entropy(logits, label):
    """Computes the binary cross-entropy [n] as max(x, 0) - x y + log(1 + exp(-|x|)).

    This form does not overflow.
    """
    return tf.nn.relu(logits) - logits * label + tf.math.log1p(tf.exp(-tf.abs(logits)))


def loss_and_logit_gradient(plan: Plan, tile: Batch, logits):
    """Returns (scalar sum of the cross-entropies, gradient of the mean loss by logit, [n, 1])."""
    loss = tf.reduce_sum(cross_entropy(logits, tile.label) * tile.weight)
    grad = (tf.sigmoid(logits) - tile.label) * tile.weight / plan.global_batch_size
    return loss, grad[:, None]


def backpropagate(plan: Plan, weights: NamedWeights, activations, grad):
    """Backpropagates through the hidden layers above the first, from top to bottom.

    Args:
      plan: the execution plan.
      weights: all weights.
      activations: those of all hidden layers, from the first on, as `forward` returns them.
      grad: the gradient of the last activation, [n, h].

    Returns:
      (the gradient of the first activation, the kernel and bias gradients of the layers, the
      gradients of the pre-activations and of the inputs). The last two are for
      `gradients._backward_buffers`, from top to bottom.
    """
    preact_grads, input_grads = (), ()
    layers: tuple[DenseLayer, ...] = ()
    for (kernel, bias), below, above in reversed(
        list(zip(weights.upper, activations[:-1], activations[1:]))
    ):
        grad_preact = operand(plan, tf.where(above > 0, grad, tf.zeros([], grad.dtype)))
        preact_grads += (grad_preact,)
        kernel_gradient = KernelSums(plan).of_tile(below, grad_preact)
        bias_gradient = tf.reduce_sum(tf.cast(grad_preact, bias.dtype), axis=0)
        layers = (DenseLayer(kernel_gradient, bias_gradient), *layers)
        grad = product(
            plan, grad_preact, operand(plan, kernel), transpose_b=True,
            is_operand=plan.device == "gpu",
        )  # fmt: skip
        input_grads += (grad,)
    return grad, layers, preact_grads, input_grads


def add_tile_sums(sums: GradientSums, tile: GradientSums) -> GradientSums:
    """Adds what a tile contributes; its sums by row contain the earlier tiles already."""
    return tile._replace(
        loss=sums.loss + tile.loss,
        first=tuple(total + part for total, part in zip(sums.first, tile.first)),
        upper=tuple(_add_layers(total, part) for total, part in zip(sums.upper, tile.upper)),
        output=_add_layers(sums.output, tile.output),
    )


def _add_layers(total: DenseLayer, part: DenseLayer) -> DenseLayer:
    return DenseLayer(total.kernel + part.kernel, total.bias + part.bias)


def finished_upper_layers(plan: Plan, sums: GradientSums) -> tuple[DenseLayer, ...]:
    """Returns the gradients of the hidden layers above the first."""
    finish = KernelSums(plan).finish
    return tuple(DenseLayer(finish(kernel), bias) for kernel, bias in sums.upper)
