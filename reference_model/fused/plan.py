"""TODO."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from reference_model.base.config import EngineConfig

# Rows per tile by the width of the first hidden layer. Chosen by measurement on
# CPUs with 1 to 2 MiB of cache per core; accelerators take the batch whole.
_WIDE_LAYER = 96


_TILE_ROWS = {"wide": 1_024, "narrow": 4_096}


# Tiles in one turn of the loop. What of one tile runs on a single core, such as the adding
# up of gradients by row, then has the products of another beside it.
_ABREAST = 2


@dataclass(frozen=True)
class Plan:
    """How one batch size is computed; static, known before compilation.

    Attributes:
      mf: GMF's width; table columns [0, mf) are GMF's.
      layers: MLP widths as in EngineConfig.
      rows, tiles: rows per tile and tiles per batch; rows * tiles >= batch.
      abreast: tiles in one turn of the loop over them, a divisor of `tiles`.
      apart: whether what the backward pass makes gets memory of its own, see `_backs`.
      batch: the global batch size, the divisor of the loss.
      fold_user, fold_item: whether that side's table is projected once per step.
      low_precision: products take operands rounded to bfloat16 and sum in float32.
      bfloat16_units: whether the device multiplies bfloat16 by itself; XLA's CPU
        backend does not, so there the rounded operands are multiplied in float32,
        which gives the same products.
    """

    mf: int
    layers: tuple[int, ...]
    batch: int
    rows: int
    tiles: int
    abreast: int
    fold_user: bool
    fold_item: bool
    apart: bool = False
    low_precision: bool = False
    bfloat16_units: bool = False

    @property
    def padded(self) -> int:
        return self.rows * self.tiles

    @property
    def half(self) -> int:
        """Width of one side's MLP embedding."""
        return self.layers[0] // 2


def width_class(config: EngineConfig) -> str:
    """`wide` or `narrow`: what the measured tile sizes go by."""
    return "wide" if max(config.mlp_layers[1:], default=0) >= _WIDE_LAYER else "narrow"


def make_plan(config: EngineConfig, batch: int, device: str, tile_rows: int = 0) -> Plan:
    """The plan of one batch size; `tile_rows` overrides what was measured best."""
    layers = tuple(config.mlp_layers)
    wanted = tile_rows or _TILE_ROWS[width_class(config)]
    tiles = max(1, round(batch / wanted)) if device == "cpu" or tile_rows else 1
    abreast = min(tiles, _ABREAST)
    tiles = -(-tiles // abreast) * abreast
    deep = len(layers) > 1
    return Plan(
        mf=config.mf_dim,
        layers=layers,
        batch=batch,
        rows=-(-batch // tiles),
        tiles=tiles,
        abreast=abreast,
        fold_user=deep and batch > config.num_users,
        fold_item=deep and batch > config.num_items,
        apart=tiles > abreast and width_class(config) == "wide",
        low_precision=config.precision == "bfloat16",
        bfloat16_units=device != "cpu",
    )


def product(plan: Plan, a, b, transpose_a=False, transpose_b=False):
    """a @ b with the plan's operand precision; the result has a's dtype."""
    if not plan.low_precision:
        return tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    if not plan.bfloat16_units:
        a, b = round_to_bfloat16(a), round_to_bfloat16(b)
        return tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    a, b = tf.cast(a, tf.bfloat16), tf.cast(b, tf.bfloat16)
    a, b = tf.transpose(a) if transpose_a else a, tf.transpose(b) if transpose_b else b
    return tf.raw_ops.BatchMatMulV3(x=a[None], y=b[None], Tout=tf.float32)[0]


def round_to_bfloat16(x: tf.Tensor) -> tf.Tensor:
    """float32 rounded to the nearest bfloat16, ties to even.

    By its bits: XLA takes a cast to bfloat16 and back for nothing and drops it.
    """
    bits = tf.bitcast(x, tf.uint32)
    odd = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, tf.constant(16, tf.uint32)), 1)
    bits = bits + 0x7FFF + odd
    return tf.bitcast(tf.bitwise.bitwise_and(bits, 0xFFFF0000), tf.float32)
