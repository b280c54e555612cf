"""The reference engine: the plain Keras model in a custom TensorFlow loop.

It favors correctness and readability over speed; all other engines are compared with it. Each
step is one XLA program with static shapes. An enclosing `tf.function` without XLA runs many
steps per call from Python.
"""

from __future__ import annotations

from typing import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from reference_model.base.config import EngineConfig
from reference_model.base.errors import NonFiniteLoss
from reference_model.data.split import Split
from reference_model.device_sampling.synthetic_batches import synthetic_examples
from reference_model.engine import Batch, EvalResult, TrainResult
from reference_model.engine_support.log_facts import (
    draw_and_log_lists,
    log_model_config,
    log_synthetic_run,
    log_training_config,
    make_evaluation_lists,
)
from reference_model.engine_support.synthetic_epoch import train_synthetic_epoch
from reference_model.events import EventSink
from reference_model.keras_engine.optimizers import make_optimizer
from reference_model.model.determinism import enable_determinism
from reference_model.model.initial_weights import initial_weights, weight_names
from reference_model.model.neumf import build_neumf, masked_bce
from reference_model.sampling.epoch_batches import EpochBatches, build_epoch, random_batch
from reference_model.sampling.evaluation_lists import EvaluationLists
from reference_model.sampling.negatives import make_sampler
from reference_model.sampling.prefetch import EpochPrefetcher
from reference_model.sampling.random_streams import negatives_key, weights_seed

# Maximum number of examples copied to the device at a time (but at least one batch).
EXAMPLES_PER_CALL = 4_194_304


