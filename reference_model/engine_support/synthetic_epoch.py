"""An epoch on batches that are made up on the device: what every engine does of it alike."""

from __future__ import annotations

import numpy as np

from reference_model.base.config import EngineConfig
from reference_model.engine import TrainResult
from reference_model.engine_support.log_facts import say_no_negatives
from reference_model.events import EventSink
from reference_model.sampling.random_streams import negatives_key


class TrainsOnMadeUp:
    """For an engine that has `_run_synthetic`."""

    config: EngineConfig
    _sink: EventSink
    _seed: int | None

    def _train_synthetic(self, epoch: int) -> TrainResult:
        examples = self.config.train_examples
        steps = -(-examples // self.config.batch_size)
        say_no_negatives(epoch, self._sink)
        total = self._run_synthetic(steps, examples, negatives_key(self._seed, epoch))
        return TrainResult(total / examples, examples, steps)

    def _run_synthetic(self, steps: int, examples: int, key: np.ndarray) -> float:
        """The sum of the losses of `examples` made-up examples in `steps` steps."""
        raise NotImplementedError
