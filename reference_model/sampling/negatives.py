"""Negative sampling: exact, uniform over the items a user has not in training.

Two interchangeable strategies draw from the same distribution. Both first draw
a rank r, uniform over the size of the user's complement (numpy's bounded
integers reject instead of reducing modulo the bound, so there is no bias), and
then find the r-th item that is not a training positive:

* `ComplementTable` looks it up in a table of all complements: users x items
  entries, the fastest where that is small;
* `Bisection` counts the user's positives that stand before it, by bisection
  over the sorted positives: no memory but for what is drawn.

For sorted positives p_0 < p_1 < ... of a user, p_j - j complement items stand
before p_j, so the r-th complement item (from 0) is r + #{j : p_j - j <= r}.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from reference_model.base.aligned_arrays import aligned_empty
from reference_model.base.errors import DataError
from reference_model.data.split import Split

# A complement table of at most this many entries is built (2 or 4 bytes each).
TABLE_ENTRIES = 64_000_000
# Where the drawn users' rows lie within this many positives a draw, keys are made of them.
_KEYS_PER_DRAW = 4


class NegativeSampler(Protocol):
    """Draws, for given users, items that are not their training positives."""

    name: str

    def draw(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """int32 [N]: one negative for each of `users` (int32 [N], repeats allowed)."""


def complement_sizes(split: Split) -> np.ndarray:
    """int64 [U]: how many items each user has not in training; refuses zero."""
    sizes = split.num_items - np.diff(split.row_starts)
    full = np.flatnonzero(sizes <= 0)
    if len(full):
        raise DataError(
            f"user index {full[0]} has all {split.num_items} items in training, so no "
            "negative exists for it; hold one item out or leave the user out"
        )
    return sizes


def table_fits(num_users: int, num_items: int, entries: int = TABLE_ENTRIES) -> bool:
    """Whether the table of all complements is small enough to be made."""
    return num_users * num_items <= entries


class ComplementTable:
    """Looks the r-th complement item up in a table of users x items entries."""

    name = "complement_table"

    def __init__(self, split: Split):
        self._sizes = complement_sizes(split)
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)])
        small = split.num_items <= np.iinfo(np.uint16).max
        self._table = aligned_empty(self._starts[-1], np.uint16 if small else np.int32)
        # Small blocks: `nonzero` takes 16 bytes for each entry that it finds.
        block = max(1, 1_000_000 // split.num_items)
        for low in range(0, split.num_users, block):
            high = min(low + block, split.num_users)
            rows = slice(split.row_starts[low], split.row_starts[high])
            absent = np.ones((high - low, split.num_items), bool)
            absent[split.train_user[rows] - low, split.train_item[rows]] = False
            self._table[self._starts[low] : self._starts[high]] = np.nonzero(absent)[1]

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """(where each user's complement starts [U + 1], all complements)."""
        return self._starts, self._table

    def draw(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rank = rng.integers(0, self._sizes[users])
        return self._table[self._starts[users] + rank].astype(np.int32)


class Bisection:
    """Finds the r-th complement item by bisection over the sorted positives."""

    name = "bisection"

    def __init__(self, split: Split):
        self._split = split
        self._sizes = complement_sizes(split)

    def draw(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rank = rng.integers(0, self._sizes[users])
        if not len(users):
            return rank.astype(np.int32)
        first, end = int(users.min()), int(users.max()) + 1
        starts = self._split.row_starts[first : end + 1]
        if starts[-1] - starts[0] <= _KEYS_PER_DRAW * len(users):
            before = self._search(users - first, rank, starts)
        else:
            before = self._bisect(self._split.row_starts[users], rank, users)
        return (rank + before).astype(np.int32)

    def _search(self, users: np.ndarray, rank: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """int64 [N]: positives before each; users are numbered from the first of them.

        Keys of these users' positives, in one ascending array, so that one search
        serves all. The users of most draws are neighbours.
        """
        stride = self._split.num_items + 1
        counts = np.diff(starts)
        keys = self._split.train_item[starts[0] : starts[-1]] - np.arange(starts[-1] - starts[0])
        keys += np.repeat(np.arange(len(counts)) * stride + starts[:-1] - starts[0], counts)
        found = np.searchsorted(keys, users.astype(np.int64) * stride + rank, side="right")
        return found - (starts - starts[0])[users]

    def _bisect(self, first: np.ndarray, rank: np.ndarray, users: np.ndarray) -> np.ndarray:
        """The same for users from anywhere, in memory that follows their number alone."""
        items = self._split.train_item
        low, high = first.copy(), self._split.row_starts[users + 1]
        while (low < high).any():
            middle = low + (high - low) // 2
            place = np.minimum(middle, len(items) - 1)
            below = (items[place] - (middle - first) <= rank) & (low < high)
            low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
        return low - first


def sampler_name(num_users: int, num_items: int) -> str:
    """The name of the sampler that `make_sampler` chooses for data of this size."""
    return (ComplementTable if table_fits(num_users, num_items) else Bisection).name


def make_sampler(split: Split, table_entries: int = TABLE_ENTRIES) -> NegativeSampler:
    """The table where it fits into `table_entries` entries, else bisection."""
    if table_fits(split.num_users, split.num_items, table_entries):
        return ComplementTable(split)
    return Bisection(split)