class ReferenceEngine:
    """Plain NeuMF on one device; see `reference_model.engine.Engine`.

    Subclasses may override the mathematics, `_gradients` and `_logits`, and inherit batches,
    sampling, evaluation lists and bookkeeping.
    """

    name = "reference"

    def __init__(
        self,
        config: EngineConfig,
        sink: EventSink,
        device: str = "cpu",
        jit_compile: bool = True,
    ):
        """Stores its arguments.

        Args:
          config: sizes and hyperparameters.
          sink: receives the facts to log.
          device: "cpu", "gpu" or "tpu".
          jit_compile: whether XLA compiles steps and evaluation; disabled in tests.

        Raises:
          ValueError: the precision is not float32.
        """
        if config.precision != "float32":
            raise ValueError(f"engine {self.name} computes in float32, not {config.precision}")
        self.config = config
        self._sink = sink
        self._device = f"/{device.upper()}:0"
        self._jit = jit_compile
        self._names = weight_names(config.mlp_layers)
        self._prefetcher: EpochPrefetcher | None = None
        self._seed: int | None = None

    # -- before the clock starts --------------------------------------------

    def prepare(self) -> None:
        if self.config.deterministic:
            enable_determinism()
        with tf.device(self._device):
            self._model = build_neumf(self.config, seed=0)
            self._optimizer = make_optimizer(self.config)
            self._optimizer.build(self._model.trainable_variables)
        self._compile()
        log_model_config(self.config, self._sink)
        self._warm_up()

    def reset(self, seed: int) -> None:
        self._seed = seed
        self.set_weights(initial_weights(self.config, weights_seed(seed)))
        # The other optimizer variables are state: moments and the step count.
        learning_rate = self._optimizer.learning_rate
        for variable in self._optimizer.variables:
            if variable is not learning_rate:
                variable.assign(tf.zeros_like(variable))

    # -- while the clock runs -----------------------------------------------

    def load(self, split: Split | None) -> None:
        config = self.config
        if split is None:
            self.load_lists(log_synthetic_run(config, self._sink))
            return
        self._split = split
        self._sampler = make_sampler(split)
        log_training_config(config, self._sampler.name, self._sink)
        self._prefetcher = EpochPrefetcher(self._build_epoch, self._sink)
        self._prefetcher.begin(1)
        lists = draw_and_log_lists(config, split, self._sampler, self._seed, self._sink)
        self.load_lists(lists)

    def load_lists(self, lists: EvaluationLists) -> None:
        self._eval_batches = list(self._make_eval_batches(lists))

    def train_epoch(self, epoch: int) -> TrainResult:
        if self.config.synthetic:
            return train_synthetic_epoch(
                self.config, self._sink, self._seed, epoch, self._run_synthetic
            )
        batches = self._prefetcher.take(epoch)
        # Draw the next epoch in the background while this one trains.
        self._prefetcher.begin(epoch + 1)
        loss = self._train_on_steps(batches) / batches.examples
        if not np.isfinite(loss):
            raise NonFiniteLoss(f"the loss of epoch {epoch} is {loss}")
        return TrainResult(loss=loss, examples=batches.examples, steps=batches.steps)

    def _run_synthetic(self, steps: int, examples: int, key: np.ndarray) -> float:
        with tf.device(self._device):
            counts = (tf.constant(x, tf.int32) for x in (steps, examples))
            return float(self._synthetic_steps(*counts, tf.constant(key)))

    def evaluate(self) -> EvalResult:
        config = self.config
        ranks, are_finite = [], []
        # Keep the results on the device until all batches are queued, so that the device never
        # waits for the host.
        for user, items, masked in self._eval_batches:
            batch_rank, is_finite = self._rank(user, items, masked)
            ranks.append(batch_rank)
            are_finite.append(is_finite)
        if not all(bool(is_finite) for is_finite in are_finite):
            raise NonFiniteLoss("a score of the evaluation is NaN")
        # The last batch is padded with users from the first batch.
        rank = np.concatenate([r.numpy() for r in ranks])[: config.num_users]
        return EvalResult.of_ranks(config, rank)

    def close(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()

    # -- audits and shard writing ---------------------------------------------

    def epoch_batches(self, epoch: int) -> EpochBatches:
        return self._build_epoch(epoch, lambda: False)

    def prepare_sampling(self) -> None:
        """Replaces `prepare` for an engine that draws batches but does not train.

        This engine samples in NumPy, so there is nothing to compile.
        """

    def load_for_sampling(self, split: Split, seed: int) -> None:
        """Replaces `reset` and `load` for an engine that does not train.

        Called after `prepare_sampling`. Afterwards `epoch_batches` and `evaluation_lists` can
        be called.
        """
        self._split, self._seed, self._sampler = split, seed, make_sampler(split)

    def evaluation_lists(self) -> EvaluationLists:
        return make_evaluation_lists(self.config, self._split, self._sampler, self._seed)

    # -- comparison of engines ----------------------------------------------

    def get_weights(self) -> dict[str, np.ndarray]:
        variables = self._model.trainable_variables
        return {name: v.numpy() for name, v in zip(self._names, variables)}

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        for name, variable in zip(self._names, self._model.trainable_variables):
            variable.assign(weights[name])

    def train_batches(self, batches: EpochBatches) -> TrainResult:
        loss = self._train_on_steps(batches) / batches.examples
        return TrainResult(loss, batches.examples, batches.steps)

    def score(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        with tf.device(self._device):
            return self._logits(tf.constant(user), tf.constant(item)).numpy()

    def loss_and_gradients(self, batch: Batch) -> tuple[float, dict[str, np.ndarray]]:
        arrays = [
            tf.constant(batch.user, tf.int32),
            tf.constant(batch.item, tf.int32),
            tf.constant(batch.label, tf.float32),
            tf.constant(batch.weight, tf.float32),
        ]
        with tf.device(self._device):
            data_loss, penalty, gradients = self._gradients(*arrays)
        by_name = {n: g.numpy() for n, g in zip(self._names, gradients)}
        return float(data_loss + penalty), by_name

    # -- the mathematics ----------------------------------------------------

    def _logits(self, user: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """Computes the logits, float [N], of N pairs; `user` and `item` are int32 [N]."""
        return self._model([user, item], training=False)[:, 0]

    def _gradients(self, user, item, label, weight):
        """Computes the loss of one batch and its gradients.

        Args:
          user: int32 [B].
          item: int32 [B].
          label: float32 [B].
          weight: float32 [B], 0 for padding.

        Returns:
          (masked cross-entropy, L2 penalty, gradients in the order of the variables).
        """
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._model([user, item], training=True)[:, 0]
            data_loss = masked_bce(logits, label, weight)
            penalty = tf.add_n(self._model.losses) if self._model.losses else 0.0
            loss = data_loss + penalty
        gradients = tape.gradient(loss, variables)
        # Make the gradients dense. For the IndexedSlices of an embedding, Keras 3's Adam would
        # sum the squares of the slices of a repeated row instead of squaring their sum.
        return data_loss, penalty, [tf.convert_to_tensor(g) for g in gradients]

    def _ranks(self, user, items, masked):
        """Ranks the held-out items of n users.

        Args:
          user: int32 [n].
          items: int32 [n, N + 1]; the last column contains the held-out items.
          masked: bool [n, N + 1].

        Returns:
          The result of `count_ranks`.
        """
        shape = tf.shape(items)
        pairs = tf.reshape(tf.broadcast_to(user[:, None], shape), [-1])
        scores = tf.reshape(self._logits(pairs, tf.reshape(items, [-1])), shape)
        return count_ranks(scores, masked)

    # -- compiled functions -------------------------------------------------

    def _compile(self) -> None:
        """Defines the compiled functions; the warm-up traces and compiles them."""
        size = self.config.batch_size

        @tf.function(jit_compile=self._jit, autograph=False)
        def one_step(user, item, label, num_real):
            """Trains on one batch; returns the sum of its examples' losses."""
            weight = tf.cast(tf.range(size) < num_real, tf.float32)
            loss, _, gradients = self._gradients(
                user, item, tf.cast(label, tf.float32), weight
            )
            self._optimizer.apply(gradients, self._model.trainable_variables)
            # `masked_bce` divides by the batch size.
            return loss * size

        @tf.function
        def synthetic_steps(count, num_examples, key):
            # Sum in float64: in float32 an epoch's sum would lose the small terms.
            total = tf.constant(0.0, tf.float64)
            for k in tf.range(count):
                num_real = tf.clip_by_value(num_examples - k * size, 0, size)
                loss = one_step(*synthetic_examples(self.config, size, k, key), num_real)
                total += tf.cast(loss, tf.float64)
            return total

        self._synthetic_steps = synthetic_steps
        ids = tf.TensorSpec([None, size], tf.int32)
        labels = tf.TensorSpec([None, size], tf.bool)

        # The number of steps is dynamic, so that the last call of an epoch, which has fewer
        # steps, is not recompiled.
        @tf.function(input_signature=[ids, ids, labels, tf.TensorSpec([], tf.int64)])
        def steps(user, item, label, num_examples):
            total = tf.constant(0.0, tf.float64)
            for k in tf.range(tf.shape(user)[0]):
                left = num_examples - tf.cast(k, tf.int64) * size
                num_real = tf.cast(tf.clip_by_value(left, 0, size), tf.int32)
                loss = one_step(user[k], item[k], label[k], num_real)
                total += tf.cast(loss, tf.float64)
            return total

        self._steps = steps
        self._rank = tf.function(self._ranks, jit_compile=self._jit, autograph=False)

    def _warm_up(self) -> None:
        """Runs every compiled function once on random ids; no dataset is available yet."""
        config = self.config
        if config.synthetic:
            self._run_synthetic(1, config.batch_size, negatives_key(0, 0))
        self._train_on_steps(random_batch(config))
        rng = np.random.default_rng(0)
        shape = (config.users_per_eval_batch, config.eval_negatives + 1)
        items = rng.integers(0, config.num_items, shape, np.int32)
        with tf.device(self._device):
            user = tf.range(shape[0], dtype=tf.int32)
            self._rank(user, tf.constant(items), tf.zeros(shape, tf.bool))

    # -- data ---------------------------------------------------------------

    def _train_on_steps(self, batches: EpochBatches) -> float:
        """Trains on the given batches; returns the sum of the examples' losses."""
        size = self.config.batch_size
        steps_per_call = max(1, EXAMPLES_PER_CALL // size)
        total = 0.0
        for low in range(0, batches.steps, steps_per_call):
            part = slice(low, low + steps_per_call)
            with tf.device(self._device):
                loss = self._steps(
                    tf.constant(batches.user[part]),
                    tf.constant(batches.item[part]),
                    tf.constant(batches.label[part]),
                    tf.constant(batches.examples - low * size, tf.int64),
                )
            total += float(loss)
        return total

    def _build_epoch(self, epoch: int, is_cancelled: Callable[[], bool]) -> EpochBatches:
        """Draws the batches of an epoch; called in the thread of the prefetcher."""
        return build_epoch(
            self._split,
            self._sampler,
            self.config.train_negatives,
            self.config.batch_size,
            self._seed,
            epoch,
            is_cancelled,
        )

    def _make_eval_batches(self, lists: EvaluationLists) -> Iterator[tuple[tf.Tensor, ...]]:
        """Yields the batches (user, items, masked), placed on the device.

        All batches have the same number of users; the last one is padded with the first users.
        """
        users_per_batch, users = self.config.users_per_eval_batch, len(lists.items)
        for low in range(0, users, users_per_batch):
            rows = np.arange(low, low + users_per_batch, dtype=np.int32) % users
            with tf.device(self._device):
                yield (
                    tf.constant(rows),
                    tf.constant(lists.items[rows]),
                    tf.constant(lists.masked[rows]),
                )


def count_ranks(scores: tf.Tensor, masked: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Ranks the last column of each row; the TensorFlow version of `metrics.ranks`.

    Args:
      scores: float [n, N + 1]; the last column is the scores of the held-out items.
      masked: bool [n, N + 1]; True for a candidate excluded from the ranking.

    Returns:
      The ranks from 0, int32 [n], and a bool scalar: True if no unmasked score is NaN.
    """
    ahead = (scores[:, :-1] >= scores[:, -1:]) & ~masked[:, :-1]
    is_finite = ~tf.reduce_any(tf.math.is_nan(scores) & ~masked)
    return tf.reduce_sum(tf.cast(ahead, tf.int32), axis=1), is_finite
