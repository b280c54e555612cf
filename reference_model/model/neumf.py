"""NeuMF as published: He et al. 2017, "Neural Collaborative Filtering", section 3.4.

A plain Keras 3 model, the reference for all faster engines. Generalized matrix factorization
(GMF) multiplies the embeddings of user and item elementwise. A multilayer perceptron (MLP) takes
the concatenation of a second pair of embeddings. One dense unit takes both outputs and computes
the logit. As in the TensorFlow Model Garden's NCF, there is one table for users and one for
items, and each contains the embeddings of both parts: columns [0, mf_dim) belong to GMF, the
others to the MLP.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from reference_model.base.config import EngineConfig
from reference_model.model.initial_weights import check_sizes, split_seed


@keras.saving.register_keras_serializable(package="neumf")
class TwoPartL2(keras.regularizers.Regularizer):
    """L2 regularizer of a table, with separate factors for the GMF and the MLP columns.

    The penalty is factor x sum of squares, as in `keras.regularizers.L2`.
    """

    def __init__(self, mf_dim: int, l2_mf: float, l2_mlp: float):
        """Stores its arguments: the number of GMF columns and the two factors."""
        self.mf_dim, self.l2_mf, self.l2_mlp = mf_dim, l2_mf, l2_mlp

    def __call__(self, table):
        squares = keras.ops.sum(keras.ops.square(table), axis=0)
        mf, mlp = squares[: self.mf_dim], squares[self.mf_dim :]
        return self.l2_mf * keras.ops.sum(mf) + self.l2_mlp * keras.ops.sum(mlp)

    def get_config(self) -> dict:
        return {"mf_dim": self.mf_dim, "l2_mf": self.l2_mf, "l2_mlp": self.l2_mlp}


def _embedding_initializer(name: str, seed: int | None) -> keras.initializers.Initializer:
    """Creates the initializer named by `EngineConfig.embedding_init`."""
    if name == "normal_0.01":
        return keras.initializers.RandomNormal(stddev=0.01, seed=seed)
    return keras.initializers.GlorotUniform(seed=seed)


def build_neumf(config: EngineConfig, seed: int | None = None) -> keras.Model:
    """Builds the model: inputs user [B] and item [B] (int32), output logits [B, 1].

    The initializers are those of the TensorFlow Model Garden's NCF: Glorot uniform for tables and
    layers, LeCun uniform for the output unit. L2 factors become Keras regularizers, which
    `fit` adds to the loss.

    Args:
      config: the sizes and L2 factors.
      seed: seed of the initial weights, which then equal `initial_weights`.

    Raises:
      ValueError: the sizes are invalid; see `check_sizes`.
    """
    check_sizes(config)
    mf, layers = config.mf_dim, config.mlp_layers
    l2_mlp = config.l2_mlp or (0.0,) * len(layers)
    # One seed for each of the two tables, the len(layers) - 1 hidden layers and the output unit;
    # one seed is unused.
    seeds = iter(split_seed(seed, 3 + len(layers)))

    def embed(name: str, rows: int, ids):
        regularized = config.l2_mf or l2_mlp[0]
        return keras.layers.Embedding(
            rows,
            mf + layers[0] // 2,
            embeddings_initializer=_embedding_initializer(
                config.embedding_init, next(seeds)
            ),
            embeddings_regularizer=(
                TwoPartL2(mf, config.l2_mf, l2_mlp[0]) if regularized else None
            ),
            name=name,
        )(ids)

    user = keras.Input(shape=(), dtype="int32", name="user")
    item = keras.Input(shape=(), dtype="int32", name="item")
    user_vector = embed("user_embedding", config.num_users, user)
    item_vector = embed("item_embedding", config.num_items, item)

    gmf = keras.layers.Multiply(name="gmf")([user_vector[:, :mf], item_vector[:, :mf]])
    hidden = keras.layers.Concatenate(name="mlp_input")(
        [user_vector[:, mf:], item_vector[:, mf:]]
    )
    for i, width in enumerate(layers[1:], start=1):
        hidden = keras.layers.Dense(
            width,
            activation="relu",
            kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)),
            kernel_regularizer=keras.regularizers.L2(l2_mlp[i]) if l2_mlp[i] else None,
            name=f"mlp_{i}",
        )(hidden)
    logit = keras.layers.Dense(
        1,
        kernel_initializer=keras.initializers.LecunUniform(seed=next(seeds)),
        name="output",
    )(keras.layers.Concatenate(name="both_parts")([gmf, hidden]))
    return keras.Model([user, item], logit, name="neumf")


def masked_bce(logits: tf.Tensor, label: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Computes the weighted sum of binary cross-entropies, divided by the batch size.

    The divisor is the full batch size, including padding. So padding lowers the loss of a
    batch but does not change the contribution of an example.

    Args:
      logits: float [B].
      label: float [B], 0 or 1.
      weight: float [B], 0 for padding.
    """
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=label, logits=logits)
    return tf.reduce_sum(losses * weight) / tf.cast(tf.size(label), losses.dtype)
