"""From `--device` and `--strategy` to the device a trial trains on.

Imports TensorFlow; only a trial process may use it.
"""

from __future__ import annotations

from typing import NamedTuple


class DeviceError(RuntimeError):
    """A device that was asked for is not there; the message is one line."""


class Device(NamedTuple):
    """`kind` is "cpu" or "gpu"; `name` what the device calls itself."""

    kind: str
    name: str
    num_devices: int


def set_up(wanted: str, num_devices: int = 1) -> Device:
    """Chooses and initialises the device; hides the others from TensorFlow.

    Args:
      wanted: "auto" (a GPU where there is one), "cpu" or "gpu".
      num_devices: how many of them; one is all there is for now.

    Raises:
      DeviceError: with one line for the user.
    """
    import tensorflow as tf

    gpus = [] if wanted == "cpu" else tf.config.list_physical_devices("GPU")
    if wanted == "gpu" and not gpus:
        raise DeviceError(
            "--device=gpu: TensorFlow sees no GPU; check nvidia-smi and that the "
            "environment has the gpu extra, or use --device=cpu"
        )
    if num_devices > max(1, len(gpus)):
        raise DeviceError(f"--num_devices={num_devices}: only {max(1, len(gpus))} is there")
    if not gpus:
        tf.config.set_visible_devices([], "GPU")
        return Device("cpu", "cpu", 1)
    used = gpus[:num_devices]
    tf.config.set_visible_devices(used, "GPU")
    for gpu in used:
        # Otherwise TensorFlow takes all memory of a GPU that others may use.
        tf.config.experimental.set_memory_growth(gpu, True)
    details = tf.config.experimental.get_device_details(used[0])
    return Device("gpu", details.get("device_name", "gpu"), len(used))
