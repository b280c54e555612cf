"""The interface of a training engine, and the results that an engine returns.

An engine implements everything between the split and the metrics of an epoch: batches,
negatives, the training step and the evaluation. It has no clock and no log; the harness calls
its phases in turn and times the calls. `--engine module:Class` selects a class that implements
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

# The configuration and the errors are part of the interface: engines import them from here.
__all__ = [
    "Batch", "Engine", "EngineConfig", "EvalResult", "NonFiniteLoss", "PreparationStalled",
    "TrainResult",
]  # fmt: skip


@dataclass(frozen=True)
class TrainResult:
    """The result of one epoch of training.

    Attributes:
      loss: mean loss over the epoch's examples.
      examples: number of examples, excluding padding.
      steps: number of optimizer steps.
    """

    loss: float
    examples: int
    steps: int


@dataclass(frozen=True)
class EvalResult:
    """The result of one evaluation over all users.

    Attributes:
      hr: HR@top_k, `hits` / `users`.
      ndcg: NDCG@top_k, averaged over all users.
      hits: number of users whose held-out item ranks among the first top_k.
      users: number of users.
      scored: number of (user, item) pairs in all evaluation lists, including masked ones.
      computed: number of pairs whose score the engine computed. It can be less than
        `scored`, because an engine may stop a list once the metrics of its user are
        determined. None if the engine computes all pairs and does not count them.
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
          config: provides top_k and the number of evaluation negatives.
          rank: int [U], the rank of each user's held-out item, from 0. Ranks below top_k
            must be exact; any other rank may be replaced by any value >= top_k.
          computed: see the class docstring.
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
          config: provides top_k and the number of evaluation negatives.
          counts: int [top_k + 1]; entry r is the number of users with rank r (from 0), the
            last entry that of all users with rank top_k or more.
          computed: see the class docstring.
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
    """One training batch with static shape.

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
    """The interface of a training engine; methods are listed in call order."""

    def __init__(self, config: EngineConfig, sink: "EventSink", device: str):
        """Stores its arguments; must not access a dataset, and should return quickly.

        Args:
          config: all sizes and hyperparameters.
          sink: receives the facts to log.
          device: the device type selected by the harness: "cpu", "gpu" or "tpu".

        Raises:
          ValueError: the engine does not support `config`; the message is one line.
        """

    def prepare(self) -> None:
        """Builds the model, compiles every program and runs each once; untimed.

        It may use random data of the configured shapes, but not the dataset. It logs the
        configuration of the model and the optimizer to the sink (`opt_*`, `model_*`,
        `global_batch_size`).
        """

    def reset(self, seed: int) -> None:
        """Sets weights, optimizer state and random state for `seed`; untimed.

        Afterwards the engine behaves as if newly created. Runs with different seeds share no
        random stream.
        """

    def load(self, split: "Split | None") -> None:
        """Takes the dataset; timed.

        It draws the evaluation lists, which are used in every epoch of the run, and starts
        to prepare the first epoch. It logs the configuration of sampling and evaluation to
        the sink.

        Args:
          split: the dataset; None if `EngineConfig.synthetic` is set.
        """

    def train_epoch(self, epoch: int) -> TrainResult:
        """Trains once on every positive and on newly drawn negatives.

        Args:
          epoch: the epoch number, from 1.

        Raises:
          NonFiniteLoss: the loss is NaN or infinite.
          PreparationStalled: the batches of the epoch are not ready in time.
        """

    def evaluate(self) -> EvalResult:
        """Ranks the held-out item of every user.

        Raises:
          NonFiniteLoss: a score is NaN.
        """

    def close(self) -> None:
        """Stops background work and ends all open log intervals."""

    # The following methods are used for audits and for comparing engines; a run does not need
    # them.

    def get_weights(self) -> Mapping[str, np.ndarray]:
        """Returns the weights, with the names and shapes of `neumf.weight_names`."""

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Replaces all weights; the optimizer state is unchanged."""

    def train_batches(self, batches: "EpochBatches") -> TrainResult:
        """Trains on the given batches instead of drawing an epoch."""

    def epoch_batches(self, epoch: int) -> "EpochBatches":
        """Reproduces, from the seed, the batches of `train_epoch(epoch)`."""

    def evaluation_lists(self) -> "EvaluationLists":
        """Reproduces, from the seed, the lists that `evaluate` ranks."""

    def load_lists(self, lists: "EvaluationLists") -> None:
        """Takes evaluation lists in place of a dataset, for a run with `--input=shards`.

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
        """Computes the loss of one batch and its gradients by weight name, without an update."""
