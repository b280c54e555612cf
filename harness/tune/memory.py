"""Estimates the memory of a run by its batch size, before the batch size is tried.

The estimate adds what an engine keeps: the process with TensorFlow and its compiled programs, the
dataset, the order of an epoch (docs/scaling.md), the evaluation lists, the weights with gradients
and moments, and the arrays of one step. It is meant to refuse what cannot fit, not to be exact:
`tests/harness/tune/test_memory.py` compares it with measured peaks.
"""

from __future__ import annotations

import dataclasses

from reference_model.base.config import EngineConfig
from reference_model.fused_math.plan import make_plan

# TensorFlow, the libraries and the compiled programs of one engine; docs/scaling.md: 0.8 GiB.
PROCESS_BYTES = 800 << 20
# Arrays of a step with one entry per example: the order's row as copied and as padded, user,
# item, label, weight, positives, and the random words and candidates from which negatives are
# drawn.
EXAMPLE_BYTES = 100
# An activation, its gradient, and one operand or temporary of each.
ACTIVATION_COPIES = 4
# From this share of the available memory on, a batch size is refused.
USABLE_SHARE = 0.8
# Evaluation lists above this size are not kept (docs/scaling.md).
_MAX_KEPT_LISTS = 1 << 30
_ORDER_PART = 1 << 23  # examples of a part of an epoch's order


def run_bytes(config: EngineConfig, device: str = "cpu") -> int:
    """Estimates the peak memory of a run.

    Args:
      config: The sizes of the model, the data and the batch.
      device: The device type. On "cpu" a batch is processed in tiles; on other types the memory is
        that of the device, where the whole batch is one tile.

    Returns:
      Bytes.
    """
    plan = make_plan(config, config.batch_size, device)
    widths = 2 * config.mf_dim + 2 * plan.mlp_embedding_dim + sum(config.mlp_layers)
    rows = plan.tile_rows * plan.tiles_per_iteration
    step = config.batch_size * EXAMPLE_BYTES + 4 * ACTIVATION_COPIES * widths * rows
    table_width = config.mf_dim + plan.mlp_embedding_dim
    tables = (config.num_users + config.num_items) * table_width
    kernels = sum(a * b for a, b in zip(config.mlp_layers, config.mlp_layers[1:]))
    # A folded side also has a projected table and the gradient of it.
    projected = sum(
        count * config.mlp_layers[min(1, len(config.mlp_layers) - 1)]
        for count, is_folded in (
            (config.num_users, plan.fold_user), (config.num_items, plan.fold_item)
        ) if is_folded
    )  # fmt: skip
    # Weights, two moments, the gradient, and the state before and after a call.
    state = 4 * (7 * (tables + kernels) + 3 * projected)
    lists = 8 * config.num_users * (config.eval_negatives + 1)
    # The order of two epochs, and the copy that one call gets.
    order = 3 * 4 * min(config.train_examples + config.batch_size, 3 * _ORDER_PART)
    data = 8 * config.num_positives
    return PROCESS_BYTES + data + order + min(lists, _MAX_KEPT_LISTS) + state + step


def refusal(config: EngineConfig, batch_size: int, available: int | None) -> str | None:
    """Returns why a batch size does not fit into memory; None if it fits.

    Args:
      config: The sizes; its batch size is replaced.
      batch_size: The batch size.
      available: Available bytes; None if they are not known, and then nothing is refused.
    """
    needed = run_bytes(dataclasses.replace(config, batch_size=batch_size))
    if available is None or needed <= USABLE_SHARE * available:
        return None
    return (
        f"batch {batch_size} needs about {needed / 2**30:.1f} GiB; {available / 2**30:.1f} GiB "
        "are available"
    )
