"""Generated data of any shape, with something in it to learn.

Every item has a popularity with a long tail and belongs to one of a few planted
groups, half to a second one too; every user likes two groups, one of them more.
The chance that a user picks an item is proportional to

    popularity(item) x sum over groups of liking(user, group) x membership(item, group)

so the planted user and item factors tell more than the popularity. Each user's
items are drawn without replacement by an exponential race (Efraimidis and
Spirakis 2006, "Weighted random sampling with a reservoir"): of the independent
waiting times Exp(1) / weight, the shortest win. One of them, chosen uniformly,
is held out.

Users are generated in blocks, each with a random stream of its own, so the data
does not depend on the number of threads. NumPy keeps its streams between
releases in practice but does not promise it: pin a digest together with a
version of NumPy.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from reference_model.data.split import MIN_RATINGS, Split

# Raise it whenever the same shape and seed would give other data.
GENERATOR_VERSION = 1
NUM_GROUPS = 16
# Weight of an item outside its groups, relative to inside.
_BACKGROUND = 0.01
# Block of users that shares a random stream; rows at a time, to stay in cache.
_BLOCK_USERS, _ROW_ELEMENTS = 512, 1 << 17


@dataclass(frozen=True)
class SyntheticShape:
    """Sizes and seed of generated data; `num_ratings` includes the held-out ones.

    Raises ValueError where they cannot be: every user needs at least 20 ratings
    and no pair may occur twice.
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
    """What the data was drawn from.

    item_weight: float32 [G, M], how likely a user who likes only group g picks
      item m, up to a factor; popularity is in it.
    liked: int32 [U, 2], each user's groups; share: float32 [U], the part of the
      user's liking that goes to the first of them, the rest to the second.
    """

    item_weight: np.ndarray
    liked: np.ndarray
    share: np.ndarray

    def weight(self, users: np.ndarray) -> np.ndarray:
        """float32 [n, M]: the weight of every item for each of `users`."""
        share = self.share[users][:, None]
        weight = self.item_weight[self.liked[users, 0]] * share
        weight += self.item_weight[self.liked[users, 1]] * (1 - share)
        return weight


def plant_factors(shape: SyntheticShape) -> PlantedFactors:
    """The factors that belong to a shape and its seed."""
    rng = np.random.default_rng([shape.seed, 0])
    groups = min(NUM_GROUPS, max(1, shape.num_items // MIN_RATINGS))
    rank = rng.permutation(shape.num_items)
    popularity = 1.0 / (rank + 1 + shape.num_items / 20) ** 2
    member = np.full((groups, shape.num_items), _BACKGROUND)
    items = np.arange(shape.num_items)
    second = rng.integers(groups, size=shape.num_items)
    member[second, items] = np.where(rng.random(shape.num_items) < 0.5, 0.5, _BACKGROUND)
    member[rng.integers(groups, size=shape.num_items), items] = 1.0
    liked = rng.integers(groups, size=(shape.num_users, 2), dtype=np.int32)
    share = 0.5 + 0.5 * rng.random(shape.num_users)
    weight = member * (popularity / popularity.max())
    return PlantedFactors(weight.astype(np.float32), liked, share.astype(np.float32))


def ratings_per_user(shape: SyntheticShape) -> np.ndarray:
    """int64 [U], long-tailed: at least 20 each, at most all items, the given sum."""
    rng = np.random.default_rng([shape.seed, 1])
    activity = 1.0 / (rng.random(shape.num_users) + 0.02) - 0.9
    counts = np.full(shape.num_users, MIN_RATINGS, dtype=np.int64)
    while (left := shape.num_ratings - int(counts.sum())) > 0:
        room = shape.num_items - counts
        wanted = np.where(room > 0, activity, 0.0)
        extra = np.minimum(room, (left * (wanted / wanted.sum())).astype(np.int64))
        if not extra.any():  # less than one each: to the most active that have room
            extra[np.argsort(-wanted, kind="stable")[:left]] = 1
        counts += np.minimum(room, extra)
    return counts


def generate_split(shape: SyntheticShape) -> Split:
    """The split: unique pairs, exactly `num_ratings` of them with the held-out ones.

    Needs memory for the pairs and some MB a thread; time grows with users x items.
    """
    factors, counts = plant_factors(shape), ratings_per_user(shape)
    first = np.cumsum(counts) - counts
    item = np.empty(shape.num_ratings, np.int32)

    def block(start: int) -> None:
        users = np.arange(start, min(start + _BLOCK_USERS, shape.num_users))
        rng = np.random.default_rng([shape.seed, 2, start])
        drawn = _draw_items(factors, users, counts[users], rng)
        item[first[start] : first[start] + len(drawn)] = drawn

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for _ in pool.map(block, range(0, shape.num_users, _BLOCK_USERS)):
            pass
    rng = np.random.default_rng([shape.seed, 3])
    held = first + rng.integers(counts)
    return Split(
        shape.num_users,
        shape.num_items,
        np.repeat(np.arange(shape.num_users, dtype=np.int32), counts - 1),
        np.delete(item, held),
        item[held],
    )


def _draw_items(
    factors: PlantedFactors, users: np.ndarray, counts: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """int32: the items of each user in turn, rising; `counts` of them each."""
    num_items = factors.item_weight.shape[1]
    rows = max(1, _ROW_ELEMENTS // num_items)
    drawn = []
    for start in range(0, len(users), rows):
        part = users[start : start + rows]
        waiting = rng.standard_exponential((len(part), num_items), dtype=np.float32)
        waiting /= factors.weight(part)
        for row, count in zip(waiting, counts[start : start + rows]):
            drawn.append(_smallest(row, int(count)))
    return np.concatenate(drawn)


def _smallest(values: np.ndarray, count: int) -> np.ndarray:
    """int32 [count], rising: where the `count` smallest values stand."""
    limit = np.partition(values, count - 1)[count - 1]
    places = np.flatnonzero(values <= limit)
    if len(places) > count:  # values equal to the limit: the first of them stay
        places = np.sort(np.argsort(values, kind="stable")[:count])
    return places.astype(np.int32)
