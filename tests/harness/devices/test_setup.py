"""The choice of devices from flags and machine, and its record in the log."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from compliance.checking.checker import check_paths
from harness.devices.setup import Device, DeviceError, check_batch_size
from tests.support.runs.harness_runs import ROOT, TOY, environment, harness, result_log, results

pytest.importorskip("tensorflow")


def record(folder, key: str) -> dict:
    """Returns the first record of a key in the first result."""
    log = result_log(folder)
    lines = (json.loads(line.partition(" ")[2]) for line in log.read_text().splitlines())
    return next(line for line in lines if line["key"] == key)


class TestBatches:
    @pytest.mark.parametrize("size, replicas", [(1, 1), (98304, 8), (6, 3)])
    def test_a_batch_of_equal_parts_is_accepted(self, size, replicas):
        check_batch_size(size, replicas)

    @pytest.mark.parametrize(
        "size, replicas, near", [(10, 4, "8 or 12"), (3, 8, "use 8"), (2049, 2, "2048 or 2050")]
    )
    def test_uneven_parts_are_refused_with_the_nearest_sizes(self, size, replicas, near):
        with pytest.raises(DeviceError, match=near):
            check_batch_size(size, replicas)


def test_a_device_describes_type_name_count_and_strategy():
    alone = Device("cpu", "EPYC", 1)
    assert alone.describe() == "cpu (EPYC), strategy one_device"
    many = Device("gpu", "H200", 16, "multi_worker_mirrored", None, 2)
    assert many.describe() == "16 x gpu (H200) on 2 workers, strategy multi_worker_mirrored"


def test_threads_are_part_of_a_cpus_identity_only():
    assert Device("cpu", "EPYC", 1, threads=3).identity == ["cpu", "EPYC", 3, 1]
    assert Device("gpu", "H200", 1, threads=3).identity == ["gpu", "H200", None, 1]


@pytest.fixture(scope="module")
def two_replicas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    done = harness(folder, "--num_devices=2", "--num_runs=1", "--seed=3")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_a_run_on_two_logical_cpus_passes_the_check(two_replicas):
    folder, said = two_replicas
    assert results(folder) == ["result_0.txt"]
    assert check_paths([result_log(folder).parent], "auto").as_json()["verdict"] == "pass"
    assert "trains on 2 x cpu" in said and "strategy mirrored" in said


def test_the_log_names_strategy_and_replicas(two_replicas):
    meta = record(two_replicas[0], "device")["metadata"]
    assert (meta["num_devices"], meta["strategy"], meta["workers"]) == (2, "mirrored", 1)


@pytest.mark.slow
def test_two_replicas_reach_the_hit_rate_of_one_device(two_replicas, tmp_path):
    flags = ["--num_runs=1", "--seed=3", "--strategy=one_device", "--intra_op_threads=1"]
    done = harness(tmp_path, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    folders = (two_replicas[0], tmp_path)
    found = [record(folder, "eval_stop")["metadata"]["hits"] for folder in folders]
    assert abs(found[0] - found[1]) <= 2  # of 200 users
    digests = [record(folder, "data_digests")["value"] for folder in folders]
    assert digests[0] == digests[1]
    assert record(tmp_path, "device")["metadata"]["threads"] == 1


@pytest.mark.slow
def test_a_run_on_two_replicas_can_be_audited_on_one_device(two_replicas):
    """The drawn data is bit-identical; figures agree within rounding."""
    log = result_log(two_replicas[0])
    track = f"--track={ROOT / 'tests' / 'data' / 'tiny-track.yaml'}"
    done = subprocess.run(
        [sys.executable, "-m", "harness", f"--audit={log}", "--replay", track,
         f"--data_dir={two_replicas[0] / 'data'}"],
        capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CONFIRMED" in done.stdout.splitlines()[-1].upper()


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--num_devices=3"], "2046 or 2049"),
        (["--precision=tf32"], "--precision=tf32"),
        pytest.param(["--device=abacus"], "it lists cpu", marks=pytest.mark.slow),
        pytest.param(
            ["--strategy=multi_worker_mirrored"], "TF_CONFIG", marks=pytest.mark.slow
        ),
        pytest.param([TOY, "--num_devices=2"], "takes no strategy=", marks=pytest.mark.slow),
    ],
)
def test_an_impossible_device_is_one_line_and_leaves_no_files(tmp_path, flags, said):
    done = harness(tmp_path, "--num_runs=1", *flags)
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1 and said in done.stderr
    assert results(tmp_path) == []
