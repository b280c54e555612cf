"""What the recorded files here are of: `TOY_FACTOR` makes one benchmark do more.

    for i in 1 2 3 4 5; do python -m pytest toy_suite.py --benchmark-json=FOLDER/process_$i.json; done

merged by `tests.benchmarks.merging`. `again.json` repeats `baseline.json`; `slower.json`
has `TOY_FACTOR=1.6` and `TOY_NAME=renamed`.
"""

from __future__ import annotations

import os

import pytest

FACTOR = float(os.environ.get("TOY_FACTOR", "1"))
LAST = os.environ.get("TOY_NAME", "last")


def _work(amount: float) -> int:
    return sum(number & 7 for number in range(int(amount)))


def _measure(benchmark, amount, **info):
    benchmark.extra_info.update(input="toy 1", **info)
    benchmark.pedantic(_work, args=(amount,), rounds=15, iterations=2, warmup_rounds=2)


def test_calibration(benchmark):
    _measure(benchmark, 100_000, calibration=True)


@pytest.mark.parametrize("amount", [60_000, 90_000], ids=["less", "more"])
def test_steady(benchmark, amount):
    _measure(benchmark, amount)


def test_changed(benchmark):
    _measure(benchmark, 80_000 * FACTOR)


@pytest.mark.parametrize("name", [LAST])
def test_name(benchmark, name):
    _measure(benchmark, 50_000)
