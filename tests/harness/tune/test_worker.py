"""The worker: programs whose numbers are arguments train as those with constants."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from harness.devices.setup import Device
from harness.tune.curves import train_epochs
from harness.tune.worker import EngineShelf
from reference_model.base.config import EngineConfig
from reference_model.events import NullSink
from tests.support.paths import ROOT
from tests.support.splits import clustered_split

CPU = Device("cpu", "test", 1)


def sizes(split, **changes) -> EngineConfig:
    return EngineConfig(
        num_users=split.num_users, num_items=split.num_items, num_positives=split.num_positives,
        mf_dim=4, mlp_layers=(16, 8), eval_negatives=49, batch_size=512, eval_batch_size=5000,
        learning_rate=0.004, beta1=0.8, beta2=0.95, epsilon=1e-7, **changes,
    )  # fmt: skip


def curve(engine, split, seed=1) -> list[tuple[float, float]]:
    epochs = list(train_epochs(engine, split, seed, 3))
    return [(e.trained.loss, e.evaluated.hr) for e in epochs]


@pytest.mark.slow
def test_trials_with_other_numbers_use_the_same_programs_and_train_as_constants_do():
    from reference_model.fused import FusedEngine

    split, shelf = clustered_split(), EngineShelf(CPU, "fused")
    first = shelf.take(sizes(split))
    low = curve(first, split)
    other = dataclasses.replace(sizes(split), learning_rate=0.02, beta1=0.6, beta2=0.99,
                                epsilon=1e-5)
    assert shelf.take(other) is first
    high = curve(first, split)
    for settings, found in ((sizes(split), low), (other, high)):
        engine = FusedEngine(settings, NullSink(), "cpu")
        engine.prepare()
        for (loss, hr), (expected_loss, expected_hr) in zip(found, curve(engine, split)):
            assert loss == pytest.approx(expected_loss, rel=1e-3)
            assert hr == pytest.approx(expected_hr, abs=0.05)
    assert high[0][0] != pytest.approx(low[0][0], rel=1e-2)


@pytest.mark.slow
def test_another_batch_size_precision_or_optimizer_is_another_engine():
    split, shelf = clustered_split(), EngineShelf(CPU, "fused")
    found = {id(shelf.take(sizes(split)))}
    for change in ({"batch_size": 1024}, {"precision": "bfloat16"}, {"optimizer": "lazy_adam"}):
        found.add(id(shelf.take(dataclasses.replace(sizes(split), **change))))
    assert len(found) == 4


def test_sparse_updates_have_constant_numbers():
    """Their betas determine how many missed steps a program applies."""
    split, shelf = clustered_split(), EngineShelf(CPU, "fused")
    assert shelf._takes_variables(sizes(split))
    tables = dataclasses.replace(sizes(split), num_users=1_000_000)
    assert not shelf._takes_variables(tables)
    assert not EngineShelf(CPU, "reference")._takes_variables(sizes(split))


def test_the_parent_does_not_import_tensorflow():
    code = ("import sys, harness.tune.command, harness.tune.report.page; import optuna\n"
            "assert not {'tensorflow', 'keras', 'torch'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
