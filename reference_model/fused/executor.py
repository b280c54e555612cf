"""Executors of the fused engine's programs: the interface, and the executor for one device.

The engine determines the computation and its sequence. An executor manages devices: it keeps the
training state, compiles and runs programs, places arrays and fetches results.
`distributed.replica_executor` implements the interface for several replicas.
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, NamedTuple, Protocol, Sequence

import numpy as np
import tensorflow as tf

from reference_model.base.config import EngineConfig
from reference_model.base.errors import NonFiniteLoss
from reference_model.device_sampling.negatives import to_device
from reference_model.engine import EvalResult
from reference_model.fused.evaluation_loop import EvaluationBatch, EvaluationSpec, rank_users
from reference_model.fused.training_loop import (
    BatchOfStep,
    TrainingSpec,
    TrainingState,
    train_steps,
)
from reference_model.model import adam

# train(data, count, remaining) -> the sum of the examples' losses. `data` are placed arrays, the
# arguments of the batch function; `count` is the number of steps; `remaining` is the number of
# examples from the first step on, excluding padding.
Train = Callable[[tuple, int, int], float]
# evaluate(placed batches of users) -> the result over all users.
Evaluate = Callable[[Iterable[Any]], EvalResult]


class Executor(Protocol):
    """Runs programs on one device or several.

    Attributes:
      replicas: number of devices that share a batch.
      users_per_batch: users per evaluation batch of one device; 0 to let `EvaluationSpec`
        choose.
      can_stream_lists: whether an evaluation can process its batches of users one by one.
    """

    replicas: int
    users_per_batch: int
    can_stream_lists: bool

    def create_state(self, weights: Sequence[np.ndarray]) -> None:
        """Creates weights, moments and step count on the devices."""

    def restart(self, weights: Sequence[np.ndarray]) -> None:
        """Sets the weights and clears moments and step count."""

    def get_weights(self) -> list[np.ndarray]:
        """Fetches all weights, in weight order."""

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Replaces the weights; moments and step count are unchanged."""

    def compile_training(self, spec: TrainingSpec, batch_of_step: BatchOfStep) -> Train:
        """Makes the training function; it is compiled at its first call."""

    def compile_evaluation(self, spec: EvaluationSpec) -> Evaluate:
        """Makes the evaluation function; it is compiled at its first call."""

    def place(self, array: np.ndarray) -> Any:
        """Copies an array to every device."""

    def place_without_copy(self, array: np.ndarray) -> Any:
        """Places an array, without a copy if possible; the caller must not write to it later."""

    def place_columns(self, array: np.ndarray) -> Any:
        """Places an array [steps, B]; each device receives its columns of the global batch."""

    def place_evaluation_batches(self, batches: Sequence[EvaluationBatch]) -> list:
        """Places evaluation batches; returns the argument of the evaluation function."""

    def on_first_device(self, value: Any) -> Any:
        """Returns the component of a placed value on the first device of this process."""

    def run_on_first_device(self, function: Callable, *args: Any) -> Any:
        """Calls `function` on the first device of this process; places arrays in `args`."""

    def local_weights(self) -> list[tf.Tensor]:
        """Returns the weights as tensors on the first device of this process."""


class _PlacedBatch(NamedTuple):
    """An `EvaluationBatch` on the device; `users` are the real users, on the host."""

    arrays: tuple[tf.Tensor, ...]
    users: np.ndarray


