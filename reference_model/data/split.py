"""From raw (user, item, timestamp) rows to the leave-one-out split.

Definition (He et al. 2017, "Neural Collaborative Filtering", section 4.1, with
the filter and the tie rule pinned down): users with at least `min_ratings`
ratings stay; users and items are numbered by first appearance in the file; of
each user the rating with the latest timestamp is held out for evaluation, the
others are training positives.

Many users have several ratings in their last second (2,544 of 6,040 in
MovieLens 1M), and the files' own order among them is by movie number in some
datasets, which would hold out unpopular films. Ties are therefore broken by a
fixed pseudo-random order: the rating whose `_mix(user index, item index)` is
the largest is the one held out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from reference_model.base.aligned_arrays import aligned_empty
from reference_model.base.errors import DataError
from reference_model.events import EventSink, NullSink

MIN_RATINGS = 20
# Rows that are looked at together where a temporary array of all would be wide.
_BLOCK = 1 << 20


@dataclass(frozen=True, eq=False)
class Split:
    """Training positives and one held-out item per user.

    Attributes:
      num_users, num_items: sizes U and M; indices run from 0.
      train_user, train_item: int32 [P], sorted by (user, item), pairs unique. They
        may be mapped from a file; 8 bytes a positive, and nothing else here grows
        with the positives.
      test_item: int32 [U], the held-out item of each user, never among that
        user's training positives.
      eval_negatives: int32 [U, N] where the protocol publishes them, else None.
    """

    num_users: int
    num_items: int
    train_user: np.ndarray = field(repr=False)
    train_item: np.ndarray = field(repr=False)
    test_item: np.ndarray = field(repr=False)
    eval_negatives: np.ndarray | None = field(default=None, repr=False)

    @property
    def num_positives(self) -> int:
        return len(self.train_user)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over little-endian int32: U, M, P, then the arrays."""
        sha = hashlib.sha256()
        sizes = np.array([self.num_users, self.num_items, self.num_positives])
        arrays = [sizes, self.train_user, self.train_item, self.test_item]
        if self.eval_negatives is not None:
            arrays.append(self.eval_negatives)
        for array in arrays:
            sha.update(np.ascontiguousarray(array, dtype="<i4").data)
        return sha.hexdigest()

    @cached_property
    def row_starts(self) -> np.ndarray:
        """int64 [U + 1]: user u's positives are train_item[starts[u]:starts[u+1]]."""
        # With users of another type, numpy would convert all of train_user.
        users = np.arange(self.num_users + 1, dtype=self.train_user.dtype)
        return np.searchsorted(self.train_user, users).astype(np.int64)

    def validate(self) -> "Split":
        """Raises DataError where the arrays break what the class promises."""
        _check_ids("user", self.train_user, self.num_users)
        _check_ids("item", self.train_item, self.num_items)
        _check_ids("held-out item", self.test_item, self.num_items)
        if len(self.test_item) != self.num_users:
            raise DataError(
                f"the split holds out {len(self.test_item)} items for "
                f"{self.num_users} users; it must be one for each"
            )
        clashes: list[int] = []
        for low in range(0, self.num_positives, _BLOCK):
            rows = slice(max(low - 1, 0), low + _BLOCK)  # one of the rows before
            user = self.train_user[rows]
            key = user.astype(np.int64) * self.num_items + self.train_item[rows]
            if np.any(key[1:] <= key[:-1]):
                raise DataError("training pairs must be unique and sorted by user and item")
            held = np.arange(user[0], user[-1] + 1, dtype=np.int64)
            held = held * self.num_items + self.test_item[user[0] : user[-1] + 1]
            place = np.minimum(np.searchsorted(key, held), len(key) - 1)
            clashes.extend(user[0] + np.flatnonzero(key[place] == held))
        clashes = sorted(set(clashes))  # the row before may have been found already
        if clashes:
            raise DataError(
                f"{len(clashes)} held-out items are also training positives "
                f"(first: user index {clashes[0]}); remove them from the training file"
            )
        if self.eval_negatives is not None:
            _check_ids("evaluation negative", self.eval_negatives, self.num_items)
        return self


