"""HR@K and NDCG@K of leave-one-out evaluation; pure numpy.

He et al. 2017, section 4.1: the held-out item is ranked among sampled items;
HR@K is 1 where it is among the first K, NDCG@K is ln 2 / ln(rank + 2) there
(rank from 0) and 0 elsewhere; both are averaged over the users. The held-out
item loses ties, so a model that scores all items alike hits nobody.
"""

from __future__ import annotations

import numpy as np


class NotFinite(ArithmeticError):
    """A score that competes is NaN: there is no rank, and never a hit."""


def ranks(scores: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """int64 [U]: the rank (from 0) of the last column among the unmasked ones.

    scores: float [U, N + 1], the held-out item's last; masked: bool, same shape.
    Raises NotFinite where an unmasked score is NaN.
    """
    competes = ~np.asarray(masked, bool)
    competes[:, -1] = True
    if np.isnan(scores[competes]).any():
        raise NotFinite("a score is NaN")
    ahead = (scores[:, :-1] >= scores[:, -1:]) & competes[:, :-1]
    return ahead.sum(axis=1)


def hits_at(rank: np.ndarray, k: int) -> int:
    """How many users have their held-out item among the first k."""
    return int(np.count_nonzero(np.asarray(rank) < k))


def hit_rate_at(rank: np.ndarray, k: int) -> float:
    """HR@k: `hits_at` divided by the number of users."""
    return hits_at(rank, k) / len(rank)


def hits_tolerance(users: int) -> int:
    """Hits by which two correct implementations may differ: max(2 users, 0.1%)."""
    return max(2, users // 1000)


def gains(rank: np.ndarray) -> np.ndarray:
    """float64: what a held-out item at each rank (from 0) adds to NDCG."""
    return np.log(2.0) / np.log(np.asarray(rank, np.float64) + 2.0)


def ndcg_at(rank: np.ndarray, k: int) -> float:
    """NDCG@k, averaged over all users in float64."""
    rank = np.asarray(rank)
    return float(np.where(rank < k, gains(rank), 0.0).mean())
