"""The fused engine: NeuMF optimized for speed, with many steps per XLA program.

This module implements the phases of a run: untimed compilation, loading of the dataset, training
and evaluation. The mathematics is in `gradients.py` and `scoring.py`, the compiled loops are in
`training_loop.py` and `evaluation_loop.py`, and an executor (`executor.py`) runs them on one
device or several. `keras_engine.ReferenceEngine` computes the same function without these
optimizations and is the oracle for this engine.
"""

from __future__ import annotations

import contextlib
import ctypes
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterable, Iterator, Mapping

import numpy as np

from reference_model.base.config import OPTIMIZERS, PRECISIONS, EngineConfig
from reference_model.base.errors import NonFiniteLoss
from reference_model.base.lazy_modules import tf
from reference_model.data.split import Split
from reference_model.device_sampling.negatives import SamplerSpec
from reference_model.engine import Batch, EvalResult, TrainResult
from reference_model.engine_support.log_facts import (
    log_model_config,
    log_synthetic_run,
    log_training_config,
    make_and_log_lists,
    make_evaluation_lists,
)
from reference_model.engine_support.synthetic_epoch import train_synthetic_epoch
from reference_model.events import EventSink
from reference_model.fused.evaluation_loop import EvaluationBatch, EvaluationSpec
from reference_model.fused.executor import Evaluate, Executor, Train
from reference_model.fused_math.gradients import loss_and_gradients
from reference_model.fused.orders import DeviceOrders, make_orders
from reference_model.fused_math.plan import make_plan
from reference_model.fused.programs import sampling_program
from reference_model.fused.redraw import BatchRedrawer
from reference_model.fused_math.scoring import list_scores, scoring_tables
from reference_model.fused.training_loop import TrainingSpec
from reference_model.model.l2_penalty import add_penalty
from reference_model.model.initial_weights import check_sizes, initial_weights, weight_names
from reference_model.sampling.epoch_batches import EpochBatches, pad_rows
from reference_model.sampling.evaluation_lists import EvaluationLists, StreamedEvaluationLists
from reference_model.sampling.negatives import NegativeSampler, make_sampler
from reference_model.sampling.random_streams import (
    STREAM_EVALUATION,
    negatives_key,
    stream,
    weights_seed,
)


