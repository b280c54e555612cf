"""The configuration of a training engine: sizes and hyperparameters, no data."""

from __future__ import annotations

from dataclasses import dataclass

# tf32 is float32 to an engine; the set-up of the device lets the hardware round to it.
PRECISIONS = ("float32", "tf32", "bfloat16")
OPTIMIZERS = ("adam", "lazy_adam")


@dataclass(frozen=True)
class EngineConfig:
    """All that an engine may know before the clock starts: sizes, no data.

    Attributes:
      num_users: number of users U; user indices are 0 to U - 1.
      num_items: number of items M; item indices are 0 to M - 1.
      num_positives: number of training positives P.
      mf_dim: width of one GMF embedding.
      mlp_layers: `mlp_layers[0]` is the width of the concatenated MLP embeddings of user
        and item, so each of the two has half of it; the others are the widths of the
        dense layers.
      l2_mf: L2 factor of the GMF embeddings.
      l2_mlp: L2 factors, one for each entry of `mlp_layers` (the first is that of the MLP
        embeddings); empty for none.
      train_negatives: negatives that are drawn for each positive in each epoch.
      eval_negatives: negatives that each held-out item is ranked against.
      eval_given: whether the dataset publishes the evaluation negatives; else they are
        drawn.
      top_k: the cut-off K of HR@K and NDCG@K.
      batch_size: examples in one global training batch, over all replicas.
      eval_batch_size: (user, item) pairs scored in one global evaluation batch; it is
        rounded up to whole users.
      optimizer: "adam" or "lazy_adam".
      learning_rate: Adam's learning rate.
      beta1: Adam's decay rate of the first moment.
      beta2: Adam's decay rate of the second moment.
      epsilon: Adam's epsilon, placed as Keras places it (outside the bias correction).
      precision: "float32", "tf32" or "bfloat16"; an engine may refuse some of them.
      deterministic: whether two runs with the same seed must give the same bits.
      embedding_init: "glorot_uniform" or "normal_0.01".
      synthetic: whether the device generates every batch itself; then there is no
        dataset, and `Engine.load` gets None.
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
        """Examples in one epoch: every positive and the negatives drawn for it."""
        return self.num_positives * (1 + self.train_negatives)

    @property
    def users_per_eval_batch(self) -> int:
        """`eval_batch_size` in whole users: rounded up, at least one, at most all users."""
        wanted = -(-self.eval_batch_size // (self.eval_negatives + 1))
        return max(1, min(wanted, self.num_users))
