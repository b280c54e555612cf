"""The fused engine's evaluation: how lists are laid out, and the program that ranks them.

HR@K and NDCG@K ask only where among the first K the held-out item stands, so a
user is decided as soon as K of its candidates are ahead. Lists are therefore cut
into chunks, those first that seem the strongest, and the program scores chunk
after chunk of a user until it is decided or its list ends. Ranks below K are
exact, others say "K or more", and so both metrics are those of whole lists.
Masked candidates never count, so they are in no chunk.
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
from reference_model.fused.training_loop import State
from reference_model.sampling.evaluation_lists import EvaluationLists

# Larger evaluation lists (4 bytes a candidate) are drawn again for each evaluation, an
# eighth of this at a time.
KEPT_LIST_BYTES = 1 << 30
# Candidates in a chunk, at most: short ones stop earlier, long ones cost fewer turns.
_CHUNK = 63
# Pairs scored together on CPUs, by the width of the first hidden layer, and how many such
# groups in one turn of the loop: as in training, what runs on one core has company.
_PAIRS = {"wide": 1_024, "narrow": 8_192}
_ABREAST = 2
# A lane is a place in a turn, which takes user after user; with fewer users to each, lanes
# would stand idle while the last ones end.
_USERS_PER_LANE = 8
# Users whose lists are laid out at a time; bounds what that takes beside the lists.
_BLOCK = 512
# What stands where a list has ended.
NOBODY = -1


@dataclass(frozen=True)
class EvaluationShape:
    """What must be known to compile the evaluation: no data.

    Attributes:
      width: places in a chunk, the held-out item's, which is the last, included.
      chunks: how many the longest list takes.
      lanes: chunks scored together, of different users: a group.
      abreast: groups in one turn of the loop.
      users_per_call: users whose lists one call takes.
    """

    config: EngineConfig
    plan: Plan
    width: int
    chunks: int
    lanes: int
    abreast: int
    users_per_call: int

    @classmethod
    def of(cls, config: EngineConfig, device: str, users: int = 0) -> "EvaluationShape":
        """`users`: how many a call takes; without it all, if their lists may be kept."""
        plan = make_plan(config, config.batch_size, device)
        listed = config.eval_negatives
        if not users:
            users, kept = config.num_users, KEPT_LIST_BYTES // (4 * (listed + 1))
            users = users if users <= kept else max(1, kept // 8)
        chunks = max(1, -(-listed // _CHUNK))
        width = -(-listed // chunks) + 1
        pairs, abreast = config.users_per_eval_batch * (listed + 1), 1
        if device == "cpu":
            pairs, abreast = min(pairs, _PAIRS[width_class(config)]), _ABREAST
        lanes = min(pairs // width, users // (abreast * _USERS_PER_LANE))
        return cls(config, plan, width, chunks, max(1, lanes), abreast, users)

    @property
    def kept(self) -> bool:
        """Whether all lists are kept for the whole run, rather than drawn again."""
        return self.users_per_call == self.config.num_users

    def calls(self, lists: EvaluationLists, first_user: int = 0) -> Iterator["Call"]:
        """What the program takes to rank `lists`, those of the users from `first_user` on."""
        place = _strongest_first(lists.items[:, :-1], self.config.num_items)
        for low in range(0, len(lists.items), self.users_per_call):
            part = slice(low, low + self.users_per_call)
            some = EvaluationLists(lists.items[part], lists.masked[part])
            yield self._call(some, first_user + low, *place)

    def _call(self, lists: EvaluationLists, first_user: int, place, item_at) -> "Call":
        real, room = len(lists.items), self.width - 1
        # What stays zero is never written, so the system gives no memory for it.
        rows = aligned_zeros((self.users_per_call, self.chunks, self.width), np.int32)
        lengths = np.zeros(self.users_per_call, np.int32)
        for low in range(0, real, _BLOCK):
            part = slice(low, min(low + _BLOCK, real))
            masked, here = lists.masked[part, :-1], rows[part]
            keys = np.full((len(here), self.chunks * room), len(item_at) - 1, np.int32)
            keys[:, : masked.shape[1]] = np.where(masked, keys[0, 0], place[lists.items[part, :-1]])
            keys.sort(axis=1)
            here[..., :-1] = item_at[keys].reshape(len(here), self.chunks, room)
            here[..., -1] = lists.items[part, -1:]
            rivals = masked.shape[1] - np.count_nonzero(masked, axis=1)
            lengths[part] = np.maximum(1, -(-rivals // room))
        users = np.int32(first_user) + np.arange(self.users_per_call, dtype=np.int32)
        return Call(users, rows, lengths, np.int32(real))


class Call(NamedTuple):
    """The arguments of one call: users int32 [n]; rows int32 [n, chunks, width], a chunk's
    candidates, then `NOBODY`, then the held-out item; lengths int32 [n], how many chunks a
    user's list takes. The first `real` users are no padding."""

    users: np.ndarray
    rows: np.ndarray
    lengths: np.ndarray
    real: np.int32


