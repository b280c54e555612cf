"""What is compiled: the programs of a track, at one batch size and precision."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from compliance.tracks import load_track
from harness.config.trial_spec import track_engine_settings
from reference_model.base.config import EngineConfig
from reference_model.fused.programs import (
    Program,
    evaluation_program,
    program_specs,
    training_program,
)

PROGRAMS = ("training", "evaluation")


@dataclass(frozen=True)
class Settings:
    """The settings of the programs.

    Attributes:
      track: a built-in track, or the path of a track file.
      batch_size: global batch size, in examples.
      precision: "float32", "tf32" or "bfloat16".
      device: "gpu" or "tpu".
    """

    track: str
    batch_size: int
    precision: str
    device: str

    def engine_config(self) -> EngineConfig:
        """Returns the settings of the engine; the sizes are those that the track states."""
        track = load_track(self.track)
        chosen = {**asdict(track.hyperparameters), "batch_size": self.batch_size}
        return EngineConfig(
            num_users=track.dataset.num_users,
            num_items=track.dataset.num_items,
            num_positives=track.dataset.num_positives,
            **track_engine_settings(track),
            **chosen,
            precision=self.precision,
            order="sorted_keys",  # as in a run
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Workload:
    """A program and what a step of it does.

    Attributes:
      program: the program.
      examples: examples trained, or pairs scored, in a step.
      steps_per_call: steps of one call; for evaluation, the number without early stopping.
    """

    program: Program
    examples: int
    steps_per_call: int


def workload(settings: Settings, name: str) -> Workload:
    """Makes one of `PROGRAMS`.

    Args:
      settings: the settings.
      name: "training" on drawn batches, or "evaluation".
    """
    config = settings.engine_config()
    training, evaluation = program_specs(config, settings.device)
    if name == "training":
        program = training_program(training, "drawn")
        return Workload(program, config.batch_size, training.steps_per_call)
    pairs = evaluation.slots * evaluation.groups_per_iteration * evaluation.width
    in_call = evaluation.users_per_batch * evaluation.chunks * evaluation.width
    return Workload(evaluation_program(evaluation), pairs, max(1, in_call // pairs))


def file_name(settings: Settings, name: str) -> str:
    """Returns the name of a program's files, without a suffix."""
    track = Path(settings.track).stem
    return f"{track}-{settings.batch_size}-{settings.precision}-{settings.device}-{name}"
