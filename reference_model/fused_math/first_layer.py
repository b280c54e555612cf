"""The first layer of the MLP in three forms that compute the same function.

The first layer of NeuMF multiplies the concatenated user and item embeddings, [u; v], by its
kernel W. Since W [u; v] = Wu u + Wv v, the part of one side can also be computed once per table
row instead of once per example; that side is then *folded*:

* `NoHiddenLayer`: the MLP has no hidden layer; the concatenated embeddings are inputs of the
  output unit;
* `ConcatenatedFirstLayer`: neither side is folded; one product of the concatenated
  embeddings;
* `FoldedFirstLayer`: at least one side is folded. The table of that side is projected once per
  step, an example gathers its row of the projection, and the gradients are summed per table
  row before a single multiplication.

`make_first_layer(plan)` selects the form when a program is traced. Each form has four steps:
`lookup_tables` makes the arrays from which rows are gathered, `forward` and `backward`
compute one tile, and `finish` converts the sums over a batch to weight gradients. A side is 0
for users and 1 for items.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from reference_model.base.lazy_modules import tf
from reference_model.fused_math.plan import KernelSums, Plan, operand, product
from reference_model.fused_math.weights import DenseLayer, NamedWeights, SplitKernel, SplitTable


class FirstLayerGradients(NamedTuple):
    """The gradients of the tables and the first layer for one batch.

    Attributes:
      user_table: [U, mf_dim + half], or a `SplitTable`; half is the width of one side's MLP
        embedding.
      item_table: [M, mf_dim + half].
      first: gradients of kernel [2 half, h] and bias [h]; None without a hidden layer.
    """

    user_table: tf.Tensor
    item_table: tf.Tensor
    first: DenseLayer | None


class FirstLayer(Protocol):
    """The steps of one form of the first layer; n is the number of rows of a tile."""

    def lookup_tables(self, weights: NamedWeights, side: int) -> tuple:
        """Returns the arrays of a side from which the rows of examples are gathered.

        They are (table,), or (GMF columns of the table, projection of the other columns).
        """

    def zero_sums(self, weights: NamedWeights) -> tuple:
        """Returns zeros in the shapes of the gradient sums of the layer itself."""

    def forward(self, weights: NamedWeights, user_input, item_input, one):
        """Computes the activation [n, h] of the layer from the gathered rows of both sides.

        `one` is a scalar 1 that is not a compile-time constant, or None; see `FoldedFirstLayer`.
        """

    def backward(self, weights: NamedWeights, user_input, item_input, is_active, grad):
        """Computes the gradients of one tile from `grad`, that of the activation, [n, h].

        `is_active`, bool [n, h], says where the activation is positive. Returns (gradient of
        user_input, gradient of item_input, increments of the sums).
        """

    def finish(self, weights: NamedWeights, user_sums, item_sums, sums) -> FirstLayerGradients:
        """Converts the sums over all tiles to gradients of tables, kernel and bias.

        `user_sums` and `item_sums` are the gradients summed per row of the lookup tables.
        """


def make_first_layer(plan: Plan) -> FirstLayer:
    """Selects the form of the first layer for a plan."""
    if len(plan.mlp_layers) == 1:
        return NoHiddenLayer(plan)
    if plan.fold_user or plan.fold_item:
        return FoldedFirstLayer(plan)
    return ConcatenatedFirstLayer(plan)


def half_kernel(plan: Plan, weights: NamedWeights, side: int):
    """Returns the rows of the first kernel for the embedding of a side, [half, h]."""
    kernel, half = weights.first.kernel, plan.mlp_embedding_dim
    if isinstance(kernel, SplitKernel):
        return kernel[side]
    return kernel[:half] if side == 0 else kernel[half:]


def _table(weights: NamedWeights, side: int):
    return weights.user_table if side == 0 else weights.item_table


def _lookup_table(weights: NamedWeights, side: int) -> tuple:
    table = _table(weights, side)
    return tuple(table) if isinstance(table, SplitTable) else (table,)


def _mlp_columns(plan: Plan, weights: NamedWeights, side: int):
    table = _table(weights, side)
    return table.mlp if isinstance(table, SplitTable) else table[:, plan.mf_dim :]


def _whole_kernel(weights: NamedWeights):
    kernel = weights.first.kernel
    return tf.concat(kernel, axis=0) if isinstance(kernel, SplitKernel) else kernel


def _in_form_of(weights: NamedWeights, kernel):
    """Returns a gradient of the first kernel in the form of that kernel."""
    if not isinstance(weights.first.kernel, SplitKernel):
        return kernel
    half = kernel.shape[0] // 2
    return SplitKernel(kernel[:half], kernel[half:])


def _table_gradient(sums: tuple):
    """Makes the gradient of a table from the sums of `_lookup_table`."""
    return SplitTable(*sums) if len(sums) == 2 else sums[0]


class NoHiddenLayer:
    """The MLP has no hidden layer: its input is its output."""

    def __init__(self, plan: Plan):
        self._half = plan.mlp_embedding_dim

    def lookup_tables(self, weights, side):
        return _lookup_table(weights, side)

    def zero_sums(self, weights):
        return ()

    def forward(self, weights, user_input, item_input, one):
        return tf.concat([user_input, item_input], axis=1)

    def backward(self, weights, user_input, item_input, is_active, grad):
        return grad[:, : self._half], grad[:, self._half :], ()

    def finish(self, weights, user_sums, item_sums, sums):
        return FirstLayerGradients(_table_gradient(user_sums), _table_gradient(item_sums), None)


class ConcatenatedFirstLayer:
    """One product of the concatenated embeddings.

    The sums are the gradients of the kernel, as `KernelSums`, and of the bias [h].
    """

    def __init__(self, plan: Plan):
        self._plan, self._half = plan, plan.mlp_embedding_dim
        self._kernel_sums = KernelSums(plan)

    def lookup_tables(self, weights, side):
        return _lookup_table(weights, side)

    def zero_sums(self, weights):
        kernel, bias = _whole_kernel(weights), weights.first.bias
        return self._kernel_sums.zeros(kernel), tf.zeros(bias.shape, bias.dtype)

    def forward(self, weights, user_input, item_input, one):
        plan, both = self._plan, tf.concat([user_input, item_input], axis=1)
        kernel, bias = _whole_kernel(weights), weights.first.bias
        return tf.nn.relu(product(plan, operand(plan, both), operand(plan, kernel)) + bias)

    def backward(self, weights, user_input, item_input, is_active, grad):
        plan, both = self._plan, tf.concat([user_input, item_input], axis=1)
        grad_preact = operand(plan, tf.where(is_active, grad, tf.zeros([], grad.dtype)))
        kernel = self._kernel_sums.of_tile(operand(plan, both), grad_preact)
        first_kernel = operand(plan, _whole_kernel(weights))
        grad_input = product(plan, grad_preact, first_kernel, transpose_b=True)
        bias = tf.reduce_sum(tf.cast(grad_preact, weights.first.bias.dtype), axis=0)
        return grad_input[:, : self._half], grad_input[:, self._half :], (kernel, bias)

    def finish(self, weights, user_sums, item_sums, sums):
        kernel, bias = sums
        first = DenseLayer(_in_form_of(weights, self._kernel_sums.finish(kernel)), bias)
        return FirstLayerGradients(_table_gradient(user_sums), _table_gradient(item_sums), first)


class FoldedFirstLayer:
    """At least one side's table is projected once per step.

    The lookup tables of a folded side are the GMF columns and the projection as separate arrays,
    which avoids copying them into wider rows. If one side is not folded, the sums contain the
    gradient of its half of the kernel, as `KernelSums`. The bias needs no sum: its
    gradient is the sum over the rows of a folded side.
    """

    def __init__(self, plan: Plan):
        self._plan = plan
        self._is_folded = (plan.fold_user, plan.fold_item)
        self._kernel_sums = KernelSums(plan)

    def lookup_tables(self, weights, side):
        if not self._is_folded[side]:
            return _lookup_table(weights, side)
        plan, table = self._plan, _table(weights, side)
        embedding, kernel = _mlp_columns(plan, weights, side), half_kernel(plan, weights, side)
        projection = product(plan, operand(plan, embedding), operand(plan, kernel), is_operand=True)
        gmf = table.gmf if isinstance(table, SplitTable) else table[:, : plan.mf_dim]
        return gmf, projection

    def zero_sums(self, weights):
        if all(self._is_folded):
            return ()
        return (self._kernel_sums.zeros(half_kernel(self._plan, weights, 0)),)

    def forward(self, weights, user_input, item_input, one):
        plan, parts = self._plan, []
        for side, (is_folded, part) in enumerate(zip(self._is_folded, (user_input, item_input))):
            if not is_folded:
                kernel = operand(plan, half_kernel(plan, weights, side))
                part = product(plan, operand(plan, part), kernel)
            parts.append(part)
        # XLA recomputes cheap values in the backward pass instead of storing them. Here it would
        # store the gathered rows of both sides and recompute the activation. XLA treats division
        # as expensive, so we divide by a runtime 1, which is exact. Then XLA stores the
        # activation and fuses both gathers into its loop.
        parts = [tf.cast(part, weights.first.bias.dtype) for part in parts]
        activation = tf.nn.relu(parts[0] + parts[1] + weights.first.bias)
        return activation if one is None else activation / one

    def backward(self, weights, user_input, item_input, is_active, grad):
        plan, grad_preact = self._plan, tf.where(is_active, grad, tf.zeros([], grad.dtype))
        # Rows are summed in the dtype of the weights.
        grad_preact = tf.cast(grad_preact, weights.first.bias.dtype)
        grad_inputs, sums = [], ()
        for side, part in enumerate((user_input, item_input)):
            if self._is_folded[side]:
                grad_inputs.append(grad_preact)
                continue
            factor = operand(plan, grad_preact)
            sums = (self._kernel_sums.of_tile(operand(plan, part), factor),)
            kernel = operand(plan, half_kernel(plan, weights, side))
            grad_inputs.append(product(plan, factor, kernel, transpose_b=True))
        return grad_inputs[0], grad_inputs[1], sums

    def finish(self, weights, user_sums, item_sums, sums):
        tables, half_kernels, bias = [], [], None
        for side, row_sums in enumerate((user_sums, item_sums)):
            if not self._is_folded[side]:
                tables.append(_table_gradient(row_sums))
                half_kernels.append(self._kernel_sums.finish(sums[0]))
                continue
            # row_sums contains, per table row, the gradients of the GMF columns and of the
            # projection.
            grad_gmf, grad_projection = row_sums
            plan, factor = self._plan, operand(self._plan, grad_projection)
            kernel = operand(plan, half_kernel(plan, weights, side))
            embedding = operand(plan, _mlp_columns(plan, weights, side))
            grad_embedding = product(plan, factor, kernel, transpose_b=True)
            if isinstance(_table(weights, side), SplitTable):
                tables.append(SplitTable(grad_gmf, grad_embedding))
            else:
                tables.append(tf.concat([grad_gmf, grad_embedding], axis=1))
            half_kernels.append(product(plan, embedding, factor, transpose_a=True))
            # Each example contributes to exactly one row, so the rows sum to the batch.
            bias = tf.reduce_sum(grad_projection, axis=0)
        is_split = isinstance(weights.first.kernel, SplitKernel)
        kernel = SplitKernel(*half_kernels) if is_split else tf.concat(half_kernels, axis=0)
        return FirstLayerGradients(*tables, DenseLayer(kernel, bias))
