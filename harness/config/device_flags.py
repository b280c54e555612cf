"""Checks the device flags and their combinations.

This module checks only flags. In the trial process, `harness.devices.setup` checks whether
the machine has the devices.
"""

from __future__ import annotations

import re
from typing import Any, Mapping

from harness.config.flag_values import ConfigError, get_choice, get_positive_int, get_text

# `--device` also accepts any other device type that TensorFlow lists.
DEVICES = ("auto", "cpu", "gpu", "tpu")
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker_mirrored", "tpu")

_DEVICE_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")


def device_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a RunConfig about devices, strategies and threads.

    Args:
      given: Values of the flags that were given, by name.

    Returns:
      The fields by name. `num_devices` is None for all devices; `intra_op_threads` and
      `inter_op_threads` are None for TensorFlow's defaults.

    Raises:
      ConfigError: A flag is invalid; the message is one line for the user.
    """
    device, strategy = _check_device_type(given), get_choice(given, "strategy", STRATEGIES, "auto")
    tpu = _optional_text(given, "tpu")
    # --tpu and --strategy=tpu select the TPU and cannot be combined with another device.
    if tpu is not None and device == "auto":
        device = "tpu"
    if (tpu is not None or strategy == "tpu") and device not in ("auto", "tpu"):
        raise ConfigError(
            f"--device={device} cannot be combined with "
            f"{'--tpu' if tpu else '--strategy=tpu'}; remove one of them"
        )
    if device == "tpu" and strategy not in ("auto", "tpu"):
        raise ConfigError(f"--strategy={strategy}: a TPU requires --strategy=auto or tpu")
    if strategy == "tpu":
        device = "tpu"
    for flag in ("tpu_zone", "tpu_project"):
        if given.get(flag) is not None and tpu is None:
            raise ConfigError(f"--{flag} requires a TPU's name; add --tpu=NAME")
    count = _optional_count(given, "num_devices")
    if strategy == "one_device" and (count or 1) > 1:
        raise ConfigError(
            f"--num_devices={count}: --strategy=one_device uses only one; use --strategy=mirrored"
        )
    return {
        "device": device,
        "num_devices": count,
        "strategy": strategy,
        "tpu": tpu,
        "tpu_zone": _optional_text(given, "tpu_zone"),
        "tpu_project": _optional_text(given, "tpu_project"),
        "intra_op_threads": _optional_count(given, "intra_op_threads"),
        "inter_op_threads": _optional_count(given, "inter_op_threads"),
    }


def _check_device_type(given: Mapping[str, Any]) -> str:
    """Returns `--device` in lower case; checks that it has the form of a device type."""
    value = given.get("device", "auto").lower()
    if not _DEVICE_TYPE.fullmatch(value):
        raise ConfigError(
            f"--device={given['device']}: use {', '.join(DEVICES)}, or another device type "
            "that TensorFlow lists"
        )
    return value


def _optional_text(given: Mapping[str, Any], flag: str) -> str | None:
    """Returns one line of text; None if the flag was not given."""
    return None if given.get(flag) is None else get_text(given, flag, "")


def _optional_count(given: Mapping[str, Any], flag: str) -> int | None:
    """Returns a whole number of at least 1; None if the flag was not given."""
    return None if given.get(flag) is None else get_positive_int(given, flag, 1)