def release_freed_memory() -> None:
    """Returns memory freed by the compiler to the system, if the C library supports it."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        pass


class FusedEngine:
    """NeuMF in a few compiled programs; see `reference_model.engine.Engine`.

    With precision bfloat16, matrix products round their operands to bfloat16 and accumulate in
    float32. Accelerators also store projected tables, activations and their gradients as bfloat16.
    Weights, moments and all other values stay float32.
    """

    name = "fused"

    def __init__(
        self,
        config: EngineConfig,
        sink: EventSink,
        device: str = "cpu",
        jit_compile: bool = True,
        executor: Executor | None = None,
    ):
        """Stores its arguments; accesses no device.

        Args:
          config: sizes and hyperparameters.
          sink: receives the facts to log.
          device: the device type, "cpu", "gpu" or "tpu".
          jit_compile: whether XLA compiles the programs; disabled in tests.
          executor: runs the programs; None for one device in TensorFlow.

        Raises:
          ValueError: the engine does not support `config`.
        """
        _check_config(config, self.name)
        self.config = config
        self._sink = sink
        self._device_type = device
        self._executor = executor or _tensorflow_executor(config, device, jit_compile)
        self._weight_names = weight_names(config.mlp_layers)
        sampler = SamplerSpec.of(config.num_users, config.num_items, config.num_positives)
        self._training = TrainingSpec.of(config, device, sampler, self._executor.replicas)
        self._evaluation = EvaluationSpec.of(config, device, self._executor.users_per_batch)
        one_device = TrainingSpec.of(config, device, sampler)
        self._sample = self._executor.compile_program(sampling_program(one_device))
        self._redrawer = BatchRedrawer(one_device, self._executor)
        self._orders = make_orders(config, self._executor, sink)
        # Set by `prepare`.
        self._train: Train | None = None
        self._train_on_batches: Train | None = None
        self._evaluate: Evaluate | None = None
        # Set by `reset` and `load`.
        self._seed: int | None = None
        self._split: Split | None = None
        self._arrays: list | None = None
        self._lists: list | StreamedEvaluationLists | None = None

    # -- untimed ------------------------------------------------------------

    def prepare(self) -> None:
        config, executor = self.config, self._executor
        if config.deterministic:
            executor.enable_determinism()
        weights = initial_weights(config, seed=0)
        executor.create_state([weights[name] for name in self._weight_names])
        batches = "synthetic" if config.synthetic else "drawn"
        self._train = executor.compile_training(self._training, batches)
        # Used only if the batches come from shards.
        self._train_on_batches = executor.compile_training(self._training, "precomputed")
        self._evaluate = executor.compile_evaluation(self._evaluation)
        log_model_config(config, self._sink, self._training.plan.logged_operands)
        self._warm_up()

    def _warm_up(self) -> None:
        """Compiles each program by running one iteration of its loop on random ids."""
        config = self.config
        if config.synthetic:
            self._run_synthetic(1, config.batch_size, negatives_key(0, 0))
        else:
            self._place_sampler_arrays(self._training.sampler.warmup_arrays())
            ids = self._warmup_ids()
            if isinstance(self._orders, DeviceOrders):
                ids = self._orders.warm_up()
            self._run_steps(ids, 1, 0, config.batch_size, negatives_key(0, 0))
            self._arrays = None
        one = np.zeros((1, config.eval_negatives + 1), np.int32)
        lists = EvaluationLists(one, one > 0)
        with contextlib.suppress(NonFiniteLoss):  # the step may have diverged; only compile
            self._evaluate(self._place_lists(lists))
        release_freed_memory()

    def _place_sampler_arrays(self, arrays: list[np.ndarray]) -> None:
        self._arrays = [self._executor.place_without_copy(array) for array in arrays]

    def _warmup_ids(self) -> np.ndarray:
        """Returns random ids [steps, B] of the order's dtype, for one call."""
        config = self.config
        size = (self._training.steps_per_call, config.batch_size)
        most = min(config.train_examples, 2 * config.num_positives)
        return np.random.default_rng(0).integers(0, most, size, self._orders.dtype)

    def reset(self, seed: int) -> None:
        self._seed = seed
        weights = initial_weights(self.config, weights_seed(seed))
        self._executor.restart([weights[name] for name in self._weight_names])

    # -- timed --------------------------------------------------------------

    def load(self, split: Split | None) -> None:
        config, sampler = self.config, self._training.sampler
        self.close()
        if split is None:
            self.load_lists(log_synthetic_run(config, self._sink))
            return
        self._split = split
        log_training_config(config, sampler.name, self._sink, order_method=config.order)
        # Only the order is prepared in advance; negatives are drawn in the step.
        self._orders.begin(self._seed)
        host_sampler = make_sampler(split)
        is_given = split.eval_negatives is not None
        self.load_lists(
            make_and_log_lists(config, is_given, lambda: self._draw_lists(host_sampler), self._sink)
        )
        self._place_sampler_arrays(sampler.arrays(split, host_sampler))
        release_freed_memory()

    def _draw_lists(
        self, host_sampler: NegativeSampler
    ) -> EvaluationLists | StreamedEvaluationLists:
        """Draws all evaluation lists, or streams them if they are large."""
        if self._evaluation.keeps_all_lists or not self._executor.can_stream_lists:
            return make_evaluation_lists(self.config, self._split, host_sampler, self._seed)
        return self._streamed_lists(host_sampler)

    def _streamed_lists(self, host_sampler: NegativeSampler) -> StreamedEvaluationLists:
        return StreamedEvaluationLists(
            self._split,
            self.config.eval_negatives,
            host_sampler,
            lambda: stream(self._seed, STREAM_EVALUATION),
            EvaluationSpec.of(self.config, self._device_type).users_per_batch,
        )

    def load_lists(self, lists: EvaluationLists | StreamedEvaluationLists) -> None:
        """Takes evaluation lists; called by `load` and by runs on precomputed batches."""
        if not isinstance(lists, StreamedEvaluationLists):
            lists = self._place_lists(lists)
        self._lists = lists

    def _place_lists(self, lists: EvaluationLists) -> list:
        return self._executor.place_evaluation_batches(list(self._evaluation.batches(lists)))

    def train_epoch(self, epoch: int) -> TrainResult:
        if self.config.synthetic:
            return train_synthetic_epoch(
                self.config, self._sink, self._seed, epoch, self._run_synthetic
            )
        config, key = self.config, negatives_key(self._seed, epoch)
        total, steps = 0.0, 0
        for ids in self._take_order(epoch):
            remaining = config.train_examples - steps * config.batch_size
            # The program counts in 32 bits.
            remaining = min(remaining, len(ids) * config.batch_size)
            total += self._run_steps(ids, len(ids), steps, remaining, key)
            steps += len(ids)
        loss = total / config.train_examples
        if not np.isfinite(loss):
            raise NonFiniteLoss(f"the loss of epoch {epoch} is {loss}")
        return TrainResult(loss=loss, examples=config.train_examples, steps=steps)

    def _take_order(self, epoch: int) -> Iterator[Any]:
        """Yields the epoch order in arrays [steps, B] of at most `steps_per_call` steps."""
        steps_per_call = self._training.steps_per_call
        for ids in self._orders.take(epoch):
            if not isinstance(ids, np.ndarray):  # the whole epoch, on the device
                yield ids
                continue
            for first in range(0, len(ids), steps_per_call):
                yield ids[first : first + steps_per_call]

    def _run_steps(self, ids: np.ndarray, count: int, first: int, remaining: int, key) -> float:
        """Trains `count` steps; `first` is the number of the first step within the epoch."""
        executor = self._executor
        numbers = executor.place(np.int32(first)), executor.place(key)
        if isinstance(ids, np.ndarray):
            ids = self._place_batches(ids)
        data = (ids, *numbers, self._arrays)
        return self._train(data, count, remaining)

    def _run_synthetic(self, steps: int, examples: int, key: np.ndarray) -> float:
        """Trains on synthetic batches; returns the sum of the examples' losses."""
        return self._train((self._executor.place(key),), steps, examples)

    def _place_batches(self, rows: np.ndarray) -> Any:
        """Places rows [steps, B], padded to the static number of steps of the program."""
        return self._executor.place_columns(pad_rows(rows, self._training.steps_per_call))

    def evaluate(self) -> EvalResult:
        return self._evaluate(self._placed_evaluation_batches())

    def _placed_evaluation_batches(self) -> Iterator[Any]:
        """Yields the placed batches of an evaluation.

        Streamed lists are drawn in a background thread while the previous batch runs.
        """
        if not isinstance(self._lists, StreamedEvaluationLists):
            yield from self._lists
            return
        drawn = self._drawn_evaluation_batches(self._lists)
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(next, drawn, None)
            while (batch := ahead.result()) is not None:
                ahead = pool.submit(next, drawn, None)
                yield from self._executor.place_evaluation_batches([batch])

    def _drawn_evaluation_batches(
        self, parts: StreamedEvaluationLists
    ) -> Iterator[EvaluationBatch]:
        first_user = 0
        for lists in parts:
            yield from self._evaluation.batches(lists, first_user)
            first_user += len(lists.items)

    def close(self) -> None:
        self._orders.close()

    # -- audits, digests and shards -------------------------------------------

    def prepare_sampling(self) -> None:
        """Replaces `prepare` for an engine that does not train; compiles only the sampling."""
        self._place_sampler_arrays(self._training.sampler.warmup_arrays())
        key = negatives_key(0, 0)
        self._redrawer.draw_step(self._warmup_ids()[0], 0, key, self._arrays)
        self._arrays = None

    def load_for_sampling(self, split: Split, seed: int) -> None:
        """Replaces `reset` and `load` for an engine that does not train."""
        self._split, self._seed = split, seed
        self._place_sampler_arrays(self._training.sampler.arrays(split, make_sampler(split)))

    def epoch_batches(self, epoch: int, steps: int | None = None) -> EpochBatches:
        """Reproduces, from the seed, the batches of `train_epoch(epoch)`.

        Args:
          epoch: the epoch number, from 1.
          steps: number of steps to draw, from the first; None for all.

        Returns:
          The batches in host memory, 9 bytes per example.
        """
        return self._redrawer.epoch_batches(self._seed, epoch, self._arrays, steps)

    def evaluation_lists(self) -> EvaluationLists:
        """Reproduces, from the seed, the lists that `evaluate` ranks."""
        sampler = make_sampler(self._split)
        return make_evaluation_lists(self.config, self._split, sampler, self._seed)

    def streamed_evaluation_lists(self) -> Iterable[EvaluationLists]:
        """Like `evaluation_lists`, but large lists are streamed, some users at a time."""
        host_sampler = make_sampler(self._split)
        if EvaluationSpec.of(self.config, self._device_type).keeps_all_lists:
            return [make_evaluation_lists(self.config, self._split, host_sampler, self._seed)]
        return self._streamed_lists(host_sampler)

    def sample_epoch(self, epoch: int) -> int:
        """Makes the order and the examples of an epoch without training, for measurements.

        Returns:
          The number of examples.
        """
        key, first = negatives_key(self._seed, epoch), 0
        arrays = [self._executor.on_first_device(array) for array in self._arrays]
        for ids in self._take_order(epoch):
            rows = ids
            if isinstance(ids, np.ndarray):
                rows = pad_rows(ids, self._training.steps_per_call)
            numbers = np.array(len(ids), np.int32), np.array(first, np.int32)
            self._sample(rows, *numbers, key, *arrays)
            first += len(ids)
        return self.config.train_examples

    # -- comparison of engines ------------------------------------------------

    def get_weights(self) -> dict[str, np.ndarray]:
        return dict(zip(self._weight_names, self._executor.get_weights()))

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        self._executor.set_weights([weights[name] for name in self._weight_names])

    def train_batches(self, batches: EpochBatches) -> TrainResult:
        """Trains on precomputed batches."""
        total, steps_per_call = 0.0, self._training.steps_per_call
        for first in range(0, batches.steps, steps_per_call):
            part = slice(first, first + steps_per_call)
            arrays = (batches.user, batches.item, batches.label)
            data = tuple(self._place_batches(x[part]) for x in arrays)
            count = min(steps_per_call, batches.steps - first)
            remaining = batches.examples - first * self.config.batch_size
            remaining = min(remaining, steps_per_call * self.config.batch_size)  # counts in 32 bits
            total += self._train_on_batches(data, count, remaining)
        return TrainResult(total / batches.examples, batches.examples, batches.steps)

    def score(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        weights, plan = self._executor.local_weights(), self._evaluation.plan

        def logits(user, item):
            tables = scoring_tables(plan, weights)
            lists = tf.cast(item, tf.int32)[:, None]
            return list_scores(plan, weights, tables, user, lists)[:, 0]

        return self._executor.run_on_first_device(logits, user, item).numpy()

    def loss_and_gradients(self, batch: Batch) -> tuple[float, dict[str, np.ndarray]]:
        size, weights = len(batch.user), self._executor.local_weights()
        plan = make_plan(self.config, size, self._device_type)

        def compute(*batch):
            total, gradients = loss_and_gradients(plan, weights, *batch)
            return total, *add_penalty(self.config, weights, gradients)

        if plan.on_accelerator:  # some of its operations exist only in compiled programs
            compute = tf.function(compute, jit_compile=True)
        padding = [(0, plan.padded_rows - size)]
        total, penalty, gradients = self._executor.run_on_first_device(
            compute,
            np.pad(batch.user, padding).astype(np.int32),
            np.pad(batch.item, padding).astype(np.int32),
            np.pad(batch.label, padding).astype(np.float32),
            np.pad(batch.weight, padding).astype(np.float32),
        )
        found = {n: g.numpy() for n, g in zip(self._weight_names, gradients)}
        return float(total) / size + float(penalty), found


def _tensorflow_executor(config: EngineConfig, device: str, jit_compile: bool) -> Executor:
    # Imports TensorFlow, which other executors do not need.
    from reference_model.fused.tensorflow_executor import OneDeviceExecutor

    return OneDeviceExecutor(config, device, jit_compile)


def _check_config(config: EngineConfig, name: str) -> None:
    """Raises ValueError if engine `name` does not support `config`."""
    check_sizes(config)
    if config.precision not in PRECISIONS:
        raise ValueError(
            f"engine {name} computes in {' or '.join(PRECISIONS)}, not {config.precision}"
        )
    if config.optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer {config.optimizer!r} is not one of {', '.join(OPTIMIZERS)}")
    if config.num_positives >= 2**31:
        raise ValueError(
            f"{config.num_positives} positives exceed the maximum of engine {name}, 2^31 - 1"
        )