def _check_ids(what: str, ids: np.ndarray, size: int) -> None:
    if len(ids) and (ids.min() < 0 or ids.max() >= size):
        raise DataError(
            f"{what} indices run from {ids.min()} to {ids.max()}, "
            f"but must lie between 0 and {size - 1}"
        )


def _mix(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """uint64 hash of (user index, item index): the finalizer of SplitMix64.

    Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators".
    A bijection of the packed pair, so two pairs never tie.
    """
    z = (user.astype(np.uint64) << np.uint64(32)) | item.astype(np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def leave_one_out(
    user: np.ndarray,
    item: np.ndarray,
    timestamp: np.ndarray,
    min_ratings: int = MIN_RATINGS,
    sink: EventSink = NullSink(),
) -> Split:
    """Splits ratings given as three aligned arrays [R] in file order.

    Raises:
      DataError: no user has `min_ratings` ratings, or a pair occurs twice.
    """
    sink.point("dataset_min_ratings", min_ratings)
    user = _numbered(user)
    counts = np.bincount(user) if len(user) else np.zeros(0, int)
    if not (counts >= min_ratings).any():
        raise DataError(
            f"no user has at least {min_ratings} ratings among {len(user)} rows; "
            "is this the right file?"
        )
    if (counts < min_ratings).any():
        keep = (counts >= min_ratings)[user]
        user, item, timestamp = _numbered(user[keep]), item[keep], timestamp[keep]
        counts = counts[counts >= min_ratings]
    item = _numbered(item)
    num_users, num_items = len(counts), int(item.max()) + 1

    held_rows = _latest_row_of_each_user(user, item, np.asarray(timestamp), num_users)
    test_item = item[held_rows]
    key = user.astype(np.int64)
    key *= num_items
    key += item
    key[held_rows] = np.iinfo(np.int64).max  # they come last, and are cut off
    key.sort()
    pairs = _pairs_of(key[: len(key) - num_users], num_items)
    return Split(num_users, num_items, *pairs, test_item).validate()


def _numbered(ids: np.ndarray) -> np.ndarray:
    """int32 [R]: ids by first appearance; they themselves where they are that already."""
    ids = np.asarray(ids)
    if ids.dtype == np.int32 and _counts_up(ids):
        return ids
    codes, _ = pd.factorize(ids)
    return codes.astype(np.int32)


def _counts_up(ids: np.ndarray) -> bool:
    """Whether the first is 0 and each new one is one more than all before it."""
    most = -1
    for low in range(0, len(ids), _BLOCK):
        part = np.maximum.accumulate(np.append(np.int32(most), ids[low : low + _BLOCK]))
        if ids[low : low + _BLOCK].min() < 0 or (np.diff(part) > 1).any():
            return False
        most = part[-1]
    return True


def _pairs_of(key: np.ndarray, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """(user, item) int32 [P] of user * num_items + item."""
    user, item = aligned_empty(len(key), np.int32), aligned_empty(len(key), np.int32)
    for low in range(0, len(key), _BLOCK):
        part = slice(low, low + _BLOCK)
        user[part], item[part] = np.divmod(key[part], num_items)
    return user, item


def _latest_row_of_each_user(
    user: np.ndarray, item: np.ndarray, timestamp: np.ndarray, num_users: int
) -> np.ndarray:
    """int64 [U]: the row each user's held-out rating stands in."""
    latest = np.full(num_users, timestamp.min(), dtype=timestamp.dtype)
    np.maximum.at(latest, user, timestamp)
    rows = [
        low + np.flatnonzero(timestamp[low : low + _BLOCK] == latest[user[low : low + _BLOCK]])
        for low in range(0, len(user), _BLOCK)
    ]
    rows = np.concatenate(rows)
    order = np.lexsort((_mix(user[rows], item[rows]), user[rows]))
    rows = rows[order]
    last_of_user = np.append(user[rows][1:] != user[rows][:-1], True)
    return rows[last_of_user]
