"""Provenance and digests in a log."""

from __future__ import annotations

import json
import re
import subprocess

import numpy as np
import pytest

from harness.logs import data_digests, provenance
from reference_model.sampling.epoch_batches import EpochBatches
from reference_model.sampling.evaluation_lists import EvaluationLists
from tests.support.runs.harness_runs import ROOT, TOY, harness, result_log


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The records of one toy run, by key."""
    folder = tmp_path_factory.mktemp("run")
    assert harness(folder, TOY, "--target=0.2", "--num_runs=1").returncode == 0
    log = result_log(folder)
    found = [json.loads(line.removeprefix(":::MLLOG ")) for line in log.open()]
    return log, {r["key"]: r for r in found}, [r["key"] for r in found]


def test_provenance_precedes_the_clock_and_digests_follow_it(records):
    keys = records[2]
    before, after = keys[: keys.index("init_start")], keys[keys.index("run_stop") + 1 :]
    assert {"source", "versions", "configuration", "clock_source", "attempt", "seed"} <= set(before)
    assert after == ["machine_load", "epoch_variation", "data_digests"]


def test_the_configuration_is_complete_and_has_no_path(records):
    value = records[1]["configuration"]["value"]
    assert value["batch_size"] == 2048 and value["target"] == 0.2 and len(value) > 20
    assert not re.search(r'"/', json.dumps(value))


def test_both_clocks_are_named_and_agree(records):
    said = records[1]["clock_source"]
    assert "MONOTONIC" in said["metadata"]["durations"]
    for key in ("run_start", "run_stop"):
        record = records[1][key]
        assert abs(record["metadata"]["wall_time_ms"] - record["time_ms"]) < 1000


def test_the_official_checker_accepts_the_log(records):
    from tests.compliance.checking.test_official_checker import official_passes

    text = records[0].read_text().replace('"tests.support.runs.toy_engine:ToyEngine"', '"reference"')
    log = records[0].with_name("official.txt")
    log.write_text(text)
    assert official_passes(log)


def test_the_source_digest_is_that_of_sha256sum(tmp_path):
    for name in ("harness/a.py", "harness/b.txt", "compliance/rules/c.yaml", "tests/d.py",
                 "harness/__pycache__/e.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    done = subprocess.run(
        "sha256sum compliance/rules/c.yaml harness/a.py | sha256sum",
        shell=True, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert provenance.source_digest(tmp_path) == done.stdout.split()[0]
    assert re.fullmatch("[0-9a-f]{64}", provenance.source_digest(ROOT))


def test_digests_are_of_little_endian_arrays_without_padding():
    user, item = np.arange(6, dtype=np.int16), np.arange(6, dtype=np.int64) + 10
    batches = EpochBatches(user.reshape(3, 2), item.reshape(3, 2), np.eye(3, 2) > 0, examples=5)
    import hashlib

    def of(count):
        label = (np.eye(3, 2) > 0).reshape(-1)[:count].astype(np.uint8)
        arrays = (user[:count].astype("<i4"), item[:count].astype("<i4"), label)
        return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()

    assert data_digests.digest_batches(batches) == {"first_batch": of(2), "first_epoch": of(5)}
    lists = EvaluationLists(np.arange(4).reshape(2, 2), np.eye(2) > 0)
    data = np.arange(4, dtype="<i4").tobytes() + bytes([1, 0, 0, 1])
    assert data_digests.digest_evaluation_lists(lists)["evaluation_lists"] == hashlib.sha256(data).hexdigest()
