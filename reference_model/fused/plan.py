"""The execution plan of one batch size: tiles, projected tables and matmul precision."""

from __future__ import annotations

from dataclasses import dataclass


from reference_model.base.config import EngineConfig
from reference_model.base.lazy_modules import tf

# Minimum width of the widest hidden layer of a wide model.
_WIDE_LAYER = 96
# Rows per tile, tuned on CPUs with 1 to 2 MiB of cache per core. Accelerators process the batch
# as one tile.
_TILE_ROWS = {"wide": 1_024, "narrow": 4_096}
# Tiles per loop iteration. Some operations of a tile run on a single core, such as the
# scatter-add of row gradients; they overlap with the matrix products of the other tile.
_TILES_PER_ITERATION = 2


@dataclass(frozen=True)
class Plan:
    """The execution plan of one batch size; static, known before compilation.

    Attributes:
      mf_dim: width of GMF; table columns [0, mf_dim) belong to GMF.
      mlp_layers: widths of the MLP as in `EngineConfig`.
      global_batch_size: divisor of the loss; larger than the number of rows of this plan if
        several devices share a batch.
      tile_rows: rows per tile.
      tiles: number of tiles that cover the batch.
      tiles_per_iteration: tiles per iteration of the loop; divides `tiles`.
      fold_user, fold_item: whether the first layer projects the whole table of that side once
        per step, so that an example gathers a row of the projection.
      separate_backward_buffers: whether the activation gradients are loop variables, so that
        XLA allocates separate memory for them; see `gradients._backward_buffers`.
      low_precision: whether matrix products round their operands to bfloat16 and accumulate
        in float32.
      native_bfloat16: whether the device multiplies bfloat16 operands natively. XLA's CPU
        backend does not support this form of product, so on CPUs the rounded operands are
        multiplied in float32, with the same result.
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
        """Number of rows of a batch padded to whole tiles."""
        return self.tile_rows * self.tiles

    @property
    def iterations(self) -> int:
        """Number of iterations of the loop over tiles."""
        return self.tiles // self.tiles_per_iteration

    @property
    def mlp_embedding_dim(self) -> int:
        """Width of one side's MLP embedding."""
        return self.mlp_layers[0] // 2


def width_class(config: EngineConfig) -> str:
    """Returns "wide" or "narrow", which selects the tile and group sizes."""
    return "wide" if max(config.mlp_layers[1:], default=0) >= _WIDE_LAYER else "narrow"


def make_plan(config: EngineConfig, batch: int, device: str, tile_rows: int = 0) -> Plan:
    """Makes the plan of one batch size.

    Args:
      config: the sizes of the model and the tables.
      batch: number of examples in the batch; also the `global_batch_size` of the plan.
      device: the device type. By default, only "cpu" splits a batch into tiles.
      tile_rows: rows per tile; 0 selects the tuned size.

    Returns:
      The plan. A side is folded if the batch has more rows than the table of that side.
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
    """Multiplies two matrices with the operand precision of the plan.

    Args:
      plan: determines whether operands are rounded to bfloat16.
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
    # tf.matmul would round the result to bfloat16; this operation takes an output type.
    return tf.raw_ops.BatchMatMulV3(x=a[None], y=b[None], Tout=tf.float32)[0]


def round_to_bfloat16(x: tf.Tensor) -> tf.Tensor:
    """Rounds float32 to the nearest bfloat16, ties to even; the result stays float32.

    Operates on the bits, because XLA removes a cast to bfloat16 and back.
    """
    bits = tf.bitcast(x, tf.uint32)
    odd = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, tf.constant(16, tf.uint32)), 1)
    bits = bits + 0x7FFF + odd
    return tf.bitcast(tf.bitwise.bitwise_and(bits, 0xFFFF0000), tf.float32)
