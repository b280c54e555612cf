"""Both engines over several replicas: see `replicas.py` for what is shared.

The order of an epoch and its negatives are those of one device: the order is made
on every worker from the same seed, and each replica takes its columns of every
batch and draws the negatives of its places in it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping

import numpy as np
import tensorflow as tf

from reference_model.data.split import Split
from reference_model.device_sampling.synthetic_batches import synthetic_examples
from reference_model.distributed.replicas import Replicas
from reference_model.engine import EvalResult, TrainResult
from reference_model.engine_support.log_facts import say_evaluation_lists, say_model
from reference_model.fused.engine import FusedEngine
from reference_model.fused.evaluation_loop import EvaluationShape, rank_users
from reference_model.fused.gradients import loss_and_gradients
from reference_model.fused.plan import make_plan
from reference_model.fused.training_loop import examples
from reference_model.keras_engine.engine import EXAMPLES_PER_CALL, ReferenceEngine, count_ranks
from reference_model.model.neumf import build_neumf, initial_weights
from reference_model.sampling.epoch_batches import EpochBatches, filled_up
from reference_model.sampling.evaluation_lists import EvaluationLists
from reference_model.sampling.negatives import NegativeSampler
from reference_model.sampling.random_streams import negatives_key, weights_seed


class _OverReplicas:
    """What the two engines share: weights, steps and the evaluation's bookkeeping."""

    _names: list[str]

    def __init__(self, *args: Any, strategy: Any, **options: Any):
        """As the engine itself, over the replicas of a `tf.distribute.Strategy`."""
        super().__init__(*args, **options)
        self._strategy = strategy

    def _set_up_replicas(self) -> None:
        weights = initial_weights(self.config, seed=0)
        self._replicas = Replicas(
            self.config, self._strategy, [weights[name] for name in self._names], self._jit
        )

    def reset(self, seed: int) -> None:
        self._seed = seed
        weights = initial_weights(self.config, weights_seed(seed))
        self._replicas.restart([weights[name] for name in self._names])

    def get_weights(self) -> dict[str, np.ndarray]:
        return dict(zip(self._names, self._replicas.weights()))

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        self._replicas.set_weights([weights[name] for name in self._names])

    def evaluate(self) -> EvalResult:
        return self._evaluate(self._lists)

    # -- steps ----------------------------------------------------------------

    @property
    def _per_call(self) -> int:
        """Steps whose batches are handed over in one call."""
        return self._training.steps_per_call

    def _weight(self, place, real, length: int) -> tf.Tensor:
        """float [length]: 1 for the places of this replica that are no padding."""
        here = tf.range(length)
        return tf.cast((here < self._replicas.batch) & (place + here < real), tf.float32)

    def _train_on(self, batches: EpochBatches) -> float:
        """The sum of the examples' losses over given batches."""
        total, size, place = 0.0, self.config.batch_size, self._replicas.place
        for low in range(0, batches.steps, self._per_call):
            arrays = (batches.user, batches.item, batches.label)
            rows = slice(low, low + self._per_call)
            full = [filled_up(x[rows], self._per_call) for x in arrays]
            data = [place(lambda r, x=x: self._replicas.part(x, r)) for x in full]
            count = min(self._per_call, batches.steps - low)
            left = batches.examples - low * size
            total += float(self._train_given(tf.constant(count), tf.constant(left), data))
        return total

    def train_batches(self, batches: EpochBatches) -> TrainResult:
        """Trains on given batches instead of an epoch of its own."""
        loss = self._train_on(batches) / batches.examples
        return TrainResult(loss, batches.examples, batches.steps)

    def _given(self, sums) -> Any:
        """What `make_training` takes, for given batches; sums(weights, user, item, label,
        place, real) are one replica's."""

        @tf.function(jit_compile=self._jit)
        def compiled(weights, k, place, real, user, item, label):
            here = (tf.gather(x, k) for x in (user, item, label))
            return sums(weights, *here, place, real)

        return compiled

    def _made_up(self, sums) -> Any:
        """As `_given`, for made-up batches."""
        config, size = self.config, self._replicas.batch

        @tf.function(jit_compile=self._jit)
        def compiled(weights, k, place, real, key):
            batch = synthetic_examples(config, size, k, key, place)
            return sums(weights, *batch, place, real)

        return compiled

    def _run_synthetic(self, steps: int, examples: int, key: np.ndarray) -> float:
        data = [self._replicas.place(lambda _: key)]
        return float(self._synthetic(tf.constant(steps), tf.constant(examples), data))

    # -- evaluation -----------------------------------------------------------

    def load_lists(self, lists: EvaluationLists) -> None:
        """Takes evaluation lists, for a run on given batches."""
        self._lists = self._encoded(lists)

    def _encoded(self, lists: EvaluationLists) -> list:
        """What the evaluation takes: values of `Replicas.place`."""
        raise NotImplementedError


