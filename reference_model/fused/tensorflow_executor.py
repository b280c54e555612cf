"""Runs the fused engine's programs in TensorFlow, on one device."""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np
import tensorflow as tf

from reference_model.base.config import EngineConfig
from reference_model.device_sampling.negatives import to_device
from reference_model.fused.evaluation_loop import rank_users
from reference_model.fused.executor import PlacedBatch, evaluate_batches
from reference_model.fused.programs import BATCHES, Program
from reference_model.fused.training_loop import TrainingState, train_steps
from reference_model.model import adam
from reference_model.model.determinism import enable_determinism


def tensorflow_function(
    program: Program, device: str, jit_compile: bool = True
) -> Callable[..., list[np.ndarray]]:
    """Returns a function that runs a program on a device; see `Executor.compile_program`.

    Args:
      program: the program.
      device: a TensorFlow device, such as "/CPU:0".
      jit_compile: whether XLA compiles the program.
    """
    function = tf.function(program.function, jit_compile=jit_compile)

    def run(*inputs):
        with tf.device(device):
            tensors = [
                tf.constant(x, spec.dtype) if not tf.is_tensor(x) else x
                for x, spec in zip(inputs, program.inputs, strict=True)
            ]
            return [x.numpy() for x in function(*tensors)]

    return run


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

    def enable_determinism(self):
        enable_determinism()

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

    def compile_training(self, spec, batches):
        batch_of_step = BATCHES[batches](spec)

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

        return lambda batches: evaluate_batches(self._config, batches, evaluate)

    def compile_program(self, program):
        return tensorflow_function(program, self._device, self._jit)

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
                PlacedBatch(
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
