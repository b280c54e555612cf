"""Named access to the weights of NeuMF.

Engines keep weights as a list in the order of `neumf.weight_names`; the mathematics of the fused
engine accesses them by name.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

from reference_model.base.lazy_modules import tf


class SplitTable(NamedTuple):
    """An embedding table as two arrays.

    Attributes:
      gmf: float [rows, mf_dim].
      mlp: float [rows, mlp_layers[0] / 2].
    """

    gmf: tf.Tensor
    mlp: tf.Tensor


class SplitKernel(NamedTuple):
    """The kernel of a layer with two inputs as two arrays.

    Attributes:
      first, second: float [inputs, outputs]. The inputs of the first hidden layer are the
        embeddings of user and item, those of the output unit GMF and the last hidden layer.
    """

    first: tf.Tensor
    second: tf.Tensor


class DenseLayer(NamedTuple):
    """A dense layer x -> x @ kernel + bias.

    Attributes:
      kernel: float [inputs, outputs], or a `SplitKernel`.
      bias: float [outputs].
    """

    kernel: tf.Tensor | SplitKernel
    bias: tf.Tensor


class NamedWeights(NamedTuple):
    """All weights of one NeuMF model.

    Attributes:
      user_table: float [U, mf_dim + mlp_layers[0] / 2], columns [0, mf_dim) belong to GMF; or a
        `SplitTable`.
      item_table: float [M, mf_dim + mlp_layers[0] / 2]; the same columns.
      first: the first hidden layer of the MLP; None if the MLP has no hidden layer.
      upper: the hidden layers above the first, from bottom to top.
      output: the output unit; its kernel is [mf_dim + mlp_layers[-1], 1], the GMF part first.
    """

    user_table: tf.Tensor | SplitTable
    item_table: tf.Tensor | SplitTable
    first: DenseLayer | None
    upper: tuple[DenseLayer, ...]
    output: DenseLayer

    @classmethod
    def from_list(cls, weights: Sequence) -> "NamedWeights":
        """Converts from a list in the order of `neumf.weight_names`."""
        user_table, item_table, *dense = weights
        layers = [DenseLayer(*dense[i : i + 2]) for i in range(0, len(dense), 2)]
        *hidden, output = layers
        first = hidden[0] if hidden else None
        return cls(user_table, item_table, first, tuple(hidden[1:]), output)

    def to_list(self) -> list:
        """Converts to a list in the order of `neumf.weight_names`."""
        hidden = self.upper if self.first is None else (self.first, *self.upper)
        dense = [array for layer in (*hidden, self.output) for array in layer]
        return [self.user_table, self.item_table, *dense]
