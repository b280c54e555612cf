"""Selects how the order of an epoch is made: on the host for CPUs, on the device for others."""

from __future__ import annotations

from dataclasses import replace

from harness.devices.setup import Device
from reference_model.base.config import MAX_SORTED_KEYS, EngineConfig
from reference_model.pjrt.program_folder import ProgramFolder


def with_order_method(
    settings: EngineConfig,
    device: Device,
    exported: ProgramFolder | None,
    engine: str = "fused",
    logged: str = "",
) -> EngineConfig:
    """Selects the order of a run.

    A host core makes an order more slowly than an accelerator trains. CPUs make it faster by
    assignment, ahead of time.

    Args:
      settings: The settings of a run.
      device: The device of the run.
      exported: Exported programs, which are made for one order; None for our own.
      engine: The value of `--engine`; other engines make their own order.
      logged: The order of the log that is repeated; "" for a new run.

    Returns:
      The settings with `order`.
    """
    if engine != "fused" or settings.synthetic:
        return settings
    if logged:
        return replace(settings, order=logged)
    if exported is not None:
        return replace(settings, order=exported.order)
    is_one_accelerator = device.kind != "cpu" and device.strategy is None
    if is_one_accelerator and settings.train_examples <= MAX_SORTED_KEYS:
        return replace(settings, order="sorted_keys")
    return settings
