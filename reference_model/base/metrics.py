"""HR@K and NDCG@K of leave-one-out evaluation, in plain NumPy.

He et al. 2017, section 4.1: the held-out item of a user is ranked among sampled items.
If it is among the first K, HR@K is 1 and NDCG@K is ln 2 / ln(rank + 2), with ranks from 0;
otherwise both are 0. Both are averaged over the users. The held-out item loses ties, so a model
that assigns all items the same score has no hits.
"""

from __future__ import annotations

import numpy as np


class NonFiniteScore(ArithmeticError):
    """An unmasked score is NaN, so the rank is undefined and must not count as a hit."""


def ranks(scores: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """Ranks the last column of each row among the unmasked columns.

    Args:
      scores: float [U, N + 1]; the last column is the score of the held-out item.
      masked: bool [U, N + 1]; True for a candidate excluded from the ranking. The last
        column is ignored: the held-out item is always ranked.

    Returns:
      int64 [U], the ranks from 0.

    Raises:
      NonFiniteScore: an unmasked score is NaN.
    """
    competes = ~np.asarray(masked, bool)
    competes[:, -1] = True
    if np.isnan(scores[competes]).any():
        raise NonFiniteScore("a score is NaN")
    # >= rather than >, because the held-out item loses ties.
    ahead = (scores[:, :-1] >= scores[:, -1:]) & competes[:, :-1]
    return ahead.sum(axis=1)


def hits_at(rank: np.ndarray, k: int) -> int:
    """Counts the users whose held-out item is among the first k; ranks start at 0."""
    return int(np.count_nonzero(np.asarray(rank) < k))


def hit_rate_at(rank: np.ndarray, k: int) -> float:
    """HR@k: `hits_at` divided by the number of users."""
    return hits_at(rank, k) / len(rank)


def hits_tolerance(users: int) -> int:
    """Largest difference in hits between two correct implementations: max(2 users, 0.1%)."""
    return max(2, users // 1000)


def ndcg_gains(rank: np.ndarray) -> np.ndarray:
    """The NDCG of a held-out item at each rank, float64: ln 2 / ln(rank + 2)."""
    return np.log(2.0) / np.log(np.asarray(rank, np.float64) + 2.0)


def ndcg_at(rank: np.ndarray, k: int) -> float:
    """NDCG@k, averaged over all users in float64; ranks start at 0."""
    rank = np.asarray(rank)
    return float(np.where(rank < k, ndcg_gains(rank), 0.0).mean())
