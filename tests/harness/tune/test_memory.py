"""The estimate of a run's memory by its batch size."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from harness.base.system_files import available_memory
from harness.tune import memory
from reference_model.base.config import EngineConfig
from tests.support.paths import ROOT

ML_100K = EngineConfig(943, 1682, 99_057, 8, (64, 32, 16, 8), eval_batch_size=200_000)
ML_1M = EngineConfig(6040, 3706, 994_169, 64, (256, 256, 128, 64))


def of_batch(config: EngineConfig, batch: int) -> int:
    return memory.run_bytes(dataclasses.replace(config, batch_size=batch))


@pytest.mark.parametrize("config", [ML_100K, ML_1M], ids=["ml-100k", "ml-1m"])
def test_grows_with_the_batch(config):
    sizes = [of_batch(config, 2**k) for k in range(10, 22, 2)]
    assert sizes == sorted(sizes)


def test_a_batch_that_does_not_fit_is_refused_in_words():
    assert memory.refusal(ML_1M, 98_304, 16 << 30) is None
    reason = memory.refusal(ML_1M, 98_304, 1 << 30)
    assert reason.startswith("batch 98304 needs about 1.") and "1.0 GiB are available" in reason
    assert memory.refusal(ML_1M, 98_304, None) is None


def test_on_accelerators_the_whole_batch_is_one_tile():
    large = dataclasses.replace(ML_1M, batch_size=1 << 20)
    assert memory.run_bytes(large, "gpu") > memory.run_bytes(large, "cpu") + (4 << 30)


def test_this_machine_has_memory():
    assert available_memory() > 100 << 20


_PEAK = """
import json, resource, sys
from reference_model.base.config import EngineConfig
from reference_model.events import NullSink
from reference_model.fused import FusedEngine
config = EngineConfig(**json.loads(sys.argv[1]))
engine = FusedEngine(config, NullSink(), "cpu")
engine.prepare(); engine.reset(1); engine.load(None); engine.train_epoch(1); engine.evaluate()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
"""


@pytest.mark.slow
@pytest.mark.parametrize("config, batch", [
    (ML_100K, 4096), (ML_100K, 262_144), (ML_1M, 98_304), (ML_1M, 786_432),
], ids=str)  # fmt: skip
def test_is_near_the_measured_peak(config, batch):
    """The peak of a process that trains and evaluates synthetic epochs of these sizes."""
    config = dataclasses.replace(config, batch_size=batch, synthetic=True)
    values = json.dumps({**dataclasses.asdict(config)})
    done = subprocess.run([sys.executable, "-c", _PEAK, values], cwd=ROOT, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.split()[-1])
    print(f"estimate {memory.run_bytes(config) >> 20} MiB, peak {peak >> 20} MiB")
    assert 0.75 * peak < memory.run_bytes(config) < 1.5 * peak
