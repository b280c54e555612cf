"""An engine on batches and evaluation lists that it is given instead of drawing them.

`GivenEngine` stands around any engine that has `train_batches` and `load_lists`: the
next epoch is read or made in the background while one trains, and what is said of it
names where its negatives were drawn.
"""

from __future__ import annotations

from typing import Any, Mapping, Protocol

import numpy as np

from reference_model.base.config import EngineConfig
from reference_model.base.errors import NonFiniteLoss
from reference_model.data.split import Split
from reference_model.engine import EvalResult, TrainResult
from reference_model.engine_support.log_facts import say_lists, say_training
from reference_model.events import EventSink
from reference_model.sampling.epoch_batches import EpochBatches
from reference_model.sampling.evaluation_lists import EvaluationLists
from reference_model.sampling.prefetch import EpochPrefetcher

# What an engine must have beyond what training on its own needs.
NEEDED = ("train_batches", "load_lists")


class BatchSource(Protocol):
    """Where the batches and the evaluation lists of a run come from.

    `where` says when their negatives were drawn, `sampler` how, `epochs` is how many
    there are at most.
    """

    where: str
    sampler: str
    epochs: int

    def prepare(self) -> None:
        """Compiles what it needs; touches no dataset."""

    def load(self, split: Split | None, sink: EventSink) -> None:
        """The clock runs: from here on the source may read and draw."""

    def lists(self) -> EvaluationLists:
        """The evaluation lists of the run."""

    def epoch(self, epoch: int, cancelled: Any) -> EpochBatches:
        """The batches of one epoch, asked for once, in turn, in another thread."""

    def again(self, epoch: int) -> EpochBatches:
        """The same after the run, for digests."""

    def lists_again(self) -> EvaluationLists:
        """The lists after the run; the engine may have changed those that it was given."""

    def close(self) -> None:
        """The run is over: leaves nothing that only this run needed."""


class GivenEngine:
    """`engine` on the batches of `source`; see `reference_model.engine.Engine`."""

    def __init__(self, engine: Any, source: BatchSource, config: EngineConfig, sink: EventSink):
        missing = [name for name in NEEDED if not callable(getattr(engine, name, None))]
        if missing:
            raise ValueError(
                f"the engine has no {' and no '.join(missing)}, so it cannot train on shards; "
                "leave --input out"
            )
        self._engine, self._source, self._config, self._sink = engine, source, config, sink
        self._prefetcher: EpochPrefetcher | None = None

    def prepare(self) -> None:
        """Also compiles the program that takes given batches, on made-up ones."""
        self._engine.prepare()
        self._source.prepare()
        self._engine.train_batches(made_up_step(self._config))

    def reset(self, seed: int) -> None:
        self._engine.reset(seed)

    def load(self, split: Split | None) -> None:
        source, sink = self._source, self._sink
        source.load(split, sink)
        say_training(self._config, source.sampler, sink)
        self._prefetcher = EpochPrefetcher(source.epoch, sink, negatives=source.where)
        self._prefetcher.begin(1)
        lists = say_lists(
            self._config, self._config.eval_given, source.lists, sink, negatives=source.where
        )
        self._engine.load_lists(lists)

    def train_epoch(self, epoch: int) -> TrainResult:
        batches = self._prefetcher.take(epoch)
        if epoch < self._source.epochs:
            self._prefetcher.begin(epoch + 1)
        trained = self._engine.train_batches(batches)
        if not np.isfinite(trained.loss):
            raise NonFiniteLoss(f"the loss of epoch {epoch} is {trained.loss}")
        return trained

    def evaluate(self) -> EvalResult:
        return self._engine.evaluate()

    def close(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()
        self._engine.close()
        self._source.close()

    def epoch_batches(self, epoch: int) -> EpochBatches:
        return self._source.again(epoch)

    def evaluation_lists(self) -> EvaluationLists:
        return self._source.lists_again()

    def get_weights(self) -> Mapping[str, np.ndarray]:
        return self._engine.get_weights()

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        self._engine.set_weights(weights)


def made_up_step(config: EngineConfig) -> EpochBatches:
    """One step on random ids, of the shape that every step has."""
    rng, shape = np.random.default_rng(0), (1, config.batch_size)
    user = rng.integers(0, config.num_users, shape, np.int32)
    item = rng.integers(0, config.num_items, shape, np.int32)
    return EpochBatches(user, item, rng.random(shape) < 0.2, config.batch_size)
