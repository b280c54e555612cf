"""The settings to measure, and the job that a peer's process receives.

This module is imported in every peer's environment, so it uses the standard library only.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

PEERS = ("model-garden", "keras", "ours")

# By name: mf_dim, mlp_layers.
MODELS = {"large": (64, (256, 256, 128, 64)), "small": (8, (64, 32, 16, 8))}


@dataclass(frozen=True)
class Setting:
    """One row of the comparison.

    Attributes:
      name: Its name in `--settings`.
      goal: "train" measures the rates of training and evaluation in steady state;
        "target" measures the time to the track's target, with the model and hyperparameters
        of the track; "sampling" measures negatives and epoch order alone.
      peers: The peers to measure.
      model: A key of MODELS; for the goal "train".
      batch_size: Examples per step; for the goal "train".
      garden_epochs: Number of epochs that the model garden trains after its first epoch. With
        0, its first epoch is measured, from step 50 on.
      evaluate: Whether a setting with the goal "train" also measures evaluation. Evaluation
        does not depend on the training batch, so one setting per model is enough.
      timeout_s: Time limit in seconds; afterwards a measurement has failed.
    """

    name: str
    goal: str
    peers: tuple[str, ...] = PEERS
    model: str = "large"
    batch_size: int | None = None
    garden_epochs: int = 0
    evaluate: bool = True
    timeout_s: float = 300.0


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("large-98304", "train", PEERS, "large", 98_304, garden_epochs=1),
        Setting("small-98304", "train", PEERS, "small", 98_304, garden_epochs=4),
        Setting("large-2048", "train", PEERS, "large", 2_048, evaluate=False),
        Setting("small-2048", "train", PEERS, "small", 2_048, evaluate=False),
        Setting("target", "target", ("model-garden", "ours"), timeout_s=900.0),
        Setting("sampling", "sampling", ("ours",)),
    )
}


@dataclass(frozen=True)
class Job:
    """The input of one measurement; sent as JSON on standard input.

    Older versions of this project also read it (see `versions.py`): unknown fields are ignored,
    so the meaning of existing fields must not change.

    Attributes:
      peer: One of PEERS.
      setting: A key of SETTINGS.
      goal: The setting's goal.
      track: Name or file of the track.
      data_dir: Folder of the prepared dataset.
      digest: Digest of the split, which must be the same for all peers.
      num_users, num_items, num_positives: Sizes of the split.
      mf_dim, mlp_layers: Sizes of the model.
      train_negatives: Negatives per positive.
      eval_negatives: Negatives per user in an evaluation.
      top_k: The K of HR and NDCG.
      batch_size: Examples per training step.
      eval_batch_size: Scored pairs per evaluation step.
      learning_rate, beta1, beta2, epsilon: Parameters of Adam.
      target: HR to reach; None if the track has no target.
      max_epochs: Maximum number of epochs for the goal "target".
      seed: Seed of weights and samples.
      seconds: Minimum time for which a peer trains in steady state.
      evaluate: As in `Setting`.
      engine: Our engine, a value of `--engine`.
      garden_dir: Folder with the dataset in the model garden's format.
      garden_epochs: As in `Setting`.
      garden_flags: Additional flags for the model garden.
    """

    peer: str
    setting: str
    goal: str
    track: str
    data_dir: str
    digest: str
    num_users: int
    num_items: int
    num_positives: int
    mf_dim: int
    mlp_layers: tuple[int, ...]
    train_negatives: int
    eval_negatives: int
    top_k: int
    batch_size: int
    eval_batch_size: int
    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float
    target: float | None
    max_epochs: int
    seed: int
    seconds: float
    evaluate: bool = True
    engine: str = "fused"
    garden_dir: str = ""
    garden_epochs: int = 0
    garden_flags: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        """Returns the job as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Reads a job from JSON; converts lists to tuples for fields that are tuples."""
        values: dict[str, Any] = json.loads(text)
        tuple_names = {f.name for f in fields(cls) if str(f.type).startswith("tuple")}
        return cls(**{k: tuple(v) if k in tuple_names else v for k, v in values.items()})
