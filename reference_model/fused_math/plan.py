"""The execution plan of one batch size: tiles, projected tables and matmul precision."""

from __future__ import annotations

from dataclasses import dataclass


from reference_model.base.config import EngineConfig
from reference_model.base.lazy_modules import tf

# Minimum width of the widest hidden layer of a wide model.
_WIDE_LAYER = 96
# Rows per tile, tuned on CPUs with 1 to 2 MiB of cache per core. GPUs process the batch as one
# tile.
_TILE_ROWS = {"wide": 1_024, "narrow": 4_096}
# Rows per tile on TPUs, whose vector memory then holds all values of a tile, the projected items of
# ml-20m and their gradients.
_TPU_TILE_ROWS = 8_192
# Tiles per loop iteration. Some operations of a tile run on a single core, such as the
# scatter-add of row gradients; they overlap with the matrix products of the other tile.
_TILES_PER_ITERATION = 2

# How matrix products take their operands, by `Plan.operands`.
OPERANDS = {
    "float32": "as they are",
    "rounded": "rounded to bfloat16, stored and multiplied as float32",
    "bfloat16": "as bfloat16",
    "plain bfloat16": "as bfloat16, with stored transposes",
}


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
      operands: how matrix products take their operands; a key of `OPERANDS`. Products
        accumulate in float32.
      device: the device type.
      exact_float32: whether float32 products must use full precision. By default GPUs round the
        operands to TF32, and TPUs to bfloat16. CPUs round nothing.
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
    operands: str = "float32"
    device: str = "cpu"
    exact_float32: bool = False

    @property
    def logged_operands(self) -> str | None:
        """How products take bfloat16 operands, for the log: "bfloat16" or "rounded float32"."""
        if self.operands == "float32":
            return None
        return "rounded float32" if self.operands == "rounded" else "bfloat16"

    @property
    def on_accelerator(self) -> bool:
        """Whether the device is a GPU or a TPU, where main memory limits a step."""
        return self.device != "cpu"

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
      device: the device type. By default, GPUs do not split a batch into tiles.
      tile_rows: rows per tile; 0 selects the tuned size.

    Returns:
      The plan. A side is folded if the batch has more rows than the table of that side.
    """
    wanted = tile_rows or _TILE_ROWS[width_class(config)]
    if device == "tpu":
        wanted = tile_rows or _TPU_TILE_ROWS
    tiles = max(1, round(batch / wanted)) if device in ("cpu", "tpu") or tile_rows else 1
    tiles_per_iteration = min(tiles, _TILES_PER_ITERATION) if device == "cpu" else 1
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
        operands=_operands(config, device),
        device=device,
        exact_float32=device != "cpu" and config.precision == "float32",
    )


def _operands(config: EngineConfig, device: str) -> str:
    if config.precision != "bfloat16":
        return "float32"
    if device != "cpu":
        return "bfloat16"
    # For narrow layers, storing the transposes takes more time than the bfloat16 units save.
    is_native = config.native_bfloat16 and width_class(config) == "wide"
    return "plain bfloat16" if is_native else "rounded"


def operand(plan: Plan, x):
    """Converts a float32 array to the form in which products take it.

    An array that several products take is converted once. On a TPU, the products convert it
    themselves: the values of a tile stay in vector memory, where the compiler keeps bfloat16 arrays
    less often.
    """
    if plan.operands == "float32" or plan.device == "tpu":
        return x
    if plan.operands == "rounded":
        return round_to_bfloat16(x)
    x = tf.cast(x, tf.bfloat16)
    # If it were not stored, XLA could use the unrounded value, and would convert the array again
    # for each product.
    return _store(x) if plan.operands == "plain bfloat16" else x


def product(plan: Plan, a, b, transpose_a=False, transpose_b=False, is_operand=False):
    """Multiplies two matrices.

    Args:
      plan: determines the form of the operands.
      a: an `operand` [m, k], or [k, m] with transpose_a.
      b: an `operand` [k, n], or [n, k] with transpose_b.
      transpose_a, transpose_b: whether that operand is transposed first.
      is_operand: whether accelerators store the result as bfloat16, which moves fewer bytes.

    Returns:
      [m, n], float32 (float64 for float64 operands), or bfloat16 with `is_operand` if the operands
      are "bfloat16".
    """
    if plan.operands in ("float32", "rounded"):
        return tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    if plan.device == "tpu":
        a, b = tf.cast(a, tf.bfloat16), tf.cast(b, tf.bfloat16)
    a, b = tf.transpose(a) if transpose_a else a, tf.transpose(b) if transpose_b else b
    if plan.operands == "plain bfloat16":
        # On CPUs, XLA multiplies bfloat16 only as [m, k] x [k, n]. It folds transposes of operands
        # and result into the product, so they are stored here and avoided in `KernelSums`.
        a, b = _store(a) if transpose_a else a, _store(b) if transpose_b else b
    # tf.matmul would round the result to bfloat16; this operation takes an output type.
    is_rounded = is_operand and plan.operands == "bfloat16"
    dtype = tf.bfloat16 if is_rounded else tf.float32
    return tf.raw_ops.BatchMatMulV3(x=a[None], y=b[None], Tout=dtype)[0]


class KernelSums:
    """The gradient of a layer's kernel, summed over tiles.

    In float32, CPUs compute the transposed gradient faster, so the tiles are summed transposed, and
    the sum is transposed once. In bfloat16, XLA would fold that transpose into the product, so the
    gradient is computed directly. So it is on TPUs, which take half the cycles for it.
    """

    def __init__(self, plan: Plan):
        self._plan = plan
        self._is_direct = plan.operands == "plain bfloat16" or plan.device == "tpu"

    def zeros(self, kernel):
        """Returns the sum of no tile, in the dtype of the kernel."""
        return tf.zeros(kernel.shape if self._is_direct else kernel.shape[::-1], kernel.dtype)

    def of_tile(self, inputs, grad):
        """Returns the part of one tile.

        Args:
          inputs: an `operand` [n, width below], the inputs of the layer.
          grad: an `operand` [n, width], the gradient of its pre-activations.
        """
        if self._is_direct:
            return product(self._plan, inputs, grad, transpose_a=True)
        return product(self._plan, grad, inputs, transpose_a=True)

    def finish(self, total):
        """Returns the gradient in the shape of the kernel."""
        return total if self._is_direct else tf.transpose(total)


def _store(x):
    """Makes XLA store an array as it is."""
    from tensorflow.compiler.tf2xla.ops import gen_xla_ops

    return gen_xla_ops.xla_optimization_barrier(input=[x])[0]


def round_to_bfloat16(x: tf.Tensor) -> tf.Tensor:
    """Rounds float32 to the nearest bfloat16, ties to even; the result stays float32.

    Operates on the bits, because XLA removes a cast to bfloat16 and back.
    """
    bits = tf.bitcast(x, tf.uint32)
    odd = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, tf.constant(16, tf.uint32)), 1)
    bits = bits + 0x7FFF + odd
    return tf.bitcast(tf.bitwise.bitwise_and(bits, 0xFFFF0000), tf.float32)
