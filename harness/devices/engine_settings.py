"""The settings of an engine that depend on the device of a run.

They are whether products take bfloat16 operands natively, and how the order of an epoch is made: on
the host for CPUs, on the device for others.
"""

from __future__ import annotations

from dataclasses import replace

from harness.devices.bfloat16_probe import with_native_bfloat16
from harness.devices.setup import Device
from reference_model.base.config import MAX_SORTED_KEYS, EngineConfig
from reference_model.pjrt.program_folder import ProgramFolder


def with_device_settings(
    settings: EngineConfig,
    device: Device,
    exported: ProgramFolder | None,
    engine: str = "fused",
    logged_order: str = "",
) -> EngineConfig:
    """Completes the settings of a run by what its device decides.

    Args:
      settings: The settings of a run.
      device: The device of the run.
      exported: Exported programs, which decide instead; None for our own.
      engine: The value of `--engine`.
      logged_order: The order of the log that is repeated; "" for a new run.

    Returns:
      The settings with `native_bfloat16` and `order`.
    """
    settings = with_native_bfloat16(settings, device, exported, engine)
    return with_order_method(settings, device, exported, engine, logged_order)


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
