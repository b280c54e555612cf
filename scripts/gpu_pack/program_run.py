"""The programs of one case on a PJRT device."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable

import numpy as np

from reference_model.data.split import Split
from reference_model.engine import EvalResult
from reference_model.events import NullSink
from reference_model.fused.orders import DeviceOrders, make_orders, redrawn_order
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
        self._orders = make_orders(config, self._executor, NullSink())
        if isinstance(self._orders, DeviceOrders):
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
        ids = self.first_steps()[:1]
        self.train(self.place_order(ids), 1, 0, ids.size, 1)
        self.evaluate()
        self.restart()

    def restart(self) -> None:
        """Resets weights, moments and the number of steps."""
        self._executor.restart(self._initial_weights())

    def order(self, epoch: int) -> list[Any]:
        """Makes the order of an epoch, [steps, batch size], in parts of one call each.

        Returns:
          One array on the device; or, of programs for CPUs, arrays on the host.
        """
        if isinstance(self._orders, DeviceOrders):
            return list(self._orders.take(epoch))
        parts, steps = redrawn_order(self.config, SEED, epoch), self.training.steps_per_call
        return [
            part[first : first + steps].copy()
            for part in parts for first in range(0, len(part), steps)
        ]

    def first_steps(self) -> np.ndarray:
        """Returns the order of the first call of epoch 1, on the host."""
        return np.asarray(self.order(1)[0])

    def place_order(self, ids: np.ndarray):
        """Places the order of at most `steps_per_call` steps, if it is on the host."""
        if not isinstance(ids, np.ndarray):
            return ids
        return self._executor.place_columns(pad_rows(ids, self.training.steps_per_call))

    def train(self, placed, count: int, first: int, remaining: int, epoch: int) -> float:
        """Trains on a placed order.

        Args:
          placed: that of `place_order`.
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
        return self.train_parts(self.order(epoch), epoch)

    def train_parts(self, parts: Iterable[Any], epoch: int) -> float:
        """Like `train_epoch`, with the parts of an order that is made already."""
        total, steps, config = 0.0, 0, self.config
        for ids in parts:
            remaining = config.train_examples - steps * config.batch_size
            remaining = min(remaining, len(ids) * config.batch_size)
            total += self.train(self.place_order(ids), len(ids), steps, remaining, epoch)
            steps += len(ids)
        return total / config.train_examples

    def evaluate(self) -> EvalResult:
        """Ranks the held-out items of all users."""
        return self._evaluate(self._lists)
