"""The interface of an executor of the fused engine's programs.

The engine determines the computation and its sequence. An executor manages devices: it keeps the
training state, compiles and runs programs, places arrays and fetches results. There are three:
`fused.tensorflow_executor` for one device in TensorFlow, `distributed.replica_executor` for several
replicas, and `pjrt.executor` for one PJRT device.
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, NamedTuple, Protocol, Sequence

import numpy as np

from reference_model.base.config import EngineConfig
from reference_model.base.errors import NonFiniteLoss
from reference_model.engine import EvalResult
from reference_model.fused.evaluation_loop import EvaluationBatch, EvaluationSpec
from reference_model.fused.programs import Program
from reference_model.fused.training_loop import TrainingSpec

# train(data, count, remaining) -> the sum of the examples' losses. `data` are placed arrays, the
# data of the batch function in `training_loop.py`; `count` is the number of steps; `remaining` is
# the number of examples from the first step on, excluding padding.
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

    def enable_determinism(self) -> None:
        """Makes two runs with the same seed bitwise identical, if they are not already."""

    def create_state(self, weights: Sequence[np.ndarray]) -> None:
        """Creates weights, moments and step count on the devices."""

    def restart(self, weights: Sequence[np.ndarray]) -> None:
        """Sets the weights and clears moments and step count."""

    def get_weights(self) -> list[np.ndarray]:
        """Fetches all weights, in weight order."""

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Replaces the weights; moments and step count are unchanged."""

    def compile_training(self, spec: TrainingSpec, batches: str) -> Train:
        """Makes the training function; it is compiled at its first call.

        Args:
          spec: the static parameters.
          batches: a key of `programs.BATCHES`, which determines the `data` of the function.
        """

    def compile_evaluation(self, spec: EvaluationSpec) -> Evaluate:
        """Makes the evaluation function; it is compiled at its first call."""

    def compile_program(self, program: Program, fetches: bool = True) -> Callable[..., list]:
        """Makes a function of placed or host arrays on the first device of this process.

        It returns the outputs on the host, or on the device if `fetches` is false. The program is
        compiled at the first call.
        """

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

    def local_weights(self) -> list:
        """Returns the weights as tensors on the first device; only of executors in TensorFlow."""

    def run_on_first_device(self, function: Callable, *args: Any) -> Any:
        """Calls a TensorFlow function on the first device; only of executors in TensorFlow."""


class PlacedBatch(NamedTuple):
    """An `EvaluationBatch` on one device.

    Attributes:
      arrays: the arrays of the batch, in the order of its fields.
      users: the real users, on the host.
    """

    arrays: tuple
    users: np.ndarray


def evaluate_batches(
    config: EngineConfig, batches: Iterable[PlacedBatch], rank: Callable[..., Sequence]
) -> EvalResult:
    """Evaluates batches of users on one device.

    Args:
      config: the sizes.
      batches: the placed batches of all users.
      rank: rank(*arrays of a batch) -> the outputs of `evaluation_loop.rank_users`.

    Raises:
      NonFiniteLoss: a weight or a score is NaN.
    """
    ranks, computed = np.zeros(config.num_users, np.int64), 0
    for batch in batches:
        found, is_finite, scored = rank(*batch.arrays)
        if not bool(is_finite):
            raise NonFiniteLoss("a score of the evaluation is NaN")
        ranks[batch.users] = np.asarray(found)[: len(batch.users)]
        computed += int(scored)
    return EvalResult.of_ranks(config, ranks, computed)
