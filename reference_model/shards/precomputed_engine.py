"""An engine that trains on batches from a source instead of drawing them.

`PrecomputedBatchEngine` wraps any engine with `train_batches` and `load_lists`. The next epoch is
read or drawn in the background while the current one trains, and the log records when the
negatives were drawn.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Protocol

import numpy as np

from reference_model.base.config import EngineConfig
from reference_model.base.errors import NonFiniteLoss
from reference_model.data.split import Split
from reference_model.engine import EvalResult, TrainResult
from reference_model.engine_support.log_facts import log_training_config, make_and_log_lists
from reference_model.events import EventSink
from reference_model.sampling.epoch_batches import EpochBatches, random_batch
from reference_model.sampling.evaluation_lists import EvaluationLists
from reference_model.sampling.prefetch import EpochPrefetcher

# Methods of the wrapped engine that are not needed without this wrapper.
REQUIRED_METHODS = ("train_batches", "load_lists")


class BatchSource(Protocol):
    """The source of the batches and the evaluation lists of a run.

    Attributes:
      drawn_when: when the negatives are drawn, "before_clock" or "in_run"; for the log.
      sampler: name of the sampler of the negatives; for the log.
      epochs: the maximum number of epochs.
    """

    drawn_when: str
    sampler: str
    epochs: int

    def prepare(self) -> None:
        """Compiles all programs of the source; must not access a dataset."""

    def load(self, split: Split | None, sink: EventSink) -> None:
        """Takes the dataset; timed. The source must not read or draw batches before this call."""

    def lists(self) -> EvaluationLists:
        """Returns the evaluation lists of the run."""

    def epoch(self, epoch: int, is_cancelled: Callable[[], bool]) -> EpochBatches:
        """Returns the batches of one epoch.

        Called once per epoch, in order, in a background thread.
        """

    def redraw_epoch(self, epoch: int) -> EpochBatches:
        """Returns the batches of one epoch again, after the run, for digests."""

    def redraw_lists(self) -> EvaluationLists:
        """Returns the evaluation lists again; the engine may have modified the first copy."""

    def close(self) -> None:
        """Removes all temporary data of the run."""


class PrecomputedBatchEngine:
    """Wraps an engine to train on the batches of a source.

    The methods are those of `reference_model.engine.Engine`.
    """

    def __init__(self, engine: Any, source: BatchSource, config: EngineConfig, sink: EventSink):
        """Stores its arguments.

        Args:
          engine: the engine that trains and evaluates.
          source: provides the batches and evaluation lists.
          config: the engine's configuration.
          sink: receives the facts to log.

        Raises:
          ValueError: the engine lacks a required method.
        """
        missing = [name for name in REQUIRED_METHODS if not callable(getattr(engine, name, None))]
        if missing:
            raise ValueError(
                f"the engine has no {' and no '.join(missing)}, so it cannot train on shards; "
                "run it without --input"
            )
        self._engine, self._source, self._config, self._sink = engine, source, config, sink
        self._prefetcher: EpochPrefetcher | None = None

    def prepare(self) -> None:
        """Prepares the engine and the source, and compiles training on given batches."""
        self._engine.prepare()
        self._source.prepare()
        self._engine.train_batches(random_batch(self._config))

    def reset(self, seed: int) -> None:
        self._engine.reset(seed)

    def load(self, split: Split | None) -> None:
        source, sink = self._source, self._sink
        source.load(split, sink)
        log_training_config(self._config, source.sampler, sink)
        self._prefetcher = EpochPrefetcher(source.epoch, sink, negatives=source.drawn_when)
        self._prefetcher.begin(1)
        lists = make_and_log_lists(
            self._config, self._config.eval_given, source.lists, sink, negatives=source.drawn_when
        )
        self._engine.load_lists(lists)

    def train_epoch(self, epoch: int) -> TrainResult:
        batches = self._prefetcher.take(epoch)
        if epoch < self._source.epochs:
            self._prefetcher.begin(epoch + 1)
        result = self._engine.train_batches(batches)
        if not np.isfinite(result.loss):
            raise NonFiniteLoss(f"the loss of epoch {epoch} is {result.loss}")
        return result

    def evaluate(self) -> EvalResult:
        return self._engine.evaluate()

    def close(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()
        self._engine.close()
        self._source.close()

    def epoch_batches(self, epoch: int) -> EpochBatches:
        return self._source.redraw_epoch(epoch)

    def evaluation_lists(self) -> EvaluationLists:
        return self._source.redraw_lists()

    def get_weights(self) -> Mapping[str, np.ndarray]:
        return self._engine.get_weights()

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        self._engine.set_weights(weights)
