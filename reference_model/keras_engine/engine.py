"""The reference engine: the plain Keras model in a custom TensorFlow loop.

Correct and readable before fast; it is what every other engine is held against.
Each step is one XLA program with static shapes; a plain `tf.function` around it
runs the steps of an epoch without coming back to Python.
"""

from __future__ import annotations

from typing import Mapping

import keras
import numpy as np
import tensorflow as tf

from reference_model.base.config import EngineConfig
from reference_model.base.errors import NonFiniteLoss
from reference_model.data.split import Split
from reference_model.device_sampling.synthetic_batches import synthetic_examples
from reference_model.engine import Batch, EvalResult, TrainResult
from reference_model.engine_support.log_facts import (
    make_evaluation_lists,
    say_evaluation_lists,
    say_model,
    say_synthetic,
    say_training,
)
from reference_model.engine_support.synthetic_epoch import TrainsOnMadeUp
from reference_model.events import EventSink
from reference_model.keras_engine.optimizers import make_optimizer
from reference_model.model.neumf import build_neumf, initial_weights, masked_bce, weight_names
from reference_model.sampling.epoch_batches import EpochBatches, build_epoch
from reference_model.sampling.evaluation_lists import EvaluationLists
from reference_model.sampling.negatives import make_sampler
from reference_model.sampling.prefetch import EpochPrefetcher
from reference_model.sampling.random_streams import negatives_key, weights_seed

# Examples handed to the device in one call; bounds the copy, not the batch.
EXAMPLES_PER_CALL = 4_194_304


