"""Size-independent statistics of the distribution of ratings over items or users.

All functions take counts: int [n], the number of ratings of each item (or user), including zeros.
"""

from __future__ import annotations

import numpy as np


def top_share(counts: np.ndarray, fraction: float) -> float:
    """Computes the share of the most-rated items in all ratings.

    Args:
      counts: see the module docstring.
      fraction: the fraction of items that counts as most-rated; at least one item.
    """
    ordered = np.sort(counts)[::-1]
    return float(ordered[: max(1, round(fraction * len(counts)))].sum() / counts.sum())


def gini(counts: np.ndarray) -> float:
    """Computes the Gini coefficient: 0 for equal counts, near 1 if one item has most ratings."""
    rank = np.arange(1, len(counts) + 1)
    return float((2 * rank - len(counts) - 1) @ np.sort(counts) / (len(counts) * counts.sum()))


def ks_distance(counts: np.ndarray, others: np.ndarray) -> float:
    """Computes the Kolmogorov-Smirnov distance between distributions of count / mean count."""
    first, second = np.sort(counts / counts.mean()), np.sort(others / others.mean())
    values = np.concatenate([first, second])
    # The empirical distribution functions of both samples at all their values.
    cdfs = [np.searchsorted(sample, values, "right") / len(sample) for sample in (first, second)]
    return float(np.abs(cdfs[0] - cdfs[1]).max())


def rank_curve(counts: np.ndarray, points: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Computes the curve of popularity over popularity rank, for a log-log plot.

    Args:
      counts: see the module docstring.
      points: maximum number of points, evenly spaced in the logarithm of the rank.

    Returns:
      rank / n and count / mean count, float64, for ranks with nonzero counts.
    """
    ordered = np.sort(counts)[::-1]
    rank = np.unique(np.geomspace(1, len(counts), points).round().astype(np.int64))
    rank = rank[ordered[rank - 1] > 0]
    return rank / len(counts), ordered[rank - 1] / counts.mean()
