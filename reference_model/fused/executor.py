"""Where the fused engine's programs run: the interface of an executor, and one device.

The engine decides what is computed and when. An executor knows devices: it keeps the training
state, compiles programs, places arrays, runs and fetches. `distributed.replica_executor` is
the same over several replicas.
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

# train(data, count, remaining) -> the sum of the examples' losses. `data` are placed arrays,
# the arguments of the batch function; `count` is the number of steps; `remaining` is how many
# examples from the first step on are not padding.
Train = Callable[[tuple, int, int], float]
# evaluate(placed batches of users) -> the result over all users.
Evaluate = Callable[[Iterable[Any]], EvalResult]


class Executor(Protocol):
    """Compiles, places, runs and fetches on one device or on several.

    Attributes:
      replicas: devices that share a batch.
      users_per_batch: users in an evaluation batch of one device; 0 leaves the number to
        `EvaluationSpec`.
      can_stream_lists: whether an evaluation may take one batch of users after the other.
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
        """Replaces the weights; moments and step count stay."""

    def compile_training(self, spec: TrainingSpec, batch_of_step: BatchOfStep) -> Train:
        """Makes a function that trains; it is compiled when it is first called."""

    def compile_evaluation(self, spec: EvaluationSpec) -> Evaluate:
        """Makes a function that evaluates; it is compiled when it is first called."""

    def place(self, array: np.ndarray) -> Any:
        """Copies an array to every device."""

    def place_without_copy(self, array: np.ndarray) -> Any:
        """Places an array; the caller must not write to it afterwards."""

    def place_columns(self, array: np.ndarray) -> Any:
        """Places [steps, B]; each device gets its columns of the global batch."""

    def place_evaluation_batches(self, batches: Sequence[EvaluationBatch]) -> list:
        """Places batches of users; returns the argument of the evaluation function."""

    def on_first_device(self, value: Any) -> Any:
        """Returns the tensors that a placed value has on this process's first device."""

    def run_on_first_device(self, function: Callable, *args: Any) -> Any:
        """Calls a function of tensors there; arrays among `args` are placed."""

    def local_weights(self) -> list[tf.Tensor]:
        """Returns the weights as tensors of this process's first device."""


class _PlacedBatch(NamedTuple):
    """An `EvaluationBatch` on the device; `users` are its real users, on the host."""

    arrays: tuple[tf.Tensor, ...]
    users: np.ndarray


class OneDeviceExecutor:
    """Runs the programs on one device in TensorFlow; see `Executor`."""

    replicas = 1
    users_per_batch = 0
    can_stream_lists = True

    def __init__(self, config: EngineConfig, device: str, jit_compile: bool = True):
        """Takes the sizes, the device type and whether XLA compiles the programs."""
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
        """The weights as tensors. A program that needs only these gets no further arguments."""
        return [tf.convert_to_tensor(variable) for variable in self.weights]

    def read(self) -> TrainingState:
        """All variables as tensors."""
        weights = self.read_weights()
        first, second = (
            tuple(tf.convert_to_tensor(variable) for variable in variables)
            for variables in (self._first, self._second)
        )
        step = tf.convert_to_tensor(self._step)
        return TrainingState(weights, adam.Moments(first, second), step)

    def assign(self, state: TrainingState) -> None:
        """Stores a state in the variables."""
        for variables, values in (
            (self.weights, state.weights),
            (self._first, state.moments.first),
            (self._second, state.moments.second),
        ):
            for variable, value in zip(variables, values):
                variable.assign(value)
        self._step.assign(state.step)

    def restart(self, weights: Sequence) -> None:
        """Sets new weights, as if no step had been taken."""
        for variable, value in zip(self.weights, weights):
            variable.assign(value)
        for variable in (*self._first, *self._second):
            variable.assign(tf.zeros_like(variable))
        self._step.assign(0)
