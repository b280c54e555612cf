"""Runs the fused engine's programs on one PJRT device; see `fused.executor.Executor`."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable

import numpy as np

from reference_model.base.config import EngineConfig
from reference_model.fused.executor import PlacedBatch, evaluate_batches
from reference_model.fused.programs import (
    Program,
    evaluation_program,
    flatten_data,
    training_program,
)
from reference_model.pjrt.client import PjrtClient

# code(program) -> its StableHLO artifact: `lowering.lower` or `ProgramFolder.code`.
Code = Callable[[Program], bytes]


class PjrtExecutor:
    """Runs the programs on one PJRT device."""

    replicas = 1
    users_per_batch = 0
    can_stream_lists = True

    def __init__(self, config: EngineConfig, client: PjrtClient, code: Code):
        """Stores its arguments.

        Args:
          config: the sizes.
          client: the device.
          code: returns the StableHLO code of a program.
        """
        self._config, self._client, self._code = config, client, code
        # Weights, first moments, second moments and step on the device.
        self._state: list[Any] = []
        self._num_weights = 0
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="compile")

    # -- state ------------------------------------------------------------------

    def enable_determinism(self):
        self._client.enable_determinism()

    def create_state(self, weights):
        self._num_weights = len(weights)
        self.restart(weights)

    def restart(self, weights):
        zeros = [np.zeros_like(weight) for weight in weights]
        arrays = (*weights, *zeros, *zeros, np.zeros((), np.int32))
        self._state = [self._client.place(array) for array in arrays]

    def get_weights(self):
        return [np.array(weight) for weight in self._state[: self._num_weights]]

    def set_weights(self, weights):
        placed = [self._client.place(np.asarray(weight, np.float32)) for weight in weights]
        self._state[: self._num_weights] = placed

    def local_weights(self):
        raise NotImplementedError("scores and gradients of single batches require TensorFlow")

    def run_on_first_device(self, function, *args):
        raise NotImplementedError("scores and gradients of single batches require TensorFlow")

    # -- programs ---------------------------------------------------------------

    def compile_training(self, spec, batches):
        program = training_program(spec, batches)
        # Precomputed batches are used by few runs.
        compiled = self._compile(program, is_lazy=batches == "precomputed")

        def train(data, count, remaining):
            numbers = np.int32(count), np.int32(remaining)
            *self._state, loss = compiled()(*self._state, *numbers, *flatten_data(data))
            return float(loss)

        return train

    def compile_evaluation(self, spec):
        compiled = self._compile(evaluation_program(spec))

        def rank(*arrays):
            return compiled()(*self._state[: self._num_weights], *arrays)

        return lambda batches: evaluate_batches(self._config, batches, rank)

    def compile_program(self, program, fetches=True):
        compiled = self._compile(program, is_lazy=True)

        def run(*inputs):
            outputs = compiled()(*inputs)
            return [np.asarray(output) for output in outputs] if fetches else list(outputs)

        return run

    def _compile(self, program: Program, is_lazy: bool = False) -> Callable[[], Callable]:
        """Returns a function that waits for the compiled program.

        Programs that every run uses are compiled immediately, in parallel threads. They are
        lowered in a fixed order, because TensorFlow numbers its objects, and the numbers appear
        in the code.
        """

        def submit() -> Future:
            return self._pool.submit(self._client.compile, program, self._code(program))

        futures: list[Future] = [] if is_lazy else [submit()]

        def compiled() -> Callable:
            if not futures:
                futures.append(submit())
            return futures[0].result()

        return compiled

    # -- data -------------------------------------------------------------------

    def place(self, array):
        return self._client.place(array)

    place_columns = place

    def place_without_copy(self, array):
        return self._client.place_without_copy(array)

    def place_evaluation_batches(self, batches):
        return [
            PlacedBatch(
                (
                    self.place(batch.users),
                    self.place_without_copy(batch.rows),
                    self.place(batch.lengths),
                    batch.real,
                ),
                batch.users[: batch.real],
            )
            for batch in batches
        ]

    def on_first_device(self, value):
        return value
