"""How one batch size is computed: tiles, projected tables and the precision of products."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from reference_model.base.config import EngineConfig

# A model whose widest hidden layer has at least this many units counts as wide.
_WIDE_LAYER = 96
# Rows in a tile. Measured as best on CPUs with 1 to 2 MiB of cache per core. Accelerators
# take the batch as one tile.
_TILE_ROWS = {"wide": 1_024, "narrow": 4_096}
# Tiles in one iteration of the loop. Some operations of a tile run on a single core, such as
# the scatter-add of gradients by row; the products of the other tile run beside them.
_TILES_PER_ITERATION = 2


@dataclass(frozen=True)
class Plan:
    """How one batch size is computed; static, known before compilation.

    Attributes:
      mf_dim: width of GMF; table columns [0, mf_dim) belong to GMF.
      mlp_layers: widths of the MLP as in `EngineConfig`.
      global_batch_size: divides the loss; larger than the rows of this plan where several
        devices share a batch.
      tile_rows: rows in a tile.
      tiles: tiles that cover the examples that are computed together.
      tiles_per_iteration: tiles that one iteration of the loop computes; divides `tiles`.
      fold_user, fold_item: whether the first layer projects that side's whole table once per
        step, so that an example gathers its projection.
      separate_backward_buffers: whether the loop carries the gradients of activations, so
        that XLA gives them memory of their own; see `gradients._backward_buffers`.
      low_precision: whether products round their operands to bfloat16 and sum in float32.
      native_bfloat16: whether the device multiplies bfloat16 operands itself. XLA's CPU
        backend does not in this form, so there the rounded operands are multiplied in
        float32, which gives the same products.
    """

    mf_dim: int
    mlp_layers: tuple[int, ...]
    global_batch_size: int
    tile_rows: int
    tiles: int
    tiles_per_iteration: int
    fold_user: bool
    fold_item: bool
    separate_backward_buffers: bool = False
    low_precision: bool = False
    native_bfloat16: bool = False

    @property
    def padded_rows(self) -> int:
        """Rows of a batch after padding to whole tiles."""
        return self.tile_rows * self.tiles

    @property
    def iterations(self) -> int:
        """Iterations of the loop over tiles."""
        return self.tiles // self.tiles_per_iteration

    @property
    def mlp_embedding_dim(self) -> int:
        """Width of one side's MLP embedding."""
        return self.mlp_layers[0] // 2


def width_class(config: EngineConfig) -> str:
    """Returns "wide" or "narrow": the measured tile sizes depend on it."""
    return "wide" if max(config.mlp_layers[1:], default=0) >= _WIDE_LAYER else "narrow"


def make_plan(config: EngineConfig, batch: int, device: str, tile_rows: int = 0) -> Plan:
    """Makes the plan of one batch size.

    Args:
      config: the sizes of model and tables.
      batch: examples that are computed together; the global batch size of the plan.
      device: the device type; only "cpu" cuts a batch into tiles by itself.
      tile_rows: rows in a tile; 0 takes the size that was measured as best.

    Returns:
      The plan. A side is folded where a batch has more rows than the side's table.
    """
    wanted = tile_rows or _TILE_ROWS[width_class(config)]
    tiles = max(1, round(batch / wanted)) if device == "cpu" or tile_rows else 1
    tiles_per_iteration = min(tiles, _TILES_PER_ITERATION)
    # Round up to whole iterations.
    tiles = -(-tiles // tiles_per_iteration) * tiles_per_iteration
    has_hidden_layer = len(config.mlp_layers) > 1
    return Plan(
        mf_dim=config.mf_dim,
        mlp_layers=tuple(config.mlp_layers),
        global_batch_size=batch,
        tile_rows=-(-batch // tiles),
        tiles=tiles,
        tiles_per_iteration=tiles_per_iteration,
        fold_user=has_hidden_layer and batch > config.num_users,
        fold_item=has_hidden_layer and batch > config.num_items,
        separate_backward_buffers=(
            tiles > tiles_per_iteration and width_class(config) == "wide"
        ),
        low_precision=config.precision == "bfloat16",
        native_bfloat16=device != "cpu",
    )


def product(plan: Plan, a, b, transpose_a=False, transpose_b=False):
    """Multiplies two matrices with the plan's operand precision.

    Args:
      plan: says whether operands are rounded to bfloat16.
      a: float [m, k], or [k, m] with transpose_a.
      b: float [k, n], or [n, k] with transpose_b.
      transpose_a, transpose_b: whether that operand is transposed first.

    Returns:
      [m, n] in the dtype of `a`; sums are float32 or wider.
    """
    if not plan.low_precision:
        return tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    if not plan.native_bfloat16:
        a, b = round_to_bfloat16(a), round_to_bfloat16(b)
        return tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    a, b = tf.cast(a, tf.bfloat16), tf.cast(b, tf.bfloat16)
    a, b = tf.transpose(a) if transpose_a else a, tf.transpose(b) if transpose_b else b
    # tf.matmul would round the result to bfloat16; this operation has a type for its result.
    return tf.raw_ops.BatchMatMulV3(x=a[None], y=b[None], Tout=tf.float32)[0]


def round_to_bfloat16(x: tf.Tensor) -> tf.Tensor:
    """Rounds float32 to the nearest bfloat16, ties to even; the result stays float32.

    Works on the bits, because XLA removes a cast to bfloat16 and back.
    """
    bits = tf.bitcast(x, tf.uint32)
    odd = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, tf.constant(16, tf.uint32)), 1)
    bits = bits + 0x7FFF + odd
    return tf.bitcast(tf.bitwise.bitwise_and(bits, 0xFFFF0000), tf.float32)
