"""Calibrations: the current speed of the machine, by which all other times are divided.

A matrix product (all cores, the multiply-add units), a copy (the memory) and a Python loop
(one core). They use no code of this project, so their times change only with the machine.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from harness.regression.measuring import measure

SIZE, COPIED_BYTES, TURNS = 1024, 64 << 20, 400_000


def _calibrate(
    benchmark: Any, task: Callable[[], Any], version: str, amounts: dict[str, int]
) -> None:
    measure(benchmark, task, group="calibration", version=version, rounds=25, warmup=3,
            amounts=amounts, calibration=True)  # fmt: skip


def test_matrix_product(benchmark: Any) -> None:
    """Measures a product of two matrices."""
    draw = np.random.default_rng(1)
    a, b = (draw.random((SIZE, SIZE), dtype=np.float32) for _ in range(2))
    out = np.empty_like(a)
    _calibrate(
        benchmark, lambda: np.matmul(a, b, out=out), f"float32 {SIZE}", {"flop": 2 * SIZE**3}
    )


def test_copy(benchmark: Any) -> None:
    """Measures a copy that is larger than most caches."""
    source = np.ones(COPIED_BYTES, np.uint8)
    target = np.zeros_like(source)
    _calibrate(
        benchmark, lambda: np.copyto(target, source), f"{COPIED_BYTES} bytes",
        {"bytes": 2 * COPIED_BYTES},
    )  # fmt: skip


def test_python_loop(benchmark: Any) -> None:
    """Measures the interpreter on one core."""

    def loop() -> int:
        total = 0
        for number in range(TURNS):
            total += number & 7
        return total

    _calibrate(benchmark, loop, f"{TURNS} turns", {"turns": TURNS})


CALIBRATIONS = (test_matrix_product, test_copy, test_python_loop)
