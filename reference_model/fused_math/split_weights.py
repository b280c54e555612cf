"""Weights in the form of accelerators: what a step reads apart is apart in memory.

GMF columns and MLP columns of the tables, the two halves of the first kernel and the two parts of
the output unit's kernel are arrays of their own. So no step slices, joins or pads an array.
"""

from __future__ import annotations

from typing import Sequence

from reference_model.base.lazy_modules import tf
from reference_model.fused_math.weights import DenseLayer, NamedWeights, SplitKernel, SplitTable

# XLA divides the rows of a table among up to 256 blocks of threads when it sums over them. Other
# numbers of rows it would pad in each step.
_ROW_MULTIPLE = 256


def split(weights: NamedWeights, mf_dim: int, row_multiple: int = 1) -> NamedWeights:
    """Splits the arrays of all weights, or of one of Adam's moments.

    Args:
      weights: the joined arrays.
      mf_dim: width of GMF.
      row_multiple: rows of zeros are added to the tables up to a multiple of this.

    Returns:
      The weights with `SplitTable` and `SplitKernel`.
    """
    tables = []
    for table in (weights.user_table, weights.item_table):
        added = -table.shape[0] % row_multiple
        padded = tf.pad(table, [[0, added], [0, 0]]) if added else table
        tables.append(SplitTable(padded[:, :mf_dim], padded[:, mf_dim:]))
    first = weights.first
    if first is not None:
        half = first.kernel.shape[0] // 2
        first = DenseLayer(SplitKernel(first.kernel[:half], first.kernel[half:]), first.bias)
    kernel, bias = weights.output
    output = DenseLayer(SplitKernel(kernel[:mf_dim], kernel[mf_dim:]), bias)
    return NamedWeights(*tables, first, weights.upper, output)


def join(weights: NamedWeights, rows: Sequence[int] | None = None) -> NamedWeights:
    """Inverts `split`; `rows` are the numbers of rows of both tables without added ones."""
    tables = [tf.concat(table, axis=1) for table in (weights.user_table, weights.item_table)]
    if rows is not None:
        tables = [table[:count] for table, count in zip(tables, rows)]
    first, output = (
        layer and DenseLayer(tf.concat(layer.kernel, axis=0), layer.bias)
        for layer in (weights.first, weights.output)
    )
    return NamedWeights(*tables, first, weights.upper, output)


def split_list(arrays: Sequence, mf_dim: int) -> list:
    """Splits arrays in weight order for a loop over steps.

    The tables get rows of zeros up to a multiple of `_ROW_MULTIPLE`. Their gradients are 0, so Adam
    leaves them 0.
    """
    return to_split_list(split(NamedWeights.from_list(arrays), mf_dim, _ROW_MULTIPLE))


def join_list(arrays: Sequence, rows: Sequence[int]) -> list:
    """Inverts `split_list` for tables with the given numbers of rows."""
    return join(from_split_list(arrays), rows).to_list()


def from_split_list(arrays: Sequence) -> NamedWeights:
    """Names the arrays of `split_list`."""
    tables = SplitTable(*arrays[:2]), SplitTable(*arrays[2:4])
    *hidden, gmf_kernel, top_kernel, bias = arrays[4:]
    output = DenseLayer(SplitKernel(gmf_kernel, top_kernel), bias)
    if not hidden:
        return NamedWeights(*tables, None, (), output)
    first = DenseLayer(SplitKernel(*hidden[:2]), hidden[2])
    upper = [DenseLayer(*hidden[i : i + 2]) for i in range(3, len(hidden), 2)]
    return NamedWeights(*tables, first, tuple(upper), output)


def to_split_list(weights: NamedWeights) -> list:
    """Inverts `from_split_list`: the arrays in weight order, the parts of an array in a row."""
    tables = [*weights.user_table, *weights.item_table]
    first = [] if weights.first is None else [*weights.first.kernel, weights.first.bias]
    upper = [array for layer in weights.upper for array in layer]
    return [*tables, *first, *upper, *weights.output.kernel, weights.output.bias]
