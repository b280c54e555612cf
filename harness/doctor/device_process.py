"""The child process of the doctor, `python -m harness.doctor.device_process`.

It sets the devices up as a run does, and measures whether the CPU multiplies bfloat16 operands
faster than float32.
"""

from __future__ import annotations

import sys
from typing import Any

from harness.base.error_text import one_line
from harness.config.run_config import RunConfig
from harness.config.trial_spec import track_engine_settings
from harness.processes.tensorflow_process import child_main
from reference_model.base.config import EngineConfig
from reference_model.base.progress import Progress


def find_devices(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Sets the devices up.

    Args:
      request: {"config": a RunConfig as JSON}.
      progress: Not used; the parent waits a few seconds.

    Returns:
      "device" (words), "kind", "runtime" and "bfloat16" (null if it was not measured), or "error".
    """
    from harness.devices import setup

    config = RunConfig.from_json(request["config"])
    try:
        device = setup.set_up(config)
    except (setup.DeviceError, ImportError) as error:
        return {"error": one_line(error)}
    is_one_cpu = device.kind == "cpu" and device.strategy is None and config.engine == "fused"
    return {
        "device": device.describe(), "kind": device.kind, "runtime": device.runtime,
        "bfloat16": _multiplies_bfloat16(config, device) if is_one_cpu else None,
    }  # fmt: skip


def _multiplies_bfloat16(config: RunConfig, device: Any) -> bool:
    """Measures products of both types, as a run with --precision=bfloat16 does."""
    from harness.devices.bfloat16_probe import cpu_executor, multiplies_bfloat16

    # The sizes of the data are irrelevant: the probe multiplies matrices of its own.
    settings = EngineConfig(10, 20, 50, **track_engine_settings(config.track))
    try:
        return multiplies_bfloat16(settings, cpu_executor(settings, device))
    except Exception:  # the compiler or its library supports no such product
        return False


if __name__ == "__main__":
    sys.exit(child_main("harness.doctor.device_process", find_devices))
