"""The compiled training programs of the fused engine; `fused_evaluation.py` has evaluation's.

Each is one XLA program with static shapes that loops by itself; between its
calls nothing but a few numbers goes to and from the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import tensorflow as tf

from reference_model.base.config import EngineConfig
from reference_model.device_sampling.negatives import SamplerShape, draw, positive_of
from reference_model.device_sampling.synthetic_batches import synthetic_examples
from reference_model.fused.gradients import loss_and_gradients
from reference_model.fused.plan import Plan, make_plan
from reference_model.model import adam, sparse_adam
from reference_model.model.l2_penalty import add_penalty

# Examples whose order is handed over in one call; bounds the copy, not the batch.
_EXAMPLES_PER_CALL = 8_388_608


@dataclass(frozen=True)
class TrainingShape:
    """What must be known to compile the training program: no data."""

    config: EngineConfig
    plan: Plan
    sampler: SamplerShape
    steps_per_call: int
    sparse: tuple[int, ...]  # which tables (0 users, 1 items) are updated sparsely

    @classmethod
    def of(cls, config: EngineConfig, device: str, sampler: SamplerShape) -> "TrainingShape":
        steps = -(-config.train_examples // config.batch_size)
        per_call = max(1, min(steps, _EXAMPLES_PER_CALL // config.batch_size))
        tables = (config.num_users, config.num_items)
        sparse = tuple(k for k in (0, 1) if sparse_adam.pays_off(config, tables[k]))
        plan = make_plan(config, config.batch_size, device)
        return cls(config, plan, sampler, per_call, sparse)

    @property
    def sparse_rows(self) -> tuple[int, ...]:
        tables = (self.config.num_users, self.config.num_items)
        return tuple(tables[k] for k in self.sparse)


def examples(shape: TrainingShape, ids, step, key, arrays: Sequence, place=None):
    """(user, item, label) of the examples `ids` ([n], of `order.Orders.dtype`) of one step,
    which stand in its batch from `place` on; arrays: `SamplerShape.arrays`.

    Example e belongs to positive e // (1 + negatives); the first of each group is
    the positive itself, the others are its negatives, drawn here.
    """
    if ids.dtype == tf.uint32:  # as `order.coded` has them
        row = tf.cast(tf.bitwise.right_shift(ids, tf.constant(1, tf.uint32)), tf.int32)
        is_positive = tf.equal(ids & tf.constant(1, tf.uint32), 0)
    else:
        group = 1 + shape.config.train_negatives
        row = ids // group
        is_positive = tf.equal(ids % group, 0)
    user, item = positive_of(arrays, row)
    negative = draw(shape.sampler, arrays, user, key, step, place)
    item = tf.where(is_positive, item, negative)
    return user, item, is_positive


def make_training(shape: TrainingShape, state: "State", jit_compile: bool = True):
    """A function that trains on some steps of an epoch.

    Its arguments: ids [K, B]; count, the steps of them that are real;
    first, the number within the epoch of the first of them; left, how many real
    examples remain from it on; key uint64 [1]; `SamplerShape.arrays`.
    Returns the sum of the examples' losses, float64.
    """

    @tf.function(jit_compile=jit_compile)
    def train(ids, count, first, left, key, arrays):
        def batch(k):
            here = _row(shape, ids, k)
            return examples(shape, here, first + k, key, arrays)

        return _steps(shape, state, batch, count, left)

    return train


def make_sampling(shape: TrainingShape, jit_compile: bool = True):
    """As `make_training` up to the step itself: makes the examples of some steps and
    returns the sum of their items, int64."""

    @tf.function(jit_compile=jit_compile)
    def sample(ids, count, first, key, arrays):
        def one_step(k, total):
            here = _row(shape, ids, k)
            _, item, _ = examples(shape, here, first + k, key, arrays)
            return k + 1, total + tf.reduce_sum(tf.cast(item, tf.int64))

        start = (tf.constant(0), tf.constant(0, tf.int64))
        return tf.while_loop(lambda k, _: k < count, one_step, start)[1]

    return sample


def make_injected_training(shape: TrainingShape, state: "State", jit_compile: bool = True):
    """As `make_training`, on given user and item int32 [K, B] and label bool [K, B]."""

    @tf.function(jit_compile=jit_compile)
    def train(user, item, label, count, left):
        def batch(k):
            return tuple(_row(shape, x, k) for x in (user, item, label))

        return _steps(shape, state, batch, count, left)

    return train


def make_synthetic_training(shape: TrainingShape, state: "State", jit_compile: bool = True):
    """As `make_training`, on made-up batches: arguments count, left and key."""

    @tf.function(jit_compile=jit_compile)
    def train(count, left, key):
        def batch(k):
            return synthetic_examples(shape.config, shape.plan.padded_rows, k, key)

        return _steps(shape, state, batch, count, left)

    return train


def _row(shape: TrainingShape, values, k):
    """Row k of [K, B], padded to the plan's length."""
    spare = shape.plan.padded_rows - shape.config.batch_size
    # By sizes, not -1, which makes XLA carry a shape that is known only when it runs.
    row = tf.reshape(tf.slice(values, [k, 0], [1, shape.config.batch_size]), [-1])
    row = tf.pad(row, [[0, spare]])
    return tf.ensure_shape(row, [shape.plan.padded_rows])


