"""Generated datasets of any size, with structure that a recommender can learn.

Item popularity has a long tail. Each item belongs to one of a few latent groups, and half of the
items also belong to a second group. Each user likes two groups, one more than the other. The
probability that a user picks an item is proportional to

    popularity(item) x sum over groups of liking(user, group) x membership(item, group)

so the latent factors of user and item are more predictive than popularity alone. A user's items
are drawn without replacement by an exponential race (Efraimidis and Spirakis 2006, "Weighted
random sampling with a reservoir"): each item has an independent waiting time Exp(1) / weight, and
the items with the shortest times are drawn. One of the drawn items, chosen uniformly, is held out.

Users are generated in blocks, each with its own random stream, so the data does not depend on the
number of threads. In practice NumPy's streams are stable across releases, but NumPy does not
guarantee it: pin a digest together with a NumPy version.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from reference_model.data.split import MIN_RATINGS, Split

# Increment if the same shape and seed would produce different data.
GENERATOR_VERSION = 1
NUM_GROUPS = 16
# Weight of an item outside its groups, relative to its weight inside.
_BACKGROUND_WEIGHT = 0.01
# Users per block; each block has its own random stream.
_BLOCK_USERS = 512
# Elements of the matrix of waiting times drawn at a time, chosen to fit into the cache.
_ROW_ELEMENTS = 1 << 17
# Purposes of random streams.
_FACTORS, _COUNTS, _ITEMS, _HELD_OUT = range(4)


@dataclass(frozen=True)
class SyntheticShape:
    """Sizes and seed of a generated dataset.

    Attributes:
      num_users: number of users.
      num_items: number of items.
      num_ratings: number of pairs, including the held-out pairs.
      seed: seed of the generator.

    Raises:
      ValueError: the sizes are invalid: each user needs at least 20 ratings, and pairs must
        be unique.
    """

    num_users: int
    num_items: int
    num_ratings: int
    seed: int = 0

    def __post_init__(self) -> None:
        values = (self.num_users, self.num_items, self.num_ratings, self.seed)
        if any(isinstance(v, bool) or not isinstance(v, int) or v < 0 for v in values):
            raise ValueError("num_users, num_items, num_ratings and seed must be whole numbers")
        if self.num_users < 1 or not MIN_RATINGS <= self.num_items < 2**31:
            raise ValueError(f"at least one user and {MIN_RATINGS} items are needed")
        low, high = MIN_RATINGS * self.num_users, self.num_users * self.num_items
        if not low <= self.num_ratings <= high:
            raise ValueError(
                f"num_ratings {self.num_ratings} must be between {low} ({MIN_RATINGS} per "
                f"user) and {high} (all pairs)"
            )


@dataclass(frozen=True, eq=False)
class PlantedFactors:
    """The latent factors of the data.

    Attributes:
      item_weight: float32 [G, M]; the probability that a user who likes only group g picks
        item m, up to a constant factor. It includes the popularity of the item.
      user_groups: int32 [U, 2], the two groups that each user likes.
      first_group_share: float32 [U], the share of the first group in the user's liking; the
        second group has the rest.
    """

    item_weight: np.ndarray
    user_groups: np.ndarray
    first_group_share: np.ndarray

    def weight(self, users: np.ndarray) -> np.ndarray:
        """Computes the weight of every item for some users.

        Args:
          users: int [n], user indices.

        Returns:
          float32 [n, M].
        """
        share = self.first_group_share[users][:, None]
        weight = self.item_weight[self.user_groups[users, 0]] * share
        weight += self.item_weight[self.user_groups[users, 1]] * (1 - share)
        return weight


def plant_factors(shape: SyntheticShape) -> PlantedFactors:
    """Draws the latent factors of a dataset from its seed."""
    rng = np.random.default_rng([shape.seed, _FACTORS])
    num_groups = min(NUM_GROUPS, max(1, shape.num_items // MIN_RATINGS))
    # A power law of the popularity rank, flattened at the top by num_items / 20.
    rank = rng.permutation(shape.num_items)
    popularity = 1.0 / (rank + 1 + shape.num_items / 20) ** 2
    membership = np.full((num_groups, shape.num_items), _BACKGROUND_WEIGHT)
    items = np.arange(shape.num_items)
    # Assign the second group of each item before its main group. If both are the same group, the
    # membership 1 of the main group overwrites that of the second.
    second = rng.integers(num_groups, size=shape.num_items)
    has_second = rng.random(shape.num_items) < 0.5
    membership[second, items] = np.where(has_second, 0.5, _BACKGROUND_WEIGHT)
    membership[rng.integers(num_groups, size=shape.num_items), items] = 1.0
    user_groups = rng.integers(num_groups, size=(shape.num_users, 2), dtype=np.int32)
    share = 0.5 + 0.5 * rng.random(shape.num_users)
    weight = membership * (popularity / popularity.max())
    return PlantedFactors(weight.astype(np.float32), user_groups, share.astype(np.float32))


def ratings_per_user(shape: SyntheticShape) -> np.ndarray:
    """Draws the number of ratings of each user, with a long tail.

    Returns:
      int64 [U]; each at least 20 and at most the number of items; the sum is
      `shape.num_ratings`.
    """
    rng = np.random.default_rng([shape.seed, _COUNTS])
    activity = 1.0 / (rng.random(shape.num_users) + 0.02) - 0.9
    counts = np.full(shape.num_users, MIN_RATINGS, dtype=np.int64)
    # Distribute the remaining ratings in proportion to the activity. One round may not place all,
    # because the number of items bounds the ratings per user, and because of truncation. So there
    # may be several rounds.
    while (left := shape.num_ratings - int(counts.sum())) > 0:
        room = shape.num_items - counts
        wanted = np.where(room > 0, activity, 0.0)
        extra = np.minimum(room, (left * (wanted / wanted.sum())).astype(np.int64))
        # If every user's share is below one rating, add one rating to each of the most active
        # users with room for more.
        if not extra.any():
            extra[np.argsort(-wanted, kind="stable")[:left]] = 1
        counts += np.minimum(room, extra)
    return counts


def generate_split(shape: SyntheticShape) -> Split:
    """Generates the dataset and its leave-one-out split.

    The memory is that of the pairs plus a few MB per thread. The time grows with users x items.

    Args:
      shape: sizes and seed.

    Returns:
      A split with unique pairs: exactly `shape.num_ratings`, including the held-out ones.
    """
    factors, counts = plant_factors(shape), ratings_per_user(shape)
    first = np.cumsum(counts) - counts  # the start of each user's ratings
    item = np.empty(shape.num_ratings, np.int32)

    def generate_block(start: int) -> None:
        users = np.arange(start, min(start + _BLOCK_USERS, shape.num_users))
        rng = np.random.default_rng([shape.seed, _ITEMS, start])
        drawn = _draw_items(factors, users, counts[users], rng)
        item[first[start] : first[start] + len(drawn)] = drawn

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        # Iterating over the results re-raises errors of the threads.
        for _ in pool.map(generate_block, range(0, shape.num_users, _BLOCK_USERS)):
            pass
    rng = np.random.default_rng([shape.seed, _HELD_OUT])
    held_out_row = first + rng.integers(counts)
    return Split(
        shape.num_users,
        shape.num_items,
        np.repeat(np.arange(shape.num_users, dtype=np.int32), counts - 1),
        np.delete(item, held_out_row),
        item[held_out_row],
    )


def _draw_items(
    factors: PlantedFactors, users: np.ndarray, counts: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draws `counts` items for each of `users`, without replacement.

    Returns:
      int32, the concatenated items of the users, ascending within each user.
    """
    num_items = factors.item_weight.shape[1]
    rows = max(1, _ROW_ELEMENTS // num_items)
    drawn = []
    for start in range(0, len(users), rows):
        part = users[start : start + rows]
        # The exponential race: the items with the shortest waiting times are drawn.
        waiting = rng.standard_exponential((len(part), num_items), dtype=np.float32)
        waiting /= factors.weight(part)
        for row, count in zip(waiting, counts[start : start + rows]):
            drawn.append(_smallest_positions(row, int(count)))
    return np.concatenate(drawn)


def _smallest_positions(values: np.ndarray, count: int) -> np.ndarray:
    """Finds the positions of the `count` smallest values, int32 [count], ascending."""
    limit = np.partition(values, count - 1)[count - 1]
    positions = np.flatnonzero(values <= limit)
    if len(positions) > count:  # ties at the limit: keep the first
        positions = np.sort(np.argsort(values, kind="stable")[:count])
    return positions.astype(np.int32)
