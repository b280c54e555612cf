"""Runs the fused engine's programs over the replicas of a `tf.distribute` strategy.

The epoch order and the negatives are the same as on one device: every worker makes the order from
the same seed, and each replica takes its columns of every batch and draws the negatives of its
positions in the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from reference_model.base.config import EngineConfig
from reference_model.distributed.replicas import Replicas
from reference_model.fused.evaluation_loop import rank_users
from reference_model.fused.programs import BATCHES
from reference_model.fused.tensorflow_executor import tensorflow_function
from reference_model.fused.training_loop import batch_gradients
from reference_model.model.determinism import enable_determinism


class ReplicaExecutor:
    """Runs the programs over replicas; see `fused.executor.Executor`."""

    can_stream_lists = False

    def __init__(self, config: EngineConfig, strategy: Any, jit_compile: bool = True):
        """Creates the replicas; see `Replicas`.

        Args:
          config: the sizes.
          strategy: a `tf.distribute.Strategy`.
          jit_compile: whether XLA compiles the programs.

        Raises:
          ValueError: the batch cannot be divided evenly by the replicas, or there are too many
            users.
        """
        self._strategy, self._jit = strategy, jit_compile
        self._replicas = Replicas(config, strategy, jit_compile)
        self.replicas = self._replicas.count
        self.users_per_batch = -(-config.num_users // self.replicas)

    # -- state ------------------------------------------------------------------

    def enable_determinism(self):
        enable_determinism()

    def create_state(self, weights):
        self._replicas.create_state(weights)

    def restart(self, weights):
        self._replicas.restart(weights)

    def get_weights(self):
        return self._replicas.get_weights()

    def set_weights(self, weights):
        self._replicas.set_weights(weights)

    def local_weights(self):
        return self._replicas.local_weights()

    # -- programs ---------------------------------------------------------------

    def replica_gradients(self, spec, batch_of_step):
        """Returns the compiled `gradients` argument of `Replicas.make_training`."""

        @tf.function(jit_compile=self._jit, autograph=False)
        def gradients(weights, k, offset, real, *data):
            batch = batch_of_step(k, offset, *data)
            return batch_gradients(spec, weights, batch, offset, real)

        return gradients

    def replica_ranks(self, spec):
        """Returns the compiled `ranks` argument of `Replicas.make_evaluation`."""

        @tf.function(jit_compile=self._jit, autograph=False)
        def ranks(weights, replica, users, rows, lengths, real):
            rank, is_finite, scored = rank_users(spec, weights, users, rows, lengths, real)
            return rank, tf.range(users.shape[0]) < real, is_finite, scored

        return ranks

    def compile_training(self, spec, batches):
        batch_of_step = BATCHES[batches](spec)
        program = self._replicas.make_training(self.replica_gradients(spec, batch_of_step))

        def train(data, count, remaining):
            return float(program(tf.constant(count), tf.constant(remaining), list(data)))

        return train

    def compile_evaluation(self, spec):
        program = self._replicas.make_evaluation(self.replica_ranks(spec))

        def evaluate(batches):
            (fields,) = batches  # each replica has all its users in one batch
            return program(fields)

        return evaluate

    def compile_program(self, program, fetches=True):
        return tensorflow_function(
            program.function, program, self._first_device(), self._jit, fetches
        )

    # -- data -------------------------------------------------------------------

    def place(self, array):
        return self._replicas.place(lambda _: array)

    place_without_copy = place

    def place_columns(self, array):
        return self._replicas.place(lambda replica: self._replicas.columns_of(array, replica))

    def place_evaluation_batches(self, batches):
        batches = list(batches)
        # If there are few users, the last replicas rank only padding.
        no_user = batches[0]._replace(real=np.int32(0))
        batches += [no_user] * (self.replicas - len(batches))
        return [
            [
                self._replicas.place(lambda replica, k=k: batches[replica][k])
                for k in range(len(no_user))
            ]
        ]

    def on_first_device(self, value):
        return self._strategy.experimental_local_results(value)[0]

    def run_on_first_device(self, function, *args):
        with tf.device(self._first_device()):
            return function(*(tf.constant(x) if isinstance(x, np.ndarray) else x for x in args))

    def _first_device(self) -> str:
        return self._strategy.extended.worker_devices[0]
