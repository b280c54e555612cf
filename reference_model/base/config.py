"""The configuration of a training engine: sizes and hyperparameters, no data."""

from __future__ import annotations

from dataclasses import dataclass

# An engine treats tf32 as float32; the device setup enables TF32 in hardware.
PRECISIONS = ("float32", "tf32", "bfloat16")
OPTIMIZERS = ("adam", "lazy_adam")


# How an epoch's order is made.
ORDERS = {
    "assignment": "random assignment of the examples to batches, on the host; `epoch_order`",
    "sorted_keys": "random keys of the examples, sorted on the device; `key_order`",
}
# Most examples of an epoch whose order is made by "sorted_keys": it numbers them in 32 bits.
MAX_SORTED_KEYS = 2**31 - 1


@dataclass(frozen=True)
class EngineConfig:
    """All information that an engine has before the clock starts: sizes, no data.

    Attributes:
      num_users: number of users U; user indices are 0 to U - 1.
      num_items: number of items M; item indices are 0 to M - 1.
      num_positives: number of training positives P.
      mf_dim: width of one GMF embedding.
      mlp_layers: `mlp_layers[0]` is the width of the concatenated MLP embeddings of user
        and item, so each of the two has half that width; the other entries are the widths
        of the dense layers.
      l2_mf: L2 factor of the GMF embeddings.
      l2_mlp: L2 factors, one for each entry of `mlp_layers` (the first is that of the MLP
        embeddings); empty for no L2 penalty.
      train_negatives: number of negatives drawn for each positive in each epoch.
      eval_negatives: number of negatives that each held-out item is ranked against.
      eval_given: whether the dataset publishes the evaluation negatives; otherwise they are
        drawn.
      top_k: the cutoff K of HR@K and NDCG@K.
      batch_size: examples in one global training batch, over all replicas.
      eval_batch_size: (user, item) pairs scored in one global evaluation batch, rounded up
        to whole users.
      optimizer: "adam" or "lazy_adam".
      learning_rate: Adam's learning rate.
      beta1: Adam's decay rate of the first moment.
      beta2: Adam's decay rate of the second moment.
      epsilon: Adam's epsilon, outside the bias correction as in Keras.
      precision: "float32", "tf32" or "bfloat16"; an engine may support only some.
      native_bfloat16: whether products with precision bfloat16 take bfloat16 operands on a CPU,
        if the layers are wide enough. Otherwise the operands are rounded to bfloat16 and
        multiplied in float32; the results differ only in the order of the sums. Accelerators
        always take bfloat16 operands.
      deterministic: whether two runs with the same seed must be bitwise identical.
      embedding_init: "glorot_uniform" or "normal_0.01".
      synthetic: whether the device generates all batches; if so, there is no dataset and
        `Engine.load` receives None.
      order: a key of `ORDERS`, how the fused engine makes the order of an epoch. Both orders have
        the same distribution, but differ for the same seed.
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
    native_bfloat16: bool = False
    deterministic: bool = False
    embedding_init: str = "glorot_uniform"
    synthetic: bool = False
    order: str = "assignment"

    @property
    def train_examples(self) -> int:
        """Number of examples in one epoch: all positives and their negatives."""
        return self.num_positives * (1 + self.train_negatives)

    @property
    def users_per_eval_batch(self) -> int:
        """`eval_batch_size` in whole users, rounded up and clipped to [1, num_users]."""
        wanted = -(-self.eval_batch_size // (self.eval_negatives + 1))
        return max(1, min(wanted, self.num_users))
