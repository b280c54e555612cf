"""A toy engine whose epochs to the target depend on its settings, for tests of the tuner.

The hit rate grows towards 0.3. It needs the fewest epochs at learning rate 0.02; a learning rate
above 0.1 loses the loss to NaN. The environment variable NEUMF_TUNABLE_FAILURE makes every trial
fail. Epochs take longer with smaller batches. No TensorFlow.
"""

from __future__ import annotations

import math
import os
import time

import numpy as np

from reference_model.base.errors import NonFiniteLoss
from reference_model.engine import EvalResult, TrainResult
from tests.support.runs.toy_engine import ToyEngine

BEST_RATE = 0.02


class TunableEngine(ToyEngine):
    """HR@10 after epoch e is 0.3 (1 - exp(-e / n)); n depends on the settings and the seed."""

    def train_epoch(self, epoch: int) -> TrainResult:
        config = self.config
        if failure := os.environ.get("NEUMF_TUNABLE_FAILURE"):
            raise MemoryError(failure)
        if config.learning_rate > 0.1:
            raise NonFiniteLoss("the loss is nan")
        time.sleep(0.02 + 60 / config.batch_size)
        return super().train_epoch(epoch)

    def evaluate(self) -> EvalResult:
        octaves = abs(math.log2(self.config.learning_rate / BEST_RATE))
        noise = 1 + 0.1 * np.random.default_rng(self.seed).standard_normal()
        scale = 2 * (1 + octaves) * noise
        hits = round(self.users * 0.3 * (1 - math.exp(-self.epoch / scale)))
        # Two runs never have the same curve.
        hits = max(0, hits + int(np.random.default_rng([self.seed, self.epoch]).integers(-4, 5)))
        hr = hits / self.users
        return EvalResult(hr=hr, ndcg=hr / 2, hits=hits, users=self.users,
                          scored=self.users * (1 + self.config.eval_negatives))
