"""The fused engine's evaluation: the layout of the lists and the program that ranks them.

HR@K and NDCG@K depend only on the held-out item's place among the first K. So a user is
decided as soon as K candidates are ahead of the held-out item. Each list is cut into chunks,
the candidates that are likely to score high first, and the program scores chunk after chunk
of a user until the user is decided or the list ends. Ranks below K are exact, others say "K
or more"; both metrics are those of whole lists. Masked candidates never count, so no chunk
holds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from reference_model.base.aligned_arrays import aligned_zeros
from reference_model.base.config import EngineConfig
from reference_model.fused.plan import Plan, make_plan, width_class
from reference_model.fused.scoring import list_scores, scoring_tables
from reference_model.sampling.evaluation_lists import EvaluationLists

# Evaluation lists that are larger than this (4 bytes a candidate) are drawn again for each
# evaluation, an eighth of this size at a time.
KEPT_LIST_BYTES = 1 << 30
# Candidates in a chunk, at most. Short chunks stop earlier, long ones need fewer iterations.
_CHUNK_CANDIDATES = 63
# Pairs in a group on CPUs, by the width of the hidden layers; measured as best.
_GROUP_PAIRS = {"wide": 1_024, "narrow": 8_192}
# Groups in one iteration. Some operations of a group run on a single core; the products of
# the other group run beside them.
_GROUPS_PER_ITERATION = 2
# With fewer users than this for each slot, many slots would be idle while the last users end.
_USERS_PER_SLOT = 8
# Users whose lists are laid out at a time; bounds the memory that this takes.
_LAYOUT_USERS = 512
# Fills a chunk where the list has ended.
NO_CANDIDATE = -1


@dataclass(frozen=True)
class EvaluationSpec:
    """What must be known to compile the evaluation; it holds no data.

    A slot of the loop works on one user at a time and takes the next one when that user is
    decided. The slots of a group are scored together.

    Attributes:
      config: the sizes of model and data.
      plan: how products are computed.
      width: places in a chunk; the last one holds the held-out item.
      chunks: chunks of the longest list.
      slots: slots in a group.
      groups_per_iteration: groups that one iteration of the loop scores.
      users_per_batch: users whose lists one run of the program takes.
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
        """Makes the shape for a device type.

        Args:
          config: the sizes.
          device: the device type.
          users: users of a batch; 0 takes all users if their lists may be kept in memory.

        Returns:
          The shape.
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
        """Whether all lists are kept for the whole run instead of being drawn again."""
        return self.users_per_batch == self.config.num_users

    def batches(self, lists: EvaluationLists, first_user: int = 0) -> Iterator["EvaluationBatch"]:
        """Yields the batches that rank `lists`, those of the users from `first_user` on."""
        strength_order = _order_by_strength(lists.items[:, :-1], self.config.num_items)
        for first in range(0, len(lists.items), self.users_per_batch):
            part = slice(first, first + self.users_per_batch)
            some = EvaluationLists(lists.items[part], lists.masked[part])
            yield self._make_batch(some, first_user + first, *strength_order)

    def _make_batch(
        self, lists: EvaluationLists, first_user: int, place_of_item, item_at_place
    ) -> "EvaluationBatch":
        real, room = len(lists.items), self.width - 1
        # The system gives no memory for the rows that stay zero, those beyond the last chunk.
        rows = aligned_zeros((self.users_per_batch, self.chunks, self.width), np.int32)
        lengths = np.zeros(self.users_per_batch, np.int32)
        for first in range(0, real, _LAYOUT_USERS):
            part = slice(first, min(first + _LAYOUT_USERS, real))
            masked, part_rows = lists.masked[part, :-1], rows[part]
            # Sort each list by place; the last place holds `NO_CANDIDATE`, for masked
            # candidates and for the end of the last chunk.
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
    """Users whose lists one run of the evaluation program ranks; n is `users_per_batch`.

    Attributes:
      users: int32 [n].
      rows: int32 [n, chunks, width]: a chunk's candidates, then `NO_CANDIDATE`, then the
        held-out item.
      lengths: int32 [n], the chunks that a user's list takes.
      real: how many of the users are not padding; they come first.
    """

    users: np.ndarray
    rows: np.ndarray
    lengths: np.ndarray
    real: np.int32


def _order_by_strength(candidates: np.ndarray, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Orders the items so that those likely to score high come first.

    An item that is seldom a negative is one that many users have in training: a popular item,
    which scores high for many users.

    Returns:
      (int32 [items], the place of each item; int32 [items + 1], the item at each place and,
      last, `NO_CANDIDATE`).
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
      user: the index in the batch of the user that a slot works on; from `real` on: idle.
      chunk: the next chunk of that user.
      ahead: candidates found ahead of the user's held-out item.
    """

    user: tf.Tensor
    chunk: tf.Tensor
    ahead: tf.Tensor


def _count_ahead(items, scores) -> list:
    """Counts in each row, int32 [g]: candidates ahead, NaN scores, candidates.

    Args:
      items: int32 [g, width], chunks as in `EvaluationBatch`.
      scores: float [g, width], of the items; those of `NO_CANDIDATE` do not count.
    """
    competes = items[:, :-1] >= 0
    # The held-out item, in the last column, loses ties.
    ahead = (scores[:, :-1] >= scores[:, -1:]) & competes
    is_nan = tf.math.is_nan(scores) & (items >= 0)
    return [tf.reduce_sum(tf.cast(x, tf.int32), axis=1) for x in (ahead, is_nan, competes)]


def rank_users(spec: EvaluationSpec, weights: Sequence, users, rows, lengths, real):
    """Ranks the held-out items of the real users of a batch.

    Args:
      spec: the sizes.
      weights: all weights in the order of `neumf.weight_names`.
      users, rows, lengths, real: as in `EvaluationBatch`.

    Returns:
      (int32 [n], each user's rank if it is below top_k, else top_k or more; bool, whether no
      weight and no score is NaN; int32, how many candidates and held-out items were scored).
    """
    tables, count = scoring_tables(spec.plan, weights), rows.shape[0]
    chunk_rows = tf.reshape(rows, [count * spec.chunks, spec.width])

    def score_group(user, chunk):
        """Counts for each slot of a group: candidates ahead, NaN scores, candidates."""
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
        # An idle slot writes to the extra last element, which is cut off below.
        target = tf.where(is_busy & is_decided, user, count)
        ranks = tf.tensor_scatter_nd_update(ranks, target[:, None], ahead)
        # The decided slots take the next users, in the order of the slots.
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
    # A NaN weight may lie outside of what was scored.
    is_finite = tf.reduce_all([~tf.reduce_any(tf.math.is_nan(x)) for x in tables])
    return ranks[:count], is_finite & (nan_count == 0), scored
