"""Runs the fused engine's programs in TensorFlow, on one device.

A program is either traced, or its lowered StableHLO code is called. With stored code, a run traces
nothing.
"""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np
import tensorflow as tf

from reference_model.base.config import EngineConfig
from reference_model.device_sampling.negatives import to_device
from reference_model.fused.executor import PlacedBatch, evaluate_batches
from reference_model.fused.programs import (
    Program,
    evaluation_program,
    flatten_data,
    flatten_state,
    training_program,
    unflatten_state,
)
from reference_model.fused.training_loop import TrainingState
from reference_model.model import adam
from reference_model.model.determinism import enable_determinism


# Version of the calling convention of XlaCallModule: modules have several platforms (7) and may
# be checked for their shapes (9); documented in TensorFlow's call_module op.
_CALL_VERSION = 9
# More objects than TensorFlow creates while it lowers or traces a program.
_OBJECTS_PER_PROGRAM = 100_000


def call_lowered(program: Program, code: Callable[[], bytes]) -> Callable[..., list]:
    """Returns a function of tensors that calls the lowered code of a program on a CPU.

    Args:
      program: describes the outputs.
      code: returns the code; called when the function is traced.
    """
    # TensorFlow has no public name for this operation, which other frameworks' converters use.
    from tensorflow.compiler.tf2xla.python import xla

    def call(*inputs):
        return xla.call_module(
            list(inputs),
            version=_CALL_VERSION,
            module=code(),
            Sout=[spec.shape for spec in program.outputs],
            Tout=[tf.dtypes.as_dtype(spec.dtype) for spec in program.outputs],
            platforms=["CPU"],
            disabled_checks=["platform"],
        )

    return call


def _fix_name(function: tf.types.experimental.PolymorphicFunction, number: int) -> None:
    """Makes the name of a function that is not yet traced the same in every process.

    The name contains a counter of TensorFlow's objects, and XLA's cache of compiled programs is
    keyed by the name. So the counter is moved to a number that the process has not yet reached.
    """
    if function.experimental_get_tracing_count() > 0:
        return
    from tensorflow.python.framework import ops

    while ops.uid() < number * _OBJECTS_PER_PROGRAM:
        pass


def tensorflow_function(
    function: Callable[..., Sequence],
    program: Program,
    device: str,
    jit_compile: bool = True,
    fetches: bool = True,
) -> Callable[..., list]:
    """Returns a function that runs a program on a device; see `Executor.compile_program`.

    Args:
      function: `program.function`, or `call_lowered` of the program.
      program: describes the inputs.
      device: a TensorFlow device, such as "/CPU:0".
      jit_compile: whether XLA compiles the program.
      fetches: whether the outputs are fetched to the host.
    """
    compiled = tf.function(function, jit_compile=jit_compile, autograph=False)

    def run(*inputs):
        with tf.device(device):
            tensors = [
                tf.constant(x, spec.dtype) if not tf.is_tensor(x) else x
                for x, spec in zip(inputs, program.inputs, strict=True)
            ]
            return [x.numpy() if fetches else x for x in compiled(*tensors)]

    return run


class OneDeviceExecutor:
    """Runs the programs on one device in TensorFlow; see `Executor`."""

    replicas = 1
    users_per_batch = 0
    can_stream_lists = True

    def __init__(
        self,
        config: EngineConfig,
        device: str,
        jit_compile: bool = True,
        code: Callable[[Program], bytes] | None = None,
    ):
        """Stores its arguments.

        Args:
          config: the sizes.
          device: the device type.
          jit_compile: whether XLA compiles the programs.
          code: returns the StableHLO code of a program for CPUs; None traces the programs.
        """
        self._config = config
        self._device = f"/{device.upper()}:0"
        self._jit = jit_compile
        self._code = code
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

    def _function(self, program: Program, is_lazy: bool = True) -> Callable[..., Sequence]:
        """Returns the traced or lowered program; makes its code now, unless `is_lazy`."""
        if self._code is None:
            return program.function
        if is_lazy:
            return call_lowered(program, lambda: self._code(program))
        code = self._code(program)
        return call_lowered(program, lambda: code)

    def compile_training(self, spec, batches):
        # Precomputed batches are used by few runs.
        function = self._function(training_program(spec, batches), batches == "precomputed")

        @tf.function(jit_compile=self._jit, autograph=False)
        def train(data, count, remaining):  # the name appears in profiles
            state = flatten_state(self._state.read())
            *state, loss = function(*state, count, remaining, *flatten_data(data))
            self._state.assign(unflatten_state(state))
            return loss

        def run(data, count, remaining):
            _fix_name(train, 1)
            with tf.device(self._device):
                numbers = (tf.constant(x, tf.int32) for x in (count, remaining))
                return float(train(data, *numbers))

        return run

    def compile_evaluation(self, spec):
        function = self._function(evaluation_program(spec), is_lazy=False)

        @tf.function(jit_compile=self._jit, autograph=False)
        def evaluate(users, rows, lengths, real):  # the name appears in profiles
            return function(*self._state.read_weights(), users, rows, lengths, real)

        def run(batches):
            _fix_name(evaluate, 2)
            return evaluate_batches(self._config, batches, evaluate)

        return run

    def compile_program(self, program, fetches=True):
        return tensorflow_function(
            self._function(program), program, self._device, self._jit, fetches
        )

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
