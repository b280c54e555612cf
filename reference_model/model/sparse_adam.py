"""Sparse Adam: updates only the table rows that a step reads, with the result of dense Adam.

Dense Adam updates every row of a table in every step, because a row's moments stay nonzero
long after its last gradient; for ml-20m's tables that is 0.9 GB of memory traffic per step.
Here the update of a row is deferred until a step reads the row again, and the updates of the
missed steps are applied then. Without a gradient, the k steps after step t turn (w, m, v) into

    m' = beta1^k m,  v' = beta2^k v,
    w' = w - sum_{j=1..k} rate(t + j) beta1^j m / (sqrt(v) beta2^(j/2) + epsilon),

which is the dense update unrolled; rate(t) is `adam.step_size`. Since
(sqrt(v) + e) / (sqrt(v) beta2^(j/2) + e) is at most beta2^(-j/2), term j is at most
r^(j-1) times the first term, with r = beta1 / sqrt(beta2). So for r < 1 the sum can be truncated
once all remaining terms together are below the float32 rounding of the first term.
"""

from __future__ import annotations

import math
from typing import NamedTuple


from reference_model.base.config import EngineConfig
from reference_model.base.lazy_modules import tf
from reference_model.model.adam import adam_update, lazy_adam_update, step_size

# A table is updated sparsely if it has at least this many rows per example of a batch.
MIN_ROWS_PER_EXAMPLE = 4
# Number of missed steps that one iteration of the loop in `catch_up` applies.
_STEPS_PER_ITERATION = 8
# If the sum needs more terms than this, dense updates are cheaper.
_MAX_MISSED_STEPS = 512


def max_missed_steps(config: EngineConfig) -> int:
    """Computes how many missed steps can change the weights of a row in float32.

    Returns:
      The number of terms after which the sum in the module docstring can be truncated, or 0
      if it needs more than `_MAX_MISSED_STEPS` terms.
    """
    ratio = config.beta1 / math.sqrt(config.beta2)
    if not 0 < ratio < 1:
        return 1 if ratio == 0 else 0
    # The terms after term n sum to at most ratio^n / (1 - ratio) times the first term.
    # 2^-26 is a quarter of float32's unit roundoff.
    limit = math.ceil(math.log(2**-26 * (1 - ratio)) / math.log(ratio)) + 1
    return limit if limit <= _MAX_MISSED_STEPS else 0


def use_sparse_update(config: EngineConfig, table_rows: int) -> bool:
    """Decides whether a table is updated sparsely.

    An L2 penalty on the tables excludes it, because then every row has a gradient in every
    step.

    Args:
      config: provides the batch size, the optimizer and the L2 factors.
      table_rows: number of rows of the table.
    """
    l2 = config.l2_mf or (config.l2_mlp and config.l2_mlp[0])
    if l2 or table_rows < MIN_ROWS_PER_EXAMPLE * config.batch_size:
        return False
    return config.optimizer == "lazy_adam" or max_missed_steps(config) > 0


class UniqueRows(NamedTuple):
    """The distinct values of n row ids, as arrays of static length n.

    Attributes:
      rows: int32 [n]; the distinct ids in ascending order, followed by padding: copies of
        the first id.
      inverse: int32 [n]; `rows[inverse[k]]` is id k.
      is_distinct: bool [n]; False for padding in `rows`.
    """

    rows: tf.Tensor
    inverse: tf.Tensor
    is_distinct: tf.Tensor


def unique_rows(ids: tf.Tensor) -> UniqueRows:
    """Finds the distinct ids; unlike `tf.unique`, with static shapes, as XLA requires.

    Args:
      ids: int32 [n] with static n.
    """
    count = ids.shape[0]
    order = tf.argsort(ids)
    ascending = tf.gather(ids, order)
    # Equal ids are adjacent after sorting; number the groups from 0.
    is_new = tf.concat([[True], ascending[1:] != ascending[:-1]], axis=0)
    group = tf.cumsum(tf.cast(is_new, tf.int32)) - 1
    inverse = tf.tensor_scatter_nd_update(tf.zeros([count], tf.int32), order[:, None], group)
    rows = tf.tensor_scatter_nd_update(
        tf.fill([count], ascending[0]), group[:, None], ascending
    )
    return UniqueRows(rows, inverse, tf.range(count) <= group[-1])


