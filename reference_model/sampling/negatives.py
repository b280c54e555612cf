"""Negative sampling on the host: exactly uniform over the complement of a user's positives.

The complement of a user is the ascending list of all items that are not training positives of the
user. A negative is an item drawn from it. Two interchangeable samplers have the same distribution.
Both first draw a rank r, uniform below the size of the complement (NumPy's bounded integers use
rejection instead of a modulo, so there is no bias). Then they find item r of the complement,
counted from 0:

* `ComplementTableSampler` looks it up in a table of the complements of all users. The table has at
  most users x items entries; this is the fastest method if that number is small.
* `BisectionSampler` counts the user's positives that precede the item, by bisection over the
  sorted positives. It needs no memory except the arrays of one draw.

For a user's sorted positives p_0 < p_1 < ..., the complement has p_j - j items below p_j, so
its item r is r + #{j : p_j - j <= r}.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from reference_model.base.aligned_arrays import aligned_empty
from reference_model.base.errors import DataError
from reference_model.data.split import Split

# A complement table is built if it has at most this many entries (2 or 4 bytes each).
MAX_TABLE_ENTRIES = 64_000_000
# `BisectionSampler` builds search keys if it needs at most this many per draw.
_MAX_KEYS_PER_DRAW = 4


class NegativeSampler(Protocol):
    """Draws negatives for given users.

    Attributes:
      name: the sampler's name in the log (`train_sampler`).
    """

    name: str

    def draw(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws one negative for each entry of `users`.

        Args:
          users: int32 [N], user indices; repeats are allowed.
          rng: the random stream.

        Returns:
          int32 [N], item indices.
        """


def complement_sizes(split: Split) -> np.ndarray:
    """Counts the items in the complement of each user.

    Returns:
      int64 [U], all positive.

    Raises:
      DataError: a user has every item in training, so no negative exists.
    """
    sizes = split.num_items - np.diff(split.row_starts)
    full = np.flatnonzero(sizes <= 0)
    if len(full):
        raise DataError(
            f"user index {full[0]} has all {split.num_items} items in training, so no "
            "negative exists for this user; remove one of the user's positives, or the user"
        )
    return sizes


def table_fits(num_users: int, num_items: int, entries: int = MAX_TABLE_ENTRIES) -> bool:
    """Whether users x items, the bound on the complement table size, is at most `entries`."""
    return num_users * num_items <= entries


class ComplementTableSampler:
    """Finds item r of a user's complement in a table of the complements of all users."""

    name = "complement_table"

    def __init__(self, split: Split):
        """Builds the table; raises DataError as `complement_sizes`."""
        self._sizes = complement_sizes(split)
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)])
        fits_uint16 = split.num_items <= np.iinfo(np.uint16).max
        self._table = aligned_empty(self._starts[-1], np.uint16 if fits_uint16 else np.int32)
        # Process some users at a time, because `nonzero` allocates 16 bytes per entry found.
        block = max(1, 1_000_000 // split.num_items)
        for low in range(0, split.num_users, block):
            high = min(low + block, split.num_users)
            rows = slice(split.row_starts[low], split.row_starts[high])
            in_complement = np.ones((high - low, split.num_items), bool)
            in_complement[split.train_user[rows] - low, split.train_item[rows]] = False
            # The column indices in row-major order are the concatenated complements of the users.
            self._table[self._starts[low] : self._starts[high]] = np.nonzero(in_complement)[1]

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the table, for a sampler on the device.

        Returns:
          The start of each user's complement, int64 [U + 1], and the concatenated complements of
          all users, uint16 or int32.
        """
        return self._starts, self._table

    def draw(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rank = rng.integers(0, self._sizes[users])
        return self._table[self._starts[users] + rank].astype(np.int32)


class BisectionSampler:
    """Finds item r of a user's complement by bisection over the user's sorted positives."""

    name = "bisection"

    def __init__(self, split: Split):
        """Keeps a reference to the split; raises DataError as `complement_sizes`."""
        self._split = split
        self._sizes = complement_sizes(split)

    def draw(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rank = rng.integers(0, self._sizes[users])
        if not len(users):
            return rank.astype(np.int32)
        # In most calls the users are a narrow range. Then one search over all positives of the
        # range is fastest. For a few scattered users, each entry of `users` is searched
        # separately.
        first_user, end_user = int(users.min()), int(users.max()) + 1
        starts = self._split.row_starts[first_user : end_user + 1]
        if starts[-1] - starts[0] <= _MAX_KEYS_PER_DRAW * len(users):
            num_before = self._count_by_searchsorted(users - first_user, rank, starts)
        else:
            num_before = self._count_by_bisection(users, rank)
        return (rank + num_before).astype(np.int32)

    def _count_by_searchsorted(
        self, users: np.ndarray, rank: np.ndarray, starts: np.ndarray
    ) -> np.ndarray:
        """Counts the positives below each drawn item, for a narrow range of users.

        The keys p_j - j of user u are increased by u x stride, with a stride larger than every
        key. So the keys of all users are ascending, and one search finds the results of all
        users.

        Args:
          users: int [N], counted from the first user of the range.
          rank: int64 [N].
          starts: int64, the `row_starts` of the range, with one more entry than users.

        Returns:
          int64 [N].
        """
        stride = self._split.num_items + 1
        counts = np.diff(starts)
        keys = self._split.train_item[starts[0] : starts[-1]] - np.arange(starts[-1] - starts[0])
        # arange counts positives from the start of the range, but j counts from the start of the
        # user. Adding the position of the user's first positive corrects this.
        keys += np.repeat(np.arange(len(counts)) * stride + starts[:-1] - starts[0], counts)
        found = np.searchsorted(keys, users.astype(np.int64) * stride + rank, side="right")
        return found - (starts - starts[0])[users]

    def _count_by_bisection(self, users: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """Like `_count_by_searchsorted`, but for arbitrary users.

        The memory depends only on the number of draws. All bisections advance together, by one
        comparison per iteration.
        """
        items = self._split.train_item
        row_start = self._split.row_starts[users]
        low, high = row_start.copy(), self._split.row_starts[users + 1]
        while (low < high).any():
            middle = low + (high - low) // 2
            # The position of a finished bisection may be past the last positive. The result of
            # its comparison is not used.
            position = np.minimum(middle, len(items) - 1)
            is_before = (items[position] - (middle - row_start) <= rank) & (low < high)
            low, high = np.where(is_before, middle + 1, low), np.where(is_before, high, middle)
        return low - row_start


def sampler_name(num_users: int, num_items: int) -> str:
    """Returns the name of the sampler that `make_sampler` selects for data of this size."""
    fits = table_fits(num_users, num_items)
    return (ComplementTableSampler if fits else BisectionSampler).name


def make_sampler(split: Split, table_entries: int = MAX_TABLE_ENTRIES) -> NegativeSampler:
    """Builds the sampler, selected by size.

    Args:
      split: the dataset.
      table_entries: the complement table is used if it has at most this many entries.
    """
    if table_fits(split.num_users, split.num_items, table_entries):
        return ComplementTableSampler(split)
    return BisectionSampler(split)
