"""The leave-one-out split, made from (user, item, timestamp) rows.

The definition is that of He et al. 2017, "Neural Collaborative Filtering", section 4.1, with an
exact filter and tie rule. Users with at least `min_ratings` ratings are kept. Users and items are
numbered by first appearance in the file. The rating of each user with the latest timestamp is
held out for evaluation; the others are training positives.

Many users have several ratings in their last second (2,544 of 6,040 in MovieLens 1M). Some
datasets sort these ratings by movie number, so holding out the last of them would favor unpopular
movies. Therefore ties are broken by a fixed pseudo-random order: of the tied ratings, the one
with the largest `_splitmix64(user index, item index)` is held out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from reference_model.base.aligned_arrays import aligned_empty
from reference_model.base.errors import DataError
from reference_model.base.lazy_modules import pd
from reference_model.ratings.reader import MIN_RATINGS

# Rows processed at a time, to bound temporary arrays.
_BLOCK_ROWS = 1 << 20


@dataclass(frozen=True, eq=False)
class Split:
    """Training positives and one held-out item per user.

    Each positive takes 8 bytes; the items may be mapped from a file. The size of all other
    attributes does not depend on the number of positives.

    Attributes:
      num_users: number of users U; indices run from 0.
      num_items: number of items M; indices run from 0.
      train_user: int32 [P], the users of the positives; the pairs are unique and sorted by
        (user, item).
      train_item: int32 [P], the items of the positives.
      test_item: int32 [U], the held-out item of each user; it is never among that user's
        training positives.
      eval_negatives: int32 [U, N], the evaluation negatives published with the dataset; None
        if they are drawn.
    """

    num_users: int
    num_items: int
    train_user: np.ndarray = field(repr=False)
    train_item: np.ndarray = field(repr=False)
    test_item: np.ndarray = field(repr=False)
    eval_negatives: np.ndarray | None = field(default=None, repr=False)

    @property
    def num_positives(self) -> int:
        """Number of training positives, P."""
        return len(self.train_user)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of U, M, P and the arrays, in this order, as little-endian int32."""
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
        """int64 [U + 1]; user u's items are train_item[row_starts[u]:row_starts[u + 1]]."""
        # The search values need the dtype of train_user; otherwise NumPy would convert the whole
        # array.
        users = np.arange(self.num_users + 1, dtype=self.train_user.dtype)
        return np.searchsorted(self.train_user, users).astype(np.int64)

    def validate(self) -> "Split":
        """Checks the documented properties of the class.

        Returns:
          The split itself.

        Raises:
          DataError: a property is violated.
        """
        _check_index_range("user", self.train_user, self.num_users)
        _check_index_range("item", self.train_item, self.num_items)
        _check_index_range("held-out item", self.test_item, self.num_items)
        if len(self.test_item) != self.num_users:
            raise DataError(
                f"the split holds out {len(self.test_item)} items for "
                f"{self.num_users} users; there must be one for each"
            )
        # Users whose held-out item is also a training positive.
        clashes: list[int] = []
        # Encode each (user, item) pair as one key: the pairs are sorted and unique if the keys
        # strictly increase.
        for low in range(0, self.num_positives, _BLOCK_ROWS):
            # Include the last row of the previous block, to check the order across the block
            # boundary.
            rows = slice(max(low - 1, 0), low + _BLOCK_ROWS)
            user = self.train_user[rows]
            key = user.astype(np.int64) * self.num_items + self.train_item[rows]
            if np.any(key[1:] <= key[:-1]):
                raise DataError("training pairs must be unique and sorted by user and item")
            # Search for the keys of the held-out pairs of this block's users.
            held_out = np.arange(user[0], user[-1] + 1, dtype=np.int64)
            held_out = held_out * self.num_items + self.test_item[user[0] : user[-1] + 1]
            position = np.minimum(np.searchsorted(key, held_out), len(key) - 1)
            clashes.extend(user[0] + np.flatnonzero(key[position] == held_out))
        # The row shared by two blocks may have been found twice.
        clashes = sorted(set(clashes))
        if clashes:
            raise DataError(
                f"held-out items that are also training positives: {len(clashes)} "
                f"(first: user index {clashes[0]}); remove them from the training file"
            )
        if self.eval_negatives is not None:
            _check_index_range("evaluation negative", self.eval_negatives, self.num_items)
        return self