class ReplicatedFusedEngine(_OverReplicas, FusedEngine):
    """The fused engine over the replicas of `strategy`."""

    def prepare(self) -> None:
        config = self.config
        if config.deterministic:
            tf.config.experimental.enable_op_determinism()
        self._training = self._training_shape()
        self._set_up_replicas()
        users = -(-config.num_users // self._replicas.count)
        self._evaluation = EvaluationShape.of(config, self._kind, users)
        plan = make_plan(config, self._replicas.batch, self._kind)
        # The divisor of the loss is the global batch size.
        self._plan = dataclasses.replace(plan, batch=config.batch_size)
        self._train = self._replicas.make_training(self._gradients())
        self._synthetic = self._replicas.make_training(self._made_up(self._padded_sums))
        self._train_given = self._replicas.make_training(self._given(self._padded_sums))
        self._evaluate = self._replicas.make_evaluation(self._ranks())
        say_model(config, self._sink)
        self._warm_up()

    def _padded(self, x: tf.Tensor) -> tf.Tensor:
        return tf.pad(x, [[0, self._plan.padded_rows - self._replicas.batch]])

    def _gradients(self):
        @tf.function(jit_compile=self._jit)
        def compiled(weights, k, place, real, ids, first, key, arrays):
            here = self._padded(tf.gather(ids, k))
            user, item, label = examples(self._training, here, first + k, key, arrays, place)
            return self._sums(weights, user, item, label, place, real)

        return compiled

    def _padded_sums(self, weights, user, item, label, place, real):
        user, item, label = (self._padded(x) for x in (user, item, label))
        return self._sums(weights, user, item, label, place, real)

    def _sums(self, weights, user, item, label, place, real):
        weight = self._weight(place, real, self._plan.padded_rows)
        label = tf.cast(label, tf.float32)
        return loss_and_gradients(self._plan, weights, user, item, label, weight)

    def _ranks(self):
        @tf.function(jit_compile=self._jit)
        def compiled(weights, number, users, rows, lengths, real):
            shape = self._evaluation
            ranks, finite, scored = rank_users(shape, weights, users, rows, lengths, real)
            return ranks, tf.range(users.shape[0]) < real, finite, scored

        return compiled

    def _encoded(self, lists: EvaluationLists) -> list:
        """Each replica's users are one call."""
        calls = list(self._evaluation.calls(lists))
        # Where there are fewer users than places for them, the last replicas have none.
        nobody = calls[0]._replace(real=np.int32(0))
        calls += [nobody] * (self._replicas.count - len(calls))
        fields = range(len(nobody))
        return [self._replicas.place(lambda r, k=k: calls[r][k]) for k in fields]

    def _warm_up(self) -> None:
        """Runs each program for one turn of its loop on made-up ids."""
        config = self.config
        if config.synthetic:
            self._run_synthetic(1, config.batch_size, negatives_key(0, 0))
        else:
            self._warm_up_training()
        one = np.zeros((1, config.eval_negatives + 1), np.int32)
        self._evaluate(self._encoded(EvaluationLists(one, one > 0)))

    def _place(self, arrays: list[np.ndarray]) -> None:
        self._arrays = [self._replicas.place(lambda _, a=a: a) for a in arrays]

    def _draw_and_place(self, split: Split, host: NegativeSampler) -> None:
        self.load_lists(say_evaluation_lists(self.config, split, host, self._seed, self._sink))
        self._place_split(split, host)

    def _call(self, ids, count, first, left, key) -> float:
        ids, place = filled_up(ids, self._per_call), self._replicas.place
        data = [
            place(lambda r: self._replicas.part(ids, r)),
            place(lambda _: np.int32(first)),
            place(lambda _: key),
            self._arrays,
        ]
        return float(self._train(tf.constant(count), tf.constant(left), data))

    def epoch_batches(self, epoch: int, steps: int | None = None) -> EpochBatches:
        """What `train_epoch(epoch)` trains on, made again from the seed."""
        kept, first = self._arrays, self._strategy.experimental_local_results
        self._arrays = [first(a)[0] for a in kept]
        try:
            return super().epoch_batches(epoch, steps)
        finally:
            self._arrays = kept


class ReplicatedReferenceEngine(_OverReplicas, ReferenceEngine):
    """The reference engine over the replicas of `strategy`."""

    @property
    def _per_call(self) -> int:
        steps = -(-self.config.train_examples // self.config.batch_size)
        return max(1, min(steps, EXAMPLES_PER_CALL // self.config.batch_size))

    def prepare(self) -> None:
        if self.config.deterministic:
            tf.config.experimental.enable_op_determinism()
        self._model = build_neumf(self.config, seed=0)
        self._set_up_replicas()
        self._together = self.config.users_per_eval_batch
        self._groups = -(-self.config.num_users // (self._together * self._replicas.count))
        self._train_given = self._replicas.make_training(self._given(self._sums))
        self._synthetic = self._replicas.make_training(self._made_up(self._sums))
        self._evaluate = self._replicas.make_evaluation(self._replica_ranks())
        say_model(self.config, self._sink)
        self._warm_up()

    def _scores(self, weights, user, item) -> tf.Tensor:
        """float [N]: the model as a function of its weights."""
        return self._model.stateless_call(weights, [], [user, item])[0][:, 0]

    def _sums(self, weights, user, item, label, place, real):
        weight = self._weight(place, real, self._replicas.batch)
        with tf.GradientTape() as tape:
            tape.watch(weights)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(
                labels=tf.cast(label, tf.float32), logits=self._scores(weights, user, item)
            )
            loss = tf.reduce_sum(losses * weight)
            mean = loss / self.config.batch_size
        gradients = tape.gradient(mean, weights)
        return loss, [tf.convert_to_tensor(g) for g in gradients]

    def _replica_ranks(self):
        @tf.function(jit_compile=self._jit)
        def compiled(weights, number, lists):
            user, own = self._own_users(number)
            user = tf.reshape(user, [self._groups, self._together])

            def one_group(k, ranks, finite):
                here = tf.gather(lists, k)
                masked = here < 0
                items = tf.where(masked, -1 - here, here)
                users = tf.repeat(tf.gather(user, k), tf.shape(items)[1])
                scores = self._scores(weights, users, tf.reshape(items, [-1]))
                rank, good = count_ranks(tf.reshape(scores, tf.shape(items)), masked)
                ranks = tf.tensor_scatter_nd_update(ranks, [[k]], rank[None])
                return k + 1, ranks, finite & good

            start = (0, tf.zeros([self._groups, self._together], tf.int32), True)
            _, ranks, finite = tf.while_loop(
                lambda k, *_: k < self._groups, one_group, start
            )
            scored = tf.reduce_sum(tf.cast(own, tf.int32)) * (self.config.eval_negatives + 1)
            return tf.reshape(ranks, [-1]), own, finite, scored

        return compiled

    def _warm_up(self) -> None:
        """Runs every compiled function once on random ids: no dataset is near."""
        config, rng = self.config, np.random.default_rng(0)
        if config.synthetic:
            self._run_synthetic(1, config.batch_size, negatives_key(0, 0))
        shape = (1, config.batch_size)
        user = rng.integers(0, config.num_users, shape, np.int32)
        item = rng.integers(0, config.num_items, shape, np.int32)
        self._train_on(EpochBatches(user, item, rng.random(shape) < 0.2, config.batch_size))
        lists = np.zeros((config.num_users, config.eval_negatives + 1), np.int32)
        self._evaluate([self._place_lists(lists)])

    def _own_users(self, number) -> tuple[tf.Tensor, tf.Tensor]:
        """(users int32 [n] of replica `number`, whether each is its own to count)."""
        users = self._groups * self._together
        user = number * users + tf.range(users)
        return user % self.config.num_users, user < self.config.num_users

    def _encoded(self, lists: EvaluationLists) -> list:
        """~i stands for a masked item i."""
        return [self._place_lists(np.where(lists.masked, ~lists.items, lists.items))]

    def _place_lists(self, lists: np.ndarray) -> Any:
        """Each replica's part of [U, N + 1] as [groups, together, N + 1], padded with the
        first users."""
        users = self._groups * self._together

        def part(number: int) -> np.ndarray:
            rows = np.arange(number * users, (number + 1) * users) % len(lists)
            return lists[rows].reshape(self._groups, self._together, -1)

        return self._replicas.place(part)

    def _run(self, batches: EpochBatches) -> float:
        return self._train_on(batches)
