"""Linear algebra in NumPy: truncated SVD of a sparse 0/1 matrix, row resampling."""

from __future__ import annotations

import numpy as np

# Subspace iteration: number of extra vectors, and number of iterations.
_OVERSAMPLING, _POWER_ITERATIONS = 8, 16
# Number of ones of a sparse matrix processed at a time.
_CHUNK_ONES = 1 << 16

# A 0/1 matrix in CSR form: (starts [n + 1], columns). The ones of row r are in the columns
# columns[starts[r]:starts[r + 1]].
SparseRows = tuple[np.ndarray, np.ndarray]


def truncated_svd(
    by_row: SparseRows, by_column: SparseRows, rank: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes the leading singular triplets of a sparse 0/1 matrix [n, c].

    Uses subspace iteration from a random start (Halko, Martinsson and Tropp 2011, "Finding
    Structure with Randomness", algorithm 4.4).

    Args:
      by_row: the matrix.
      by_column: its transpose.
      rank: k, the number of triplets.
      rng: generator of the random start.

    Returns:
      Left vectors [n, k], values [k] and right vectors [c, k], float64.
    """
    num_rows, num_columns = len(by_row[0]) - 1, len(by_column[0]) - 1
    width = min(rank + _OVERSAMPLING, num_rows, num_columns)
    right = rng.standard_normal((num_columns, width))
    for _ in range(_POWER_ITERATIONS):
        left = np.linalg.qr(_sparse_product(*by_row, right))[0]
        right = np.linalg.qr(_sparse_product(*by_column, left))[0]
    # The right vectors span the subspace; rotate them to the singular vectors within it.
    product = _sparse_product(*by_row, right)
    left, values, rotation = np.linalg.svd(product, full_matrices=False)
    return left[:, :rank], values[:rank], (right @ rotation.T)[:, :rank]


def _sparse_product(starts: np.ndarray, columns: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Multiplies a sparse 0/1 matrix [n, c] by dense vectors [c, k]: float64 [n, k]."""
    result = np.zeros((len(starts) - 1, vectors.shape[1]))
    row = 0
    while row < len(result):
        # Rows [row, end) have at most _CHUNK_ONES ones, or are a single row.
        end = np.searchsorted(starts, starts[row] + _CHUNK_ONES, "right") - 1
        end = max(row + 1, int(end))
        rows = row + np.flatnonzero(np.diff(starts[row : end + 1]))
        values = vectors[columns[starts[row] : starts[end]]]
        if len(rows):  # rows without ones stay 0; reduceat cannot sum empty ranges
            result[rows] = np.add.reduceat(values, starts[rows] - starts[row], axis=0)
        row = end
    return result


def resample_rows(matrix: np.ndarray, rows: int) -> np.ndarray:
    """Resamples the rows of a matrix by linear interpolation.

    Args:
      matrix: [l, k].
      rows: number of output rows, at most l.

    Returns:
      [rows, k], the matrix at the centres of `rows` equal intervals of its rows.
    """
    position = (np.arange(rows) + 0.5) * (len(matrix) / rows) - 0.5
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, len(matrix) - 1)
    fraction = (position - below)[:, None]
    return matrix[below] * (1 - fraction) + matrix[above] * fraction


def nearest_orthonormal(matrix: np.ndarray) -> np.ndarray:
    """Computes the nearest matrix with orthonormal columns, A (A^T A)^(-1/2)."""
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return left @ right
