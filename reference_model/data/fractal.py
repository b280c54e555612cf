"""Fractal expansion: enlarges a real dataset by whole factors in users and items.

After Belletti et al. 2019, "Scalable Realistic Recommendation Datasets through Fractal
Expansions" (arXiv:1901.08910), and its second paper (arXiv:1905.09874), by which MLPerf v0.6
proposed to expand ml-20m by 16 x 32. R is the binary matrix of all ratings [U, M]. The
expansion by n x m is a randomized Kronecker product

    [ F(r[0, 0], R)   ...  F(r[0, m-1], R)   ]
    [     ...                  ...           ]     n U rows (users), m M columns (items)
    [ F(r[n-1, 0], R) ...  F(r[n-1, m-1], R) ]

Its n x m tiles are called blocks. Each block is a thinned and shuffled copy of R. The copy of
a user, an item or a rating of the source in a block is called its image there: each user and
each item has one image in every block, each rating has one at most.

1. The reduced matrix r [n, m] is a small version of R. Take the k = min(n, m) leading
   singular triplets A, S, B of the training positives (`singular_triplets`). Resample the
   rows of A from U to n and those of B from M to m, by linear interpolation at the centres
   of equal intervals, in the order of the source's indices. Replace each by the nearest
   matrix with orthonormal columns (the polar factor). Then r = |A' S B'^T|, divided by its
   maximum. So r lies in [0, 1] and has R's leading singular values up to a factor. The
   entries are then limited to [0.01, 0.95] and rounded to multiples of 2^-16, so that the
   last bits of a linear algebra library cannot decide about a rating.
2. F(p, R) shuffles the rows and the columns of R and keeps every rating with probability p,
   independently of all others.
3. Users with fewer than `min_ratings` remaining ratings are dropped and the others numbered
   in order, so there are at most n U users. Items keep their numbers, rated or not, so there
   are exactly m M items. Item j M + c is item c of block column j.
4. One rating of each user is held out. If the user has images of ratings that the source holds
   out, one of these images is drawn uniformly; otherwise one of all the user's ratings is drawn.

It differs from the code of MLPerf v0.6 (data_generation/fractal_graph_expansions of the
training repository; nothing here is taken from it) in these points:

* `shuffle`. v0.6 draws both permutations anew for each block ("blocks" here). Then the
  popularity of an item of the result is the sum of the popularities of n unrelated source
  items, and the activity of a user is the sum of the activities of m unrelated source users.
  Such sums differ less from each other than their terms do, so the curves of popularity and
  activity become flatter; large factors flatten them more. "axes" (the default) draws one
  permutation of users for each row of blocks and one of items for each column of blocks.
  Then popularity and activity are, in expectation, exactly those of the Kronecker product,
  and the shape of the source's curves is preserved. docs/fractal.md has the measured
  difference.
* v0.6 keeps a fixed number int(p x ratings) of a block. Here each rating is kept or not
  independently, so the number varies by about its square root at most.
* v0.6 reverses the order of the singular values but not that of the vectors. Here each vector
  keeps its value.
* v0.6 holds out every image of a rating that the source user gave in the last second of
  activity. It drops users without such an image, and keeps users with a single positive.

Every block draws from a random stream of its own, whose key is the seed, the purpose and the
position of the block. Rows of blocks are made one after the other. So the result does not
depend on threads or on how the work is divided. At any time the memory holds the source
(8 bytes per rating), one row of blocks (U users) and 8 bytes for each user of the result. In
practice NumPy's streams do not change between releases, but NumPy does not promise it: a
pinned digest names its version.
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

# Increase it whenever the same source, shape and seed would give other data.
EXPANSION_VERSION = 1
SHUFFLES = ("axes", "blocks")
# Limits of the entries of the reduced matrix; v0.6's dropout rates are within 0.05 and 0.99.
MIN_RATE, MAX_RATE = 0.01, 0.95
_RATE_STEPS = 1 << 16
# Purposes of random streams.
_USERS, _ITEMS, _KEEP, _HOLD, _START = range(5)
# How many items and users of a result are processed at a time.
_CHUNK_ITEMS, _CHUNK_USERS = 1 << 20, 1 << 12


@dataclass(frozen=True)
class FractalShape:
    """The factors, the kind of shuffling and the seed of an expansion.

    Attributes:
      source: name of the dataset that is expanded.
      user_factor: n, the factor of the number of users.
      item_factor: m, the factor of the number of items.
      seed: seed of all random streams.
      shuffle: "axes" or "blocks", see the module docstring.

    Raises:
      ValueError: a field has an impossible value.
    """

    source: str
    user_factor: int
    item_factor: int
    seed: int = 0
    shuffle: str = "axes"

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source:
            raise ValueError("source must name the dataset that is expanded")
        for name, minimum in (("user_factor", 1), ("item_factor", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
                raise ValueError(f"{name} must be a whole number from {minimum} up, not {value!r}")
        if self.shuffle not in SHUFFLES:
            raise ValueError(f"shuffle must be one of {', '.join(SHUFFLES)}, not {self.shuffle!r}")


@dataclass(frozen=True, eq=False)
class UserBlock:
    """The users of one row of blocks, as a part of a split.

    It has u users: those that are not dropped in step 3.

    Attributes:
      counts: int32 [u], the number of training positives of each user.
      train_item: int32 [sum of counts], the users' training items in turn, ascending within
        each user.
      test_item: int32 [u], the held-out item of each user.
    """

    counts: np.ndarray
    train_item: np.ndarray
    test_item: np.ndarray


@dataclass(frozen=True, eq=False)
class Expansion:
    """An expanded dataset whose training items are in a file.

    Attributes:
      num_items: number of items.
      num_positives: number of training positives.
      counts: int32 [U'], the number of training positives of each user.
      test_item: int32 [U'], the held-out item of each user.
      items_file: holds the training items, int32 little-endian.
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
        """Reads the training items of all users in turn, a few MB at a time."""
        self.items_file.seek(0)
        while len(chunk := np.frombuffer(self.items_file.read(4 * _CHUNK_ITEMS), "<i4")):
            yield chunk

    def arrays(self) -> Iterator[np.ndarray]:
        """Yields the arrays of a split file; the training items come in parts."""
        yield self.counts
        yield from self.train_items()
        yield self.test_item

    @cached_property
    def digest(self) -> str:
        """The same as `Split.digest`, computed in parts."""
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
    """Computes the reduced matrix: the share of its ratings that each block keeps, see step 1.

    Args:
      source: the dataset that is expanded.
      shape: the factors n and m.

    Returns:
      float64 [n, m].

    Raises:
      DataError: a factor exceeds the source's users or items.
    """
    rank = min(shape.user_factor, shape.item_factor)
    if shape.user_factor > source.num_users or shape.item_factor > source.num_items:
        raise DataError(
            f"{shape.source} has {source.num_users} users and {source.num_items} items; it "
            f"cannot be expanded by more than that ({shape.user_factor} x {shape.item_factor})"
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
    # The matrix and its transpose, both in compressed sparse row form.
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
          source: the dataset that is expanded.
          shape: factors and seed.
          min_ratings: users with fewer ratings are dropped.
          threads: number of threads; None for one for each processor.
          rates: float64 [n, m], replaces the reduced matrix.

        Raises:
          DataError: the expansion is too large for int32, or `reduced_matrix` raises it.
        """
        self.shape, self.min_ratings = shape, min_ratings
        self.num_source_users, self.num_source_items = source.num_users, source.num_items
        self.num_items = shape.item_factor * source.num_items
        if self.num_items >= 2**31 or shape.user_factor * source.num_users >= 2**31:
            raise DataError(
                f"{shape.source} by {shape.user_factor} x {shape.item_factor} has more users or "
                "items than int32 can number"
            )
        self.rates = reduced_matrix(source, shape) if rates is None else rates
        self._threads = threads or os.cpu_count() or 1
        # All ratings; those that the source holds out come last.
        users = np.arange(source.num_users, dtype=np.int32)
        self._user = np.concatenate([source.train_user, users])
        self._item = np.concatenate([source.train_item, source.test_item])
        self._num_train = source.num_positives

    def user_block(self, i: int) -> UserBlock:
        """Makes row i of the blocks, steps 2 to 4: U users, less those that are dropped."""
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
        """Makes the random stream of one purpose for a block, or a row or column of blocks."""
        return np.random.default_rng([self.shape.seed, purpose, *position])

    def permutations(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws the shuffles of block (i, j).

        Returns:
          int64 [U] and [M]: the position of each source user and item within the block.
        """
        is_per_block = self.shape.shuffle == "blocks"
        users = self._stream(_USERS, i, j) if is_per_block else self._stream(_USERS, i)
        items = self._stream(_ITEMS, i, j) if is_per_block else self._stream(_ITEMS, j)
        return users.permutation(self.num_source_users), items.permutation(self.num_source_items)

    def _draw_rating_keys(self, i: int, j: int) -> np.ndarray:
        """Draws the ratings of block (i, j), each encoded as one int64, its key.

        The key is (user within the row of blocks x number of all items + item) x 2, plus 1
        for an image of a rating that the source holds out.
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
        """Drops users with few ratings and holds out one rating of each other user.

        Args:
          keys: the sorted rating keys of a row of blocks; they are overwritten.
          rng: draws the held-out ratings.
        """
        num_users = self.num_source_users
        # Where each user's ratings begin among the keys, and how many there are.
        starts = np.searchsorted(keys, np.arange(num_users + 1) * (2 * self.num_items))
        counts = np.diff(starts)
        # Positions in `keys` of the images of ratings that the source holds out. Those of user
        # u are held_images[image_starts[u] : image_starts[u + 1]].
        held_images = np.flatnonzero(keys & 1)
        image_starts = np.searchsorted(held_images, starts)
        num_images = np.diff(image_starts)
        # One draw for every user, from these images if the user has any, else from all ratings.
        draw = rng.integers(np.maximum(np.where(num_images > 0, num_images, counts), 1))
        stays = np.flatnonzero(counts >= self.min_ratings)
        # The position in `keys` of the held-out rating of each user that stays.
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
    """Makes a whole expansion.

    Args:
      source: the dataset that is expanded.
      shape: factors and seed.
      items_file: an empty file, opened "w+b", which gets the training items.
      min_ratings: users with fewer ratings are dropped.
      progress: gets the number of rows of blocks made so far.
      threads: number of threads; None: one for each processor.

    Raises:
      DataError: no user stays, or the expansion is too large.
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
        raise DataError(f"{num_written} positives are more than a prepared split can hold (2^31)")
    return expansion
