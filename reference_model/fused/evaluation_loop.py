"""The evaluation of the fused engine: the list layout and the ranking program.

HR@K and NDCG@K depend only on the rank of the held-out item if it is below K. So a user is
decided once K candidates are ahead of the held-out item. Each list is split into chunks, with the
candidates that are likely to score high first, and the program scores the chunks of a user until
the user is decided or the list ends. Ranks below K are exact, other ranks are only known to be at
least K; both metrics equal those of complete lists. Masked candidates are not ranked, so chunks
do not contain them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, NamedTuple, Sequence

import numpy as np

from reference_model.base.aligned_arrays import aligned_zeros
from reference_model.base.config import EngineConfig
from reference_model.base.lazy_modules import tf
from reference_model.fused_math.plan import Plan, make_plan, width_class
from reference_model.fused_math.scoring import list_scores, scoring_tables
from reference_model.sampling.evaluation_lists import EvaluationLists

# Evaluation lists larger than this (4 bytes per candidate) are redrawn for each evaluation, an
# eighth of this size at a time.
KEPT_LIST_BYTES = 1 << 30
# Maximum candidates per chunk. Short chunks stop earlier, long chunks need fewer iterations.
_CHUNK_CANDIDATES = 63
# Pairs per group on CPUs, by the width of the hidden layers; tuned by measurement.
_GROUP_PAIRS = {"wide": 1_024, "narrow": 8_192}
# Groups per iteration. Some operations of a group run on a single core; they overlap with the
# matrix products of the other group.
_GROUPS_PER_ITERATION = 2
# Minimum users per slot. With fewer, many slots would be idle during the last iterations.
_USERS_PER_SLOT = 8
# Users whose lists are laid out at a time, to bound the temporary memory.
_LAYOUT_USERS = 512
# Padding after the last candidate of a list.
NO_CANDIDATE = -1


@dataclass(frozen=True)
class EvaluationSpec:
    """The static parameters of the evaluation program; contains no data.

    A slot of the loop processes one user at a time and takes the next user once that user is
    decided. The slots of a group are scored together.

    Attributes:
      config: the sizes of the model and the data.
      plan: the execution plan; determines the matmul precision.
      width: columns per chunk; the last one contains the held-out item.
      chunks: number of chunks of the longest list.
      slots: slots per group.
      groups_per_iteration: groups scored per iteration of the loop.
      users_per_batch: users per call of the program.
    """

    config: EngineConfig
    plan: Plan
    width: int
    chunks: int
    slots: int
    groups_per_iteration: int
    users_per_batch: int

    @classmethod
    def of(cls, config: EngineConfig, device: str, users: int = 0) -> "EvaluationSpec":
        """Makes the spec for a device type.

        Args:
          config: the sizes.
          device: the device type.
          users: users per batch; 0 for all users if their lists fit into KEPT_LIST_BYTES,
            otherwise for as many as fit into an eighth of it.

        Returns:
          The spec.
        """
        plan = make_plan(config, config.batch_size, device)
        negatives = config.eval_negatives
        if not users:
            users, most_users = config.num_users, KEPT_LIST_BYTES // (4 * (negatives + 1))
            users = users if users <= most_users else max(1, most_users // 8)
        chunks = max(1, -(-negatives // _CHUNK_CANDIDATES))
        width = -(-negatives // chunks) + 1
        pairs, groups = config.users_per_eval_batch * (negatives + 1), 1
        if device == "cpu":
            pairs = min(pairs, _GROUP_PAIRS[width_class(config)])
            groups = _GROUPS_PER_ITERATION
        slots = min(pairs // width, users // (groups * _USERS_PER_SLOT))
        return cls(config, plan, width, chunks, max(1, slots), groups, users)

    @property
    def keeps_all_lists(self) -> bool:
        """Whether all lists are kept for the whole run instead of being redrawn."""
        return self.users_per_batch == self.config.num_users

    def batches(self, lists: EvaluationLists, first_user: int = 0) -> Iterator["EvaluationBatch"]:
        """Yields the batches of `lists`, the lists of consecutive users from `first_user` on."""
        strength_order = _order_by_strength(lists.items[:, :-1], self.config.num_items)
        for first in range(0, len(lists.items), self.users_per_batch):
            part = slice(first, first + self.users_per_batch)
            some = EvaluationLists(lists.items[part], lists.masked[part])
            yield self._make_batch(some, first_user + first, *strength_order)

    def _make_batch(
        self, lists: EvaluationLists, first_user: int, place_of_item, item_at_place
    ) -> "EvaluationBatch":
        real, room = len(lists.items), self.width - 1
        # Chunks beyond the end of a list stay zero; the system allocates no memory for untouched
        # pages.
        rows = aligned_zeros((self.users_per_batch, self.chunks, self.width), np.int32)
        lengths = np.zeros(self.users_per_batch, np.int32)
        for first in range(0, real, _LAYOUT_USERS):
            part = slice(first, min(first + _LAYOUT_USERS, real))
            masked, part_rows = lists.masked[part, :-1], rows[part]
            # Sort each list by place. The last place is that of `NO_CANDIDATE`, which stands for
            # masked candidates and for the padding of the last chunk.
            no_place = np.int32(len(item_at_place) - 1)
            places = np.full((len(part_rows), self.chunks * room), no_place, np.int32)
            places[:, : masked.shape[1]] = np.where(
                masked, no_place, place_of_item[lists.items[part, :-1]]
            )
            places.sort(axis=1)
            part_rows[..., :-1] = item_at_place[places].reshape(len(part_rows), self.chunks, room)
            part_rows[..., -1] = lists.items[part, -1:]
            competing = masked.shape[1] - np.count_nonzero(masked, axis=1)
            lengths[part] = np.maximum(1, -(-competing // room))
        users = np.int32(first_user) + np.arange(self.users_per_batch, dtype=np.int32)
        return EvaluationBatch(users, rows, lengths, np.int32(real))


class EvaluationBatch(NamedTuple):
    """The users and lists of one call of the evaluation program; n is `users_per_batch`.

    Attributes:
      users: int32 [n].
      rows: int32 [n, chunks, width]; each chunk contains candidates, `NO_CANDIDATE` as padding,
        and the held-out item last.
      lengths: int32 [n], the number of chunks of each list.
      real: number of users, excluding padding; they come first.
    """

    users: np.ndarray
    rows: np.ndarray
    lengths: np.ndarray
    real: np.int32


def _order_by_strength(candidates: np.ndarray, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Orders the items so that those likely to score high come first.

    An item that is rarely a negative is a training positive of many users, that is, a popular
    item, which tends to score high.

    Returns:
      (int32 [items], the place of each item; int32 [items + 1], the item at each place,
      followed by `NO_CANDIDATE`).
    """
    times_drawn = np.zeros(items, np.int64)
    for first in range(0, len(candidates), _LAYOUT_USERS):
        part = candidates[first : first + _LAYOUT_USERS]
        times_drawn += np.bincount(part.ravel(), minlength=items)
    item_at_place = np.argsort(times_drawn, kind="stable").astype(np.int32)
    place_of_item = np.empty(items, np.int32)
    place_of_item[item_at_place] = np.arange(items, dtype=np.int32)
    return place_of_item, np.append(item_at_place, np.int32(NO_CANDIDATE))