class ReferenceEngine(TrainsOnMadeUp):
    """Plain NeuMF on one device; see `reference_model.engine.Engine`.

    A subclass may replace `_loss`, `_gradients` and `_logits`, the mathematics,
    and inherits batches, sampling, evaluation lists and bookkeeping.
    """

    name = "reference"

    def __init__(
        self,
        config: EngineConfig,
        sink: EventSink,
        device: str = "cpu",
        jit_compile: bool = True,
    ):
        if config.precision != "float32":
            raise ValueError(f"engine {self.name} computes in float32, not {config.precision}")
        self.config = config
        self._sink = sink
        self._device = f"/{device.upper()}:0"
        self._jit = jit_compile
        self._names = weight_names(config.mlp_layers)
        self._prefetcher: EpochPrefetcher | None = None
        self._seed: int | None = None

    # -- before the clock ---------------------------------------------------

    def prepare(self) -> None:
        if self.config.deterministic:
            keras.utils.set_random_seed(0)
            tf.config.experimental.enable_op_determinism()
        with tf.device(self._device):
            self._model = build_neumf(self.config, seed=0)
            self._optimizer = make_optimizer(self.config)
            self._optimizer.build(self._model.trainable_variables)
        self._compile()
        say_model(self.config, self._sink)
        self._warm_up()

    def reset(self, seed: int) -> None:
        self._seed = seed
        self.set_weights(initial_weights(self.config, weights_seed(seed)))
        rate = self._optimizer.learning_rate
        for variable in self._optimizer.variables:
            if variable is not rate:
                variable.assign(tf.zeros_like(variable))

    # -- under the clock ----------------------------------------------------

    def load(self, split: Split | None) -> None:
        config = self.config
        if split is None:
            self.load_lists(say_synthetic(config, self._sink))
            return
        self._split = split
        self._sampler = make_sampler(split)
        say_training(config, self._sampler.name, self._sink)
        self._prefetcher = EpochPrefetcher(self._build_epoch, self._sink)
        self._prefetcher.begin(1)
        lists = say_evaluation_lists(config, split, self._sampler, self._seed, self._sink)
        self.load_lists(lists)

    def load_lists(self, lists: EvaluationLists) -> None:
        """Takes evaluation lists, for a run on given batches."""
        self._eval_batches = list(self._cut(lists))

    def train_epoch(self, epoch: int) -> TrainResult:
        if self.config.synthetic:
            return self._train_synthetic(epoch)
        batches = self._prefetcher.take(epoch)
        self._prefetcher.begin(epoch + 1)
        loss = self._run(batches) / batches.examples
        if not np.isfinite(loss):
            raise NonFiniteLoss(f"the loss of epoch {epoch} is {loss}")
        return TrainResult(loss=loss, examples=batches.examples, steps=batches.steps)

    def _run_synthetic(self, steps: int, examples: int, key: np.ndarray) -> float:
        with tf.device(self._device):
            numbers = (tf.constant(x, tf.int32) for x in (steps, examples))
            return float(self._synthetic_steps(*numbers, tf.constant(key)))

    def evaluate(self) -> EvalResult:
        config = self.config
        found, finite = [], []
        for user, items, masked in self._eval_batches:
            rank, is_finite = self._rank(user, items, masked)
            found.append(rank)
            finite.append(is_finite)
        if not all(bool(f) for f in finite):
            raise NonFiniteLoss("a score of the evaluation is NaN")
        rank = np.concatenate([r.numpy() for r in found])[: config.num_users]
        return EvalResult.of_ranks(config, rank)

    def close(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()

    # -- for whoever was not there -------------------------------------------

    def epoch_batches(self, epoch: int) -> EpochBatches:
        """What `train_epoch(epoch)` trains on, made again from the seed."""
        return self._build_epoch(epoch, lambda: False)

    def prepare_drawing(self) -> None:
        """Instead of `prepare`, for whoever draws and does not train: nothing to compile."""

    def draw_for(self, split: Split, seed: int) -> None:
        """Instead of `load`, after `prepare_drawing`: `epoch_batches` and `evaluation_lists`
        answer from here on."""
        self._split, self._seed, self._sampler = split, seed, make_sampler(split)

    def evaluation_lists(self) -> EvaluationLists:
        """What `evaluate` ranks, made again from the seed."""
        return make_evaluation_lists(self.config, self._split, self._sampler, self._seed)

    # -- for holding one engine against another -----------------------------

    def get_weights(self) -> dict[str, np.ndarray]:
        variables = self._model.trainable_variables
        return {name: v.numpy() for name, v in zip(self._names, variables)}

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        for name, variable in zip(self._names, self._model.trainable_variables):
            variable.assign(weights[name])

    def train_batches(self, batches: EpochBatches) -> TrainResult:
        """Trains on given batches instead of an epoch of its own."""
        loss = self._run(batches) / batches.examples
        return TrainResult(loss, batches.examples, batches.steps)

    def score(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        with tf.device(self._device):
            return self._logits(tf.constant(user), tf.constant(item)).numpy()

    def loss_and_gradients(self, batch: Batch) -> tuple[float, dict[str, np.ndarray]]:
        args = [
            tf.constant(batch.user, tf.int32),
            tf.constant(batch.item, tf.int32),
            tf.constant(batch.label, tf.float32),
            tf.constant(batch.weight, tf.float32),
        ]
        with tf.device(self._device):
            data_loss, penalty, gradients = self._gradients(*args)
        found = {n: g.numpy() for n, g in zip(self._names, gradients)}
        return float(data_loss + penalty), found

    # -- the mathematics ----------------------------------------------------

    def _logits(self, user: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """float [N] from int32 [N] and int32 [N]."""
        return self._model([user, item], training=False)[:, 0]

    def _gradients(self, user, item, label, weight):
        """(masked cross-entropy, L2 penalty, gradients in variable order)."""
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._model([user, item], training=True)[:, 0]
            data_loss = masked_bce(logits, label, weight)
            penalty = tf.add_n(self._model.losses) if self._model.losses else 0.0
            loss = data_loss + penalty
        gradients = tape.gradient(loss, variables)
        # Dense on purpose: given an embedding's IndexedSlices, Keras 3's Adam
        # squares the slices of a repeated row one by one before it adds them.
        return data_loss, penalty, [tf.convert_to_tensor(g) for g in gradients]

    def _ranks(self, user, items, masked):
        """(int32 [n] ranks, bool: all finite) for n users' lists [n, N + 1]."""
        shape = tf.shape(items)
        pairs = tf.reshape(tf.broadcast_to(user[:, None], shape), [-1])
        scores = tf.reshape(self._logits(pairs, tf.reshape(items, [-1])), shape)
        return count_ranks(scores, masked)

    # -- compiled once ------------------------------------------------------

    def _compile(self) -> None:
        size = self.config.batch_size

        @tf.function(jit_compile=self._jit)
        def step(user, item, label, real):
            weight = tf.cast(tf.range(size) < real, tf.float32)
            loss, _, gradients = self._gradients(
                user, item, tf.cast(label, tf.float32), weight
            )
            self._optimizer.apply(gradients, self._model.trainable_variables)
            return loss * size

        @tf.function
        def synthetic_steps(count, left, key):
            total = tf.constant(0.0, tf.float64)
            for k in tf.range(count):
                real = tf.clip_by_value(left - k * size, 0, size)
                loss = step(*synthetic_examples(self.config, size, k, key), real)
                total += tf.cast(loss, tf.float64)
            return total

        self._synthetic_steps = synthetic_steps
        ids = tf.TensorSpec([None, size], tf.int32)
        labels = tf.TensorSpec([None, size], tf.bool)

        @tf.function(input_signature=[ids, ids, labels, tf.TensorSpec([], tf.int64)])
        def steps(user, item, label, real):
            total = tf.constant(0.0, tf.float64)
            for k in tf.range(tf.shape(user)[0]):
                left = tf.clip_by_value(real - tf.cast(k, tf.int64) * size, 0, size)
                loss = step(user[k], item[k], label[k], tf.cast(left, tf.int32))
                total += tf.cast(loss, tf.float64)
            return total

        self._steps = steps
        self._rank = tf.function(self._ranks, jit_compile=self._jit)

    def _warm_up(self) -> None:
        """Runs every compiled function once on random ids: no dataset is near."""
        config = self.config
        rng = np.random.default_rng(0)
        if config.synthetic:
            self._run_synthetic(1, config.batch_size, negatives_key(0, 0))
        shape = (1, config.batch_size)
        user = rng.integers(0, config.num_users, shape, np.int32)
        item = rng.integers(0, config.num_items, shape, np.int32)
        self._run(EpochBatches(user, item, rng.random(shape) < 0.2, config.batch_size))
        shape = (config.users_per_eval_batch, config.eval_negatives + 1)
        items = rng.integers(0, config.num_items, shape, np.int32)
        with tf.device(self._device):
            user = tf.range(shape[0], dtype=tf.int32)
            self._rank(user, tf.constant(items), tf.zeros(shape, tf.bool))

    # -- data ---------------------------------------------------------------

    def _run(self, batches: EpochBatches) -> float:
        """The sum of the examples' losses over the given steps."""
        size = self.config.batch_size
        per_call = max(1, EXAMPLES_PER_CALL // size)
        total = 0.0
        for low in range(0, batches.steps, per_call):
            part = slice(low, low + per_call)
            with tf.device(self._device):
                loss = self._steps(
                    tf.constant(batches.user[part]),
                    tf.constant(batches.item[part]),
                    tf.constant(batches.label[part]),
                    tf.constant(batches.examples - low * size, tf.int64),
                )
            total += float(loss)
        return total

    def _build_epoch(self, epoch: int, cancelled) -> EpochBatches:
        return build_epoch(
            self._split,
            self._sampler,
            self.config.train_negatives,
            self.config.batch_size,
            self._seed,
            epoch,
            cancelled,
        )

    def _cut(self, lists: EvaluationLists):
        """Whole users per batch; the last batch is padded with the first users."""
        size, users = self.config.users_per_eval_batch, len(lists.items)
        for low in range(0, users, size):
            rows = np.arange(low, low + size, dtype=np.int32) % users
            with tf.device(self._device):
                yield (
                    tf.constant(rows),
                    tf.constant(lists.items[rows]),
                    tf.constant(lists.masked[rows]),
                )


def count_ranks(scores: tf.Tensor, masked: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Ranks of the last column as in `metrics.ranks`, inside a compiled program.

    scores: float [n, N + 1]; masked: bool, same shape. Returns int32 [n] and
    whether every score that competes is a number.
    """
    ahead = (scores[:, :-1] >= scores[:, -1:]) & ~masked[:, :-1]
    finite = ~tf.reduce_any(tf.math.is_nan(scores) & ~masked)
    return tf.reduce_sum(tf.cast(ahead, tf.int32), axis=1), finite
