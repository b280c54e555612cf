"""Weights and steps over the replicas of a `tf.distribute` strategy.

Each replica computes the gradient of its part of the global batch in one XLA program. An
all-reduce outside of that program sums the gradients. Then each replica takes the same Adam step
on its own copy of the weights. The sum is divided by the global batch size, so a step does not
depend on the number of replicas. The global replica index determines the examples and users of a
replica, so nothing is drawn or read twice, and nothing depends on the placement of replicas on
workers.
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
# Devices count hits in float32, which is exact below this number.
_MOST_USERS = 2**24


class Replicas:
    """Weights, moments and step count, with one copy on each replica.

    Attributes:
      count: number of replicas on all workers.
      batch: number of examples per replica and step.
    """

    def __init__(self, config: EngineConfig, strategy: Any, jit_compile: bool):
        """Stores its arguments.

        Args:
          config: the sizes.
          strategy: a `tf.distribute.Strategy`.
          jit_compile: whether XLA compiles the update.

        Raises:
          ValueError: the batch cannot be divided evenly by the replicas, or there are too many
            users.
        """
        count = strategy.num_replicas_in_sync
        if config.batch_size % count:
            raise ValueError(
                f"batch size {config.batch_size} cannot be divided evenly by {count} replicas"
            )
        if config.num_users >= _MOST_USERS:
            raise ValueError(f"{config.num_users} users exceed the maximum of {_MOST_USERS - 1}")
        self.config, self.strategy, self.count = config, strategy, count
        self.batch = config.batch_size // count
        self._update = tf.function(self._adam_step, jit_compile=jit_compile, autograph=False)
        # Set by `create_state`: weights, first and second moments, step count.
        self._weights: list[tf.Variable] = []
        self._first: list[tf.Variable] = []
        self._second: list[tf.Variable] = []
        self._step: tf.Variable | None = None

    # -- weights --------------------------------------------------------------

    def create_state(self, weights: Sequence[np.ndarray]) -> None:
        """Creates the copies of all replicas; moments and step count start at zero."""
        with self.strategy.scope():
            self._weights = [_replicated_variable(w) for w in weights]
            self._first = [_replicated_variable(np.zeros_like(w)) for w in weights]
            self._second = [_replicated_variable(np.zeros_like(w)) for w in weights]
            self._step = _replicated_variable(np.int32(0))

    def get_weights(self) -> list[np.ndarray]:
        """Fetches the weights, which are identical on all replicas."""
        return [weight.numpy() for weight in self.local_weights()]

    def local_weights(self) -> list[tf.Tensor]:
        """Returns the weights of the first replica of this process."""
        return [self._local(v) for v in self._weights]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        for variable, value in zip(self._weights, weights):
            variable.assign(value)

    def restart(self, weights: Sequence[np.ndarray]) -> None:
        """Sets new weights and clears moments and step count."""
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
          make: returns the value of a replica, given its global index.

        Returns:
          A per-replica value of `tf.distribute`.
        """
        devices = self.strategy.extended.worker_devices

        def one(context: Any) -> tf.Tensor:
            number = int(context.replica_id_in_sync_group)
            with tf.device(devices[number % len(devices)]):
                return tf.constant(make(number))

        return self.strategy.experimental_distribute_values_from_function(one)

    def columns_of(self, values: np.ndarray, replica: int) -> np.ndarray:
        """Returns a replica's columns [steps, B / count] of values [steps, B]."""
        return np.ascontiguousarray(values[:, replica * self.batch : (replica + 1) * self.batch])

    # -- training -------------------------------------------------------------

    def make_training(self, gradients: Callable) -> Callable:
        """Makes the training function.

        Args:
          gradients: gradients(weights, k, offset, real, *data) computes one replica's part of
            step k: (sum of its cross-entropies, gradients of that sum / global batch size).
            `offset` is the position of its first example in the global batch; `real` is the
            number of examples of the global batch, excluding padding.

        Returns:
          A function of (count, remaining, data) that takes `count` steps and returns the sum of all
          losses, float64. `remaining` is the number of examples from the first step on, excluding
          padding; `data` are values returned by `place`.
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

        # Not a `for` loop: AutoGraph would convert it with everything that it calls, in seconds.
        @tf.function(autograph=False)
        def train(count, remaining, data):
            def one_step(k, total):
                loss = self.strategy.run(replica, args=(k, remaining, data))
                return k + 1, total + tf.cast(self._local(loss), tf.float64)

            start = tf.constant(0), tf.constant(0.0, tf.float64)
            return tf.while_loop(lambda k, _: k < count, one_step, start)[1]

        return train

    def _apply(self, weights: list, gradients: list) -> None:
        """Takes one step on the copies of this replica."""
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
        """Returns (weights, first, second) after step number `step`."""
        _, gradients = add_penalty(self.config, weights, list(gradients))
        which = range(len(weights))
        return adam.apply_step(self.config, step, which, weights, moments, gradients)

    # -- evaluation -----------------------------------------------------------

    def make_evaluation(self, ranks: Callable) -> Callable:
        """Makes the evaluation function; each user is evaluated on one replica.

        Args:
          ranks: ranks(weights, replica, *data) ranks the users of one replica. It returns
            the ranks, int32 [n]; a mask of real users, bool [n]; whether no score is NaN, bool;
            and the number of scores computed for the real users, int32.

        Returns:
          A function that takes a list of values returned by `place` and returns an EvalResult. It
          raises NonFiniteLoss if a score is NaN.
        """
        top_k = self.config.top_k

        def replica(data):
            context = tf.distribute.get_replica_context()
            number = tf.cast(context.replica_id_in_sync_group, tf.int32)
            weights = [tf.convert_to_tensor(v) for v in self._weights]
            rank, own, finite, computed = ranks(weights, number, *data)
            ranked = tf.one_hot(tf.minimum(rank, top_k), top_k + 1)
            # Histogram of the ranks. The sums are of integers, so they are exact in any order.
            counts = tf.reduce_sum(ranked * tf.cast(own, tf.float32)[:, None], axis=0)
            sums = context.all_reduce(_SUM, [counts, tf.cast(~finite, tf.float32)])
            return *sums, context.all_reduce(_SUM, computed)

        run = tf.function(
            lambda data: self.strategy.run(replica, args=(data,)), autograph=False
        )

        def evaluate(data) -> EvalResult:
            counts, bad, computed = (self._local(x).numpy() for x in run(data))
            if bad:
                raise NonFiniteLoss("a score of the evaluation is NaN")
            return EvalResult.of_counts(self.config, counts.astype(np.int64), int(computed))

        return evaluate


def _replicated_variable(value: Any) -> tf.Variable:
    """Creates a variable with a separate copy on every replica."""
    return tf.Variable(
        value,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
