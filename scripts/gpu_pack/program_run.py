"""The programs of one case on a PJRT device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from reference_model.data.split import Split
from reference_model.engine import EvalResult
from reference_model.events import NullSink
from reference_model.fused.orders import DeviceOrders
from reference_model.fused.programs import program_specs
from reference_model.model.initial_weights import initial_weights, weight_names
from reference_model.pjrt.client import PjrtClient
from reference_model.pjrt.executor import PjrtExecutor
from reference_model.pjrt.program_folder import ProgramFolder
from reference_model.sampling.epoch_batches import pad_rows
from reference_model.sampling.evaluation_lists import EvaluationLists
from reference_model.sampling.negatives import NegativeSampler
from reference_model.sampling.random_streams import negatives_key, weights_seed
from scripts.gpu_pack.cases import SEED, Case


class ProgramRun:
    """Training and evaluation of a case, step by step."""

    def __init__(self, case: Case, client: PjrtClient, programs: Path):
        """Begins to compile the programs.

        Args:
          case: the case.
          client: the device.
          programs: the folder of the case's programs.
        """
        config = self.config = case.config
        self.training, self.evaluation = program_specs(config, case.device)
        self._executor = PjrtExecutor(config, client, ProgramFolder(programs).code)
        self._names = weight_names(config.mlp_layers)
        self._executor.create_state(self._initial_weights())
        self._train = self._executor.compile_training(self.training, "drawn")
        self._evaluate = self._executor.compile_evaluation(self.evaluation)
        self._orders = DeviceOrders(config, self._executor, NullSink())
        self._orders.begin(SEED)

    def _initial_weights(self) -> list[np.ndarray]:
        weights = initial_weights(self.config, weights_seed(SEED))
        return [weights[name] for name in self._names]

    def load(self, split: Split, host: NegativeSampler, lists: EvaluationLists) -> None:
        """Places the data on the device, and resets weights and moments."""
        place = self._executor.place_without_copy
        self._arrays = [place(x) for x in self.training.sampler.arrays(split, host)]
        batches = list(self.evaluation.batches(lists))
        self._lists = self._executor.place_evaluation_batches(batches)
        self.restart()

    def warm_up(self) -> None:
        """Waits for the compiled programs and runs each once; resets the weights."""
        ids = self.order_on_host()[:1]
        self.train(self.place_order(ids), 1, 0, ids.size, 1)
        self.evaluate()
        self.restart()

    def restart(self) -> None:
        """Resets weights, moments and the number of steps."""
        self._executor.restart(self._initial_weights())

    def order(self, epoch: int) -> Any:
        """Makes the order of an epoch, [steps, batch size], on the device."""
        return next(self._orders.take(epoch))

    def order_on_host(self) -> np.ndarray:
        """Returns the order of epoch 1, on the host."""
        return np.asarray(self.order(1))

    def place_order(self, ids: np.ndarray):
        """Places the order of some steps."""
        return self._executor.place_columns(pad_rows(ids, self.training.steps_per_call))

    def train(self, placed, count: int, first: int, remaining: int, epoch: int) -> float:
        """Trains on a placed order.

        Args:
          placed: that of `place_order` or `order`.
          count: number of steps.
          first: number of the first step within the epoch.
          remaining: number of examples from the first step on.
          epoch: the epoch, for the negatives.

        Returns:
          The sum of the examples' losses.
        """
        place = self._executor.place
        numbers = place(np.int32(first)), place(negatives_key(SEED, epoch))
        return self._train((placed, *numbers, self._arrays), count, remaining)

    def train_epoch(self, epoch: int) -> float:
        """Trains an epoch; returns its mean loss."""
        return self.train_in_order(self.order(epoch), epoch)

    def train_in_order(self, order: Any, epoch: int) -> float:
        """Like `train_epoch`, in an order that is made already."""
        examples = self.config.train_examples
        return self.train(order, len(order), 0, examples, epoch) / examples

    def evaluate(self) -> EvalResult:
        """Ranks the held-out items of all users."""
        return self._evaluate(self._lists)
