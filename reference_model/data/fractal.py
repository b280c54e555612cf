"""Fractal expansion: a real dataset made larger by whole factors in users and items.

After Belletti et al. 2019, "Scalable Realistic Recommendation Datasets through
Fractal Expansions" (arXiv:1901.08910), and its second paper (arXiv:1905.09874),
by which MLPerf v0.6 proposed to expand ml-20m by 16 x 32. R is the binary matrix
of all ratings [U, M]; the expansion by n x m is a randomized Kronecker product

    [ F(r[0, 0], R)   ...  F(r[0, m-1], R)   ]
    [     ...                  ...           ]     n U rows (users), m M columns (items)
    [ F(r[n-1, 0], R) ...  F(r[n-1, m-1], R) ]

1. The reduced matrix r [n, m] is a small picture of R. Of the training positives
   the k = min(n, m) leading singular triplets A, S, B are taken (`singular`). The
   rows of A are resized from U to n and those of B from M to m, by linear
   interpolation at the centres of equal intervals, in the order of the source's
   indices; each is replaced by the nearest matrix with orthonormal columns (the
   polar factor); r = |A' S B'^T|, divided by its maximum. So r lies in [0, 1] and has
   R's leading singular values up to a factor. Entries are then limited to
   [0.01, 0.95] and rounded to multiples of 2^-16, lest the last bits of a linear
   algebra library decide about a rating.
2. F(p, R) shuffles the rows and the columns of R and keeps every rating with
   probability p, independently.
3. Users with fewer than `min_ratings` ratings left are dropped and the others
   numbered in order: at most n U users. Items keep their places, rated or not:
   exactly m M. Item j M + c is an image of the source's items.
4. One rating of each user is held out: of those that are images of the source's
   held-out (latest) ratings one drawn uniformly, or, where none was kept, one
   drawn uniformly from all.

Where this differs from the code of MLPerf v0.6 (data_generation/
fractal_graph_expansions of the training repository; nothing here is taken from it):

* `shuffle`. v0.6 draws both permutations anew for each block ("blocks" here). An
  item's popularity is then a sum of n unrelated ones, a user's activity one of m,
  and the sums flatten the curves the more the larger the factors are. "axes" (the
  default) draws one permutation of users for each row of blocks and one of items
  for each column of blocks, so that popularity and activity are, in the mean,
  exactly those of the Kronecker product, and the shape of the source's curves
  stays. docs/fractal.md has the measured difference.
* v0.6 keeps a fixed number int(p x ratings) of a block; here each rating is kept or
  not by itself, so the number varies by its square root at most.
* v0.6 reverses the singular values but not the vectors; here each vector keeps its
  own value.
* v0.6 holds out every image of a rating in the source user's last second and drops
  users without one, and users with one positive stay.

Every block draws from a random stream of its own, named by the seed, the purpose
and the block's place, and rows of blocks are made one after the other: the result
does not depend on threads or on how it is cut, and at any time there is in memory
the source (8 bytes a rating), one row of blocks (U users) and 8 bytes for each user
of the result. NumPy keeps its streams between releases in practice but does not
promise it: a pinned digest names its version.
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
from reference_model.base.progress import Progress, no_progress
from reference_model.data.split import MIN_RATINGS, Split

# Raise it whenever the same source, shape and seed would give other data.
EXPANSION_VERSION = 1
SHUFFLES = ("axes", "blocks")
MIN_RATE, MAX_RATE = 0.01, 0.95  # v0.6's dropout rates lie within 0.05 and 0.99
_RATE_STEPS = 1 << 16
# Subspace iteration: vectors beyond those asked for, and rounds.
_SPARE, _ROUNDS = 8, 16
# Purposes of random streams.
_USERS, _ITEMS, _KEEP, _HOLD, _START = range(5)
# How much is handled at once: ones of a matrix, items and users of a result.
_CHUNK_ONES, _CHUNK_ITEMS, _CHUNK_USERS = 1 << 16, 1 << 20, 1 << 12


@dataclass(frozen=True)
class FractalShape:
    """Factors and seed of an expansion; `source` names the dataset that is expanded.

    Raises ValueError where they cannot be.
    """

    source: str
    user_factor: int
    item_factor: int
    seed: int = 0
    shuffle: str = "axes"

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source:
            raise ValueError("source must name the dataset that is expanded")
        for name, least in (("user_factor", 1), ("item_factor", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number from {least} up, not {value!r}")
        if self.shuffle not in SHUFFLES:
            raise ValueError(f"shuffle must be one of {', '.join(SHUFFLES)}, not {self.shuffle!r}")


@dataclass(frozen=True, eq=False)
class UserBlock:
    """One row of blocks, as a part of a split.

    counts: int32 [u], positives of each user that stays, held-out ones not counted.
    train_item: int32 [sum of counts], sorted within each user.
    test_item: int32 [u].
    """

    counts: np.ndarray
    train_item: np.ndarray
    test_item: np.ndarray


@dataclass(frozen=True, eq=False)
class Expansion:
    """An expanded dataset whose training items lie in a file, int32 little-endian.

    counts, test_item: int32 [U'], as in `UserBlock`, of all users.
    """

    num_items: int
    num_positives: int
    counts: np.ndarray
    test_item: np.ndarray
    items_file: BinaryIO
    eval_negatives: None = None  # they are drawn

    @property
    def num_users(self) -> int:
        return len(self.counts)

    def train_items(self) -> Iterator[np.ndarray]:
        """The training items of all users in turn, a few MB at a time."""
        self.items_file.seek(0)
        while len(chunk := np.frombuffer(self.items_file.read(4 * _CHUNK_ITEMS), "<i4")):
            yield chunk

    def arrays(self) -> Iterator[np.ndarray]:
        """What a prepared file holds: counts, training items in parts, held-out items."""
        yield self.counts
        yield from self.train_items()
        yield self.test_item

    @cached_property
    def digest(self) -> str:
        """As `Split.digest`."""
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
    """float64 [n, m]: the part of its ratings that each block keeps. Step 1 above."""
    rank = min(shape.user_factor, shape.item_factor)
    if shape.user_factor > source.num_users or shape.item_factor > source.num_items:
        raise DataError(
            f"{shape.source} has {source.num_users} users and {source.num_items} items; it "
            f"cannot be expanded by more than that ({shape.user_factor} x {shape.item_factor})"
        )
    left, values, right = singular(source, rank, shape.seed)
    left = _orthonormal(resize(left, shape.user_factor))
    right = _orthonormal(resize(right, shape.item_factor))
    picture = np.abs((left * values) @ right.T)
    rates = np.clip(picture / picture.max(), MIN_RATE, MAX_RATE)
    return np.round(rates * _RATE_STEPS) / _RATE_STEPS


def singular(source: Split, rank: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The leading singular triplets of the training positives: [U, k], [k], [M, k].

    Subspace iteration from a random start (Halko, Martinsson, Tropp 2011, "Finding
    structure with randomness", algorithm 4.4).
    """
    users, items = source.num_users, source.num_items
    by_user = (source.row_starts, source.train_item)
    counts = np.bincount(source.train_item, minlength=items)
    by_item = (
        np.concatenate([[0], np.cumsum(counts)]),
        source.train_user[np.argsort(source.train_item, kind="stable")],
    )
    width = min(rank + _SPARE, users, items)
    right = np.random.default_rng([seed, _START]).standard_normal((items, width))
    for _ in range(_ROUNDS):
        left = np.linalg.qr(_sums(*by_user, right))[0]
        right = np.linalg.qr(_sums(*by_item, left))[0]
    left, values, turn = np.linalg.svd(_sums(*by_user, right), full_matrices=False)
    return left[:, :rank], values[:rank], (right @ turn.T)[:, :rank]


def _sums(starts: np.ndarray, columns: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """float64 [n, k]: a 0/1 matrix times `vectors`, some ones at a time.

    Row r of the matrix has its ones at columns[starts[r]:starts[r + 1]].
    """
    result = np.zeros((len(starts) - 1, vectors.shape[1]))
    row = 0
    while row < len(result):
        end = np.searchsorted(starts, starts[row] + _CHUNK_ONES, "right") - 1
        end = max(row + 1, int(end))
        rows = row + np.flatnonzero(np.diff(starts[row : end + 1]))
        values = vectors[columns[starts[row] : starts[end]]]
        if len(rows):
            result[rows] = np.add.reduceat(values, starts[rows] - starts[row], axis=0)
        row = end
    return result


def resize(matrix: np.ndarray, rows: int) -> np.ndarray:
    """[rows, k]: the matrix read at the centres of `rows` equal intervals, linearly."""
    place = (np.arange(rows) + 0.5) * (len(matrix) / rows) - 0.5
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, len(matrix) - 1)
    part = (place - below)[:, None]
    return matrix[below] * (1 - part) + matrix[above] * part


def _orthonormal(matrix: np.ndarray) -> np.ndarray:
    """The nearest matrix with orthonormal columns, A (A^T A)^(-1/2)."""
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return left @ right


# --- the blocks ---------------------------------------------------------------------


class Expander:
    """Makes the rows of blocks of one expansion; each of them on its own, in any order."""

    def __init__(
        self,
        source: Split,
        shape: FractalShape,
        min_ratings: int = MIN_RATINGS,
        threads: int | None = None,
        rates: np.ndarray | None = None,
    ):
        """`rates` [n, m] stands in for the reduced matrix where a caller has one."""
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
        # All ratings, those that the source holds out at the end.
        users = np.arange(source.num_users, dtype=np.int32)
        self._user = np.concatenate([source.train_user, users])
        self._item = np.concatenate([source.train_item, source.test_item])
        self._num_train = source.num_positives

    def user_block(self, i: int) -> UserBlock:
        """Row i of the blocks: the images of all source users, steps 2 to 4 above."""
        with ThreadPoolExecutor(self._threads) as pool:
            keys = np.concatenate(list(pool.map(lambda j: self._keys(i, j), self._columns)))
        keys.sort()
        return self._split(keys, self._stream(_HOLD, i))

    @property
    def _columns(self) -> range:
        return range(self.shape.item_factor)

    def _stream(self, purpose: int, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.shape.seed, purpose, *place])

    def places(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        """int64: where the shuffles of block (i, j) put each source user and item."""
        blocks = self.shape.shuffle == "blocks"
        users = self._stream(_USERS, i, j) if blocks else self._stream(_USERS, i)
        items = self._stream(_ITEMS, i, j) if blocks else self._stream(_ITEMS, j)
        return users.permutation(self.num_source_users), items.permutation(self.num_source_items)

    def _keys(self, i: int, j: int) -> np.ndarray:
        """int64: the ratings of block (i, j), one number each.

        (user in the row of blocks x all items + item) x 2, plus 1 for an image of a
        rating that the source holds out.
        """
        drawn = self._stream(_KEEP, i, j).random(len(self._user), dtype=np.float32)
        kept = np.flatnonzero(drawn < self.rates[i, j])
        user_place, item_place = self.places(i, j)
        keys = user_place[self._user[kept]] * self.num_items
        keys += item_place[self._item[kept]] + j * self.num_source_items
        keys *= 2
        keys += kept >= self._num_train
        return keys

    def _split(self, keys: np.ndarray, rng: np.random.Generator) -> UserBlock:
        """Filters users and holds out a rating of each; `keys`, sorted, are overwritten."""
        users = self.num_source_users
        starts = np.searchsorted(keys, np.arange(users + 1) * (2 * self.num_items))
        counts = np.diff(starts)
        latest = np.flatnonzero(keys & 1)
        first_latest = np.searchsorted(latest, starts)
        num_latest = np.diff(first_latest)
        draw = rng.integers(np.maximum(np.where(num_latest > 0, num_latest, counts), 1))
        stays = np.flatnonzero(counts >= self.min_ratings)
        held = (starts[:-1] + draw)[stays]
        has = num_latest[stays] > 0
        held[has] = latest[(first_latest[:-1] + draw)[stays][has]]
        keys >>= 1
        keys %= self.num_items
        items = keys.astype(np.int32)
        trains = np.repeat(counts >= self.min_ratings, counts)
        trains[held] = False
        return UserBlock(
            (counts[stays] - 1).astype(np.int32), items[trains], items[held]
        )


def expand(
    source: Split,
    shape: FractalShape,
    items_file: BinaryIO,
    min_ratings: int = MIN_RATINGS,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Expansion:
    """The whole expansion; its training items go to `items_file`, opened "w+b".

    Raises DataError where no user stays, or the factors cannot be.
    """
    progress = no_progress if progress is None else progress
    expander = Expander(source, shape, min_ratings, threads)
    counts, tests, written = [], [], 0
    for i in range(shape.user_factor):
        progress(f"expanding {shape.source}", i, shape.user_factor)
        block = expander.user_block(i)
        counts.append(block.counts)
        tests.append(block.test_item)
        items_file.write(block.train_item.astype("<i4", copy=False).data)
        written += len(block.train_item)
    items_file.flush()
    expansion = Expansion(
        expander.num_items, written, np.concatenate(counts), np.concatenate(tests), items_file
    )
    if not expansion.num_users:
        raise DataError(
            f"{shape.source} by {shape.user_factor} x {shape.item_factor}: no user keeps "
            f"{min_ratings} ratings"
        )
    if written >= 2**31:
        raise DataError(f"{written} positives are more than a prepared split can hold (2^31)")
    return expansion
