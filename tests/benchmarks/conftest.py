"""Shared parts of all benchmarks: the engines and the recorded machine information."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

PACKAGES = ("numpy", "pandas", "tensorflow", "tensorflow-cpu", "keras", "mlperf-logging", "msgspec")


def pytest_benchmark_update_machine_info(config, machine_info):
    """Records the versions of the packages that affect the times."""
    machine_info["packages"] = found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass


@pytest.fixture(autouse=True)
def _its_input_is_pinned(request):
    """Checks that every benchmark records the version of its input."""
    yield
    benchmark = request.node.funcargs.get("benchmark")
    if benchmark is not None and benchmark.stats is not None:
        assert benchmark.extra_info.get("input"), "a benchmark must record the version of its input"


@pytest.fixture(scope="session")
def engines():
    """Compiled engines, cached by name and settings."""
    from tests.benchmarks.engines import Engines

    made = Engines()
    yield made
    made.close()
