"""What the fused engine draws, made again: for digests, audits, shards and measuring."""

from __future__ import annotations

from itertools import islice
from typing import Any, Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from reference_model.base.config import EngineConfig
from reference_model.data.split import Split
from reference_model.device_sampling.epoch_order import Orders
from reference_model.engine_support.log_facts import make_evaluation_lists
from reference_model.fused.training_loop import TrainingShape, examples
from reference_model.sampling.epoch_batches import EpochBatches
from reference_model.sampling.evaluation_lists import EvaluationLists, ListsInTurn
from reference_model.sampling.negatives import make_sampler
from reference_model.sampling.random_streams import negatives_key


class DrawsAgain:
    """The part of `fused.FusedEngine` that draws what a run drew, or will draw."""

    config: EngineConfig
    _training: TrainingShape
    _orders: Orders
    _seed: int | None
    _split: Split
    _device: str
    _jit: bool
    _arrays: Any
    _sample: Callable
    _calls: Callable[[int], Iterator[np.ndarray]]
    _place: Callable[[list[np.ndarray]], None]
    _examples: Callable | None = None

    def epoch_batches(self, epoch: int, steps: int | None = None) -> EpochBatches:
        """What `train_epoch(epoch)` trains on, made again from the seed; 9 bytes an example,
        of the first `steps` steps where that is given."""
        config, key = self.config, negatives_key(self._seed, epoch)
        steps = steps or -(-config.train_examples // config.batch_size)
        user, item = np.empty((2, steps, config.batch_size), np.int32)
        label = np.empty(user.shape, bool)
        # Memory of its own: the other may be in use.
        orders = Orders(config.train_examples, config.batch_size, 1 + config.train_negatives)
        rows = (row for part in orders.of(self._seed, epoch) for row in part)
        for step, row in enumerate(islice(rows, steps)):
            for array, found in zip((user, item, label), self._draw_step(row, step, key)):
                array[step] = found
        return EpochBatches(user, item, label, min(config.train_examples, user.size))

    def _draw_step(self, ids: np.ndarray, step: int, key: np.ndarray) -> list[np.ndarray]:
        """User, item and label [B] of the examples `ids` [B] of one step."""
        shape, size = self._training, self.config.batch_size
        if self._examples is None:
            self._examples = tf.function(
                lambda *args: examples(shape, *args), jit_compile=self._jit
            )
        ids = np.pad(ids, (0, shape.plan.padded_rows - size))
        with tf.device(self._device):
            numbers = tf.constant(ids), tf.constant(step), tf.constant(key)
            found = self._examples(*numbers, self._arrays)
        return [x.numpy()[:size] for x in found]

    def prepare_drawing(self) -> None:
        """Instead of `prepare`, for whoever draws and does not train: compiles what draws."""
        self._training = self._training_shape()
        self._place(self._training.sampler.made_up())
        self._draw_step(self._made_up_ids()[0], 0, negatives_key(0, 0))
        self._arrays = None

    def draw_for(self, split: Split, seed: int) -> None:
        """Instead of `load`, after `prepare_drawing`: `epoch_batches` and `evaluation_lists`
        answer from here on."""
        self._split, self._seed = split, seed
        self._place_split(split, make_sampler(split))

    def sample_epoch(self, epoch: int) -> int:
        """Orders and draws the next epoch as `train_epoch` does, but trains nothing;
        for measuring. Returns how many examples it made."""
        key, first = tf.constant(negatives_key(self._seed, epoch)), 0
        for ids in self._calls(epoch):
            part, count = self._full_call(ids), tf.constant(len(ids), tf.int32)
            with tf.device(self._device):
                at = tf.constant(first, tf.int32)
                made = self._sample(part, count, at, key, self._arrays)
            made.numpy()
            first += len(ids)
        return self.config.train_examples

    def evaluation_lists(self) -> EvaluationLists:
        """What `evaluate` ranks, made again from the seed."""
        sampler = make_sampler(self._split)
        return make_evaluation_lists(self.config, self._split, sampler, self._seed)

    def evaluation_lists_in_turn(self) -> Iterable[EvaluationLists]:
        """The same, of some users after the other where all together are large."""
        lists = self._draw_lists(self._split, make_sampler(self._split))
        return lists if isinstance(lists, ListsInTurn) else [lists]
