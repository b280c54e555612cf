"""What is measured: the settings, and the job that a peer's process is handed.

Imported in every peer's environment, so the standard library only.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

PEERS = ("model-garden", "keras", "ours")

# mf_dim and mlp_layers.
MODELS = {"large": (64, (256, 256, 128, 64)), "small": (8, (64, 32, 16, 8))}


@dataclass(frozen=True)
class Setting:
    """One row of the comparison.

    Attributes:
      goal: "train": the rates of training and evaluation in steady state;
        "target": the time to the track's target with the track's own model and
        hyperparameters; "sampling": negatives and order alone.
      model, batch_size: of a "train" row.
      peers: who takes part.
      garden_epochs: whole epochs that the model garden trains after its first;
        0: it is measured in its first, from step 50 on.
      evaluate: whether a "train" row's evaluation is measured too; it does not depend
        on the batch, so once for each model is enough.
      timeout_s: after which a measurement counts as failed.
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
    """All that one measurement needs; travels as JSON on standard input.

    `seconds` is how long a peer should train in steady state, at least;
    `garden_dir` holds the dataset in the model garden's format. The digest is
    that of the split which every peer must have trained on.
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
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        values: dict[str, Any] = json.loads(text)
        lists = {f.name for f in fields(cls) if str(f.type).startswith("tuple")}
        return cls(**{k: tuple(v) if k in lists else v for k, v in values.items()})