class _Slots(NamedTuple):
    """The state of all slots, int32 [slots of all groups] each.

    Attributes:
      user: the batch index of the user of a slot; the slot is idle if it is at least `real`.
      chunk: the next chunk of that user.
      ahead: number of candidates found so far ahead of that user's held-out item.
    """

    user: tf.Tensor
    chunk: tf.Tensor
    ahead: tf.Tensor


def _count_ahead(items, scores) -> list:
    """Counts, per row: candidates ahead of the held-out item, NaN scores, candidates.

    Args:
      items: int32 [g, width], chunks as in `EvaluationBatch`.
      scores: float [g, width], the scores of the items; those of `NO_CANDIDATE` are ignored.

    Returns:
      Three arrays, int32 [g] each.
    """
    competes = items[:, :-1] >= 0
    # The held-out item, in the last column, loses ties.
    ahead = (scores[:, :-1] >= scores[:, -1:]) & competes
    is_nan = tf.math.is_nan(scores) & (items >= 0)
    return [tf.reduce_sum(tf.cast(x, tf.int32), axis=1) for x in (ahead, is_nan, competes)]


def rank_users(spec: EvaluationSpec, weights: Sequence, users, rows, lengths, real):
    """Ranks the held-out items of the real users of a batch.

    Args:
      spec: the static parameters.
      weights: all weights in the order of `neumf.weight_names`.
      users, rows, lengths, real: as in `EvaluationBatch`.

    Returns:
      (int32 [n], the rank of each user if it is below top_k, otherwise any value >= top_k;
      bool, whether no weight and no score is NaN; int32, the number of candidates and
      held-out items scored).
    """
    tables, count = scoring_tables(spec.plan, weights), rows.shape[0]
    chunk_rows = tf.reshape(rows, [count * spec.chunks, spec.width])

    def score_group(user, chunk):
        """Scores the slots of one group; returns the counts of `_count_ahead`."""
        items = tf.gather(chunk_rows, user * spec.chunks + chunk)
        scores = list_scores(
            spec.plan, weights, tables, tf.gather(users, user), tf.maximum(items, 0)
        )
        return _count_ahead(items, scores)

    def loop_body(slots, next_user, ranks, scored, nan_count):
        is_busy = slots.user < real
        user = tf.where(is_busy, slots.user, 0)
        groups = [
            score_group(*(x[k * spec.slots : (k + 1) * spec.slots] for x in (user, slots.chunk)))
            for k in range(spec.groups_per_iteration)
        ]
        ahead, nans, candidates = (tf.concat(parts, axis=0) for parts in zip(*groups))
        ahead, chunk = slots.ahead + ahead, slots.chunk + 1
        is_decided = (ahead >= spec.config.top_k) | (chunk >= tf.gather(lengths, user))
        # An idle slot writes to the extra last element, which is discarded below.
        target = tf.where(is_busy & is_decided, user, count)
        ranks = tf.tensor_scatter_nd_update(ranks, target[:, None], ahead)
        # The slots of decided users take the next users, in slot order.
        new_user = next_user + tf.cumsum(tf.cast(is_decided, tf.int32)) - 1
        scored += tf.reduce_sum(
            tf.where(is_busy, candidates + tf.cast(is_decided, tf.int32), 0)
        )
        nan_count += tf.reduce_sum(nans)
        slots = _Slots(
            tf.where(is_decided, new_user, slots.user),
            tf.where(is_decided, 0, chunk),
            tf.where(is_decided, 0, ahead),
        )
        return slots, new_user[-1] + 1, ranks, scored, nan_count

    all_slots = spec.slots * spec.groups_per_iteration
    zeros = tf.zeros([all_slots], tf.int32)
    slots = _Slots(tf.range(all_slots), zeros, zeros)
    start = (slots, all_slots, tf.zeros([count + 1], tf.int32), 0, 0)
    *_, ranks, scored, nan_count = tf.while_loop(
        lambda slots, *_: tf.reduce_any(slots.user < real), loop_body, start
    )
    # Check the tables too, because unscored rows may contain NaN.
    is_finite = tf.reduce_all([~tf.reduce_any(tf.math.is_nan(x)) for x in tables])
    return ranks[:count], is_finite & (nan_count == 0), scored
