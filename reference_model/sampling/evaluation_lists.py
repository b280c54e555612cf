"""TODO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterator

import numpy as np

from reference_model.base.errors import DataError
from reference_model.data.split import Split
from reference_model.sampling.negatives import NegativeSampler


@dataclass(frozen=True, eq=False)
class EvaluationLists:
    """What every user's held-out item is ranked against, fixed for a whole run.

    Attributes:
      items: int32 [U, N + 1]; the held-out item stands last.
      masked: bool [U, N + 1]; True where a candidate does not compete: equal to
        the held-out item, or a repeat of an earlier candidate. Never the last.
    """

    items: np.ndarray
    masked: np.ndarray

    @classmethod
    def of(cls, negatives: np.ndarray, test_item: np.ndarray) -> "EvaluationLists":
        """Lists from negatives [U, N] and held-out items [U]."""
        items = np.concatenate([negatives, test_item[:, None]], axis=1).astype(np.int32)
        return cls(items, repeats(items))

    @property
    def repeated(self) -> int:
        """How many candidates do not compete."""
        return int(self.masked.sum())


class ListsInTurn:
    """Evaluation lists that are too large to be kept: the lists of some users after the
    other, drawn again from the same stream, and so the same, whenever they are gone
    through. `users`: how many at a time; `streams` makes the stream.
    """

    def __init__(
        self,
        split: Split,
        negatives: int,
        sampler: NegativeSampler,
        streams: Callable[[], np.random.Generator],
        users: int,
    ):
        self._draw = split, negatives, sampler
        self._streams, self._users, self._of = streams, users, split.num_users

    def __iter__(self) -> Iterator[EvaluationLists]:
        rng = self._streams()
        for low in range(0, self._of, self._users):
            users = range(low, min(low + self._users, self._of))
            yield draw_evaluation_lists(*self._draw, rng, users)

    @property
    def repeated(self) -> int:
        """How many candidates do not compete."""
        return sum(lists.repeated for lists in self)


def repeats(items: np.ndarray) -> np.ndarray:
    """bool [U, N + 1]: which candidates repeat the last one or an earlier one."""
    rows, width = items.shape
    masked = np.zeros((rows, width), bool)
    block = max(1, 500_000 // width)
    for low in range(0, rows, block):
        part = items[low : low + block]
        # Sorting item * width + place groups equal items in their own order.
        keys = np.sort(part.astype(np.int64) * width + np.arange(width), axis=1)
        item, place = np.divmod(keys, width)
        row, column = np.nonzero(item[:, 1:] == item[:, :-1])
        masked[low + row, place[row, column + 1]] = True
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
    """`negatives` candidates per user, drawn with replacement, and the held-out item.

    `users`: only their lists; drawn in turn from one stream, parts are what is drawn for
    all at once. A split that publishes its negatives (`split.eval_negatives`) uses those;
    then nothing is drawn and `negatives` must equal their number.
    """
    users = range(split.num_users) if users is None else users
    rows = slice(users.start, users.stop)
    if split.eval_negatives is not None:
        given = split.eval_negatives.shape[1]
        if given != negatives:
            raise DataError(
                f"the split publishes {given} evaluation negatives per user, but "
                f"the track asks for {negatives}"
            )
        return EvaluationLists.of(split.eval_negatives[rows], split.test_item[rows])
    items = np.empty((len(users), negatives + 1), np.int32)
    items[:, -1] = split.test_item[rows]
    block = max(1, 500_000 // negatives)
    for low in range(0, len(users), block):
        part = np.array(users[low : low + block], np.int32)
        drawn = sampler.draw(np.repeat(part, negatives), rng)
        items[low : low + block, :-1] = drawn.reshape(len(part), negatives)
    return EvaluationLists(items, repeats(items))
