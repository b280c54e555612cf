"""Adam on the table rows that a step reads, with the result of the dense form.

Dense Adam moves every row of a table in every step, because moments outlive the
gradient that made them; for ml-20m's tables that is 0.9 GB a step. Here a row is
left alone until it is read again, and then makes up for the steps that it
missed. With no gradient, k steps after step t turn (w, m, v) into

    m' = beta1^k m,  v' = beta2^k v,
    w' = w - sum_{j=1..k} rate(t + j) beta1^j m / (sqrt(v) beta2^(j/2) + epsilon),

the dense rule unrolled. Since (sqrt(v) + e) / (sqrt(v) beta2^(j/2) + e) is at
most beta2^(-j/2), term j is at most r^(j-1) of the first with r = beta1 /
sqrt(beta2), so for r < 1 the sum may stop where all that follows is below
float32's rounding of the first term.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

from reference_model.base.config import EngineConfig
from reference_model.model.adam import lazy_update, step_size, update

# A table with this many times as many rows as a batch is updated sparsely.
ROWS_PER_EXAMPLE = 4
_UNROLL = 8
_MOST_MISSED = 512


def missed_steps(config: EngineConfig) -> int:
    """After how many missed steps a row stands still; 0 where it never does soon."""
    ratio = config.beta1 / math.sqrt(config.beta2)
    if not 0 < ratio < 1:
        return 1 if ratio == 0 else 0
    limit = math.ceil(math.log(2**-26 * (1 - ratio)) / math.log(ratio)) + 1
    return limit if limit <= _MOST_MISSED else 0


def pays_off(config: EngineConfig, table_rows: int) -> bool:
    """Whether a table of so many rows is updated sparsely at the batch size.

    Not with L2 on the tables, which gives every row a gradient in every step.
    """
    l2 = config.l2_mf or (config.l2_mlp and config.l2_mlp[0])
    if l2 or table_rows < ROWS_PER_EXAMPLE * config.batch_size:
        return False
    return config.optimizer == "lazy_adam" or missed_steps(config) > 0


class Compact(NamedTuple):
    """The distinct rows among n ids.

    Attributes:
      rows: int32 [n]; the distinct ids in front, the first of them repeated behind.
      place: int32 [n]; where in `rows` each id stands.
      real: bool [n]; False for the repeated ones behind.
    """

    rows: tf.Tensor
    place: tf.Tensor
    real: tf.Tensor


def compact(ids: tf.Tensor) -> Compact:
    """Distinct rows of ids, int32 [n] with static n."""
    count = ids.shape[0]
    order = tf.argsort(ids)
    ascending = tf.gather(ids, order)
    new = tf.concat([[True], ascending[1:] != ascending[:-1]], axis=0)
    segment = tf.cumsum(tf.cast(new, tf.int32)) - 1
    place = tf.tensor_scatter_nd_update(tf.zeros([count], tf.int32), order[:, None], segment)
    rows = tf.tensor_scatter_nd_update(
        tf.fill([count], ascending[0]), segment[:, None], ascending
    )
    return Compact(rows, place, tf.range(count) <= segment[-1])


class Rows(NamedTuple):
    """Some rows of a table and of its moments, [n, width] each."""

    weight: tf.Tensor
    first: tf.Tensor
    second: tf.Tensor


class Table(NamedTuple):
    """A table with its moments [rows, width] and the last step each row has made."""

    weight: tf.Tensor
    first: tf.Tensor
    second: tf.Tensor
    seen: tf.Tensor


def catch_up(config: EngineConfig, rows: Rows, seen: tf.Tensor, step: tf.Tensor) -> Rows:
    """Rows after steps seen + 1 .. step without gradient; seen int32 [n]."""
    if config.optimizer == "lazy_adam":
        return rows
    missed = step - seen
    last = tf.minimum(missed, missed_steps(config))
    beta1, root = config.beta1, math.sqrt(config.beta2)

    def some_steps(done, weight, top, bottom):
        for _ in range(_UNROLL):
            done += 1
            top, bottom = top * beta1, bottom * root
            rate = tf.where(done <= last, step_size(config, seen + done), 0)
            weight -= rate[:, None] * top / (bottom + config.epsilon)
        return done, weight, top, bottom

    most = tf.reduce_max(last)
    _, weight, _, _ = tf.while_loop(
        lambda done, *_: done < most,
        some_steps,
        (tf.constant(0), rows.weight, rows.first, tf.sqrt(rows.second)),
    )
    k = tf.cast(missed, tf.float32)[:, None]
    return Rows(weight, rows.first * tf.pow(beta1, k), rows.second * tf.pow(config.beta2, k))


def read(config: EngineConfig, table: Table, found: Compact, step: tf.Tensor) -> Rows:
    """The rows `found.rows` of a table as they stand before step `step` + 1."""
    rows = Rows(*(tf.gather(x, found.rows) for x in table[:3]))
    return catch_up(config, rows, tf.gather(table.seen, found.rows), step)


def write(config: EngineConfig, table: Table, found: Compact, rows: Rows, gradient, step) -> Table:
    """The table after step `step`, which gave `rows` their `gradient` [n, width]."""
    rate = step_size(config, step)
    rule = lazy_update if config.optimizer == "lazy_adam" else update
    moved = rule(config, rate, *rows, gradient)
    # Spare places repeat the first row; they must write what it writes.
    source = tf.where(found.real, tf.range(found.rows.shape[0]), 0)
    where = found.rows[:, None]
    parts = [
        tf.tensor_scatter_nd_update(old, where, tf.gather(new, source))
        for old, new in zip(table, moved)
    ]
    now = tf.fill(found.rows.shape, step)
    return Table(*parts, tf.tensor_scatter_nd_update(table.seen, where, now))


def settle(config: EngineConfig, table: Table, step: tf.Tensor) -> Table:
    """The whole table caught up to `step`, as the dense form has it."""
    rows = catch_up(config, Rows(*table[:3]), table.seen, step)
    return Table(*rows, tf.fill(table.seen.shape, step))