class RowState(NamedTuple):
    """A subset of the rows of a table and its moments, float32 [n, width] each."""

    weight: tf.Tensor
    first: tf.Tensor
    second: tf.Tensor


class TableState(NamedTuple):
    """A table and its moments.

    Attributes:
      weight: float32 [rows, width].
      first: the first moment, the same shape.
      second: the second moment, the same shape.
      last_step: int32 [rows], the last step applied to each row.
    """

    weight: tf.Tensor
    first: tf.Tensor
    second: tf.Tensor
    last_step: tf.Tensor


def catch_up(
    config: EngineConfig, rows: RowState, last_step: tf.Tensor, step: tf.Tensor
) -> RowState:
    """Applies the missed updates, those of steps without a gradient, to rows.

    Lazy Adam does not update unread rows, so for it this function returns `rows` unchanged.

    Args:
      config: provides the optimizer and its hyperparameters.
      rows: the rows after their last update.
      last_step: int32 [n], the step of that update.
      step: int32 scalar; the updates of steps last_step + 1 to `step` are applied.

    Returns:
      The rows after step `step`, equal to those of dense Adam.
    """
    if config.optimizer == "lazy_adam":
        return rows
    missed = step - last_step
    num_terms = tf.minimum(missed, max_missed_steps(config))
    beta1, root_beta2 = config.beta1, math.sqrt(config.beta2)

    def add_terms(done, weight, first, root_second):
        # In term j, first is beta1^j m and root_second is sqrt(v) beta2^(j/2).
        for _ in range(_STEPS_PER_ITERATION):
            done += 1
            first, root_second = first * beta1, root_second * root_beta2
            # The step size is 0 for rows that have no terms left.
            rate = tf.where(done <= num_terms, step_size(config, last_step + done), 0)
            weight -= rate[:, None] * first / (root_second + config.epsilon)
        return done, weight, first, root_second

    # The row with the most missed steps determines the number of iterations.
    most_terms = tf.reduce_max(num_terms)
    _, weight, _, _ = tf.while_loop(
        lambda done, *_: done < most_terms,
        add_terms,
        (tf.constant(0), rows.weight, rows.first, tf.sqrt(rows.second)),
    )
    # The moments decay over all missed steps, including those of the truncated terms.
    k = tf.cast(missed, tf.float32)[:, None]
    return RowState(weight, rows.first * tf.pow(beta1, k), rows.second * tf.pow(config.beta2, k))


def read_rows(
    config: EngineConfig, table: TableState, unique: UniqueRows, step: tf.Tensor
) -> RowState:
    """Reads the rows `unique.rows` of a table, with all updates up to step `step` applied."""
    rows = RowState(*(tf.gather(x, unique.rows) for x in table[:3]))
    return catch_up(config, rows, tf.gather(table.last_step, unique.rows), step)


def write_rows(
    config: EngineConfig,
    table: TableState,
    unique: UniqueRows,
    rows: RowState,
    gradient: tf.Tensor,
    step: tf.Tensor,
) -> TableState:
    """Applies step `step` to the rows that it reads and writes them to the table.

    Args:
      config: provides the optimizer and its hyperparameters.
      table: the table before the step.
      unique: the rows that the step reads.
      rows: the result of `read_rows` for these rows and step `step` - 1.
      gradient: float32 [n, width], the gradients of `unique.rows`.
      step: int32 scalar, the step number, from 1.

    Returns:
      The table after the step.
    """
    rate = step_size(config, step)
    rule = lazy_adam_update if config.optimizer == "lazy_adam" else adam_update
    updated = rule(config, rate, *rows, gradient)
    # Padding repeats the first row. The write order of duplicates in a scatter is undefined, so
    # the padding must write the same values as the first row.
    source = tf.where(unique.is_distinct, tf.range(unique.rows.shape[0]), 0)
    where = unique.rows[:, None]
    parts = [
        tf.tensor_scatter_nd_update(old, where, tf.gather(new, source))
        for old, new in zip(table, updated)
    ]
    now = tf.fill(unique.rows.shape, step)
    return TableState(*parts, tf.tensor_scatter_nd_update(table.last_step, where, now))


def flush_pending(config: EngineConfig, table: TableState, step: tf.Tensor) -> TableState:
    """Applies all missed updates up to step `step` to every row.

    Afterwards the table equals that of dense Adam.
    """
    rows = catch_up(config, RowState(*table[:3]), table.last_step, step)
    return TableState(*rows, tf.fill(table.last_step.shape, step))
