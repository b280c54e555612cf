"""Weights and steps over the replicas of a `tf.distribute` strategy.

Every replica computes the gradient of its part of the global batch as one XLA program. The
parts are summed over all replicas outside of it. Then every replica takes the same Adam step
on its own copy of the weights. The sum is divided by the global batch size, so a step means the
same whatever the number of replicas. The number of a replica among all of them decides which
examples and users it gets, so nothing is drawn or read twice, and nothing depends on the worker
that a replica is on.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np
import tensorflow as tf

from reference_model.base.config import EngineConfig
from reference_model.base.errors import NonFiniteLoss
from reference_model.engine import EvalResult
from reference_model.model import adam
from reference_model.model.l2_penalty import add_penalty

_SUM = tf.distribute.ReduceOp.SUM
# Hits are counted in float32 on the devices, which is exact below this.
_MOST_USERS = 2**24


class Replicas:
    """Copies of weights, moments and step count, one on each replica.

    Attributes:
      count: replicas on all workers.
      batch: examples of a global batch that one replica takes.
    """

    def __init__(self, config: EngineConfig, strategy: Any, jit_compile: bool):
        """Takes the sizes, the strategy, and whether XLA compiles the update.

        Raises:
          ValueError: the batch cannot be divided by the replicas, or too many users.
        """
        count = strategy.num_replicas_in_sync
        if config.batch_size % count:
            raise ValueError(
                f"a batch of {config.batch_size} cannot be divided evenly by {count} replicas"
            )
        if config.num_users >= _MOST_USERS:
            raise ValueError(f"{config.num_users} users: at most {_MOST_USERS - 1} can be counted")
        self.config, self.strategy, self.count = config, strategy, count
        self.batch = config.batch_size // count
        self._update = tf.function(self._adam_step, jit_compile=jit_compile)
        # Set by `create_state`: weights, first and second moments, step count.
        self._weights: list[tf.Variable] = []
        self._first: list[tf.Variable] = []
        self._second: list[tf.Variable] = []
        self._step: tf.Variable | None = None

    # -- weights --------------------------------------------------------------

    def create_state(self, weights: Sequence[np.ndarray]) -> None:
        """Creates every replica's copies; moments and step count start at zero."""
        with self.strategy.scope():
            self._weights = [_replicated_variable(w) for w in weights]
            self._first = [_replicated_variable(np.zeros_like(w)) for w in weights]
            self._second = [_replicated_variable(np.zeros_like(w)) for w in weights]
            self._step = _replicated_variable(np.int32(0))

    def get_weights(self) -> list[np.ndarray]:
        """Fetches the weights, which are alike on all replicas."""
        return [weight.numpy() for weight in self.local_weights()]

    def local_weights(self) -> list[tf.Tensor]:
        """The weights of this process's first replica."""
        return [self._local(v) for v in self._weights]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        for variable, value in zip(self._weights, weights):
            variable.assign(value)

    def restart(self, weights: Sequence[np.ndarray]) -> None:
        """Sets new weights, as if no step had been taken."""
        self.set_weights(weights)
        for variable in (*self._first, *self._second):
            variable.assign(np.zeros(variable.shape, np.float32))
        self._step.assign(0)

    def _local(self, value: Any) -> tf.Tensor:
        return self.strategy.experimental_local_results(value)[0]

    # -- data -----------------------------------------------------------------

    def place(self, make: Callable[[int], Any]) -> Any:
        """Places a value on each replica of this worker.

        Args:
          make: gives the value of a replica from its number among all replicas.

        Returns:
          A value of `tf.distribute`, with one component per replica.
        """
        devices = self.strategy.extended.worker_devices

        def one(context: Any) -> tf.Tensor:
            number = int(context.replica_id_in_sync_group)
            with tf.device(devices[number % len(devices)]):
                return tf.constant(make(number))

        return self.strategy.experimental_distribute_values_from_function(one)

    def columns_of(self, values: np.ndarray, replica: int) -> np.ndarray:
        """Returns the columns of values [steps, B] that a replica takes, [steps, B / count]."""
        return np.ascontiguousarray(values[:, replica * self.batch : (replica + 1) * self.batch])

    # -- training -------------------------------------------------------------

    def make_training(self, gradients: Callable) -> Callable:
        """Makes a function that trains.

        Args:
          gradients: gradients(weights, k, offset, real, *data) computes one replica's part of
            step k: (sum of its cross-entropies, gradients of that sum / global batch size).
            `offset` is the position of its first example in the global batch, `real` how many
            examples of the global batch are not padding.

        Returns:
          A function of (count, remaining, data) that takes `count` steps and returns the sum of all
          losses, float64. `remaining` is how many examples from the first step on are not padding;
          `data` are values of `place`.
        """

        def replica(k, remaining, data):
            context = tf.distribute.get_replica_context()
            offset = tf.cast(context.replica_id_in_sync_group, tf.int32) * self.batch
            real = tf.minimum(remaining - k * self.config.batch_size, self.config.batch_size)
            weights = [tf.convert_to_tensor(v) for v in self._weights]
            loss, found = gradients(weights, k, offset, real, *data)
            loss, *found = context.all_reduce(_SUM, [loss, *found])
            self._apply(weights, found)
            return loss

        @tf.function
        def train(count, remaining, data):
            total = tf.constant(0.0, tf.float64)
            for k in tf.range(count):
                loss = self.strategy.run(replica, args=(k, remaining, data))
                total += tf.cast(self._local(loss), tf.float64)
            return total

        return train

    def _apply(self, weights: list, gradients: list) -> None:
        """One step on this replica's copies."""
        moments = adam.Moments(
            tuple(tf.convert_to_tensor(v) for v in self._first),
            tuple(tf.convert_to_tensor(v) for v in self._second),
        )
        step = tf.convert_to_tensor(self._step) + 1
        moved = self._update(step, weights, moments, gradients)
        for variables, values in zip((self._weights, self._first, self._second), moved):
            for variable, value in zip(variables, values):
                variable.assign(value)
        self._step.assign(step)

    def _adam_step(self, step, weights, moments, gradients):
        """(weights, first, second) after step number `step`."""
        _, gradients = add_penalty(self.config, weights, list(gradients))
        which = range(len(weights))
        return adam.apply_step(self.config, step, which, weights, moments, gradients)

    # -- evaluation -----------------------------------------------------------

    def make_evaluation(self, ranks: Callable) -> Callable:
        """Makes a function that evaluates all users, each on one replica.

        Args:
          ranks: ranks(weights, replica, *data) ranks the users of one replica. It returns
            int32 [n] ranks; bool [n], whether a user is the replica's own to count; bool,
            whether all scores are numbers; int32, how many scores it computed for its own
            users.

        Returns:
          A function that takes a list of values of `place` and returns an EvalResult. It
          raises NonFiniteLoss where a score is NaN.
        """
        top_k = self.config.top_k

        def replica(data):
            context = tf.distribute.get_replica_context()
            number = tf.cast(context.replica_id_in_sync_group, tf.int32)
            weights = [tf.convert_to_tensor(v) for v in self._weights]
            rank, own, finite, computed = ranks(weights, number, *data)
            ranked = tf.one_hot(tf.minimum(rank, top_k), top_k + 1)
            # How many users have each rank; sums of whole numbers, so exact in any order.
            counts = tf.reduce_sum(ranked * tf.cast(own, tf.float32)[:, None], axis=0)
            sums = context.all_reduce(_SUM, [counts, tf.cast(~finite, tf.float32)])
            return *sums, context.all_reduce(_SUM, computed)

        run = tf.function(lambda data: self.strategy.run(replica, args=(data,)))

        def evaluate(data) -> EvalResult:
            counts, bad, computed = (self._local(x).numpy() for x in run(data))
            if bad:
                raise NonFiniteLoss("a score of the evaluation is NaN")
            return EvalResult.of_counts(self.config, counts.astype(np.int64), int(computed))

        return evaluate


def _replicated_variable(value: Any) -> tf.Variable:
    """Makes a variable of which every replica keeps and updates its own copy."""
    return tf.Variable(
        value,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
