"""How ratings spread over items or users, in figures that do not depend on the size.

All take counts: int [n], the ratings of each item (or user), zeros included.
"""

from __future__ import annotations

import numpy as np


def top_share(counts: np.ndarray, part: float) -> float:
    """The share of all ratings that the `part` with the most ratings has, at least one."""
    ordered = np.sort(counts)[::-1]
    return float(ordered[: max(1, round(part * len(counts)))].sum() / counts.sum())


def gini(counts: np.ndarray) -> float:
    """The Gini coefficient: 0 where all have as many, near 1 where one has nearly all."""
    rank = np.arange(1, len(counts) + 1)
    return float((2 * rank - len(counts) - 1) @ np.sort(counts) / (len(counts) * counts.sum()))


def ks_distance(counts: np.ndarray, others: np.ndarray) -> float:
    """The Kolmogorov-Smirnov distance of the distributions of count / mean count."""
    first, second = np.sort(counts / counts.mean()), np.sort(others / others.mean())
    places = np.concatenate([first, second])
    below = [np.searchsorted(values, places, "right") / len(values) for values in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


def rank_curve(counts: np.ndarray, points: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """The curve of popularity over rank, at ranks that are evenly spaced in logarithm.

    Returns rank / n and count / mean count, float64, at most `points` of each; where
    counts are 0 the curve ends.
    """
    ordered = np.sort(counts)[::-1]
    rank = np.unique(np.geomspace(1, len(counts), points).round().astype(np.int64))
    rank = rank[ordered[rank - 1] > 0]
    return rank / len(counts), ordered[rank - 1] / counts.mean()
