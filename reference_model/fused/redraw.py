"""Makes again what the fused engine drew: for digests, audits, shards and measuring."""

from __future__ import annotations

from itertools import islice

import numpy as np
import tensorflow as tf

from reference_model.device_sampling.epoch_order import EpochOrders
from reference_model.fused.executor import Executor
from reference_model.fused.training_loop import TrainingSpec, examples
from reference_model.sampling.epoch_batches import EpochBatches
from reference_model.sampling.random_streams import negatives_key


class BatchRedrawer:
    """Draws the examples of an epoch on one device and hands them to the host."""

    def __init__(self, spec: TrainingSpec, executor: Executor, jit_compile: bool = True):
        """Takes one device's program, what runs it, and whether XLA compiles it."""
        self._config, self._executor = spec.config, executor
        # A draw takes whole batches, padded as one device pads them.
        self._padded_rows = spec.plan.padded_rows
        self._examples = tf.function(
            lambda *args: examples(spec, *args), jit_compile=jit_compile
        )

    def epoch_batches(
        self, seed: int, epoch: int, arrays: list, steps: int | None = None
    ) -> EpochBatches:
        """Draws an epoch again.

        Args:
          seed: the run's seed.
          epoch: counts from 1.
          arrays: the arrays of `SamplerSpec.arrays`, placed by the executor.
          steps: draws the first steps alone; None draws all.

        Returns:
          The batches in host memory, 9 bytes an example.
        """
        config, key = self._config, negatives_key(seed, epoch)
        steps = steps or -(-config.train_examples // config.batch_size)
        user, item = np.empty((2, steps, config.batch_size), np.int32)
        label = np.empty(user.shape, bool)
        # An order with memory of its own, since a run may be using the engine's.
        orders = EpochOrders(config.train_examples, config.batch_size, 1 + config.train_negatives)
        rows = (row for part in orders.of(seed, epoch) for row in part)
        for step, row in enumerate(islice(rows, steps)):
            for array, drawn in zip((user, item, label), self.draw_step(row, step, key, arrays)):
                array[step] = drawn
        return EpochBatches(user, item, label, min(config.train_examples, user.size))

    def draw_step(self, ids: np.ndarray, step: int, key: np.ndarray, arrays) -> list[np.ndarray]:
        """Draws user, item and label, [B] each, of the examples `ids` [B] of one step."""
        size = self._config.batch_size
        ids = np.pad(ids, (0, self._padded_rows - size))
        local = [self._executor.on_first_device(array) for array in arrays]
        drawn = self._executor.run_on_first_device(
            self._examples, ids, tf.constant(step), key, local
        )
        return [x.numpy()[:size] for x in drawn]
