"""Compiles and runs StableHLO programs on a PJRT device, through JAX's public interface.

JAX has no public function that takes StableHLO from elsewhere. But an `Exported` of `jax.export`
contains its StableHLO as a portable artifact. So a stub with the same inputs and outputs is
exported, and its artifact is replaced by that of the program.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Callable, Sequence

import numpy as np

from reference_model.base.errors import DataError
from reference_model.fused.programs import ArraySpec, Program

# JAX's name of a platform, by our device type; other names are those of PJRT plug-ins.
_PLATFORMS = {"gpu": "cuda"}

# Options of XLA by JAX's name of the platform. TensorFlow's CPU build multiplies matrices by
# YNNPACK, which JAX's build contains, but does not use by default.
_COMPILER_OPTIONS = {
    "cpu": {
        "xla_cpu_enable_fast_min_max": True,
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    },
}
_DETERMINISTIC_OPTIONS = {"cuda": {"xla_gpu_deterministic_ops": True}}


def jax_platform(device_type: str) -> str:
    """Returns JAX's name of the platform of a device type."""
    return _PLATFORMS.get(device_type, device_type)


class PjrtError(RuntimeError):
    """There is no such PJRT device; the message is one line."""


class PjrtClient:
    """One device of a PJRT client.

    Attributes:
      device_kind: the model of the device, as its client names it.
      version: the platform and the version of the client.
    """

    def __init__(self, device_type: str, threads: int | None = None):
        """Imports JAX and selects the first device.

        Args:
          device_type: "cpu", "gpu", "tpu" or the name of a PJRT plug-in.
          threads: number of threads of the CPU client; None for one per usable processor. It has
            an effect only before the client is created.

        Raises:
          PjrtError: JAX is missing or has no such device.
        """
        platform = jax_platform(device_type)
        os.environ.setdefault("JAX_PLATFORMS", platform)
        # A fraction of the GPU's memory would be reserved at once.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        if platform == "cpu":
            # Plug-ins for other devices, where they are installed, must not look for those devices
            # and complain that there are none.
            for name in ("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "TPU_SKIP_MDS_QUERY"):
                os.environ.setdefault(name, "1")
            os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
        if threads:
            os.environ["NPROC"] = str(threads)  # read by XLA's CPU client
        try:
            import jax
        except ImportError as error:
            raise PjrtError(
                f"--runtime=pjrt requires JAX, which cannot be imported: {error}"
            ) from None
        jax.config.update("jax_enable_x64", True)
        # A program runs on the calling thread, which has nothing else to do, and on the pool.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        self._jax = jax
        self._platform, self._is_deterministic = platform, False
        try:
            self._device = jax.devices(platform)[0]
        except (RuntimeError, AssertionError) as error:  # without a plug-in JAX raises either
            reason = " ".join(str(error).split()) or "no plug-in is installed"
            raise PjrtError(f"--device={device_type}: PJRT has no such device: {reason}") from None
        self.device_kind = self._device.device_kind
        version = " ".join(str(self._device.client.platform_version).split())
        self.version = f"{platform} {version}".strip()

    def compile(self, program: Program, code: bytes) -> Callable[..., Sequence[Any]]:
        """Compiles a program.

        Args:
          program: describes the inputs, outputs and donated inputs.
          code: the program as a portable StableHLO artifact.

        Returns:
          A function of placed or host arrays that returns placed arrays.

        Raises:
          DataError: PJRT rejects the code.
        """
        try:
            return self._compile(program, code)
        except (self._jax.errors.JaxRuntimeError, ValueError) as error:
            # XLA's message has several lines, and names temporary objects.
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise DataError(f"PJRT cannot compile the program {program.name}: {reason}") from error

    def _compile(self, program: Program, code: bytes) -> Callable[..., Sequence[Any]]:
        here = self._jax.sharding.SingleDeviceSharding(self._device)
        shardings = (here,) * len(program.inputs)
        return self._compile_with_options(
            lower_artifact(self._jax, self._platform, program, code, shardings)
        )

    def _compile_with_options(self, lowered: Any) -> Callable[..., Sequence[Any]]:
        """Compiles with the platform's options; if XLA lacks one, with the required options only."""
        required = _DETERMINISTIC_OPTIONS.get(self._platform, {}) if self._is_deterministic else {}
        try:
            return lowered.compile(
                compiler_options={**_COMPILER_OPTIONS.get(self._platform, {}), **required}
            )
        except self._jax.errors.JaxRuntimeError as error:
            if "compile option" not in str(error) and "While setting option" not in str(error):
                raise
            return lowered.compile(compiler_options=required)

    def keep_compiled(self, folder: os.PathLike) -> None:
        """Makes XLA look for compiled programs in a folder, and store new ones there."""
        for name, value in (
            ("jax_compilation_cache_dir", str(folder)),
            ("jax_persistent_cache_min_entry_size_bytes", -1),
            ("jax_persistent_cache_min_compile_time_secs", 0),
            # XLA's own caches would put their folder into the options, and so change the key.
            ("jax_persistent_cache_enable_xla_caches", "none"),
        ):
            self._jax.config.update(name, value)

    def enable_determinism(self) -> None:
        """Makes programs compiled after this call bitwise reproducible, as all are on CPUs and TPUs."""
        self._is_deterministic = True

    def memory_stats(self) -> dict[str, int]:
        """Returns what the device says of its memory, in bytes; empty if it says nothing."""
        return dict(self._device.memory_stats() or {})

    def place(self, array: np.ndarray) -> Any:
        """Copies an array to the device."""
        return self._jax.device_put(array, self._device, may_alias=False)

    def place_without_copy(self, array: np.ndarray) -> Any:
        """Places an array; on CPUs it may share the memory of the NumPy array."""
        return self._jax.device_put(array, self._device, may_alias=True)


def lower_artifact(
    jax: Any,
    platform: str,
    program: Program,
    code: bytes,
    shardings: Sequence[Any],
    out_shardings: Any = None,
) -> Any:
    """Makes a `jax.stages.Lowered` of a portable StableHLO artifact.

    Args:
      jax: the module.
      platform: JAX's name of the platform.
      program: describes the inputs, outputs and donated inputs.
      code: the artifact.
      shardings: those of the inputs, which determine the devices.
      out_shardings: those of the outputs; None to let XLA choose.
    """
    inputs = [
        jax.ShapeDtypeStruct(spec.shape, np.dtype(spec.dtype), sharding=sharding)
        for spec, sharding in zip(program.inputs, shardings)
    ]
    stub = jax.jit(lambda *_: _zeros(jax, program.outputs), keep_unused=True)
    unplaced = [jax.ShapeDtypeStruct(spec.shape, spec.dtype) for spec in inputs]
    exported = jax.export.export(stub, platforms=[platform])(*unplaced)
    exported = dataclasses.replace(exported, mlir_module_serialized=code)
    function = jax.jit(
        lambda *arrays: exported.call(*arrays), donate_argnums=program.donated, keep_unused=True,
        **({} if out_shardings is None else {"out_shardings": out_shardings}),
    )  # fmt: skip
    return function.lower(*inputs)


def _zeros(jax, specs: Sequence[ArraySpec]) -> tuple:
    return tuple(jax.numpy.zeros(spec.shape, np.dtype(spec.dtype)) for spec in specs)
