"""Training on 2 and 4 replicas equals training on one device with the same seed.

The replicas are logical CPUs under MirroredStrategy, in a separate process
(`tests/support/runs/replicated_runs.py`).
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from reference_model.base.metrics import hits_tolerance
from tests.support.runs.harness_runs import ROOT, environment

pytest.importorskip("tensorflow")

COUNTS = ("2", "4")
FEW = 3  # as in tests/support/runs/replicated_runs.py, which imports TensorFlow


def figures(*arguments: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.runs.replicated_runs", *arguments],
        capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(
    scope="module",
    params=[
        ("fused", "plain"), ("reference", "plain"),
        # Compilation takes a minute; tests/harness/devices/test_tpu.py compiles them, too.
        pytest.param(("fused", "xla"), marks=pytest.mark.slow),
        pytest.param(("reference", "xla"), marks=pytest.mark.slow),
    ],
    ids="-".join,
)  # fmt: skip
def found(request) -> dict:
    """The figures, by the number of replicas."""
    return {**figures(*request.param, "2", "1"), **figures(*request.param, "4")}


@pytest.mark.parametrize("count", COUNTS)
def test_every_step_of_injected_batches_has_the_same_loss(found, count):
    assert len(found["1"]["losses"]) > 10
    np.testing.assert_allclose(found[count]["losses"], found["1"]["losses"], rtol=1e-5)


@pytest.mark.parametrize("count", COUNTS)
def test_the_weights_after_them_are_the_same(found, count):
    for name, weights in found["1"]["weights"].items():
        weights, others = np.array(weights), np.array(found[count]["weights"][name])
        assert np.linalg.norm(others - weights) <= 1e-3 * np.linalg.norm(weights), name


@pytest.mark.parametrize("count", COUNTS)
def test_own_epochs_are_those_of_one_device(found, count):
    """Order, negatives and lists are drawn by position, independent of the replica."""
    assert found["1"]["digests"]
    assert found[count]["digests"] == found["1"]["digests"]
    for mine, single in zip(found[count]["epochs"], found["1"]["epochs"]):
        assert mine["loss"] == pytest.approx(single["loss"], rel=1e-4)
        assert abs(mine["hits"] - single["hits"]) <= hits_tolerance(single["users"])
        for what in ("steps", "examples", "users", "scored"):
            assert mine[what] == single[what]
        assert mine["computed"] == (single["computed"] or single["scored"])
        assert mine["hr"] == mine["hits"] / mine["users"]
        assert mine["ndcg"] == pytest.approx(single["ndcg"], abs=0.02)


@pytest.mark.parametrize("count", COUNTS)
def test_a_replica_without_users_ranks_nobody(found, count):
    if "few" not in found[count]:
        pytest.skip("the reference engine's replicas share padded groups of all users")
    few, everybody = found[count]["few"], found["1"]["epochs"][-1]
    assert few["users"] == FEW and few["hr"] == few["hits"] / FEW
    assert 0 < few["computed"] < everybody["computed"]


@pytest.mark.parametrize("count", COUNTS)
def test_scores_that_are_no_numbers_are_noticed_on_every_replica(found, count):
    assert found[count]["nan"] == "NonFiniteLoss"
