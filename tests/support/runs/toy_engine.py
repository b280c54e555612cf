"""An engine for tests of the harness: without TensorFlow, with every kind of failure.

It "learns" by adding hits for a tenth of the users per epoch. The environment variable
`TOY_MODE` selects the failure in epoch 2 ("hang in prepare": in `prepare`).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import threading
import time

import numpy as np

from reference_model.base.config import EngineConfig
from reference_model.base.errors import NonFiniteLoss, PreparationStalled
from reference_model.engine import EvalResult, TrainResult
from reference_model.sampling.epoch_batches import build_epoch
from reference_model.sampling.evaluation_lists import draw_evaluation_lists
from reference_model.sampling.negatives import make_sampler
from reference_model.sampling.random_streams import STREAM_EVALUATION, stream


class ToyEngine:
    """HR@10 after epoch e is e / 10, for any data."""

    def __init__(self, config: EngineConfig, sink, device: str):
        self.config, self.sink, self.device = config, sink, device
        self.mode = os.environ.get("TOY_MODE", "")
        self.epoch = 0
        time.sleep(float(os.environ.get("TOY_INIT_SECONDS", "0")))

    def prepare(self) -> None:
        log, config = self.sink.point, self.config
        log("precision", config.precision)
        log("global_batch_size", config.batch_size)
        log("eval_batch_size", config.eval_batch_size)
        log("opt_name", config.optimizer)
        log("opt_base_learning_rate", config.learning_rate)
        log("opt_adam_beta_1", config.beta1)
        log("opt_adam_beta_2", config.beta2)
        log("opt_adam_epsilon", config.epsilon)
        log("model_loss_fn", "binary_cross_entropy")
        log("model_mf_dim", config.mf_dim)
        log("model_mlp_layer_sizes", list(config.mlp_layers))
        log("model_l2_mf", config.l2_mf)
        log("model_l2_mlp", list(config.l2_mlp))
        if self.mode == "hang in prepare":
            time.sleep(60)

    def reset(self, seed: int) -> None:
        self.seed, self.epoch = seed, 0

    def load(self, split) -> None:
        self.split = split
        self.users, self.positives = split.num_users, split.num_positives
        log, config = self.sink.point, self.config
        log("train_samples", self.positives * (1 + config.train_negatives))
        log("eval_samples", self.users * (1 + config.eval_negatives))
        log("train_num_negatives", config.train_negatives)
        log("train_negatives_with_replacement", True)
        log("train_sampler", "complement_table")
        log("train_order", "uniform_permutation")
        log("train_order_method", "assignment")
        log("eval_num_users", self.users)
        log("eval_num_negatives", config.eval_negatives)
        log("eval_negatives_with_replacement", True)
        log("eval_top_k", config.top_k)
        self.sink.start("eval_neg_gen_start")
        self.sink.end("eval_neg_gen_stop")

    def train_epoch(self, epoch: int) -> TrainResult:
        thread = threading.Thread(target=self._prepare_epoch, args=(epoch,))
        thread.start()
        thread.join()
        self.epoch = epoch
        time.sleep(float(os.environ.get("TOY_EPOCH_SECONDS", "0")))
        if epoch == 2:
            self._fail()
        examples = self.positives * (1 + self.config.train_negatives)
        steps = -(-examples // self.config.batch_size)
        loss = 1 / epoch + 1e-11 * self.seed  # the loss depends on the seed
        return TrainResult(loss=loss, examples=examples, steps=steps)

    def _prepare_epoch(self, epoch: int) -> None:
        self.sink.start("train_neg_gen_start", epoch_num=epoch)
        self.sink.end("train_neg_gen_stop", epoch_num=epoch, status="complete")

    def _fail(self) -> None:
        """Fails as `TOY_MODE` selects."""
        if self.mode == "nan":
            raise NonFiniteLoss("the loss is nan")
        if self.mode == "stalled":
            raise PreparationStalled("no batches")
        if self.mode == "exception":
            raise MemoryError("a message\nof two lines")
        if self.mode == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mode == "hang":
            time.sleep(60)
        # A C function that holds the interpreter lock: no other thread can run.
        if self.mode == "deaf":
            ctypes.PyDLL(None).sleep(2)
            time.sleep(60)
        # Allocates until its memory limit is reached.
        if self.mode == "hog":
            blocks = []
            with open("/proc/self/statm") as file:
                pages = int(file.read().split()[0])
            limit = pages * resource.getpagesize() + (128 << 20)
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            while True:
                blocks.append(bytearray(16 << 20))

    def evaluate(self) -> EvalResult:
        hits = self.users * self.epoch // 10
        if self.mode == "liar":
            # Inconsistent: this HR is not hits / users.
            return EvalResult(0.99, 0.5, hits, self.users, self.users)
        return EvalResult(
            hr=hits / self.users,
            ndcg=hits / self.users / 2 + 1e-12 * self.seed,
            hits=hits,
            users=self.users,
            scored=self.users * (1 + self.config.eval_negatives),
        )

    def close(self) -> None:
        pass

    def epoch_batches(self, epoch: int):
        sampler = make_sampler(self.split)
        config = self.config
        return build_epoch(
            self.split, sampler, config.train_negatives, config.batch_size, self.seed, epoch
        )

    def evaluation_lists(self):
        return draw_evaluation_lists(
            self.split,
            self.config.eval_negatives,
            make_sampler(self.split),
            stream(self.seed, STREAM_EVALUATION),
        )

    def get_weights(self) -> dict[str, np.ndarray]:
        return {"epochs": np.full((1,), self.epoch, np.float32)}

    def set_weights(self, weights) -> None:
        self.epoch = int(weights["epochs"][0])


class BareToyEngine(ToyEngine):
    """A toy engine with the required methods only: no digests and no checkpoints."""

    epoch_batches = evaluation_lists = get_weights = set_weights = None
