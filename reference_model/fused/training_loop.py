"""The training programs of the fused engine, as pure functions of arrays.

`train_steps` maps a training state to the state after several steps. The loop over steps is part
of the program, so little data moves between host and device. The function that makes the examples
of a step is selected when the program is traced: `drawn_batches`, `precomputed_batches` or
`synthetic_batches`. An executor compiles the program for its devices. The evaluation program is
in `evaluation_loop.py`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Callable, NamedTuple, Sequence


from reference_model.base.config import EngineConfig
from reference_model.base.lazy_modules import tf
from reference_model.device_sampling.negatives import SamplerSpec, draw_negatives, gather_positives
from reference_model.device_sampling.synthetic_batches import synthetic_examples
from reference_model.fused_math.gradients import loss_and_gradients
from reference_model.fused_math.plan import Plan, make_plan
from reference_model.fused_math.split_weights import join_list, split_list
from reference_model.model import adam, sparse_adam
from reference_model.model.l2_penalty import add_penalty

# Maximum number of examples per call; bounds the copied order, not the batch.
_EXAMPLES_PER_CALL = 8_388_608

# batch_of_step(step, offset, *data) -> (user, item, is_positive), each [padded rows]: one device's
# examples of step number `step` of the call. `offset` is the position of the device's first
# example in the global batch, or None for one device.
BatchOfStep = Callable[..., tuple]


@dataclass(frozen=True)
class TrainingSpec:
    """The static parameters of a training program; contains no data.

    Attributes:
      config: the sizes of the model and the data.
      plan: the execution plan for the part of a batch on one device.
      sampler: the sizes of the arrays from which negatives are drawn.
      local_batch: number of examples of a global batch on one device.
      steps_per_call: maximum number of steps per call.
      sparse_tables: the tables (0 users, 1 items) that are updated sparsely.
    """

    config: EngineConfig
    plan: Plan
    sampler: SamplerSpec
    local_batch: int
    steps_per_call: int
    sparse_tables: tuple[int, ...]

    @classmethod
    def of(
        cls, config: EngineConfig, device: str, sampler: SamplerSpec, replicas: int = 1
    ) -> "TrainingSpec":
        """Makes the spec for a device type; each of `replicas` takes an equal part of a batch."""
        steps = -(-config.train_examples // config.batch_size)
        # An order that is made on the device is there as a whole.
        most = steps if config.order == "sorted_keys" else _EXAMPLES_PER_CALL // config.batch_size
        steps_per_call = max(1, min(steps, most))
        table_rows = (config.num_users, config.num_items)
        sparse = tuple(k for k in (0, 1) if sparse_adam.use_sparse_update(config, table_rows[k]))
        local_batch = config.batch_size // replicas
        plan = make_plan(config, local_batch, device)
        # The loss is divided by the global batch size, not by the part of one device.
        plan = dataclasses.replace(plan, global_batch_size=config.batch_size)
        return cls(config, plan, sampler, local_batch, steps_per_call, sparse)

    @property
    def splits_weights(self) -> bool:
        """Whether the loop over steps takes the weights as `split_weights` makes them.

        Lazy Adam looks at whole rows, and so do sparse updates.
        """
        has_dense_adam = self.config.optimizer == "adam" and not self.sparse_tables
        return self.plan.on_accelerator and has_dense_adam

    @property
    def sparse_table_rows(self) -> tuple[int, ...]:
        """The number of rows of each table in `sparse_tables`."""
        table_rows = (self.config.num_users, self.config.num_items)
        return tuple(table_rows[k] for k in self.sparse_tables)


class TrainingState(NamedTuple):
    """The state that a step updates.

    Attributes:
      weights: all weights, float32, in the order of `neumf.weight_names`.
      moments: Adam's moments of the weights.
      step: int32 scalar, the number of steps taken.
    """

    weights: Sequence
    moments: adam.Moments
    step: tf.Tensor


# -- the examples of a step -----------------------------------------------------


def examples(spec: TrainingSpec, ids, step, key, arrays: Sequence, offset=None):
    """Makes the examples of one step and draws their negatives.

    Example e belongs to positive e // (1 + negatives). The first example of each such group
    is the positive itself, the others are its negatives.

    Args:
      spec: the static parameters.
      ids: [n], example numbers (int32) or packed ids (uint32); see `epoch_order`.
      step: int32 scalar, the step number within the epoch.
      key: uint64 [1], the Philox key of the epoch.
      arrays: the arrays of `SamplerSpec.arrays`.
      offset: int32 scalar, the position of the first example in the global batch; None means 0.

    Returns:
      (user int32 [n], item int32 [n], is_positive bool [n]).
    """
    if ids.dtype == tf.uint32:  # 2 row for a positive, 2 row + 1 for a negative
        row = tf.cast(tf.bitwise.right_shift(ids, tf.constant(1, tf.uint32)), tf.int32)
        is_positive = tf.equal(ids & tf.constant(1, tf.uint32), 0)
    else:
        group_size = 1 + spec.config.train_negatives
        row = ids // group_size
        is_positive = tf.equal(ids % group_size, 0)
    user, item = gather_positives(arrays, row)
    negative = draw_negatives(spec.sampler, arrays, user, key, step, offset, spec.plan.device)
    item = tf.where(is_positive, item, negative)
    return user, item, is_positive


def drawn_batches(spec: TrainingSpec) -> BatchOfStep:
    """Batches in epoch order, with negatives drawn in the step.

    The data are: ids [steps, local_batch]; first, int32, the number of the first step of the
    call within the epoch; key uint64 [1]; the arrays of `SamplerSpec.arrays`.
    """

    def batch_of_step(step, offset, ids, first, key, arrays):
        return examples(spec, _padded_row(spec, ids, step), first + step, key, arrays, offset)

    return batch_of_step


def precomputed_batches(spec: TrainingSpec) -> BatchOfStep:
    """Batches from the host: user, item int32 and is_positive bool, [steps, local_batch]."""

    def batch_of_step(step, offset, user, item, is_positive):
        return tuple(_padded_row(spec, x, step) for x in (user, item, is_positive))

    return batch_of_step


def synthetic_batches(spec: TrainingSpec) -> BatchOfStep:
    """Random batches generated on the device, to measure steps alone; data: key uint64 [1]."""

    def batch_of_step(step, offset, key):
        return synthetic_examples(spec.config, spec.plan.padded_rows, step, key, offset)

    return batch_of_step


def _padded_row(spec: TrainingSpec, values, step):
    """Returns row `step` of values [steps, local_batch], padded to `plan.padded_rows`."""
    # If `step` is an argument of the program, a slice would make XLA recompile for each step; a
    # gather does not.
    row = tf.gather(values, step)
    return tf.pad(row, [[0, spec.plan.padded_rows - spec.local_batch]])


def sample_steps(spec: TrainingSpec, ids, count, first, key, arrays: Sequence):
    """Makes the examples of some steps without training.

    Args:
      spec: the static parameters.
      ids: [steps, local_batch], as for `drawn_batches`.
      count: int32 scalar, the number of steps.
      first: int32 scalar, the number of the first step within the epoch.
      key: uint64 [1].
      arrays: the arrays of `SamplerSpec.arrays`.

    Returns:
      int64 scalar, the sum of the items, so that no computation is removed as dead code.
    """

    def one_step(step, total):
        row = _padded_row(spec, ids, step)
        _, item, _ = examples(spec, row, first + step, key, arrays)
        return step + 1, total + tf.reduce_sum(tf.cast(item, tf.int64))

    start = (tf.constant(0), tf.constant(0, tf.int64))
    return tf.while_loop(lambda step, _: step < count, one_step, start)[1]


# -- steps ------------------------------------------------------------------------


def example_weights(spec: TrainingSpec, offset, real):
    """Computes the example weights of a device's part of a batch.

    Args:
      spec: the static parameters.
      offset: position of the device's first example in the global batch; None for one device.
      real: int32 scalar, the number of examples of the global batch, excluding padding.

    Returns:
      float32 [plan.padded_rows]: 0 for padding, otherwise 1.
    """
    index = tf.range(spec.plan.padded_rows)
    if offset is None:
        return tf.cast(index < real, tf.float32)
    return tf.cast((index < spec.local_batch) & (offset + index < real), tf.float32)


def batch_gradients(
    spec: TrainingSpec,
    weights: Sequence,
    batch: tuple,
    offset,
    real,
    has_sorted_users: bool = False,
    is_split: bool = False,
):
    """Computes the loss and the gradients of a device's part of one batch.

    Args:
      spec: the static parameters.
      weights: all weights in the order of `neumf.weight_names`.
      batch: (user, item, is_positive), each [plan.padded_rows].
      offset, real: as in `example_weights`.
      has_sorted_users, is_split: as in `loss_and_gradients`.

    Returns:
      (sum of the cross-entropies, gradients of that sum / global batch size).
    """
    user, item, is_positive = batch
    weight = example_weights(spec, offset, real)
    label = tf.cast(is_positive, tf.float32)
    return loss_and_gradients(
        spec.plan, weights, user, item, label, weight, has_sorted_users, is_split
    )


def train_steps(
    spec: TrainingSpec, state: TrainingState, batch_of_step, count, remaining, is_ordered=False
):
    """Takes steps on one device.

    Args:
      spec: the static parameters.
      state: the state before the first step.
      batch_of_step: batch_of_step(k) makes the examples of step k of this call.
      count: int32 scalar, the number of steps.
      remaining: int32 scalar, the number of examples from the first step on, excluding padding.
      is_ordered: whether the examples of a step, excluding padding, have ascending users.

    Returns:
      (the state after the last step, float64 scalar sum of the examples' losses).
    """
    config = spec.config
    # Sparse updates need the ids of the batch as they are.
    has_sorted_users = is_ordered and spec.plan.on_accelerator and not spec.sparse_tables
    is_split = spec.splits_weights
    if is_split:
        state = _map_state(state, lambda arrays: split_list(arrays, config.mf_dim))

    def one_step(k, total, weights, moments, last_steps):
        user, item, is_positive = batch_of_step(k)
        real = tf.minimum(remaining - k * config.batch_size, config.batch_size)
        if has_sorted_users:
            # Padding is at the end. Its gradients are 0, so its users may be any.
            index = tf.range(spec.plan.padded_rows)
            user = tf.where(index < real, user, config.num_users - 1)
        view = StepWeights(spec, weights, moments, last_steps, (user, item), state.step + k)
        batch = (*view.ids, is_positive)
        loss, gradients = batch_gradients(
            spec, view.weights, batch, None, real, has_sorted_users, is_split
        )
        _, gradients = add_penalty(config, weights, gradients, is_split)
        weights, moments, last_steps = view.take_step(gradients)
        return k + 1, total + tf.cast(loss, tf.float64), weights, moments, last_steps

    last_steps = tuple(tf.fill([rows], state.step) for rows in spec.sparse_table_rows)
    start = (
        tf.constant(0), tf.constant(0.0, tf.float64), state.weights, state.moments, last_steps,
    )  # fmt: skip
    _, total, weights, moments, last_steps = tf.while_loop(
        lambda k, *_: k < count, one_step, start
    )
    step = state.step + count
    weights, moments = _flush_pending_rows(spec, weights, moments, last_steps, step)
    state = TrainingState(weights, moments, step)
    if is_split:
        rows = (config.num_users, config.num_items)
        state = _map_state(state, lambda arrays: join_list(arrays, rows))
    return state, total


def _map_state(state: TrainingState, function: Callable[[Sequence], Sequence]) -> TrainingState:
    """Applies a function to the weights and to both moments."""
    weights, first, second = (function(x) for x in (state.weights, *state.moments))
    return TrainingState(weights, adam.Moments(tuple(first), tuple(second)), state.step)


class StepWeights:
    """The weights used in one step.

    A sparsely updated table is reduced to the distinct rows that the batch reads, and the ids of
    the batch are indices into those rows.

    Attributes:
      weights: the weights in weight order; for sparse tables, the rows read.
      ids: [user ids, item ids], int32 [n] each.
    """

    def __init__(self, spec: TrainingSpec, weights, moments, last_steps, ids, step):
        self._shape, self._step = spec, step
        self._all_weights, self._moments = weights, moments
        self.weights, self.ids = list(weights), list(ids)
        self._sparse = {}
        for side, last_step in zip(spec.sparse_tables, last_steps):
            table = sparse_adam.TableState(
                weights[side], moments.first[side], moments.second[side], last_step
            )
            found = sparse_adam.unique_rows(ids[side])
            rows = sparse_adam.read_rows(spec.config, table, found, step)
            self.weights[side], self.ids[side] = rows.weight, found.inverse
            self._sparse[side] = table, found, rows

    def take_step(self, gradients):
        """Takes the step; returns (weights, moments, last steps of the sparse tables)."""
        config, step = self._shape.config, self._step + 1
        dense = [k for k in range(len(self._all_weights)) if k not in self._sparse]
        updated = adam.apply_step(config, step, dense, self._all_weights, self._moments, gradients)
        weights, first, second = (list(x) for x in updated)
        last_steps = []
        for side, (table, found, rows) in self._sparse.items():
            table = sparse_adam.write_rows(config, table, found, rows, gradients[side], step)
            weights[side], first[side], second[side] = table[:3]
            last_steps.append(table.last_step)
        return weights, adam.Moments(tuple(first), tuple(second)), tuple(last_steps)


def _flush_pending_rows(spec: TrainingSpec, weights, moments: adam.Moments, last_steps, step):
    """Returns (weights, moments) with all rows of the sparse tables updated to `step`."""
    weights, first, second = list(weights), list(moments.first), list(moments.second)
    for side, last_step in zip(spec.sparse_tables, last_steps):
        table = sparse_adam.TableState(weights[side], first[side], second[side], last_step)
        table = sparse_adam.flush_pending(spec.config, table, step)
        weights[side], first[side], second[side] = table[:3]
    return weights, adam.Moments(tuple(first), tuple(second))
