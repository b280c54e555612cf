"""Generated datasets of any size, with structure that a recommender can learn.

Every item has a popularity with a long tail and belongs to one of a few latent groups; half
of the items belong to a second group, too. Every user likes two groups, one of them more
than the other. The chance that a user picks an item is proportional to

    popularity(item) x sum over groups of liking(user, group) x membership(item, group)

so the latent factors of user and item predict more than the popularity alone. A user's items
are drawn without replacement by an exponential race (Efraimidis and Spirakis 2006, "Weighted
random sampling with a reservoir"): every item gets an independent waiting time
Exp(1) / weight, and the shortest times win. One of the drawn items, chosen uniformly, is
held out.

Users are generated in blocks, each with a random stream of its own, so the data does not
depend on the number of threads. In practice NumPy's streams do not change between releases,
but NumPy does not promise it: pin a digest together with a version of NumPy.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from reference_model.data.split import MIN_RATINGS, Split

# Increase it whenever the same shape and seed would give other data.
GENERATOR_VERSION = 1
NUM_GROUPS = 16
# Weight of an item outside its groups, relative to inside.
_BACKGROUND_WEIGHT = 0.01
# Users in a block, which has a random stream of its own.
_BLOCK_USERS = 512
# Elements of the matrix of waiting times that are drawn at a time, so that they stay in the
# processor's cache.
_ROW_ELEMENTS = 1 << 17
# Purposes of random streams.
_FACTORS, _COUNTS, _ITEMS, _HELD_OUT = range(4)


@dataclass(frozen=True)
class SyntheticShape:
    """Sizes and seed of a generated dataset.

    Attributes:
      num_users: number of users.
      num_items: number of items.
      num_ratings: number of pairs, including the held-out ones.
      seed: seed of the generator.

    Raises:
      ValueError: the sizes are impossible: every user needs at least 20 ratings, and no
        pair may occur twice.
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
                f"num_ratings {self.num_ratings} must lie between {low} ({MIN_RATINGS} for "
                f"each user) and {high} (every pair)"
            )


@dataclass(frozen=True, eq=False)
class PlantedFactors:
    """The latent factors that the data is drawn from.

    Attributes:
      item_weight: float32 [G, M]; how likely a user who likes only group g picks item m,
        up to a constant factor. It includes the item's popularity.
      user_groups: int32 [U, 2], the two groups that each user likes.
      first_group_share: float32 [U], the share of the user's liking that goes to the first
        of them; the second has the rest.
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
    # Each item's second group is drawn first and its main group last. Where both draws give the
    # same group, the membership 1 of the main group overwrites that of the second.
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
    # Distribute the remaining ratings in proportion to the activity. One round may leave some,
    # because no user can have more ratings than there are items, and because fractions are cut
    # off. So there may be several rounds.
    while (left := shape.num_ratings - int(counts.sum())) > 0:
        room = shape.num_items - counts
        wanted = np.where(room > 0, activity, 0.0)
        extra = np.minimum(room, (left * (wanted / wanted.sum())).astype(np.int64))
        # Where every user's share is below one rating, give one rating each to the most active
        # users that can have more.
        if not extra.any():
            extra[np.argsort(-wanted, kind="stable")[:left]] = 1
        counts += np.minimum(room, extra)
    return counts


def generate_split(shape: SyntheticShape) -> Split:
    """Generates the dataset and its leave-one-out split.

    Its memory is that of the pairs and some MB for each thread. Its time grows with
    users x items.

    Args:
      shape: sizes and seed.

    Returns:
      A split with unique pairs: exactly `shape.num_ratings`, including the held-out ones.
    """
    factors, counts = plant_factors(shape), ratings_per_user(shape)
    first = np.cumsum(counts) - counts  # where each user's ratings begin
    item = np.empty(shape.num_ratings, np.int32)

    def generate_block(start: int) -> None:
        users = np.arange(start, min(start + _BLOCK_USERS, shape.num_users))
        rng = np.random.default_rng([shape.seed, _ITEMS, start])
        drawn = _draw_items(factors, users, counts[users], rng)
        item[first[start] : first[start] + len(drawn)] = drawn

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        # Iterating over the results raises the errors of the threads.
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
      int32, the items of each user in turn, ascending.
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
    if len(positions) > count:  # several values equal the limit: keep the first of them
        positions = np.sort(np.argsort(values, kind="stable")[:count])
    return positions.astype(np.int32)
