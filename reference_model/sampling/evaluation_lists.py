"""The evaluation lists: N candidates and the held-out item of each user.

The candidates are the evaluation negatives that the held-out item is ranked against. A list has
N + 1 entries: the candidates, then the held-out item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterator

import numpy as np

from reference_model.base.errors import DataError
from reference_model.data.split import Split
from reference_model.sampling.negatives import NegativeSampler

# List entries processed at a time, to bound temporary arrays.
_BLOCK_ENTRIES = 500_000


@dataclass(frozen=True, eq=False)
class EvaluationLists:
    """The lists of some users, fixed for the whole run.

    Attributes:
      items: int32 [U, N + 1], item indices: N candidates, then the held-out item.
      masked: bool [U, N + 1]; True for a candidate excluded from the ranking, because it
        equals the held-out item or an earlier candidate. The last column is always False.
    """

    items: np.ndarray
    masked: np.ndarray

    @classmethod
    def from_negatives(cls, negatives: np.ndarray, test_item: np.ndarray) -> "EvaluationLists":
        """Builds lists from negatives, int [U, N], and held-out items, int [U]."""
        items = np.concatenate([negatives, test_item[:, None]], axis=1).astype(np.int32)
        return cls(items, duplicate_mask(items))

    @property
    def num_masked(self) -> int:
        """Number of masked candidates."""
        return int(self.masked.sum())


class StreamedEvaluationLists:
    """Evaluation lists that are too large to keep in memory.

    Iterating yields `EvaluationLists` of some users at a time. Each iteration restarts the same
    random stream, so all iterations yield the same lists.
    """

    def __init__(
        self,
        split: Split,
        negatives: int,
        sampler: NegativeSampler,
        make_stream: Callable[[], np.random.Generator],
        users: int,
    ):
        """Stores its arguments; lists are drawn during iteration.

        Args:
          split: the dataset.
          negatives: number of candidates per user, N.
          sampler: draws the candidates.
          make_stream: returns the random stream; each call must return the same stream.
          users: number of users whose lists are drawn at a time.
        """
        self._draw_args = split, negatives, sampler
        self._make_stream, self._users_at_a_time = make_stream, users
        self._num_users = split.num_users

    def __iter__(self) -> Iterator[EvaluationLists]:
        rng = self._make_stream()
        for low in range(0, self._num_users, self._users_at_a_time):
            users = range(low, min(low + self._users_at_a_time, self._num_users))
            yield draw_evaluation_lists(*self._draw_args, rng, users)

    @property
    def num_masked(self) -> int:
        """Number of masked candidates; draws all lists to count them."""
        return sum(lists.num_masked for lists in self)


def duplicate_mask(items: np.ndarray) -> np.ndarray:
    """Marks candidates that equal the held-out item or an earlier candidate of the same list.

    Args:
      items: int [U, N + 1], lists as in `EvaluationLists`.

    Returns:
      bool [U, N + 1]; the last column is False.
    """
    rows, width = items.shape
    masked = np.zeros((rows, width), bool)
    block = max(1, _BLOCK_ENTRIES // width)
    for low in range(0, rows, block):
        part = items[low : low + block]
        # Sorting item * width + column groups equal items in column order. So in a sorted row,
        # every key with the same item as its left neighbor is a duplicate.
        keys = np.sort(part.astype(np.int64) * width + np.arange(width), axis=1)
        item, column = np.divmod(keys, width)
        row, left = np.nonzero(item[:, 1:] == item[:, :-1])
        masked[low + row, column[row, left + 1]] = True
        masked[low : low + block] |= part == part[:, -1:]
    masked[:, -1] = False
    return masked


def draw_evaluation_lists(
    split: Split,
    negatives: int,
    sampler: NegativeSampler,
    rng: np.random.Generator,
    users: range | None = None,
) -> EvaluationLists:
    """Draws the candidates of each user with replacement and appends the held-out item.

    If the split contains published negatives (`split.eval_negatives`), these are used and
    nothing is drawn.

    Args:
      split: the dataset.
      negatives: number of candidates per user, N; must equal the number of published negatives.
      sampler: draws the candidates.
      rng: the random stream. Drawing consecutive ranges of users from one stream yields the
        same lists as drawing all users at once.
      users: the users whose lists are drawn; None for all.

    Raises:
      DataError: the split publishes a different number of negatives.
    """
    users = range(split.num_users) if users is None else users
    rows = slice(users.start, users.stop)
    if split.eval_negatives is not None:
        published = split.eval_negatives.shape[1]
        if published != negatives:
            raise DataError(
                f"the split publishes {published} evaluation negatives per user, but "
                f"the track requires {negatives}"
            )
        return EvaluationLists.from_negatives(split.eval_negatives[rows], split.test_item[rows])
    items = np.empty((len(users), negatives + 1), np.int32)
    items[:, -1] = split.test_item[rows]
    block = max(1, _BLOCK_ENTRIES // negatives)
    for low in range(0, len(users), block):
        part = np.array(users[low : low + block], np.int32)
        drawn = sampler.draw(np.repeat(part, negatives), rng)
        items[low : low + block, :-1] = drawn.reshape(len(part), negatives)
    return EvaluationLists(items, duplicate_mask(items))
