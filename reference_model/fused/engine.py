"""The fused engine: NeuMF arranged for speed, one XLA program for many steps.

The mathematics stands in `fused_math.py` and `fused_scoring.py`, the drawing of
negatives in `fused_sampling.py`, the order of an epoch in `order.py`, the compiled
loops in `fused_programs.py` and `fused_evaluation.py`. This file keeps the calendar:
what is compiled before the clock, what the dataset brings, what an epoch does;
`fused_drawing.py` makes again what was drawn. `training.ReferenceEngine` computes the
same function plainly and is what this one is held against.
"""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator, Mapping, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from reference_model.base.config import EngineConfig
from reference_model.base.errors import NonFiniteLoss
from reference_model.data.split import Split
from reference_model.device_sampling.epoch_order import Orders
from reference_model.device_sampling.negatives import SamplerShape, placed
from reference_model.engine import Batch, EvalResult, TrainResult
from reference_model.engine_support.log_facts import (
    make_evaluation_lists,
    say_lists,
    say_model,
    say_synthetic,
    say_training,
)
from reference_model.engine_support.synthetic_epoch import TrainsOnMadeUp
from reference_model.events import EventSink
from reference_model.fused import scoring
from reference_model.fused.evaluation_loop import Call, EvaluationShape, make_evaluation
from reference_model.fused.gradients import loss_and_gradients
from reference_model.fused.plan import make_plan
from reference_model.fused.redraw import DrawsAgain
from reference_model.fused.training_loop import (
    State,
    TrainingShape,
    make_injected_training,
    make_sampling,
    make_synthetic_training,
    make_training,
)
from reference_model.model.l2_penalty import add_penalty
from reference_model.model.neumf import check_sizes, initial_weights, weight_names
from reference_model.sampling.epoch_batches import EpochBatches, filled_up
from reference_model.sampling.evaluation_lists import EvaluationLists, ListsInTurn
from reference_model.sampling.negatives import NegativeSampler, make_sampler
from reference_model.sampling.prefetch import EpochPrefetcher
from reference_model.sampling.random_streams import (
    STREAM_EVALUATION,
    negatives_key,
    stream,
    weights_seed,
)

# tf32 is float32 to this program; whoever sets the device up lets it round.
PRECISIONS = ("float32", "tf32", "bfloat16")
OPTIMIZERS = ("adam", "lazy_adam")


