"""The reference engine over several replicas; see `replicas.py` for the shared code.

Every worker makes the epoch order from the same seed, and each replica takes its columns of every
batch.
"""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np
import tensorflow as tf

from reference_model.base.config import EngineConfig
from reference_model.device_sampling.synthetic_batches import synthetic_examples
from reference_model.distributed.replicas import Replicas
from reference_model.engine import EvalResult
from reference_model.engine_support.log_facts import log_model_config
from reference_model.events import EventSink
from reference_model.keras_engine.engine import EXAMPLES_PER_CALL, ReferenceEngine, count_ranks
from reference_model.model.determinism import enable_determinism
from reference_model.model.initial_weights import initial_weights
from reference_model.model.neumf import build_neumf
from reference_model.sampling.epoch_batches import EpochBatches, pad_rows, random_batch
from reference_model.sampling.evaluation_lists import EvaluationLists
from reference_model.sampling.random_streams import negatives_key, weights_seed


class ReplicatedReferenceEngine(ReferenceEngine):
    """The reference engine over the replicas of `strategy`.

    Each replica evaluates `_groups` groups of `_users_per_group` users.
    """

    def __init__(
        self,
        config: EngineConfig,
        sink: EventSink,
        device: str = "cpu",
        jit_compile: bool = True,
        *,
        strategy: Any,
    ):
        """Like `ReferenceEngine.__init__`, with a `tf.distribute.Strategy`."""
        super().__init__(config, sink, device, jit_compile)
        self._replicas = Replicas(config, strategy, jit_compile)
        steps = -(-config.train_examples // config.batch_size)
        self._steps_per_call = max(1, min(steps, EXAMPLES_PER_CALL // config.batch_size))
        self._users_per_group = config.users_per_eval_batch
        self._groups = -(-config.num_users // (self._users_per_group * self._replicas.count))

    def prepare(self) -> None:
        config, replicas = self.config, self._replicas
        if config.deterministic:
            enable_determinism()
        self._model = build_neumf(config, seed=0)
        weights = initial_weights(config, seed=0)
        replicas.create_state([weights[name] for name in self._names])
        self._train_on_batches = replicas.make_training(self._precomputed_gradients())
        self._train_on_synthetic = replicas.make_training(self._synthetic_gradients())
        self._evaluate = replicas.make_evaluation(self._replica_ranks())
        log_model_config(config, self._sink)
        self._warm_up()

    def _warm_up(self) -> None:
        """Runs every compiled function once on random ids; no dataset is available yet."""
        config = self.config
        if config.synthetic:
            self._run_synthetic(1, config.batch_size, negatives_key(0, 0))
        self._train_on_steps(random_batch(config))
        lists = np.zeros((config.num_users, config.eval_negatives + 1), np.int32)
        self._evaluate([self._place_lists(lists)])

    # -- weights --------------------------------------------------------------

    def reset(self, seed: int) -> None:
        self._seed = seed
        weights = initial_weights(self.config, weights_seed(seed))
        self._replicas.restart([weights[name] for name in self._names])

    def get_weights(self) -> dict[str, np.ndarray]:
        return dict(zip(self._names, self._replicas.get_weights()))

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        self._replicas.set_weights([weights[name] for name in self._names])

    # -- steps ----------------------------------------------------------------

    def _precomputed_gradients(self):
        """The `gradients` argument of `Replicas.make_training`, for batches from the host."""

        @tf.function(jit_compile=self._jit, autograph=False)
        def gradients(weights, k, offset, real, user, item, label):
            batch = (tf.gather(x, k) for x in (user, item, label))
            return self._loss_and_gradients(weights, *batch, offset, real)

        return gradients

    def _synthetic_gradients(self):
        """Like `_precomputed_gradients`, for batches generated on the device."""

        @tf.function(jit_compile=self._jit, autograph=False)
        def gradients(weights, k, offset, real, key):
            batch = synthetic_examples(self.config, self._replicas.batch, k, key, offset)
            return self._loss_and_gradients(weights, *batch, offset, real)

        return gradients

    def _loss_and_gradients(self, weights, user, item, label, offset, real):
        """Computes a replica's part of a step.

        Examples of the global batch from position `real` on are padding.

        Returns:
          (sum of the cross-entropies, gradients of that sum / global batch size).
        """
        position = offset + tf.range(self._replicas.batch)
        weight = tf.cast(position < real, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(weights)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(
                labels=tf.cast(label, tf.float32), logits=self._scores(weights, user, item)
            )
            loss = tf.reduce_sum(losses * weight)
            mean = loss / self.config.batch_size
        gradients = tape.gradient(mean, weights)
        return loss, [tf.convert_to_tensor(g) for g in gradients]

    def _scores(self, weights, user, item) -> tf.Tensor:
        """Computes the logits, float [N], with the given weights."""
        return self._model.stateless_call(weights, [], [user, item])[0][:, 0]

    def _train_on_steps(self, batches: EpochBatches) -> float:
        """Trains on the given batches; returns the sum of the examples' losses."""
        total, size, replicas = 0.0, self.config.batch_size, self._replicas
        for first in range(0, batches.steps, self._steps_per_call):
            arrays = (batches.user, batches.item, batches.label)
            rows = slice(first, first + self._steps_per_call)
            data = [
                replicas.place(lambda replica, x=x: replicas.columns_of(x, replica))
                for x in (pad_rows(array[rows], self._steps_per_call) for array in arrays)
            ]
            count = min(self._steps_per_call, batches.steps - first)
            remaining = batches.examples - first * size
            total += float(self._train_on_batches(tf.constant(count), tf.constant(remaining), data))
        return total

    def _run_synthetic(self, steps: int, examples: int, key: np.ndarray) -> float:
        data = [self._replicas.place(lambda _: key)]
        return float(self._train_on_synthetic(tf.constant(steps), tf.constant(examples), data))

    # -- evaluation -----------------------------------------------------------

    def load_lists(self, lists: EvaluationLists) -> None:
        """Takes evaluation lists; a masked item i is encoded as ~i."""
        self._lists = [self._place_lists(np.where(lists.masked, ~lists.items, lists.items))]

    def evaluate(self) -> EvalResult:
        return self._evaluate(self._lists)

    def _replica_ranks(self):
        """The `ranks` argument of `Replicas.make_evaluation`."""

        @tf.function(jit_compile=self._jit, autograph=False)
        def compiled(weights, replica, lists):
            user, is_own = self._own_users(replica)
            user = tf.reshape(user, [self._groups, self._users_per_group])

            def one_group(k, ranks, finite):
                sent = tf.gather(lists, k)
                masked = sent < 0
                items = tf.where(masked, -1 - sent, sent)
                users = tf.repeat(tf.gather(user, k), tf.shape(items)[1])
                scores = self._scores(weights, users, tf.reshape(items, [-1]))
                rank, good = count_ranks(tf.reshape(scores, tf.shape(items)), masked)
                ranks = tf.tensor_scatter_nd_update(ranks, [[k]], rank[None])
                return k + 1, ranks, finite & good

            start = (0, tf.zeros([self._groups, self._users_per_group], tf.int32), True)
            _, ranks, finite = tf.while_loop(
                lambda k, *_: k < self._groups, one_group, start
            )
            own_users = tf.reduce_sum(tf.cast(is_own, tf.int32))
            scored = own_users * (self.config.eval_negatives + 1)
            return tf.reshape(ranks, [-1]), is_own, finite, scored

        return compiled

    def _own_users(self, replica) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the users of a replica, int32 [n], and a mask of real users, bool [n]."""
        users = self._groups * self._users_per_group
        user = replica * users + tf.range(users)
        return user % self.config.num_users, user < self.config.num_users

    def _place_lists(self, lists: np.ndarray) -> Any:
        """Places each replica's part of lists [U, N + 1], as [groups, users, N + 1].

        The last part is padded with the first users.
        """
        users = self._groups * self._users_per_group

        def part(replica: int) -> np.ndarray:
            rows = np.arange(replica * users, (replica + 1) * users) % len(lists)
            return lists[rows].reshape(self._groups, self._users_per_group, -1)

        return self._replicas.place(part)