def _strongest_first(candidates: np.ndarray, items: int) -> tuple[np.ndarray, np.ndarray]:
    """(each item's place, the item at each place and, last, `NOBODY`): what seems strong
    comes first, which is what is seldom a negative, since many have it in training."""
    drawn = np.zeros(items, np.int64)
    for low in range(0, len(candidates), _BLOCK):
        drawn += np.bincount(candidates[low : low + _BLOCK].ravel(), minlength=items)
    item_at = np.argsort(drawn, kind="stable").astype(np.int32)
    place = np.empty(items, np.int32)
    place[item_at] = np.arange(items, dtype=np.int32)
    return place, np.append(item_at, np.int32(NOBODY))


def make_evaluation(shape: EvaluationShape, state: State, jit_compile: bool = True):
    """A function that ranks held-out items: users, rows, lengths and `real` of a `Call`.
    Returns what `rank_users` does."""

    @tf.function(jit_compile=jit_compile)
    def evaluate(users, rows, lengths, real):
        return rank_users(shape, state.weights(), users, rows, lengths, real)

    return evaluate


class _Lanes(NamedTuple):
    """Which user each lane is at (its place in the call; from `real` on: idle), which chunk
    of it comes next, and how many candidates were found ahead of its held-out item: int32."""

    user: tf.Tensor
    chunk: tf.Tensor
    ahead: tf.Tensor


def rank_users(shape: EvaluationShape, weights: Sequence, users, rows, lengths, real):
    """Ranks the first `real` users of a call; arguments as in `Call`.

    Returns int32 [n], each user's rank if it is below top_k, else top_k or more; whether no
    weight and no score is NaN; and how many candidates and held-out items were scored, int32.
    """
    tables, count = scoring_tables(shape.plan, weights), rows.shape[0]
    flat = tf.reshape(rows, [count * shape.chunks, shape.width])

    def ahead_of(user, chunk):
        """Of one group's chunks: how many are ahead, any NaN, how many candidates."""
        here = tf.gather(flat, user * shape.chunks + chunk)
        found = list_scores(
            shape.plan, weights, tables, tf.gather(users, user), tf.maximum(here, 0)
        )
        competes = here[:, :-1] >= 0
        ahead = (found[:, :-1] >= found[:, -1:]) & competes
        bad = tf.math.is_nan(found) & (here >= 0)
        return [tf.reduce_sum(tf.cast(x, tf.int32), axis=1) for x in (ahead, bad, competes)]

    def one_turn(lanes, following, ranks, scored, bad):
        busy = lanes.user < real
        user = tf.where(busy, lanes.user, 0)
        groups = [
            ahead_of(*(x[k * shape.lanes : (k + 1) * shape.lanes] for x in (user, lanes.chunk)))
            for k in range(shape.abreast)
        ]
        ahead, nans, candidates = (tf.concat(parts, axis=0) for parts in zip(*groups))
        ahead, chunk = lanes.ahead + ahead, lanes.chunk + 1
        done = (ahead >= shape.config.top_k) | (chunk >= tf.gather(lengths, user))
        # An idle lane writes where nobody reads.
        at = tf.where(busy & done, user, count)
        ranks = tf.tensor_scatter_nd_update(ranks, at[:, None], ahead)
        new = following + tf.cumsum(tf.cast(done, tf.int32)) - 1
        scored += tf.reduce_sum(tf.where(busy, candidates + tf.cast(done, tf.int32), 0))
        bad += tf.reduce_sum(nans)
        lanes = _Lanes(
            tf.where(done, new, lanes.user), tf.where(done, 0, chunk), tf.where(done, 0, ahead)
        )
        return lanes, new[-1] + 1, ranks, scored, bad

    places = shape.lanes * shape.abreast
    none = tf.zeros([places], tf.int32)
    start = (_Lanes(tf.range(places), none, none), places, tf.zeros([count + 1], tf.int32), 0, 0)
    *_, ranks, scored, bad = tf.while_loop(
        lambda lanes, *_: tf.reduce_any(lanes.user < real), one_turn, start
    )
    whole = tf.reduce_all([~tf.reduce_any(tf.math.is_nan(x)) for x in tables])
    return ranks[:count], whole & (bad == 0), scored
