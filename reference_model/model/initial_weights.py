"""Names, shapes and initial values of NeuMF's weights, in NumPy.

The values equal those of the Keras initializers with the same seeds on TensorFlow's CPU backend:
bit for bit for uniform distributions, within rounding for normal ones. So a run needs no Keras,
and all runtimes start from the same weights.
"""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np

from reference_model.base.config import EngineConfig
from reference_model.sampling.philox import philox

INITIALIZERS = ("glorot_uniform", "normal_0.01")
# Blocks of four words that are drawn at a time, so that they stay in the cache.
_PHILOX_BLOCKS = 1 << 14
# The key with which TensorFlow's stateless generators scramble a seed.
_SCRAMBLE_KEY = 0x3EC8F720, 0x02461E29
# Keras takes seeds modulo this number on TensorFlow.
_KERAS_SEEDS = 2**31 - 2


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


def weight_shapes(config: EngineConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each weight, by name, in the order of `weight_names`."""
    mf, layers = config.mf_dim, config.mlp_layers
    width = mf + layers[0] // 2
    shapes: list[tuple[int, ...]] = [(config.num_users, width), (config.num_items, width)]
    for below, above in zip(layers, layers[1:]):
        shapes += [(below, above), (above,)]
    shapes += [(mf + layers[-1], 1), (1,)]
    return dict(zip(weight_names(layers), shapes))


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


def split_seed(seed: int | None, count: int) -> list[int | None]:
    """Derives `count` independent seeds from one; all are None if `seed` is None."""
    if seed is None:
        return [None] * count
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(count)]


def initial_weights(config: EngineConfig, seed: int) -> dict[str, np.ndarray]:
    """Draws the initial weights.

    Args:
      config: the sizes and the initializer of the tables.
      seed: seed of the weights.

    Returns:
      float32 arrays by name, in the order of `weight_names`.
    """
    shapes = weight_shapes(config)
    # The seeds are used in the order of `neumf.build_neumf`; the last one is unused.
    seeds = iter(split_seed(seed, 3 + len(config.mlp_layers)))
    weights = {}
    for name, shape in shapes.items():
        if name.endswith("_bias"):
            weights[name] = np.zeros(shape, np.float32)
        elif name.endswith("_embedding") and config.embedding_init == "normal_0.01":
            weights[name] = _normal(shape, 0.01, next(seeds))
        else:
            # Glorot uniform, or LeCun uniform for the output unit: Glorot and Bengio 2010;
            # LeCun et al. 1998.
            fans = shape[0] if name == "output_kernel" else sum(shape) / 2
            weights[name] = _uniform(shape, math.sqrt(3 / max(1.0, fans)), next(seeds))
    return weights


def _uniform(shape: tuple[int, ...], limit: float, seed: int) -> np.ndarray:
    """Draws float32 values uniformly from [-limit, limit)."""
    values = _unit_floats(_stateless_words(math.prod(shape), seed)).reshape(shape)
    low, high = np.float32(-limit), np.float32(limit)
    values *= high - low
    values += low
    return values


def _normal(shape: tuple[int, ...], deviation: float, seed: int) -> np.ndarray:
    """Draws float32 values from a normal distribution with mean 0, by Box and Muller's method."""
    count = math.prod(shape)
    units = _unit_floats(_stateless_words(count + count % 2, seed)).reshape(-1, 2)
    radius = np.sqrt(-2 * np.log(np.maximum(units[:, 0], np.float32(1e-7))))
    angle = np.float32(2 * np.pi) * units[:, 1]
    values = np.stack([np.sin(angle) * radius, np.cos(angle) * radius], axis=1).reshape(-1)
    return (values[:count] * np.float32(deviation)).reshape(shape)


def _unit_floats(words: np.ndarray) -> np.ndarray:
    """Maps words, uint32 [n], to float32 [n] in [0, 1): their low 23 bits become the mantissa."""
    bits = (words & np.uint32(0x7FFFFF)) | np.uint32(127 << 23)
    return bits.view(np.float32) - np.float32(1)


def _stateless_words(count: int, seed: int) -> np.ndarray:
    """Returns the words of TensorFlow's stateless generator for the seed (seed, 0), uint32 [n]."""
    seed %= _KERAS_SEEDS
    counter = [np.array([x], np.uint64) for x in (seed, 0, 0, 0)]
    mixed = [int(x[0]) for x in philox(counter, _SCRAMBLE_KEY)]
    blocks = -(-count // 4)
    words = np.empty((blocks, 4), np.uint32)
    for first in range(0, blocks, _PHILOX_BLOCKS):
        numbers = np.arange(first, min(first + _PHILOX_BLOCKS, blocks), dtype=np.uint64)
        counter = [numbers, np.zeros_like(numbers), *(np.full_like(numbers, x) for x in mixed[2:])]
        for k, column in enumerate(philox(counter, (mixed[0], mixed[1]))):
            words[first : first + len(numbers), k] = column
    return words.reshape(-1)[:count]
