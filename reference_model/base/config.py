"""TODO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class EngineConfig:
    """All that an engine may know before the clock starts: sizes, no data.

    `mlp_layers[0]` is the width of the concatenated user and item embeddings,
    the others are the widths of the dense layers. `batch_size` and
    `eval_batch_size` are global; the latter counts scored pairs and is rounded
    up to whole users. `synthetic`: every batch is made up on the device; there is
    no dataset, and `load` gets None.
    """

    num_users: int
    num_items: int
    num_positives: int
    mf_dim: int
    mlp_layers: tuple[int, ...]
    l2_mf: float = 0.0
    l2_mlp: tuple[float, ...] = ()
    train_negatives: int = 4
    eval_negatives: int = 999
    eval_given: bool = False
    top_k: int = 10
    batch_size: int = 98_304
    eval_batch_size: int = 160_000
    optimizer: str = "adam"
    learning_rate: float = 0.00382059
    beta1: float = 0.783529
    beta2: float = 0.909003
    epsilon: float = 1.45439e-7
    precision: str = "float32"
    deterministic: bool = False
    embedding_init: str = "glorot_uniform"
    synthetic: bool = False

    @property
    def train_examples(self) -> int:
        """Examples in one epoch: every positive and its drawn negatives."""
        return self.num_positives * (1 + self.train_negatives)

    @property
    def users_per_eval_batch(self) -> int:
        """`eval_batch_size` in whole users, rounded up, at most all users."""
        wanted = -(-self.eval_batch_size // (self.eval_negatives + 1))
        return max(1, min(wanted, self.num_users))
