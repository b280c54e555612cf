"""Where a set of runs trains: what the flags about devices may say together.

Only the flags are judged here. Whether the machine has what they ask for is found
out in the trial process, by `harness.devices.setup`.
"""

from __future__ import annotations

import re
from typing import Any, Mapping

from harness.config.flag_values import ConfigError, choice, positive_int, text

# Any device type that TensorFlow lists may be named besides these.
DEVICES = ("auto", "cpu", "gpu", "tpu")
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker_mirrored", "tpu")

_DEVICE_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")


def device_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a RunConfig that say where it trains.

    `num_devices` None means all that there are; `intra_op_threads` and
    `inter_op_threads` None leave the numbers of threads to TensorFlow.

    Raises:
      ConfigError: with one line for the user.
    """
    device, strategy = _device(given), choice(given, "strategy", STRATEGIES, "auto")
    tpu = _optional_text(given, "tpu")
    if tpu is not None and device == "auto":
        device = "tpu"
    if (tpu is not None or strategy == "tpu") and device not in ("auto", "tpu"):
        raise ConfigError(
            f"--device={device} does not go with {'--tpu' if tpu else '--strategy=tpu'}; "
            "leave one of them out"
        )
    if device == "tpu" and strategy not in ("auto", "tpu"):
        raise ConfigError(f"--strategy={strategy}: a TPU takes --strategy=auto or tpu")
    if strategy == "tpu":
        device = "tpu"
    for flag in ("tpu_zone", "tpu_project"):
        if given.get(flag) is not None and tpu is None:
            raise ConfigError(f"--{flag} says where a TPU is; name it with --tpu=NAME")
    count = _optional_count(given, "num_devices")
    if strategy == "one_device" and (count or 1) > 1:
        raise ConfigError(
            f"--num_devices={count}: --strategy=one_device takes one; use --strategy=mirrored"
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


def _device(given: Mapping[str, Any]) -> str:
    value = given.get("device", "auto").lower()
    if not _DEVICE_TYPE.fullmatch(value):
        raise ConfigError(
            f"--device={given['device']}: use {', '.join(DEVICES)}, or another device type "
            "that TensorFlow lists"
        )
    return value


def _optional_text(given: Mapping[str, Any], flag: str) -> str | None:
    return None if given.get(flag) is None else text(given, flag, "")


def _optional_count(given: Mapping[str, Any], flag: str) -> int | None:
    return None if given.get(flag) is None else positive_int(given, flag, 1)
