"""What all benchmarks share: the engines, and what is recorded about the machine."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

PACKAGES = ("numpy", "pandas", "tensorflow", "tensorflow-cpu", "keras", "mlperf-logging", "msgspec")


def pytest_benchmark_update_machine_info(config, machine_info):
    """The versions of what the times depend on."""
    machine_info["packages"] = found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass


@pytest.fixture(autouse=True)
def _its_input_is_pinned(request):
    """A benchmark says which version of its input it works on."""
    yield
    benchmark = request.node.funcargs.get("benchmark")
    if benchmark is not None and benchmark.stats is not None:
        assert benchmark.extra_info.get("input"), "a benchmark must keep the version of its input"


@pytest.fixture(scope="session")
def engines():
    """Compiled engines by name and settings, each made once."""
    from tests.benchmarks.engines import Engines

    made = Engines()
    yield made
    made.close()