class OneDeviceExecutor:
    """Runs the programs on one device in TensorFlow; see `Executor`."""

    replicas = 1
    users_per_batch = 0
    can_stream_lists = True

    def __init__(self, config: EngineConfig, device: str, jit_compile: bool = True):
        """Stores the sizes, the device type and whether XLA compiles the programs."""
        self._config = config
        self._device = f"/{device.upper()}:0"
        self._jit = jit_compile
        self._state: _StateVariables | None = None

    # -- state ------------------------------------------------------------------

    def create_state(self, weights):
        with tf.device(self._device):
            self._state = _StateVariables(weights)

    def restart(self, weights):
        self._state.restart(weights)

    def get_weights(self):
        return [variable.numpy() for variable in self._state.weights]

    def set_weights(self, weights):
        for variable, value in zip(self._state.weights, weights):
            variable.assign(value)

    def local_weights(self):
        with tf.device(self._device):
            return self._state.read_weights()

    # -- programs ---------------------------------------------------------------

    def compile_training(self, spec, batch_of_step):
        @tf.function(jit_compile=self._jit)
        def train(data, count, remaining):  # the name appears in profiles
            state, loss = train_steps(
                spec, self._state.read(), lambda k: batch_of_step(k, None, *data), count, remaining
            )
            self._state.assign(state)
            return loss

        def run(data, count, remaining):
            with tf.device(self._device):
                numbers = (tf.constant(x, tf.int32) for x in (count, remaining))
                return float(train(data, *numbers))

        return run

    def compile_evaluation(self, spec):
        @tf.function(jit_compile=self._jit)
        def evaluate(users, rows, lengths, real):  # the name appears in profiles
            return rank_users(spec, self._state.read_weights(), users, rows, lengths, real)

        def run(batches):
            rank, computed = np.zeros(self._config.num_users, np.int64), 0
            for batch in batches:
                found, is_finite, scored = evaluate(*batch.arrays)
                if not bool(is_finite):
                    raise NonFiniteLoss("a score of the evaluation is NaN")
                rank[batch.users] = found.numpy()[: len(batch.users)]
                computed += int(scored)
            return EvalResult.of_ranks(self._config, rank, computed)

        return run

    # -- data -------------------------------------------------------------------

    def place(self, array):
        with tf.device(self._device):
            return tf.constant(array)

    def place_without_copy(self, array):
        with tf.device(self._device):
            return to_device(array)

    place_columns = place

    def place_evaluation_batches(self, batches):
        with tf.device(self._device):
            return [
                _PlacedBatch(
                    (
                        tf.constant(batch.users),
                        to_device(batch.rows),
                        tf.constant(batch.lengths),
                        tf.constant(batch.real),
                    ),
                    batch.users[: batch.real],
                )
                for batch in batches
            ]

    def on_first_device(self, value):
        return value

    def run_on_first_device(self, function, *args):
        with tf.device(self._device):
            return function(*(tf.constant(x) if isinstance(x, np.ndarray) else x for x in args))


class _StateVariables:
    """Weights, moments and step count as variables of one device, in weight order."""

    def __init__(self, weights: Sequence):
        self.weights = [tf.Variable(w, dtype=tf.float32) for w in weights]
        self._first = [tf.Variable(tf.zeros_like(w)) for w in self.weights]
        self._second = [tf.Variable(tf.zeros_like(w)) for w in self.weights]
        self._step = tf.Variable(0, dtype=tf.int32)

    def read_weights(self) -> list[tf.Tensor]:
        """Returns only the weights as tensors, so that programs have no unused arguments."""
        return [tf.convert_to_tensor(variable) for variable in self.weights]

    def read(self) -> TrainingState:
        """Returns all variables as tensors."""
        weights = self.read_weights()
        first, second = (
            tuple(tf.convert_to_tensor(variable) for variable in variables)
            for variables in (self._first, self._second)
        )
        step = tf.convert_to_tensor(self._step)
        return TrainingState(weights, adam.Moments(first, second), step)

    def assign(self, state: TrainingState) -> None:
        """Assigns a state to the variables."""
        for variables, values in (
            (self.weights, state.weights),
            (self._first, state.moments.first),
            (self._second, state.moments.second),
        ):
            for variable, value in zip(variables, values):
                variable.assign(value)
        self._step.assign(state.step)

    def restart(self, weights: Sequence) -> None:
        """Sets new weights and clears moments and step count."""
        for variable, value in zip(self.weights, weights):
            variable.assign(value)
        for variable in (*self._first, *self._second):
            variable.assign(tf.zeros_like(variable))
        self._step.assign(0)
