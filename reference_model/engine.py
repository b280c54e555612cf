"""The interface of a training engine, and the results that an engine returns.

An engine owns everything between the split and the metrics of an epoch: batches,
negatives, the training step, the evaluation. It owns no clock and no log; the harness calls
it phase by phase and times those calls. `--engine module:Class` names a class that follows
the `Engine` protocol; `harness/engine_conformance.py` compares such a class with the
reference engine.
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

# The configuration and the errors are part of the interface: authors of an engine import
# them from here.
__all__ = [
    "Batch", "Engine", "EngineConfig", "EvalResult", "NonFiniteLoss", "PreparationStalled",
    "TrainResult",
]  # fmt: skip


@dataclass(frozen=True)
class TrainResult:
    """The result of one epoch of training.

    Attributes:
      loss: mean loss over the epoch's examples.
      examples: number of examples, without padding.
      steps: number of optimizer steps.
    """

    loss: float
    examples: int
    steps: int


@dataclass(frozen=True)
class EvalResult:
    """The result of one evaluation over all users.

    Attributes:
      hr: HR@top_k, that is `hits` / `users`.
      ndcg: NDCG@top_k, averaged over all users.
      hits: users whose held-out item is among the first top_k.
      users: number of users.
      scored: (user, item) pairs in all evaluation lists, masked ones included.
      computed: number of pairs whose score the engine actually computed. It can be less
        than `scored`, because the first top_k places can be known earlier. None: the
        engine computes all of them and does not count.
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
        """Computes the metrics from one rank per user.

        Args:
          config: gives top_k and the number of evaluation negatives.
          rank: int [U], the rank of each user's held-out item from 0. It must be exact
            where it is below top_k; elsewhere any value of at least top_k will do.
          computed: see the class.
        """
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
        """Computes the metrics from a histogram of the ranks.

        Args:
          config: gives top_k and the number of evaluation negatives.
          counts: int [top_k + 1]; entry r counts the users with rank r (from 0), the last
            entry counts all users with rank top_k or more.
          computed: see the class.
        """
        users, gains = int(counts.sum()), metrics.ndcg_gains(np.arange(config.top_k))
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
    """One training batch of static shape.

    Attributes:
      user: int [B], user indices.
      item: int [B], item indices.
      label: [B], 1 for a positive, 0 for a negative.
      weight: [B], 1 for an example, 0 for padding.
    """

    user: np.ndarray
    item: np.ndarray
    label: np.ndarray
    weight: np.ndarray


class Engine(Protocol):
    """The interface of a training engine, in the order in which it is called."""

    def __init__(self, config: EngineConfig, sink: "EventSink", device: str):
        """Stores its arguments; must not touch a dataset, and should return quickly.

        Args:
          config: all sizes and hyperparameters.
          sink: receives the facts that the engine logs.
          device: the device type that the harness selected: "cpu", "gpu" or "tpu".

        Raises:
          ValueError: the engine cannot work with these sizes; one sentence.
        """

    def prepare(self) -> None:
        """Builds the model, compiles every step and runs each once; untimed.

        It may use only random data of the configured shapes, never the dataset. It logs
        the model's and the optimizer's configuration to the sink (`opt_*`, `model_*`,
        `global_batch_size`).
        """

    def reset(self, seed: int) -> None:
        """Sets weights, optimizer state and random state for `seed`; untimed.

        After it the engine behaves as if it had trained nothing before. Two runs with
        different seeds share no random stream.
        """

    def load(self, split: "Split | None") -> None:
        """Takes the dataset; the clock runs.

        It draws the evaluation lists, which serve every epoch of the run, and starts to
        prepare the first epoch. It logs the sampling and evaluation configuration to the
        sink.

        Args:
          split: the dataset; None where `EngineConfig.synthetic` is set.
        """

    def train_epoch(self, epoch: int) -> TrainResult:
        """Trains once on every positive and on newly drawn negatives.

        Args:
          epoch: counts from 1.

        Raises:
          NonFiniteLoss: the loss is NaN or infinite.
          PreparationStalled: the batches of the epoch do not arrive.
        """

    def evaluate(self) -> EvalResult:
        """Ranks the held-out item of every user.

        Raises:
          NonFiniteLoss: a score is NaN.
        """

    def close(self) -> None:
        """Stops background work and ends every interval that is open in the log."""

    # The following methods serve audits and comparisons of one engine with another; a run
    # does not need them.

    def get_weights(self) -> Mapping[str, np.ndarray]:
        """Returns the weights, with the names and shapes of `neumf.weight_names`."""

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Replaces all weights; the optimizer state stays as it is."""

    def train_batches(self, batches: "EpochBatches") -> TrainResult:
        """Trains on the given batches instead of drawing an epoch."""

    def epoch_batches(self, epoch: int) -> "EpochBatches":
        """Reproduces from the seed the batches that `train_epoch(epoch)` trains on."""

    def evaluation_lists(self) -> "EvaluationLists":
        """Reproduces from the seed the lists that `evaluate` ranks."""

    def load_lists(self, lists: "EvaluationLists") -> None:
        """Takes evaluation lists instead of a dataset, for a run with `--input=shards`.

        Afterwards only `train_batches` and `evaluate` are called. The engine may modify
        the lists.
        """

    def score(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Computes the logits of (user, item) pairs.

        Args:
          user: int32 [N], user indices.
          item: int32 [N], item indices.

        Returns:
          float [N].
        """

    def loss_and_gradients(self, batch: Batch) -> tuple[float, Mapping[str, np.ndarray]]:
        """Computes the loss of one batch and its gradients by weight name; no update."""
