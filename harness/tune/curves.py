"""Trains curves of the hit rate, epoch by epoch, in one process: for calibration and tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, NamedTuple

from harness.base.clock import Stopwatch

if TYPE_CHECKING:
    from reference_model.data.split import Split
    from reference_model.engine import Engine, EvalResult, TrainResult


class Epoch(NamedTuple):
    """The results of one epoch.

    Attributes:
      number: From 1.
      trained: Result of the training.
      evaluated: Result of the evaluation of all users.
      seconds: Seconds of both.
      load_seconds: Seconds in which the engine took the dataset, before the first epoch.
    """

    number: int
    trained: TrainResult
    evaluated: EvalResult
    seconds: float
    load_seconds: float


def train_epochs(engine: Engine, split: Split, seed: int, epochs: int) -> Iterator[Epoch]:
    """Trains a run epoch by epoch, regardless of the hit rate; the caller may stop it.

    Args:
      engine: A prepared engine. It is reset first, and closed when the iterator ends or is closed.
      split: The dataset.
      seed: The run's seed.
      epochs: The largest number of epochs.

    Raises:
      NonFiniteLoss: The loss is NaN or infinite.
    """
    engine.reset(seed)
    watch = Stopwatch()
    engine.load(split)
    load_seconds = watch.lap()
    try:
        for number in range(1, epochs + 1):
            trained, evaluated = engine.train_epoch(number), engine.evaluate()
            yield Epoch(number, trained, evaluated, watch.lap(), load_seconds)
            watch.lap()  # the time that the caller took does not count
    finally:
        engine.close()
