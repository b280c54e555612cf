"""From `--device` and `--strategy` to the device a trial trains on.

Imports TensorFlow only where there is a GPU to set up, so that an engine that is
not built on TensorFlow does not pay for it; only a trial process may use it.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from harness import system


class DeviceError(RuntimeError):
    """A device that was asked for is not there; the message is one line."""


class Device(NamedTuple):
    """`kind` is "cpu" or "gpu"; `name` what the device calls itself."""

    kind: str
    name: str
    num_devices: int

    @property
    def identity(self) -> list[Any]:
        """What must agree for figures to agree to the last digit: kind, name, and on a CPU
        the threads, since sums are cut into as many parts."""
        return [self.kind, self.name, system.usable_cpus() if self.kind == "cpu" else None]


def set_up(wanted: str, num_devices: int = 1) -> Device:
    """Chooses and initialises the device; hides the others from TensorFlow.

    Args:
      wanted: "auto" (a GPU where there is one), "cpu" or "gpu".
      num_devices: how many of them; one is all there is for now.

    Raises:
      DeviceError: with one line for the user.
    """
    if wanted == "cpu" or (wanted == "auto" and not system.gpus()):
        # Before TensorFlow looks: what is hidden here is not even initialised.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        return Device("cpu", system.cpu_model(), 1)
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        if wanted == "auto":
            return Device("cpu", system.cpu_model(), 1)
        raise DeviceError(
            "--device=gpu: TensorFlow sees no GPU; check nvidia-smi and that the "
            "environment has the gpu extra, or use --device=cpu"
        )
    if num_devices > len(gpus):
        raise DeviceError(f"--num_devices={num_devices}: only {len(gpus)} is there")
    used = gpus[:num_devices]
    tf.config.set_visible_devices(used, "GPU")
    for gpu in used:
        # Otherwise TensorFlow takes all memory of a GPU that others may use.
        tf.config.experimental.set_memory_growth(gpu, True)
    details = tf.config.experimental.get_device_details(used[0])
    return Device("gpu", details.get("device_name", "gpu"), len(used))
