"""Negative sampling: exact, uniform over the items a user has not in training.

Two interchangeable strategies draw from the same distribution. Both first draw
a rank r, uniform over the size of the user's complement (numpy's bounded
integers reject instead of reducing modulo the bound, so there is no bias), and
then find the r-th item that is not a training positive:

* `ComplementTable` looks it up in a table of all complements: users x items
  entries, the fastest where that is small;
* `Bisection` counts the user's positives that stand before it, by bisection
  over the sorted positives: memory linear in the positives.

For sorted positives p_0 < p_1 < ... of a user, p_j - j complement items stand
before p_j, so the r-th complement item (from 0) is r + #{j : p_j - j <= r}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from reference_model.split import DataError, Split

# Streams of one run; epochs, replicas and runs never share one.
STREAM_WEIGHTS, STREAM_EVALUATION, STREAM_NEGATIVES, STREAM_ORDER = range(4)
STREAM_FUSED_NEGATIVES = 4

# A complement table of at most this many entries is built (2 or 4 bytes each).
TABLE_ENTRIES = 64_000_000


def stream(seed: int, purpose: int, epoch: int = 0, replica: int = 0) -> np.random.Generator:
    """The random stream of one purpose in one epoch on one replica of one run."""
    key = np.random.SeedSequence(seed, spawn_key=(purpose, epoch, replica))
    return np.random.Generator(np.random.PCG64(key))


def weights_seed(seed: int) -> int:
    """The seed of a run's initial weights."""
    return int(stream(seed, STREAM_WEIGHTS).integers(2**63))


def key64(seed: int, purpose: int, epoch: int = 0, replica: int = 0) -> int:
    """A 64-bit key for a counter-based generator, by the same rule as `stream`."""
    key = np.random.SeedSequence(seed, spawn_key=(purpose, epoch, replica))
    return int(key.generate_state(1, np.uint64)[0])


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


def free_items_before(split: Split) -> np.ndarray:
    """int64 [P]: p_j - j for every positive, ascending within a user."""
    starts = split.row_starts
    place = np.arange(split.num_positives) - np.repeat(starts[:-1], np.diff(starts))
    return split.train_item - place


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
        self._table = np.empty(self._starts[-1], np.uint16 if small else np.int32)
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
        self._sizes = complement_sizes(split)
        self._starts = split.row_starts
        self._stride = split.num_items + 1
        # One ascending array for all users, so that one search serves them all.
        self._keys = split.train_user.astype(np.int64) * self._stride
        self._keys += free_items_before(split)

    def draw(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rank = rng.integers(0, self._sizes[users])
        query = users.astype(np.int64) * self._stride + rank
        before = np.searchsorted(self._keys, query, side="right") - self._starts[users]
        return (rank + before).astype(np.int32)


def make_sampler(split: Split, table_entries: int = TABLE_ENTRIES) -> NegativeSampler:
    """The table where it fits into `table_entries` entries, else bisection."""
    if table_fits(split.num_users, split.num_items, table_entries):
        return ComplementTable(split)
    return Bisection(split)


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
    split: Split, negatives: int, sampler: NegativeSampler, rng: np.random.Generator
) -> EvaluationLists:
    """`negatives` candidates per user, drawn with replacement, and the held-out item.

    A split that publishes its negatives (`split.eval_negatives`) uses those; then
    nothing is drawn and `negatives` must equal their number.
    """
    if split.eval_negatives is not None:
        given = split.eval_negatives.shape[1]
        if given != negatives:
            raise DataError(
                f"the split publishes {given} evaluation negatives per user, but "
                f"the track asks for {negatives}"
            )
        return EvaluationLists.of(split.eval_negatives, split.test_item)
    items = np.empty((split.num_users, negatives + 1), np.int32)
    items[:, -1] = split.test_item
    block = max(1, 500_000 // negatives)
    for low in range(0, split.num_users, block):
        users = np.arange(low, min(low + block, split.num_users), dtype=np.int32)
        drawn = sampler.draw(np.repeat(users, negatives), rng)
        items[low : low + block, :-1] = drawn.reshape(len(users), negatives)
    return EvaluationLists(items, repeats(items))
