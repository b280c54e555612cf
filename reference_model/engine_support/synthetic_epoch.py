"""Training of an epoch on synthetic batches, shared by all engines."""

from __future__ import annotations

from typing import Callable

import numpy as np

from reference_model.base.config import EngineConfig
from reference_model.engine import TrainResult
from reference_model.engine_support.log_facts import log_synthetic_negatives
from reference_model.events import EventSink
from reference_model.sampling.random_streams import negatives_key

# run_steps(steps, examples, key) trains on `examples` synthetic examples in `steps` steps and
# returns the sum of their losses; `key` is the Philox key of the epoch, uint64 [1].
RunSteps = Callable[[int, int, np.ndarray], float]


def train_synthetic_epoch(
    config: EngineConfig, sink: EventSink, seed: int, epoch: int, run_steps: RunSteps
) -> TrainResult:
    """Trains one epoch on batches generated on the device, and logs the synthetic negatives.

    Args:
      config: the sizes; the epoch has as many examples as one on a dataset.
      sink: receives the interval of negative sampling, which is empty.
      seed: the run's seed.
      epoch: the epoch number, from 1.
      run_steps: trains the steps.

    Returns:
      The result of the epoch.
    """
    examples = config.train_examples
    steps = -(-examples // config.batch_size)
    log_synthetic_negatives(epoch, sink)
    total = run_steps(steps, examples, negatives_key(seed, epoch))
    return TrainResult(total / examples, examples, steps)
