"""Measures whether a processor multiplies bfloat16 matrices faster than float32 matrices.

XLA passes products of bfloat16 matrices to its library for CPUs on every processor. Without
bfloat16 units the library converts the operands, which is slower than float32. Neither the
compiled program nor the processor's name tells which of the two it does, so both are timed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable

import numpy as np

from harness.base.clock import Stopwatch
from harness.devices.setup import Device
from reference_model.base.config import EngineConfig
from reference_model.base.lazy_modules import tf
from reference_model.fused.executor import Executor
from reference_model.fused_math.plan import make_plan, operand, product, width_class
from reference_model.fused.programs import ArraySpec, Program
from reference_model.pjrt.program_folder import ProgramFolder

# As wide as the layers of the large model, with the rows of four of its tiles.
_ROWS, _WIDTH, _PRODUCTS = 4096, 256, 8
_REPEATS = 7
# The least advantage that counts; the units make products 1.5 to 16 times as fast.
_LEAST_RATIO = 1.2


def with_native_bfloat16(
    settings: EngineConfig,
    device: Device,
    exported: ProgramFolder | None,
    engine: str = "fused",
) -> EngineConfig:
    """Decides whether products take bfloat16 operands on this CPU.

    Args:
      settings: The settings of a run.
      device: The device of the run.
      exported: Exported programs, which are made for one of the two forms; None for our own.
      engine: The value of `--engine`; other engines choose their operands themselves.

    Returns:
      The settings with `native_bfloat16`.
    """
    is_one_cpu = device.kind == "cpu" and device.strategy is None
    if engine != "fused" or settings.precision != "bfloat16" or not is_one_cpu:
        return settings
    if width_class(settings) != "wide":  # the plan would not use them
        return settings
    if exported is not None:
        return replace(settings, native_bfloat16=exported.native_bfloat16)
    try:
        is_native = multiplies_bfloat16(settings, cpu_executor(settings, device))
    except Exception:  # the compiler or its library supports no such product
        is_native = False
    return replace(settings, native_bfloat16=is_native)


def cpu_executor(settings: EngineConfig, device: Device) -> Executor:
    """Returns an executor of programs on a device that is one CPU."""
    if device.pjrt_client is not None:
        from reference_model.pjrt.executor import PjrtExecutor
        from reference_model.pjrt.lowering import lower

        return PjrtExecutor(settings, device.pjrt_client, lower)
    from reference_model.fused.tensorflow_executor import OneDeviceExecutor

    return OneDeviceExecutor(settings, "cpu")


def multiplies_bfloat16(config: EngineConfig, executor: Executor) -> bool:
    """Returns whether products of bfloat16 operands are at least 1.2 times as fast as of float32.

    Args:
      config: The settings of a run; its precision is irrelevant.
      executor: Compiles and runs the products on the CPU.
    """
    config = replace(config, native_bfloat16=True, mlp_layers=(_WIDTH,) * 3)
    calls = [
        _products(replace(config, precision=precision), executor)
        for precision in ("float32", "bfloat16")
    ]
    for call in calls:
        call()  # compiles
    rounds = [[_seconds(call) for call in calls] for _ in range(_REPEATS)]
    float32, bfloat16 = (min(times) for times in zip(*rounds))
    return float32 >= _LEAST_RATIO * bfloat16


def _products(config: EngineConfig, executor: Executor) -> Callable[[], object]:
    """Returns a function that runs a chain of products, as in the layers of the MLP."""
    plan = make_plan(config, _ROWS, "cpu")

    def chain(rows, kernel):
        for _ in range(_PRODUCTS):
            rows = tf.nn.relu(product(plan, operand(plan, rows), operand(plan, kernel)))
        return (tf.reduce_sum(rows),)

    random = np.random.default_rng(0)
    arrays = [
        random.standard_normal(shape, np.float32) / 16  # keeps the magnitude of the rows
        for shape in ((_ROWS, _WIDTH), (_WIDTH, _WIDTH))
    ]
    program = Program(
        f"probe_{config.precision}",
        chain,
        tuple(ArraySpec("float32", array.shape) for array in arrays),
        (ArraySpec("float32", ()),),
    )
    run = executor.compile_program(program)
    placed = [executor.place(array) for array in arrays]
    return lambda: run(*placed)


def _seconds(call: Callable[[], object]) -> float:
    watch = Stopwatch()
    call()
    return watch.lap()
