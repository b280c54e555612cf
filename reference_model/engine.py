"""What a training engine is: the interface between a run and the thing that trains.

An engine owns everything between the split and the figures of an epoch: batches,
negatives, the step, the evaluation. It owns no clock and no log; the harness
calls it phase by phase and times those calls. `--engine module:Class` names a
class that follows the `Engine` protocol; `harness/engine_conformance.py` holds
one against the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Mapping, Protocol

import numpy as np

from reference_model.base import metrics
from reference_model.base.config import EngineConfig
from reference_model.base.errors import NonFiniteLoss, PreparationStalled

if TYPE_CHECKING:
    from reference_model.data.split import Split
    from reference_model.events import EventSink
    from reference_model.sampling.epoch_batches import EpochBatches
    from reference_model.sampling.evaluation_lists import EvaluationLists

# Sizes and errors are part of the interface: an engine of one's own imports them from here.
__all__ = [
    "Batch", "Engine", "EngineConfig", "EvalResult", "NonFiniteLoss", "PreparationStalled",
    "TrainResult",
]  # fmt: skip


@dataclass(frozen=True)
class TrainResult:
    """One epoch of training. `loss` is the mean over the epoch's examples."""

    loss: float
    examples: int
    steps: int


@dataclass(frozen=True)
class EvalResult:
    """One evaluation over all users.

    Attributes:
      hr: `hits` / `users`.
      scored: pairs in all lists, those that are masked included.
      computed: of how many pairs the engine computed the score to know the first top_k
        places, where it counts them; None stands for all.
    """

    hr: float
    ndcg: float
    hits: int
    users: int
    scored: int
    computed: int | None = None

    @classmethod
    def of_ranks(
        cls, config: EngineConfig, rank: np.ndarray, computed: int | None = None
    ) -> "EvalResult":
        """From the rank of every user's held-out item, int [U]: exact below top_k, there at
        least top_k elsewhere."""
        return cls(
            hr=metrics.hit_rate_at(rank, config.top_k),
            ndcg=metrics.ndcg_at(rank, config.top_k),
            hits=metrics.hits_at(rank, config.top_k),
            users=len(rank),
            scored=len(rank) * (config.eval_negatives + 1),
            computed=computed,
        )

    @classmethod
    def of_counts(
        cls, config: EngineConfig, counts: np.ndarray, computed: int | None = None
    ) -> "EvalResult":
        """From how many users have each rank, int [top_k + 1]; the last entry is of those
        behind the first top_k."""
        users, gains = int(counts.sum()), metrics.gains(np.arange(config.top_k))
        hits = int(counts[:-1].sum())
        return cls(
            hr=hits / users,
            ndcg=float(counts[:-1] @ gains) / users,
            hits=hits,
            users=users,
            scored=users * (config.eval_negatives + 1),
            computed=computed,
        )


@dataclass(frozen=True)
class Batch:
    """A static-shape training batch: arrays [B]; `weight` 0 marks padding."""

    user: np.ndarray
    item: np.ndarray
    label: np.ndarray
    weight: np.ndarray


class Engine(Protocol):
    """The interface of a training engine, in the order in which it is called."""

    def __init__(self, config: EngineConfig, sink: "EventSink", device: str):
        """Takes the sizes, the sink for its facts and the device type.

        `device` is what the harness resolved: "cpu" or "gpu" (later "tpu").
        Raises ValueError with one sentence where the sizes cannot work. Must
        not touch a dataset, and should return quickly.
        """

    def prepare(self) -> None:
        """Builds the model, compiles every step and warms it up; untimed.

        May use only random data of the configured shapes, never the dataset.
        Says the model's and the optimizer's facts to the sink (`opt_*`,
        `model_*`, `global_batch_size`).
        """

    def reset(self, seed: int) -> None:
        """Sets weights, optimizer and random state for `seed`; untimed.

        After it the engine behaves as if nothing had run before. Two trials
        with different seeds share no random stream.
        """

    def load(self, split: "Split | None") -> None:
        """Takes the dataset; the clock runs.

        Draws the evaluation lists, which serve every epoch of the run, and
        starts to prepare the first epoch. Says the sampling and evaluation
        facts to the sink.
        """

    def train_epoch(self, epoch: int) -> TrainResult:
        """Trains on every positive and its fresh negatives once; from epoch 1.

        Raises NonFiniteLoss, or PreparationStalled where batches do not come.
        """

    def evaluate(self) -> EvalResult:
        """Ranks the held-out item of every user. Raises NonFiniteLoss on NaN."""

    def close(self) -> None:
        """Stops background work and leaves no open interval in the log."""

    # What follows is for holding an engine against another and for audits; a run
    # does without it.

    def get_weights(self) -> Mapping[str, np.ndarray]:
        """The weights by the names and shapes of `neumf.WEIGHT_NAMES`."""

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Replaces all weights; optimizer state is left as it is."""

    def train_batches(self, batches: "EpochBatches") -> TrainResult:
        """Trains on given batches instead of drawing an epoch."""

    def epoch_batches(self, epoch: int) -> "EpochBatches":
        """What `train_epoch(epoch)` trains on, made again from the seed."""

    def evaluation_lists(self) -> "EvaluationLists":
        """What `evaluate` ranks, made again from the seed."""

    def load_lists(self, lists: "EvaluationLists") -> None:
        """Takes evaluation lists instead of a dataset, for a run on given batches
        (`--input=shards`): `train_batches` and `evaluate` alone are called after it. The
        engine may change them."""

    def score(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """float [N]: the logits of pairs given as two int32 arrays [N]."""

    def loss_and_gradients(self, batch: Batch) -> tuple[float, Mapping[str, np.ndarray]]:
        """The loss of one batch and its gradients by weight name; no update."""
