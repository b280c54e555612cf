"""Checks the device flags and their combinations.

This module checks only flags. In the trial process, `harness.devices.setup` checks whether
the machine has the devices.
"""

from __future__ import annotations

import os
import re
from typing import Any, Mapping

from harness.config.flag_values import (
    ConfigError,
    default_data_dir,
    get_choice,
    get_directory,
    get_positive_int,
    get_text,
)

# `--device` also accepts any other device type that TensorFlow lists.
DEVICES = ("auto", "cpu", "gpu", "tpu")
RUNTIMES = ("auto", "tensorflow", "pjrt")
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


def runtime_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields `runtime`, `programs`, `export` and `program_cache` of a RunConfig.

    Args:
      given: Values of the flags that were given, by name.

    Raises:
      ConfigError: Flags contradict each other; the message is one line for the user.
    """
    runtime = get_choice(given, "runtime", RUNTIMES, "auto")
    programs = _folder_if_given(given, "programs")
    if programs is not None and runtime == "tensorflow":
        raise ConfigError("--programs requires --runtime=pjrt; remove one of them")
    asks_for_pjrt = programs is not None or runtime == "pjrt"
    export = _folder_if_given(given, "export")
    if export is not None and programs is not None:
        raise ConfigError("--export and --programs cannot be combined; remove one of them")
    flag = "--programs" if programs is not None else "--runtime=pjrt"
    if asks_for_pjrt or export is not None:
        _check_one_device(given, flag if asks_for_pjrt else "--export")
    return {
        "runtime": runtime,
        "programs": programs,
        "export": export,
        "program_cache": _program_cache(given),
    }


def _program_cache(given: Mapping[str, Any]) -> str | None:
    """Returns `--program_cache` as a folder; None for "off"."""
    value = given.get("program_cache", "auto")
    if value == "off":
        return None
    if value == "auto":
        return os.path.join(default_data_dir(), "programs")
    return get_directory(given, "program_cache", "")


def _folder_if_given(given: Mapping[str, Any], flag: str) -> str | None:
    """Returns the absolute path of a folder; None if the flag was not given. Refuses ""."""
    return None if given.get(flag) is None else get_directory(given, flag, "")


def _check_one_device(given: Mapping[str, Any], flag: str) -> None:
    """Checks that no flag contradicts a run of the fused engine's programs on one PJRT device.

    Args:
      given: Values of the flags that were given, by name.
      flag: The flag that requires such a run.

    Raises:
      ConfigError: A flag contradicts it; the message is one line for the user.
    """
    engine = given.get("engine", "fused")
    if engine != "fused":
        raise ConfigError(f"{flag} requires --engine=fused, not {engine}")
    if given.get("strategy", "auto") not in ("auto", "one_device"):
        raise ConfigError(f"{flag} runs on one device; remove --strategy={given['strategy']}")
    if given.get("tpu") is not None:
        raise ConfigError(f"{flag} cannot use a TPU by its address; remove --tpu, use --device=tpu")
    if (given.get("num_devices") or 1) > 1:
        raise ConfigError(f"{flag} runs on one device; remove --num_devices={given['num_devices']}")
    if given.get("inter_op_threads") is not None:
        raise ConfigError(
            f"{flag} has one pool of threads; use --intra_op_threads, not --inter_op_threads"
        )
    if given.get("precision") == "tf32" and given.get("device", "auto").lower() != "gpu":
        raise ConfigError(f"{flag} with --precision=tf32 requires --device=gpu")


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
