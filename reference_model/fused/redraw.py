"""Reproduces the batches of the fused engine, for digests, audits, shards and measurements."""

from __future__ import annotations

from itertools import islice

import numpy as np

from reference_model.fused.executor import Executor
from reference_model.fused.orders import redrawn_order
from reference_model.fused.programs import redraw_program
from reference_model.fused.training_loop import TrainingSpec
from reference_model.sampling.epoch_batches import EpochBatches
from reference_model.sampling.random_streams import negatives_key


class BatchRedrawer:
    """Draws the examples of an epoch on one device and returns them to the host."""

    def __init__(self, spec: TrainingSpec, executor: Executor):
        """Defines the program; it is compiled at the first draw.

        Args:
          spec: the training spec of one device.
          executor: the executor that runs the program.
        """
        self._config, self._executor = spec.config, executor
        # Batches are drawn whole, padded as on one device.
        self._padded_rows = spec.plan.padded_rows
        self._examples = executor.compile_program(redraw_program(spec))

    def epoch_batches(
        self, seed: int, epoch: int, arrays: list, steps: int | None = None
    ) -> EpochBatches:
        """Redraws an epoch.

        Args:
          seed: the run's seed.
          epoch: the epoch number, from 1.
          arrays: the arrays of `SamplerSpec.arrays`, placed by the executor.
          steps: number of steps to draw, from the first; None for all.

        Returns:
          The batches in host memory, 9 bytes per example.
        """
        config, key = self._config, negatives_key(seed, epoch)
        steps = steps or -(-config.train_examples // config.batch_size)
        user, item = np.empty((2, steps, config.batch_size), np.int32)
        label = np.empty(user.shape, bool)
        rows = (row for part in redrawn_order(config, seed, epoch) for row in part)
        for step, row in enumerate(islice(rows, steps)):
            for array, drawn in zip((user, item, label), self.draw_step(row, step, key, arrays)):
                array[step] = drawn
        return EpochBatches(user, item, label, min(config.train_examples, user.size))

    def draw_step(self, ids: np.ndarray, step: int, key: np.ndarray, arrays) -> list[np.ndarray]:
        """Draws user, item and label, [B] each, for the examples `ids` [B] of one step."""
        size = self._config.batch_size
        ids = np.pad(ids, (0, self._padded_rows - size))
        local = [self._executor.on_first_device(array) for array in arrays]
        return [x[:size] for x in self._examples(ids, np.int32(step), key, *local)]