def give_back_memory() -> None:
    """Returns to the system what the compiler has freed, where the C library can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        pass


class _PlacedCall(NamedTuple):
    """A `Call` whose arrays are on the device; `users`: the real ones, on the host."""

    arrays: tuple[tf.Tensor, ...]
    users: np.ndarray


class FusedEngine(DrawsAgain, TrainsOnMadeUp):
    """NeuMF on one device; see `reference_model.engine.Engine`.

    With precision bfloat16 the operands of matrix products are rounded to
    bfloat16 and summed in float32; weights, moments, activations and everything
    else stay float32.
    """

    name = "fused"

    def __init__(
        self,
        config: EngineConfig,
        sink: EventSink,
        device: str = "cpu",
        jit_compile: bool = True,
    ):
        check_sizes(config)
        if config.precision not in PRECISIONS:
            raise ValueError(
                f"engine {self.name} computes in {' or '.join(PRECISIONS)}, "
                f"not {config.precision}"
            )
        if config.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer {config.optimizer!r} is none of {', '.join(OPTIMIZERS)}"
            )
        if config.num_positives >= 2**31:
            raise ValueError(
                f"{config.num_positives} positives; engine {self.name} can number 2^31 - 1"
            )
        self.config = config
        self._sink = sink
        self._kind = device
        self._device = f"/{device.upper()}:0"
        self._jit = jit_compile
        self._names = weight_names(config.mlp_layers)
        self._prefetcher: EpochPrefetcher | None = None
        self._orders = Orders(
            config.train_examples, config.batch_size, 1 + config.train_negatives
        )
        self._seed: int | None = None

    # -- before the clock ---------------------------------------------------

    def prepare(self) -> None:
        config = self.config
        if config.deterministic:
            keras.utils.set_random_seed(0)
            tf.config.experimental.enable_op_determinism()
        self._training = self._training_shape()
        self._evaluation = EvaluationShape.of(config, self._kind)
        with tf.device(self._device):
            weights = initial_weights(config, seed=0)
            self._state = State([weights[name] for name in self._names])
            make = make_synthetic_training if config.synthetic else make_training
            self._train = make(self._training, self._state, self._jit)
            # Compiled when first called; a run calls neither.
            self._train_given = make_injected_training(self._training, self._state, self._jit)
            self._sample = make_sampling(self._training, self._jit)
            self._rank = make_evaluation(self._evaluation, self._state, self._jit)
        say_model(config, self._sink)
        self._warm_up()

    def _training_shape(self) -> TrainingShape:
        config = self.config
        sampler = SamplerShape.of(config.num_users, config.num_items, config.num_positives)
        return TrainingShape.of(config, self._kind, sampler)

    def _warm_up(self) -> None:
        """Runs each program for one turn of its loop on made-up ids."""
        config = self.config
        if config.synthetic:
            self._run_synthetic(1, config.batch_size, negatives_key(0, 0))
        else:
            self._warm_up_training()
        one = np.zeros((1, config.eval_negatives + 1), np.int32)
        for call in self._evaluation.calls(EvaluationLists(one, one > 0)):
            self._rank(*self._placed_call(call).arrays)
        give_back_memory()

    def _place(self, arrays: list[np.ndarray]) -> None:
        with tf.device(self._device):
            self._arrays = [placed(array) for array in arrays]

    def _warm_up_training(self) -> None:
        self._place(self._training.sampler.made_up())
        self._call(self._made_up_ids(), 1, 0, self.config.batch_size, negatives_key(0, 0))
        self._arrays = None

    def _made_up_ids(self) -> np.ndarray:
        """[K, B] of the order's type, for one call."""
        config, shape = self.config, self._training
        size = (shape.steps_per_call, config.batch_size)
        most = min(config.train_examples, 2 * config.num_positives)
        return np.random.default_rng(0).integers(0, most, size, self._orders.dtype)

    def reset(self, seed: int) -> None:
        self._seed = seed
        weights = initial_weights(self.config, weights_seed(seed))
        self._state.restart([weights[name] for name in self._names])

    # -- under the clock ----------------------------------------------------

    def load(self, split: Split | None) -> None:
        config, sampler = self.config, self._training.sampler
        if split is None:
            self.load_lists(say_synthetic(config, self._sink))
            return
        self._split = split
        say_training(config, sampler.name, self._sink)
        # What is prepared beforehand is the order; negatives are drawn in the step.
        self._prefetcher = self._begin_orders()
        self._draw_and_place(split, make_sampler(split))
        give_back_memory()

    def _draw_and_place(self, split: Split, host: NegativeSampler) -> None:
        given = split.eval_negatives is not None
        self.load_lists(
            say_lists(self.config, given, lambda: self._draw_lists(split, host), self._sink)
        )
        self._place_split(split, host)

    def _begin_orders(self) -> EpochPrefetcher:
        prefetcher = EpochPrefetcher(
            lambda epoch, cancelled: self._orders.of(self._seed, epoch, cancelled),
            self._sink,
            parts=self._orders.parts,
            negatives="in_step",
        )
        prefetcher.begin(1)
        return prefetcher

    def _draw_lists(self, split: Split, host: NegativeSampler) -> EvaluationLists | ListsInTurn:
        config, shape = self.config, EvaluationShape.of(self.config, self._kind)
        if shape.kept:
            return make_evaluation_lists(config, split, host, self._seed)
        return ListsInTurn(
            split,
            config.eval_negatives,
            host,
            lambda: stream(self._seed, STREAM_EVALUATION),
            shape.users_per_call,
        )

    def load_lists(self, lists: EvaluationLists | ListsInTurn) -> None:
        """Takes evaluation lists; also for a run on given batches."""
        if not isinstance(lists, ListsInTurn):
            lists = [self._placed_call(call) for call in self._evaluation.calls(lists)]
        self._lists = lists

    def _place_split(self, split: Split, host: NegativeSampler) -> None:
        """What the step draws examples from."""
        self._place(self._training.sampler.arrays(split, host))

    def train_epoch(self, epoch: int) -> TrainResult:
        if self.config.synthetic:
            return self._train_synthetic(epoch)
        config, key = self.config, negatives_key(self._seed, epoch)
        total, steps = 0.0, 0
        for ids in self._calls(epoch):
            left = config.train_examples - steps * config.batch_size
            left = min(left, ids.size)  # what a call can count in 32 bits
            total += self._call(ids, len(ids), steps, left, key)
            steps += len(ids)
        loss = total / config.train_examples
        if not np.isfinite(loss):
            raise NonFiniteLoss(f"the loss of epoch {epoch} is {loss}")
        return TrainResult(loss=loss, examples=config.train_examples, steps=steps)

    def _calls(self, epoch: int) -> Iterator[np.ndarray]:
        """The order of an epoch, [K, B] with at most as many steps as one call takes."""
        per_call = self._training.steps_per_call
        for part in range(1, self._orders.parts + 1):
            ids = self._prefetcher.take(epoch)
            if part == self._orders.parts:
                self._prefetcher.begin(epoch + 1)
            for low in range(0, len(ids), per_call):
                yield ids[low : low + per_call]

    def _run_synthetic(self, steps: int, examples: int, key: np.ndarray) -> float:
        with tf.device(self._device):
            numbers = (tf.constant(x, tf.int32) for x in (steps, examples))
            return float(self._train(*numbers, tf.constant(key)))

    def evaluate(self) -> EvalResult:
        rank, computed = np.zeros(self.config.num_users, np.int64), 0
        for call in self._calls_of_evaluation():
            found, finite, scored = self._rank(*call.arrays)
            if not bool(finite):
                raise NonFiniteLoss("a score of the evaluation is NaN")
            rank[call.users] = found.numpy()[: len(call.users)]
            computed += int(scored)
        return EvalResult.of_ranks(self.config, rank, computed)

    def _calls_of_evaluation(self) -> Iterator[_PlacedCall]:
        """What is ranked; where it is drawn again, while the call before it runs."""
        if not isinstance(self._lists, ListsInTurn):
            yield from self._lists
            return
        drawn = self._drawn_calls(self._lists)
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(next, drawn, None)
            while (call := ahead.result()) is not None:
                ahead = pool.submit(next, drawn, None)
                yield self._placed_call(call)

    def _drawn_calls(self, parts: ListsInTurn) -> Iterator[Call]:
        first_user = 0
        for lists in parts:
            yield from self._evaluation.calls(lists, first_user)
            first_user += len(lists.items)

    def _placed_call(self, call: Call) -> _PlacedCall:
        with tf.device(self._device):
            arrays = (
                tf.constant(call.users),
                placed(call.rows),
                tf.constant(call.lengths),
                tf.constant(call.real),
            )
        return _PlacedCall(arrays, call.users[: call.real])

    def close(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()

    def _call(self, ids, count, first, left, key) -> float:
        with tf.device(self._device):
            loss = self._train(
                self._full_call(ids),
                tf.constant(count, tf.int32),
                tf.constant(first, tf.int32),
                tf.constant(left, tf.int32),
                tf.constant(key),
                self._arrays,
            )
        return float(loss)

    def _full_call(self, rows: np.ndarray) -> tf.Tensor:
        """A row for each of some steps as one call takes them, filled up at the end."""
        with tf.device(self._device):
            return tf.constant(filled_up(rows, self._training.steps_per_call))

    # -- for holding one engine against another -----------------------------

    def get_weights(self) -> dict[str, np.ndarray]:
        return {n: v.numpy() for n, v in zip(self._names, self._state.variables)}

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        for name, variable in zip(self._names, self._state.variables):
            variable.assign(weights[name])

    def train_batches(self, batches: EpochBatches) -> TrainResult:
        """Trains on given batches instead of an epoch of its own."""
        total, per_call = 0.0, self._training.steps_per_call
        for first in range(0, batches.steps, per_call):
            part = [
                self._full_call(x[first : first + per_call])
                for x in (batches.user, batches.item, batches.label)
            ]
            count = min(per_call, batches.steps - first)
            left = batches.examples - first * self.config.batch_size
            left = min(left, per_call * self.config.batch_size)  # what 32 bits can count
            with tf.device(self._device):
                numbers = (tf.constant(x, tf.int32) for x in (count, left))
                total += float(self._train_given(*part, *numbers))
        return TrainResult(total / batches.examples, batches.examples, batches.steps)

    def score(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        with tf.device(self._device):
            weights, plan = self._state.weights(), self._evaluation.plan
            tables = scoring.scoring_tables(plan, weights)
            lists = tf.constant(item, tf.int32)[:, None]
            return scoring.list_scores(plan, weights, tables, user, lists)[:, 0].numpy()

    def loss_and_gradients(self, batch: Batch) -> tuple[float, dict[str, np.ndarray]]:
        size = len(batch.user)
        plan = make_plan(self.config, size, self._kind)
        spare = [(0, plan.padded_rows - size)]
        with tf.device(self._device):
            weights = self._state.weights()
            total, gradients = loss_and_gradients(
                plan,
                weights,
                tf.constant(np.pad(batch.user, spare), tf.int32),
                tf.constant(np.pad(batch.item, spare), tf.int32),
                tf.constant(np.pad(batch.label, spare), tf.float32),
                tf.constant(np.pad(batch.weight, spare), tf.float32),
            )
            penalty, gradients = add_penalty(self.config, weights, gradients)
        found = {n: g.numpy() for n, g in zip(self._names, gradients)}
        return float(total) / size + float(penalty), found
