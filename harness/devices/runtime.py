"""Chooses the runtime of the fused engine's programs: TensorFlow, or PJRT through JAX.

This module imports neither; it only looks for the packages.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from compliance.cli.requirements import install_command
from harness.base import machine
from harness.config.run_config import ConfigError, RunConfig
from reference_model.pjrt.program_folder import ProgramFolder

TENSORFLOW, PJRT = "tensorflow", "pjrt"
# Packages with the PJRT plug-in of NVIDIA GPUs, and with that of TPUs.
_GPU_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
_TPU_PLUGIN = "libtpu"


def choose_runtime(config: RunConfig, is_cluster: bool = False) -> str:
    """Returns the runtime that `--runtime` names, or the one that suits the devices.

    `auto` is TensorFlow on CPUs, for `--tpu` and for several devices; PJRT for `--programs`, for
    the TPU of this machine, and for one GPU if JAX's plug-in is installed.

    Args:
      config: The settings of the set.
      is_cluster: Whether TF_CONFIG names several workers.
    """
    if config.runtime != "auto":
        return config.runtime
    if config.programs is not None:
        return PJRT
    is_single = config.strategy in ("auto", "one_device") and (config.num_devices or 1) == 1
    if config.engine != "fused" or is_cluster or not is_single:
        return TENSORFLOW
    if config.tpu is not None or not _is_installed("jax"):
        return TENSORFLOW
    if config.device == "tpu":
        return PJRT if _is_installed(_TPU_PLUGIN) else TENSORFLOW
    if config.device not in ("auto", "gpu") or not any(map(_is_installed, _GPU_PLUGINS)):
        return TENSORFLOW
    gpus = machine.gpus()
    # TensorFlow uses all GPUs unless --num_devices=1.
    return PJRT if len(gpus) == 1 or (gpus and config.num_devices == 1) else TENSORFLOW


def check_runtime(config: RunConfig, is_cluster: bool) -> None:
    """Checks, before anything is prepared, whether PJRT can run the set if it is chosen.

    Args:
      config: The settings of the set.
      is_cluster: Whether TF_CONFIG names several workers.

    Raises:
      ConfigError: JAX is missing, a flag requires TensorFlow, which is missing, or there are
        several workers.
      DataError: `--programs` contains no usable programs.
    """
    if choose_runtime(config, is_cluster) != PJRT:
        return
    flag = "--programs" if config.programs else "--runtime=pjrt"
    if is_cluster:
        raise ConfigError(f"{flag} runs on one device; unset TF_CONFIG")
    if not _is_installed("jax"):
        raise ConfigError(f"{flag} requires JAX: {install_command('pjrt')}")
    if not _is_installed("tensorflow"):
        for name, is_used in (
            (f"--input={config.input}", config.input != "generated"),
            ("--tensorboard_dir", config.tensorboard_dir is not None),
        ):
            if is_used:
                raise ConfigError(f"{name} requires TensorFlow: {install_command('cpu')}")
    if programs := exported_programs(config):
        programs.verify()


def exported_programs(config: RunConfig) -> ProgramFolder | None:
    """Opens the folder of `--programs`; returns None without that flag.

    Raises:
      DataError: The folder contains no usable manifest.
    """
    return None if config.programs is None else ProgramFolder(Path(config.programs))


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