def _steps(shape: TrainingShape, state: "State", batch, count, left):
    """Takes `count` steps; batch(k) gives (user, item, label) of step k."""
    config, plan = shape.config, shape.plan

    def one_step(k, total, weights, moments, seen):
        user, item, positive = batch(k)
        real = tf.minimum(left - k * config.batch_size, config.batch_size)
        weight = tf.cast(tf.range(plan.padded_rows) < real, tf.float32)
        label = tf.cast(positive, tf.float32)
        tables = Tables(shape, weights, moments, seen, (user, item), state.step + k)
        loss, gradients = loss_and_gradients(
            plan, tables.weights, *tables.ids, label, weight
        )
        _, gradients = add_penalty(config, weights, gradients)
        weights, moments, seen = tables.after(gradients)
        return k + 1, total + tf.cast(loss, tf.float64), weights, moments, seen

    seen = tuple(tf.fill([rows], state.step) for rows in shape.sparse_rows)
    start = (tf.constant(0), tf.constant(0.0, tf.float64), state.weights(), state.moments(), seen)
    _, total, weights, moments, seen = tf.while_loop(lambda k, *_: k < count, one_step, start)
    state.assign(*_settled(shape, weights, moments, seen, state.step + count))
    state.step.assign_add(count)
    return total


class Tables:
    """One step's view of the weights: tables that are updated sparsely stand as the
    distinct rows that the batch reads, with the batch's ids pointing into them."""

    def __init__(self, shape: TrainingShape, weights, moments, seen, ids, step):
        self._shape, self._step = shape, step
        self._all = weights, moments
        self.weights, self.ids = list(weights), list(ids)
        self._sparse = {}
        for side, last in zip(shape.sparse, seen):
            table = sparse_adam.Table(
                weights[side], moments.first[side], moments.second[side], last
            )
            found = sparse_adam.compact(ids[side])
            rows = sparse_adam.read(shape.config, table, found, step)
            self.weights[side], self.ids[side] = rows.weight, found.place
            self._sparse[side] = table, found, rows

    def after(self, gradients):
        """(weights, moments, seen) after the step."""
        config, step = self._shape.config, self._step + 1
        weights, moments = self._all
        dense = [k for k in range(len(weights)) if k not in self._sparse]
        moved = adam.apply(config, step, dense, weights, moments, gradients)
        weights, first, second = (list(x) for x in moved)
        seen = []
        for side, (table, found, rows) in self._sparse.items():
            table = sparse_adam.write(config, table, found, rows, gradients[side], step)
            weights[side], first[side], second[side] = table[:3]
            seen.append(table.seen)
        return weights, adam.Moments(tuple(first), tuple(second)), tuple(seen)


def _settled(shape: TrainingShape, weights, moments: adam.Moments, seen, step):
    """(weights, moments) with every row where the dense form has it after `step`."""
    weights, first, second = list(weights), list(moments.first), list(moments.second)
    for side, last in zip(shape.sparse, seen):
        table = sparse_adam.Table(weights[side], first[side], second[side], last)
        table = sparse_adam.settle(shape.config, table, step)
        weights[side], first[side], second[side] = table[:3]
    return weights, adam.Moments(tuple(first), tuple(second))


class State:
    """Weights, moments and step count as variables, in weight order."""

    def __init__(self, weights: Sequence):
        self.variables = [tf.Variable(w, dtype=tf.float32) for w in weights]
        self.first = [tf.Variable(tf.zeros_like(w)) for w in self.variables]
        self.second = [tf.Variable(tf.zeros_like(w)) for w in self.variables]
        self.step = tf.Variable(0, dtype=tf.int32)

    def weights(self) -> list:
        return [tf.convert_to_tensor(v) for v in self.variables]

    def moments(self) -> adam.Moments:
        return adam.Moments(
            tuple(tf.convert_to_tensor(v) for v in self.first),
            tuple(tf.convert_to_tensor(v) for v in self.second),
        )

    def assign(self, weights: Sequence, moments: adam.Moments) -> None:
        for variables, values in (
            (self.variables, weights),
            (self.first, moments.first),
            (self.second, moments.second),
        ):
            for variable, value in zip(variables, values):
                variable.assign(value)

    def restart(self, weights: Sequence) -> None:
        """New weights, as if no step had been taken."""
        for variable, value in zip(self.variables, weights):
            variable.assign(value)
        for variable in (*self.first, *self.second):
            variable.assign(tf.zeros_like(variable))
        self.step.assign(0)
