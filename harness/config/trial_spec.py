"""The specification of one trial, which its process reads from standard input."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from compliance.tracks import Track
from harness.config.run_config import RunConfig
from reference_model.base.config import EngineConfig
from reference_model.data.sources import DatasetSpec


@dataclass(frozen=True)
class TrialSpec:
    """One trial: the settings of the set, and the values that differ between its runs.

    The sizes come from the header of the prepared split, never from the data itself, since
    the data must not be read before the clock starts.

    Attributes:
      config: The settings of the set.
      run: Number of the run in its set, from 0.
      seed: The run's seed.
      attempt_log: Path of the log during the run.
      result_log: Path of the log when the run has become a result.
      num_users: Users of the dataset.
      num_items: Items of the dataset.
      num_positives: Training pairs of the dataset.
      attempt_record: Value of the log's `attempt` record: its place in the chain.
      split_digest: Digest of the prepared split, from its header.
      trial_index: Number of trials that this parent process started before.
      has_next_run: Whether another run follows if this one becomes a result.
      order_method: How the epoch order is made; "" lets the device decide.
      is_silent: Whether this process belongs to a worker other than the chief, which
        writes neither log nor results.
    """

    config: RunConfig
    run: int
    seed: int
    attempt_log: str
    result_log: str
    num_users: int
    num_items: int
    num_positives: int
    attempt_record: dict[str, Any]
    split_digest: str = ""
    trial_index: int = 0
    has_next_run: bool = False
    is_silent: bool = False
    order_method: str = ""

    def to_json(self) -> str:
        """Returns the specification as a JSON object."""
        values = {key: getattr(self, key) for key in self.__dataclass_fields__}
        return json.dumps({**values, "config": self.config.to_json()})

    @classmethod
    def from_json(cls, text: str) -> "TrialSpec":
        """Reads the output of `to_json`."""
        values = json.loads(text)
        return cls(**{**values, "config": RunConfig.from_json(values["config"])})


def track_engine_settings(track: Track) -> dict[str, Any]:
    """Returns the fields of an `EngineConfig` that the track fixes.

    These are the sizes of the model, the sampling of negatives and the evaluation.
    """
    return {
        "mf_dim": track.model.mf_dim,
        "mlp_layers": tuple(track.model.mlp_layers),
        "l2_mf": track.model.l2_mf,
        "l2_mlp": tuple(track.model.l2_mlp),
        "train_negatives": track.sampling.train_negatives,
        "eval_negatives": track.evaluation.negatives,
        "eval_given": track.evaluation.given,
        "top_k": track.evaluation.top_k,
    }


def dataset_spec(track: Track) -> DatasetSpec:
    """Returns the track's dataset in the form that `reference_model` expects."""
    names = DatasetSpec.__dataclass_fields__
    return DatasetSpec(**{name: getattr(track.dataset, name) for name in names})


def engine_config(spec: TrialSpec) -> EngineConfig:
    """Returns the settings that a trial's engine may use before the clock starts."""
    config = spec.config
    return EngineConfig(
        num_users=spec.num_users,
        num_items=spec.num_items,
        num_positives=spec.num_positives,
        **track_engine_settings(config.track),
        batch_size=config.batch_size,
        eval_batch_size=config.eval_batch_size,
        optimizer=config.optimizer,
        learning_rate=config.learning_rate,
        beta1=config.beta1,
        beta2=config.beta2,
        epsilon=config.epsilon,
        precision=config.precision,
        deterministic=config.deterministic,
        synthetic=config.synthetic_batches,
    )
