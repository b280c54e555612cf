"""The fused engine's evaluation: how lists are laid out, and the program that ranks them.

A masked candidate never counts, so its score is not needed. Where draws repeat
often (ml-1m: 13 in 100) the lists are packed: a row has a user's competing
candidates alone, then `NOBODY`, then the held-out item. Rows are as wide as most
packed lists need; a longer one takes another row, with the held-out item again,
and its ranks add up. Elsewhere a row is a whole list.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Iterator, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from reference_model.engine import EngineConfig
from reference_model.fused_math import Plan, make_plan, width_class
from reference_model.fused_programs import State
from reference_model.fused_scoring import list_scores, scoring_tables
from reference_model.memory import aligned_zeros
from reference_model.sampling import EvaluationLists

# Larger evaluation lists (4 bytes a candidate) are drawn again for each evaluation.
KEPT_LIST_BYTES = 1 << 30
# Pairs scored together on CPUs, by the width of the first hidden layer, and how many such
# groups in one turn of the loop: as in training, what runs on one core has company.
_PAIRS = {"wide": 2_048, "narrow": 32_768}
_ABREAST = 2
# Lists are packed where rows get no wider than this share of them.
_WORTH_PACKING = 0.95
# A masked candidate i stands as ~i; what only fills a row up, as this.
NOBODY = ~0


@dataclass(frozen=True)
class EvaluationShape:
    """What must be known to compile the evaluation: no data.

    Attributes:
      width: candidates in a row, the held-out item included.
      together: rows scored together, a group. groups: in one call, the last ones padded.
      abreast: groups in one turn of the loop, a divisor of `groups`.
      users_per_call: users whose lists one call takes, if few need a second row.
    """

    config: EngineConfig
    plan: Plan
    width: int
    together: int
    groups: int
    abreast: int
    users_per_call: int

    @classmethod
    def of(cls, config: EngineConfig, device: str) -> "EvaluationShape":
        plan = make_plan(config, config.batch_size, device)
        full = config.eval_negatives + 1
        width = _row_width(config)
        users = config.num_users
        if 4 * full * users > KEPT_LIST_BYTES:
            users = max(1, min(users, KEPT_LIST_BYTES // (8 * full)))
        rows = users + (users // 32 if width < full else 0)
        together, abreast = config.users_per_eval_batch, 1
        if device == "cpu":
            together = min(together, max(1, _PAIRS[width_class(config)] // width))
            abreast = min(_ABREAST, -(-rows // together))
        groups = -(-rows // (together * abreast)) * abreast
        return cls(config, plan, width, -(-rows // groups), groups, abreast, users)

    @property
    def kept(self) -> bool:
        """Whether all lists are kept for the whole run, rather than drawn again."""
        return self.users_per_call == self.config.num_users

    def calls(self, lists: EvaluationLists, first_user: int = 0) -> Iterator["Call"]:
        """What the program takes to rank `lists`, those of the users from `first_user` on;
        changes `lists`."""
        if self.width == lists.items.shape[1]:
            users = np.arange(len(lists.items), dtype=np.int32)
            rows = np.invert(lists.items, out=lists.items, where=lists.masked)
        else:
            users, rows = packed(lists, self.width)
        size = self.groups * self.together
        for low in range(0, len(rows), size):
            part = slice(low, low + size)
            yield self._call(users[part] + np.int32(first_user), rows[part])

    def _call(self, users: np.ndarray, rows: np.ndarray) -> "Call":
        real, size = len(rows), self.groups * self.together
        turn = self.abreast * self.together
        read = -(-real // turn) * turn
        # What no turn reads is never written, so the system gives no memory for it.
        filled = aligned_zeros((size, self.width), np.int32)
        filled[:real], filled[real:read] = rows, NOBODY
        of = np.zeros(size, np.int32)
        of[:real] = users
        shape = (self.groups, self.together)
        return Call(of.reshape(shape), filled.reshape(*shape, self.width), real)


class Call(NamedTuple):
    """The arguments of one call: users int32 [groups, together], rows int32 [groups,
    together, width], of which, in order, `real` are no padding."""

    users: np.ndarray
    rows: np.ndarray
    real: int

    @property
    def groups(self) -> int:
        """How many groups have a real row."""
        return -(-self.real // self.users.shape[1])


def _row_width(config: EngineConfig) -> int:
    """Mean and two standard deviations of how many items are drawn at least once, a
    multiple of 8 with the held-out item; or the whole list.

    Of M items n draws leave q = (1 - 1/M)^n out, so M (1 - q) are drawn, with variance
    M (M - 1) (1 - 2/M)^n + M q - (M q)^2: the occupancy problem (Feller, An Introduction
    to Probability Theory and Its Applications, volume 1). A user draws from fewer items,
    which repeat more often.
    """
    full, items, draws = config.eval_negatives + 1, config.num_items, config.eval_negatives
    if config.eval_given or config.synthetic:
        return full
    out = items * (1 - 1 / items) ** draws
    variance = items * (items - 1) * (1 - 2 / items) ** draws + out - out**2
    most = items - out + 2 * math.sqrt(max(variance, 0.0)) + 1
    width = 8 * math.ceil(most / 8)
    return width if width <= _WORTH_PACKING * full else full


def packed(lists: EvaluationLists, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(the list that each row is of, int32 [R]; rows int32 [R, width]): what competes."""
    competes, room = ~lists.masked[:, :-1], width - 1
    counts = np.count_nonzero(competes, axis=1)
    parts = np.maximum(1, -(-counts // room))
    of = np.repeat(np.arange(len(counts), dtype=np.int32), parts)
    nth = np.arange(len(of)) - np.repeat(np.cumsum(parts) - parts, parts)
    rows = np.full((len(of), width), NOBODY, np.int32)
    here = np.arange(room) < (counts[of] - nth * room)[:, None]
    rows[:, :-1][here] = lists.items[:, :-1][competes]
    rows[:, -1] = lists.items[of, -1]
    return of, rows


def make_evaluation(shape: EvaluationShape, state: State, jit_compile: bool = True):
    """A function that ranks held-out items: users and rows as in `Call`, and how many
    groups to rank. Returns what `rank_groups` does."""

    @tf.function(jit_compile=jit_compile)
    def evaluate(users, rows, count):
        return rank_groups(shape, state.weights(), users, rows, count)

    return evaluate


def rank_groups(shape: EvaluationShape, weights: Sequence, users, rows, count):
    """(int32 [groups, together]: how many of each row are ahead of its last; whether every
    score that competes is a number). users int32 [groups, together]; rows int32 [groups,
    together, width], ~i for a masked item i; count: how many groups to rank."""
    groups, together, width = rows.shape
    lanes = shape.abreast if groups % shape.abreast == 0 else 1
    tables = scoring_tables(shape.plan, weights)

    def one_group(k, ranks, finite):
        here = tf.reshape(tf.slice(rows, [k, 0, 0], [1, together, width]), [together, width])
        user = tf.reshape(tf.slice(users, [k, 0], [1, together]), [together])
        masked = here < 0
        items = tf.where(masked, -1 - here, here)
        found = list_scores(shape.plan, weights, tables, user, items)
        ahead = (found[:, :-1] >= found[:, -1:]) & ~masked[:, :-1]
        rank = tf.reduce_sum(tf.cast(ahead, tf.int32), axis=1)
        good = ~tf.reduce_any(tf.math.is_nan(found) & ~masked)
        return tf.tensor_scatter_nd_update(ranks, [[k]], rank[None]), finite & good

    def one_turn(turn, ranks, finite):
        for lane in range(lanes):
            ranks, finite = one_group(turn * lanes + lane, ranks, finite)
        return turn + 1, ranks, finite

    start = (0, tf.zeros([groups, together], tf.int32), True)
    turns = (count + lanes - 1) // lanes
    return tf.while_loop(lambda turn, *_: turn < turns, one_turn, start)[1:]
