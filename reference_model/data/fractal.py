"""Fractal expansion: enlarges a real dataset by integer factors in users and items.

It follows Belletti et al. 2019, "Scalable Realistic Recommendation Datasets through Fractal
Expansions" (arXiv:1901.08910), and the second paper (arXiv:1905.09874), which MLPerf v0.6 proposed
to use to expand ml-20m by 16 x 32. R is the binary matrix of all ratings [U, M]. The expansion by
n x m is a randomized Kronecker product

    [ F(r[0, 0], R)   ... F(r[0, m-1], R)   ]
    [     ...                  ...          ]     n U rows (users), m M columns (items)
    [ F(r[n-1, 0], R) ... F(r[n-1, m-1], R) ]

Its n x m submatrices are called blocks. Each block is a thinned and shuffled copy of R. The copy
of a source user, item or rating in a block is called its image: each user and each item has one
image in every block, each rating has at most one.

1. The reduced matrix r [n, m] is a small version of R. Take the k = min(n, m) leading singular
   triplets A, S, B of the training positives (`singular_triplets`). Resample the rows of A from
   U to n and those of B from M to m, by linear interpolation at the centers of equal intervals,
   in the order of the source indices. Replace each result by the nearest matrix with orthonormal
   columns (the polar factor), A' and B'. Then r = |A' S B'^T|, divided by its maximum. So r is in
   [0, 1] and has the leading singular values of R up to a factor. The entries are then clipped
   to [0.01, 0.95] and rounded to multiples of 2^-16, so that rounding differences between linear
   algebra libraries do not affect the ratings.
2. F(p, R) shuffles the rows and the columns of R and keeps each rating independently with
   probability p.
3. Users with fewer than `min_ratings` remaining ratings are dropped and the others are numbered
   in order, so there are at most n U users. Items keep their numbers, rated or not, so there are
   exactly m M items. Item j M + c is item c of block column j.
4. One rating of each user is held out. If the user has images of held-out ratings of the source,
   one of these images is drawn uniformly; otherwise one of all the user's ratings is drawn.

The differences from the code of MLPerf v0.6 (data_generation/fractal_graph_expansions in the
training repository; no code is reused) are:

* `shuffle`. v0.6 draws both permutations independently for each block ("blocks" here). Then the
  popularity of an item of the result is the sum of the popularities of n unrelated source items,
  and the activity of a user is the sum of the activities of m unrelated source users. Such sums
  vary less than their terms, so the curves of popularity and activity become flatter, more so
  for large factors. "axes" (the default) draws one permutation of users for each row of blocks
  and one of items for each column of blocks. Then popularity and activity are, in expectation,
  exactly those of the Kronecker product, and the shape of the source curves is preserved. See
  docs/fractal.md for measurements.
* v0.6 keeps a fixed number int(p x ratings) of ratings in a block. Here ratings are kept
  independently, so the standard deviation of the number is at most its square root.
* v0.6 reverses the order of the singular values but not that of the vectors. Here each value
  stays with its vectors.
* v0.6 holds out all images of the ratings in the last second of activity of the source user. It
  drops users without such an image, and keeps users with a single positive.

Each block has its own random stream, with a key of seed, purpose and position of the block. Rows
of blocks are made in sequence. So the result does not depend on the number of threads or the
partition of the work. At any time, memory contains the source (8 bytes per rating), one row of
blocks (U users) and 8 bytes per user of the result. In practice NumPy's streams are stable across
releases, but NumPy does not guarantee it: pin a digest together with a NumPy version.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO, Iterator

import numpy as np

from reference_model.base.errors import DataError
from reference_model.base.matrices import nearest_orthonormal, resample_rows, truncated_svd
from reference_model.base.progress import Progress, no_progress
from reference_model.data.split import MIN_RATINGS, Split

# Increment if the same source, shape and seed would produce different data.
EXPANSION_VERSION = 1
SHUFFLES = ("axes", "blocks")
# Bounds on the entries of the reduced matrix; v0.6 dropout rates are between 0.05 and 0.99.
MIN_RATE, MAX_RATE = 0.01, 0.95
_RATE_STEPS = 1 << 16
# Purposes of random streams.
_USERS, _ITEMS, _KEEP, _HOLD, _START = range(5)
# Number of items and users of a result processed at a time.
_CHUNK_ITEMS, _CHUNK_USERS = 1 << 20, 1 << 12


@dataclass(frozen=True)
class FractalShape:
    """The factors, the shuffling method and the seed of an expansion.

    Attributes:
      source: name of the source dataset.
      user_factor: n, the factor for the number of users.
      item_factor: m, the factor for the number of items.
      seed: seed of all random streams.
      shuffle: "axes" or "blocks"; see the module docstring.

    Raises:
      ValueError: a field has an invalid value.
    """

    source: str
    user_factor: int
    item_factor: int
    seed: int = 0
    shuffle: str = "axes"

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source:
            raise ValueError("source must name the dataset to expand")
        for name, minimum in (("user_factor", 1), ("item_factor", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
                raise ValueError(f"{name} must be a whole number from {minimum} up, not {value!r}")
        if self.shuffle not in SHUFFLES:
            raise ValueError(f"shuffle must be one of {', '.join(SHUFFLES)}, not {self.shuffle!r}")


@dataclass(frozen=True, eq=False)
class UserBlock:
    """The u users of one row of blocks that are not dropped in step 3, as part of a split.

    Attributes:
      counts: int32 [u], the number of training positives of each user.
      train_item: int32 [sum of counts], the concatenated training items of the users, ascending
        within each user.
      test_item: int32 [u], the held-out item of each user.
    """

    counts: np.ndarray
    train_item: np.ndarray
    test_item: np.ndarray


@dataclass(frozen=True, eq=False)
class Expansion:
    """An expanded dataset with the training items in a file.

    Attributes:
      num_items: number of items.
      num_positives: number of training positives.
      counts: int32 [U'], the number of training positives of each user.
      test_item: int32 [U'], the held-out item of each user.
      items_file: contains the training items, int32 little-endian.
      eval_negatives: as in `Split`; always None, so evaluation negatives are drawn.
    """

    num_items: int
    num_positives: int
    counts: np.ndarray
    test_item: np.ndarray
    items_file: BinaryIO
    eval_negatives: None = None

    @property
    def num_users(self) -> int:
        """Number of users, U'."""
        return len(self.counts)

    def train_items(self) -> Iterator[np.ndarray]:
        """Reads the training items of all users, a few MB at a time."""
        self.items_file.seek(0)
        while len(chunk := np.frombuffer(self.items_file.read(4 * _CHUNK_ITEMS), "<i4")):
            yield chunk

    def arrays(self) -> Iterator[np.ndarray]:
        """Yields the arrays of a split file, with the training items in parts."""
        yield self.counts
        yield from self.train_items()
        yield self.test_item

    @cached_property
    def digest(self) -> str:
        """Equal to `Split.digest`, but computed in parts."""
        sizes = np.array([self.num_users, self.num_items, self.num_positives], "<i4")
        sha = hashlib.sha256(sizes.data)
        for first in range(0, self.num_users, _CHUNK_USERS):
            counts = self.counts[first : first + _CHUNK_USERS]
            sha.update(np.repeat(np.arange(first, first + len(counts), dtype="<i4"), counts).data)
        for items in self.train_items():
            sha.update(items.data)
        sha.update(self.test_item.astype("<i4", copy=False).data)
        return sha.hexdigest()


# --- the reduced matrix -------------------------------------------------------------


def reduced_matrix(source: Split, shape: FractalShape) -> np.ndarray:
    """Computes the reduced matrix of step 1, the fraction of ratings kept in each block.

    Args:
      source: the source dataset.
      shape: the factors n and m.

    Returns:
      float64 [n, m].

    Raises:
      DataError: a factor exceeds the number of users or items of the source.
    """
    rank = min(shape.user_factor, shape.item_factor)
    if shape.user_factor > source.num_users or shape.item_factor > source.num_items:
        raise DataError(
            f"{shape.source} has {source.num_users} users and {source.num_items} items; the "
            f"expansion factors {shape.user_factor} x {shape.item_factor} must not exceed these"
        )
    left, values, right = singular_triplets(source, rank, shape.seed)
    left = nearest_orthonormal(resample_rows(left, shape.user_factor))
    right = nearest_orthonormal(resample_rows(right, shape.item_factor))
    product = np.abs((left * values) @ right.T)
    rates = np.clip(product / product.max(), MIN_RATE, MAX_RATE)
    return np.round(rates * _RATE_STEPS) / _RATE_STEPS


def singular_triplets(
    source: Split, rank: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes the leading singular triplets of the matrix of training positives.

    Args:
      source: the dataset.
      rank: k, the number of triplets.
      seed: seed of the random start.

    Returns:
      Left vectors [U, k], values [k] and right vectors [M, k], float64.
    """
    # The matrix and its transpose, both in CSR form.
    by_user = (source.row_starts, source.train_item)
    counts = np.bincount(source.train_item, minlength=source.num_items)
    by_item = (
        np.concatenate([[0], np.cumsum(counts)]),
        source.train_user[np.argsort(source.train_item, kind="stable")],
    )
    return truncated_svd(by_user, by_item, rank, np.random.default_rng([seed, _START]))


# --- the blocks ---------------------------------------------------------------------


class Expander:
    """Makes the rows of blocks of one expansion, independently and in any order."""

    def __init__(
        self,
        source: Split,
        shape: FractalShape,
        min_ratings: int = MIN_RATINGS,
        threads: int | None = None,
        rates: np.ndarray | None = None,
    ):
        """Computes the reduced matrix.

        Args:
          source: the source dataset.
          shape: factors and seed.
          min_ratings: users with fewer ratings are dropped.
          threads: number of threads; None for one per CPU core.
          rates: float64 [n, m], replaces the reduced matrix.

        Raises:
          DataError: the expansion is too large for int32, or a factor is too large (see
            `reduced_matrix`).
        """
        self.shape, self.min_ratings = shape, min_ratings
        self.num_source_users, self.num_source_items = source.num_users, source.num_items
        self.num_items = shape.item_factor * source.num_items
        if self.num_items >= 2**31 or shape.user_factor * source.num_users >= 2**31:
            raise DataError(
                f"{shape.source} by {shape.user_factor} x {shape.item_factor} exceeds the int32 "
                "range of user or item indices"
            )
        self.rates = reduced_matrix(source, shape) if rates is None else rates
        self._threads = threads or os.cpu_count() or 1
        # All ratings; the held-out ratings of the source come last.
        users = np.arange(source.num_users, dtype=np.int32)
        self._user = np.concatenate([source.train_user, users])
        self._item = np.concatenate([source.train_item, source.test_item])
        self._num_train = source.num_positives

    def user_block(self, i: int) -> UserBlock:
        """Makes row i of the blocks (steps 2 to 4): U users, minus those dropped."""
        with ThreadPoolExecutor(self._threads) as pool:
            parts = pool.map(lambda j: self._draw_rating_keys(i, j), self._columns)
            keys = np.concatenate(list(parts))
        keys.sort()
        return self._hold_out(keys, self._stream(_HOLD, i))

    @property
    def _columns(self) -> range:
        """The indices of the columns of blocks."""
        return range(self.shape.item_factor)

    def _stream(self, purpose: int, *position: int) -> np.random.Generator:
        """Creates the random stream of one purpose for a block, or a row or column of blocks."""
        return np.random.default_rng([self.shape.seed, purpose, *position])

    def permutations(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws the permutations of block (i, j).

        Returns:
          int64 [U] and [M]: the position of each source user and item within the block.
        """
        is_per_block = self.shape.shuffle == "blocks"
        users = self._stream(_USERS, i, j) if is_per_block else self._stream(_USERS, i)
        items = self._stream(_ITEMS, i, j) if is_per_block else self._stream(_ITEMS, j)
        return users.permutation(self.num_source_users), items.permutation(self.num_source_items)

    def _draw_rating_keys(self, i: int, j: int) -> np.ndarray:
        """Draws the ratings of block (i, j), each encoded as an int64 key.

        The key is (user within the row of blocks x total number of items + item) x 2, plus 1
        for an image of a held-out rating of the source.
        """
        drawn = self._stream(_KEEP, i, j).random(len(self._user), dtype=np.float32)
        kept = np.flatnonzero(drawn < self.rates[i, j])
        user_position, item_position = self.permutations(i, j)
        keys = user_position[self._user[kept]] * self.num_items
        keys += item_position[self._item[kept]] + j * self.num_source_items
        keys *= 2
        keys += kept >= self._num_train
        return keys

    def _hold_out(self, keys: np.ndarray, rng: np.random.Generator) -> UserBlock:
        """Drops users with too few ratings and holds out one rating of each other user.

        Args:
          keys: the sorted rating keys of a row of blocks; they are overwritten.
          rng: draws the held-out ratings.
        """
        num_users = self.num_source_users
        # The start of each user's ratings in `keys`, and their number.
        starts = np.searchsorted(keys, np.arange(num_users + 1) * (2 * self.num_items))
        counts = np.diff(starts)
        # Positions in `keys` of the images of held-out ratings of the source. Those of user u are
        # held_images[image_starts[u] : image_starts[u + 1]].
        held_images = np.flatnonzero(keys & 1)
        image_starts = np.searchsorted(held_images, starts)
        num_images = np.diff(image_starts)
        # One draw per user, from these images if there are any, otherwise from all ratings.
        draw = rng.integers(np.maximum(np.where(num_images > 0, num_images, counts), 1))
        stays = np.flatnonzero(counts >= self.min_ratings)
        # The position in `keys` of the held-out rating of each remaining user.
        held_out = (starts[:-1] + draw)[stays]
        has_image = num_images[stays] > 0
        held_out[has_image] = held_images[(image_starts[:-1] + draw)[stays][has_image]]
        # Decode the items in place.
        keys >>= 1
        keys %= self.num_items
        items = keys.astype(np.int32)
        is_train = np.repeat(counts >= self.min_ratings, counts)
        is_train[held_out] = False
        return UserBlock((counts[stays] - 1).astype(np.int32), items[is_train], items[held_out])


def expand(
    source: Split,
    shape: FractalShape,
    items_file: BinaryIO,
    min_ratings: int = MIN_RATINGS,
    progress: Progress = no_progress,
    threads: int | None = None,
) -> Expansion:
    """Makes a complete expansion.

    Args:
      source: the source dataset.
      shape: factors and seed.
      items_file: an empty file, opened "w+b", to which the training items are written.
      min_ratings: users with fewer ratings are dropped.
      progress: receives the number of rows of blocks made so far.
      threads: number of threads; None for one per CPU core.

    Raises:
      DataError: no user remains, or the expansion is too large.
    """
    expander = Expander(source, shape, min_ratings, threads)
    counts, test_items, num_written = [], [], 0
    for i in range(shape.user_factor):
        progress(f"expanding {shape.source}", i, shape.user_factor)
        block = expander.user_block(i)
        counts.append(block.counts)
        test_items.append(block.test_item)
        items_file.write(block.train_item.astype("<i4", copy=False).data)
        num_written += len(block.train_item)
    items_file.flush()
    expansion = Expansion(
        expander.num_items,
        num_written,
        np.concatenate(counts),
        np.concatenate(test_items),
        items_file,
    )
    if not expansion.num_users:
        raise DataError(
            f"{shape.source} by {shape.user_factor} x {shape.item_factor}: no user keeps "
            f"{min_ratings} ratings"
        )
    if num_written >= 2**31:
        raise DataError(f"{num_written} positives exceed the maximum of a prepared split, 2^31 - 1")
    return expansion
