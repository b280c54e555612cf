"""The fused engine: NeuMF arranged for speed, one XLA program for many steps.

The mathematics stands in `fused_math.py`, the drawing of negatives in
`fused_sampling.py`, the order of an epoch in `order.py`, the compiled loops in
`fused_programs.py`. This file keeps the calendar: what is compiled before the
clock, what the dataset brings, what an epoch does. `training.ReferenceEngine`
computes the same function plainly and is what this one is held against.
"""

from __future__ import annotations

import ctypes
from typing import Mapping

import keras
import numpy as np
import tensorflow as tf

from reference_model import fused_math
from reference_model.batches import EpochBatches, EpochPrefetcher
from reference_model.engine import (
    Batch,
    EngineConfig,
    EvalResult,
    NonFiniteLoss,
    TrainResult,
)
from reference_model.events import EventSink
from reference_model.facts import (
    make_evaluation_lists,
    say_evaluation_lists,
    say_model,
    say_training,
)
from reference_model.fused_programs import (
    EvaluationShape,
    State,
    TrainingShape,
    examples,
    make_evaluation,
    make_injected_training,
    make_sampling,
    make_training,
)
from reference_model.fused_sampling import SamplerShape, negatives_key, pairs
from reference_model.neumf import check_sizes, initial_weights, weight_names
from reference_model.order import shuffled_batches
from reference_model.sampling import (
    STREAM_ORDER,
    EvaluationLists,
    make_sampler,
    stream,
    weights_seed,
)
from reference_model.split import Split

PRECISIONS = ("float32", "bfloat16")
OPTIMIZERS = ("adam", "lazy_adam")


