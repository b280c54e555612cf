"""NeuMF as published: He et al. 2017, "Neural Collaborative Filtering", section 3.4.

A plain Keras 3 model, the reference for all faster engines. Generalized matrix factorization
(GMF) multiplies the embeddings of user and item elementwise. A multilayer perceptron (MLP) takes
the concatenation of a second pair of embeddings. One dense unit takes both outputs and computes
the logit. As in the TensorFlow Model Garden's NCF, there is one table for users and one for
items, and each contains the embeddings of both parts: columns [0, mf_dim) belong to GMF, the
others to the MLP.
"""

from __future__ import annotations

from typing import Sequence

import keras
import numpy as np
import tensorflow as tf

from reference_model.base.config import EngineConfig

INITIALIZERS = ("glorot_uniform", "normal_0.01")


def weight_names(mlp_layers: Sequence[int]) -> tuple[str, ...]:
    """Returns the names of all weights, in the order of `model.trainable_variables`.

    With L = `mlp_layers`, the shapes are: user_embedding [U, mf_dim + L[0] / 2],
    item_embedding [M, mf_dim + L[0] / 2], mlp_i_kernel [L[i-1], L[i]], mlp_i_bias [L[i]],
    output_kernel [mf_dim + L[-1], 1], output_bias [1].

    Args:
      mlp_layers: as in `EngineConfig`.
    """
    names = ["user_embedding", "item_embedding"]
    for i in range(1, len(mlp_layers)):
        names += [f"mlp_{i}_kernel", f"mlp_{i}_bias"]
    return (*names, "output_kernel", "output_bias")


def check_sizes(config: EngineConfig) -> None:
    """Checks that the sizes are valid.

    Raises:
      ValueError: a size is invalid; the message is one line.
    """
    layers = config.mlp_layers
    if not layers or any(width < 1 for width in layers) or config.mf_dim < 1:
        raise ValueError(
            f"mf_dim {config.mf_dim} and mlp_layers {list(layers)} must all be at least 1"
        )
    if layers[0] % 2:
        raise ValueError(
            f"the first entry of mlp_layers {list(layers)} is the width of two concatenated "
            f"embeddings, so it must be even, not {layers[0]}"
        )
    if config.l2_mlp and len(config.l2_mlp) != len(layers):
        raise ValueError(
            f"l2_mlp has length {len(config.l2_mlp)}, not that of mlp_layers, {len(layers)}: it "
            "needs one factor for each (the first is that of the embeddings)"
        )
    if config.num_users < 1 or config.num_items < 1:
        raise ValueError(
            f"num_users {config.num_users} and num_items {config.num_items} must both be at least 1"
        )
    if config.embedding_init not in INITIALIZERS:
        raise ValueError(
            f"embedding_init {config.embedding_init!r} is not one of {', '.join(INITIALIZERS)}"
        )


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
    seeds = iter(_split_seed(seed, 3 + len(layers)))

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


def initial_weights(config: EngineConfig, seed: int) -> dict[str, np.ndarray]:
    """Draws the initial weights without building a model.

    Args:
      config: the sizes and the initializer of the tables.
      seed: seed of the weights.

    Returns:
      float32 arrays by name, in the order of `weight_names`.
    """
    mf, layers = config.mf_dim, config.mlp_layers
    width = mf + layers[0] // 2
    # The seeds are used in the same order as in `build_neumf`.
    seeds = iter(_split_seed(seed, 3 + len(layers)))
    weights = {}
    for side, rows in (("user", config.num_users), ("item", config.num_items)):
        init = _embedding_initializer(config.embedding_init, next(seeds))
        weights[f"{side}_embedding"] = np.asarray(init((rows, width)))
    for i in range(1, len(layers)):
        init = keras.initializers.GlorotUniform(seed=next(seeds))
        weights[f"mlp_{i}_kernel"] = np.asarray(init((layers[i - 1], layers[i])))
        weights[f"mlp_{i}_bias"] = np.zeros(layers[i], np.float32)
    init = keras.initializers.LecunUniform(seed=next(seeds))
    weights["output_kernel"] = np.asarray(init((mf + layers[-1], 1)))
    weights["output_bias"] = np.zeros(1, np.float32)
    return weights


def _split_seed(seed: int | None, count: int) -> list[int | None]:
    """Derives `count` independent seeds from one; all are None if `seed` is None."""
    if seed is None:
        return [None] * count
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(count)]


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
