"""What a trial process is told: the settings of the set and its own part."""

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
    """One trial; travels to its process as JSON on standard input.

    `num_users`, `num_items` and `num_positives` come from the header of the
    preprocessed cache, never from the data itself, and so may be known before
    the clock starts. `attempt` is where the log is written, `result` where a
    finished one belongs; `link` is the value of its `attempt` record.
    `split_digest` is the header's, `ordinal` counts the trials that this parent
    started before, `more` says whether another one follows a run that is a result.
    A `silent` one is not the chief of its workers and writes nothing.
    """

    config: RunConfig
    run: int
    seed: int
    attempt: str
    result: str
    num_users: int
    num_items: int
    num_positives: int
    link: dict[str, Any]
    split_digest: str = ""
    ordinal: int = 0
    more: bool = False
    silent: bool = False

    def to_json(self) -> str:
        values = {key: getattr(self, key) for key in self.__dataclass_fields__}
        return json.dumps({**values, "config": self.config.to_json()})

    @classmethod
    def from_json(cls, text: str) -> "TrialSpec":
        values = json.loads(text)
        return cls(**{**values, "config": RunConfig.from_json(values["config"])})


def fixed_settings(track: Track) -> dict[str, Any]:
    """What of an `EngineConfig` the track fixes: model, sampling, evaluation."""
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
    """The track's dataset as `reference_model` wants it."""
    names = DatasetSpec.__dataclass_fields__
    return DatasetSpec(**{name: getattr(track.dataset, name) for name in names})


def engine_config(spec: TrialSpec) -> EngineConfig:
    """All that the engine may know before the clock starts."""
    config = spec.config
    return EngineConfig(
        num_users=spec.num_users,
        num_items=spec.num_items,
        num_positives=spec.num_positives,
        **fixed_settings(config.track),
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