def give_back_memory() -> None:
    """Returns to the system what the compiler has freed, where the C library can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        pass


class FusedEngine:
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
        if config.train_examples >= 2**31:
            raise ValueError(
                f"{config.train_examples} examples in an epoch; engine {self.name} can "
                "number 2^31 - 1"
            )
        self.config = config
        self._sink = sink
        self._kind = device
        self._device = f"/{device.upper()}:0"
        self._jit = jit_compile
        self._names = weight_names(config.mlp_layers)
        self._prefetcher: EpochPrefetcher | None = None
        self._orders: list[np.ndarray | None] = [None, None]
        self._seed: int | None = None

    # -- before the clock ---------------------------------------------------

    def prepare(self) -> None:
        config = self.config
        if config.deterministic:
            keras.utils.set_random_seed(0)
            tf.config.experimental.enable_op_determinism()
        sampler = SamplerShape.of(config.num_users, config.num_items, config.num_positives)
        self._training = TrainingShape.of(config, self._kind, sampler)
        self._evaluation = EvaluationShape.of(config, self._kind)
        with tf.device(self._device):
            weights = initial_weights(config, seed=0)
            self._state = State([weights[name] for name in self._names])
            self._train = make_training(self._training, self._state, self._jit)
            # Compiled when first called; a run calls neither.
            self._train_given = make_injected_training(self._training, self._state, self._jit)
            self._sample = make_sampling(self._training, self._jit)
            self._rank = make_evaluation(self._evaluation, self._state, self._jit)
        say_model(config, self._sink)
        self._warm_up()

    def _warm_up(self) -> None:
        """Runs each program for one turn of its loop on made-up ids."""
        config, shape = self.config, self._training
        rng = np.random.default_rng(0)
        with tf.device(self._device):
            users = rng.integers(0, config.num_users, config.num_positives, np.int32)
            positives = tf.constant(np.sort(users).astype(np.uint64))
            rows, found = shape.sampler.specs()
            arrays = [tf.ones(rows.shape, rows.dtype), tf.zeros(found.shape, found.dtype)]
            ids = rng.integers(
                0, config.train_examples, (shape.steps_per_call, config.batch_size), np.int32
            )
            self._call(ids, 1, 0, config.batch_size, negatives_key(0, 0), positives, arrays)
            width = config.eval_negatives + 1
            lists = tf.zeros([self._evaluation.groups, self._evaluation.together, width], tf.int32)
            self._rank(lists, tf.constant(1))
            del ids, arrays, positives, lists
        give_back_memory()

    def reset(self, seed: int) -> None:
        self._seed = seed
        weights = initial_weights(self.config, weights_seed(seed))
        self._state.restart([weights[name] for name in self._names])

    # -- under the clock ----------------------------------------------------

    def load(self, split: Split) -> None:
        config, sampler = self.config, self._training.sampler
        self._split = split
        say_training(config, split, sampler.name, self._sink)
        # What is prepared beforehand is the order; negatives are drawn in the step.
        self._prefetcher = EpochPrefetcher(
            self._next_order, self._sink, negatives="in_step"
        )
        self._prefetcher.begin(1)
        host = make_sampler(split)
        lists = say_evaluation_lists(config, split, host, self._seed, self._sink)
        with tf.device(self._device):
            self._lists = tf.constant(self._encode(lists))
            del lists
            self._positives = tf.constant(pairs(split.train_user, split.train_item))
            self._arrays = [tf.constant(a) for a in sampler.arrays(split, host)]
        del host
        give_back_memory()

    def train_epoch(self, epoch: int) -> TrainResult:
        ids = self._prefetcher.take(epoch)
        self._prefetcher.begin(epoch + 1)
        config, per_call = self.config, self._training.steps_per_call
        key, total = negatives_key(self._seed, epoch), 0.0
        for first in range(0, len(ids), per_call):
            part = ids[first : first + per_call]
            left = config.train_examples - first * config.batch_size
            total += self._call(
                part, len(part), first, left, key, self._positives, self._arrays
            )
        loss = total / config.train_examples
        if not np.isfinite(loss):
            raise NonFiniteLoss(f"the loss of epoch {epoch} is {loss}")
        return TrainResult(loss=loss, examples=config.train_examples, steps=len(ids))

    def evaluate(self) -> EvalResult:
        config, shape = self.config, self._evaluation
        ranks, finite = self._rank(self._lists, tf.constant(shape.groups))
        if not bool(finite):
            raise NonFiniteLoss("a score of the evaluation is NaN")
        users = self._split.num_users
        rank = ranks.numpy().reshape(-1)[:users]
        return EvalResult.of_ranks(config, rank)

    def close(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()

    def _call(self, ids, count, first, left, key, positives, arrays) -> float:
        with tf.device(self._device):
            loss = self._train(
                self._full_call(ids),
                tf.constant(count, tf.int32),
                tf.constant(first, tf.int32),
                tf.constant(left, tf.int32),
                tf.constant(key),
                positives,
                arrays,
            )
        return float(loss)

    def _full_call(self, ids: np.ndarray) -> tf.Tensor:
        """The order of some steps as one call takes it, filled up at the end."""
        missing = self._training.steps_per_call - len(ids)
        if missing:
            ids = np.concatenate([ids, np.zeros((missing, ids.shape[1]), np.int32)])
        return tf.constant(ids)

    def _order(self, epoch: int, out: np.ndarray | None = None) -> np.ndarray:
        rng, config = stream(self._seed, STREAM_ORDER, epoch), self.config
        return shuffled_batches(config.train_examples, config.batch_size, rng, out)

    def _next_order(self, epoch: int, cancelled) -> np.ndarray:
        """Over the order of the epoch before the last, which is no longer read: fresh
        memory costs more than the shuffle."""
        del cancelled  # seconds at most, even for 100 million examples
        kept = self._orders
        kept[epoch % 2] = self._order(epoch, kept[epoch % 2])
        return kept[epoch % 2]

    def _encode(self, lists: EvaluationLists) -> np.ndarray:
        """int32 [groups, together, N + 1] as `make_evaluation` reads them; in place."""
        shape, items = self._evaluation, lists.items
        np.invert(items, out=items, where=lists.masked)
        spare = shape.groups * shape.together - len(items)
        if spare:
            items = np.concatenate([items, items[np.arange(spare) % len(items)]])
        return items.reshape(shape.groups, shape.together, -1)

    # -- for whoever was not there -------------------------------------------

    def epoch_batches(self, epoch: int) -> EpochBatches:
        """What `train_epoch(epoch)` trains on, made again from the seed."""
        shape, key = self._training, tf.constant(negatives_key(self._seed, epoch))
        one = tf.function(
            lambda ids, step: examples(shape, ids, step, key, self._positives, self._arrays),
            jit_compile=self._jit,
        )
        ids = self._order(epoch)
        spare = shape.plan.padded - self.config.batch_size
        found = []
        with tf.device(self._device):
            for step, row in enumerate(np.pad(ids, ((0, 0), (0, spare)))):
                batch = one(tf.constant(row), tf.constant(step))
                found.append([x.numpy()[: self.config.batch_size] for x in batch])
        user, item, label = (np.stack(x) for x in zip(*found))
        return EpochBatches(user, item, label, self.config.train_examples)

    def sample_epoch(self, epoch: int) -> int:
        """Orders and draws the next epoch as `train_epoch` does, but trains nothing;
        for measuring. Returns how many examples it made."""
        key, per_call = tf.constant(negatives_key(self._seed, epoch)), self._training.steps_per_call
        ids = self._prefetcher.take(epoch)
        self._prefetcher.begin(epoch + 1)
        for first in range(0, len(ids), per_call):
            part = self._full_call(ids[first : first + per_call])
            count = tf.constant(min(per_call, len(ids) - first), tf.int32)
            with tf.device(self._device):
                at = tf.constant(first, tf.int32)
                made = self._sample(part, count, at, key, self._positives, self._arrays)
            made.numpy()
        return self.config.train_examples

    def evaluation_lists(self) -> EvaluationLists:
        """What `evaluate` ranks, made again from the seed."""
        sampler = make_sampler(self._split)
        return make_evaluation_lists(self.config, self._split, sampler, self._seed)

    # -- for holding one engine against another -----------------------------

    def get_weights(self) -> dict[str, np.ndarray]:
        return {n: v.numpy() for n, v in zip(self._names, self._state.variables)}

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        for name, variable in zip(self._names, self._state.variables):
            variable.assign(weights[name])

    def train_batches(self, batches: EpochBatches) -> TrainResult:
        """Trains on given batches instead of an epoch of its own."""
        with tf.device(self._device):
            total = self._train_given(
                tf.constant(batches.user),
                tf.constant(batches.item),
                tf.constant(batches.label),
                tf.constant(batches.steps, tf.int32),
                tf.constant(batches.examples, tf.int32),
            )
        return TrainResult(float(total) / batches.examples, batches.examples, batches.steps)

    def score(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        with tf.device(self._device):
            weights, plan = self._state.weights(), self._evaluation.plan
            tables = fused_math.scoring_tables(plan, weights)
            lists = tf.constant(item, tf.int32)[:, None]
            return fused_math.list_scores(plan, weights, tables, user, lists)[:, 0].numpy()

    def loss_and_gradients(self, batch: Batch) -> tuple[float, dict[str, np.ndarray]]:
        size = len(batch.user)
        plan = fused_math.make_plan(self.config, size, self._kind)
        spare = [(0, plan.padded - size)]
        with tf.device(self._device):
            weights = self._state.weights()
            total, gradients = fused_math.loss_and_gradients(
                plan,
                weights,
                tf.constant(np.pad(batch.user, spare), tf.int32),
                tf.constant(np.pad(batch.item, spare), tf.int32),
                tf.constant(np.pad(batch.label, spare), tf.float32),
                tf.constant(np.pad(batch.weight, spare), tf.float32),
            )
            penalty, gradients = fused_math.add_penalty(self.config, weights, gradients)
        found = {n: g.numpy() for n, g in zip(self._names, gradients)}
        return float(total) / size + float(penalty), found