def _check_index_range(what: str, ids: np.ndarray, size: int) -> None:
    """Raises DataError if an index is outside [0, size)."""
    if len(ids) and (ids.min() < 0 or ids.max() >= size):
        raise DataError(
            f"{what} indices range from {ids.min()} to {ids.max()}, "
            f"but must be between 0 and {size - 1}"
        )


def _splitmix64(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Hashes (user index, item index) pairs to uint64 with the finalizer of SplitMix64.

    Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number Generators". It is a
    bijection of the packed pair, so two pairs never tie.
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
) -> Split:
    """Makes the leave-one-out split of R ratings.

    Args:
      user: integer [R], any ids, in file order.
      item: integer [R], any ids.
      timestamp: [R], any numbers.
      min_ratings: users with fewer ratings are excluded.

    Raises:
      DataError: no user has `min_ratings` ratings, or a pair occurs twice.
    """
    user = _number_by_appearance(user)
    counts = np.bincount(user) if len(user) else np.zeros(0, int)
    if not (counts >= min_ratings).any():
        raise DataError(
            f"no user has at least {min_ratings} ratings among {len(user)} rows; "
            "is this the right file?"
        )
    if (counts < min_ratings).any():
        # Renumber the remaining users, because dropping users leaves gaps.
        keep = (counts >= min_ratings)[user]
        user, item, timestamp = _number_by_appearance(user[keep]), item[keep], timestamp[keep]
        counts = counts[counts >= min_ratings]
    item = _number_by_appearance(item)
    num_users, num_items = len(counts), int(item.max()) + 1

    held_out_rows = _find_held_out_rows(user, item, np.asarray(timestamp), num_users)
    test_item = item[held_out_rows]
    # Sort the training pairs as int64 keys, in place, to avoid a second copy.
    key = user.astype(np.int64)
    key *= num_items
    key += item
    # Assign the largest key to the held-out pairs, so that they come last and can be sliced off.
    key[held_out_rows] = np.iinfo(np.int64).max
    key.sort()
    pairs = _decode_pair_keys(key[: len(key) - num_users], num_items)
    return Split(num_users, num_items, *pairs, test_item).validate()


def _number_by_appearance(ids: np.ndarray) -> np.ndarray:
    """Numbers ids by first appearance, int32 [R]; no copy if they already are."""
    ids = np.asarray(ids)
    if ids.dtype == np.int32 and _is_numbered_by_appearance(ids):
        return ids
    codes, _ = pd.factorize(ids)
    return codes.astype(np.int32)


def _is_numbered_by_appearance(ids: np.ndarray) -> bool:
    """Whether the first id is 0 and each new id is the previous maximum plus 1."""
    most = -1  # the largest id so far
    for low in range(0, len(ids), _BLOCK_ROWS):
        block = ids[low : low + _BLOCK_ROWS]
        running_max = np.maximum.accumulate(np.append(np.int32(most), block))
        if block.min() < 0 or (np.diff(running_max) > 1).any():
            return False
        most = running_max[-1]
    return True


def _decode_pair_keys(key: np.ndarray, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Decodes keys user * num_items + item to (user, item), int32 [P] each."""
    user, item = aligned_empty(len(key), np.int32), aligned_empty(len(key), np.int32)
    for low in range(0, len(key), _BLOCK_ROWS):
        part = slice(low, low + _BLOCK_ROWS)
        user[part], item[part] = np.divmod(key[part], num_items)
    return user, item


def _find_held_out_rows(
    user: np.ndarray, item: np.ndarray, timestamp: np.ndarray, num_users: int
) -> np.ndarray:
    """Finds the row of each user's held-out rating, int64 [U]."""
    latest = np.full(num_users, timestamp.min(), dtype=timestamp.dtype)
    np.maximum.at(latest, user, timestamp)
    # All rows with their user's latest timestamp; several per user in case of ties.
    rows = [
        low + np.flatnonzero(
            timestamp[low : low + _BLOCK_ROWS] == latest[user[low : low + _BLOCK_ROWS]]
        )
        for low in range(0, len(user), _BLOCK_ROWS)
    ]
    rows = np.concatenate(rows)
    # Sort by user, then by hash; the last row of each user is held out.
    order = np.lexsort((_splitmix64(user[rows], item[rows]), user[rows]))
    rows = rows[order]
    last_of_user = np.append(user[rows][1:] != user[rows][:-1], True)
    return rows[last_of_user]
