"""One set of runs on two workers: real processes on the loopback interface."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compliance.checking import checker
from harness.config.run_config import make_config
from harness.config.trial_spec import dataset_spec
from harness.devices.tf_config import Cluster
from harness.launcher.worker_launcher import worker_spec
from harness.logs.run_log import read_outcome
from harness.multi_worker.coordination import come_together
from reference_model.data.prepare import prepare
from tests.support.runs import worker_runs
from tests.support.runs.faults import ends_of, is_running, trial_of, wait_until
from tests.support.runs.harness_runs import ROOT, attempts, command, environment, harness, results
from tests.support.runs.worker_runs import Worker

# A run that ends only when it is ended.
ENDLESS = ("--num_runs=2", "--target=1.0", "--max_epochs=1000000")
# What the issue allows between the death of one worker and the end of all.
BOUND = 60.0
SET = ("--num_runs=2", "--target=0.14", "--seed=3")


def records(log: Path) -> list[dict]:
    return [json.loads(line.removeprefix(":::MLLOG ")) for line in log.open()]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Two runs on two workers: (the folder, how the chief ended, how worker 1 did)."""
    folder = tmp_path_factory.mktemp("both")
    return folder, *worker_runs.run(folder, *SET)


class TestTwoRunsOnTwoWorkers:
    def test_the_chief_judges_and_the_worker_says_who_has_the_verdict(self, both):
        _, chief, worker = both
        assert chief.returncode == 0, chief.stdout + chief.stderr
        assert worker.returncode == 0, worker.stdout + worker.stderr
        assert chief.verdict.startswith("PASS: valid, unscored: 2 of 3 runs")
        assert worker.verdict.startswith("done: worker 1 of 2 took part in 2 runs; the chief")

    def test_only_the_chief_writes(self, both):
        folder = both[0]
        assert results(folder / "worker0") == ["result_0.txt", "result_1.txt"]
        assert [path.name for path in (folder / "worker1").iterdir()] == ["data"]

    def test_the_log_says_how_many_trained(self, both):
        log = both[0] / "worker0/results/sys/ncf-tiny/result_0.txt"
        (device,) = (r for r in records(log) if r["key"] == "device")
        said = device["metadata"]
        assert (said["strategy"], said["workers"], said["num_devices"]) == (
            "multi_worker_mirrored", 2, 2)
        assert checker.check_paths([log]).verdict == "pass"

    def test_each_run_has_its_own_seed_and_a_beginning_of_its_own(self, both):
        logs = [both[0] / f"worker0/results/sys/ncf-tiny/result_{k}.txt" for k in (0, 1)]
        assert len({read_outcome(log).seed for log in logs}) == 2
        assert both[2].stdout.count(": seed ") == 2

    @pytest.mark.slow
    def test_the_hit_rate_is_that_of_one_device(self, both, tmp_path):
        folder = both[0]
        alone = harness(tmp_path, *SET, "--num_runs=1", "--strategy=one_device")
        assert alone.returncode == 0, alone.stdout + alone.stderr
        several, one = (
            [r["value"] for r in records(root / "results/sys/ncf-tiny/result_0.txt")
             if r["key"] == "eval_accuracy"] for root in (folder / "worker0", tmp_path)
        )  # fmt: skip
        assert several[0] == pytest.approx(one[0], abs=max(2 / 200, 0.001))


class TestWorkersThatCannotBeOneCluster:
    @pytest.mark.slow
    def test_a_flag_that_differs_is_named_on_both(self, tmp_path):
        workers = worker_runs.addresses()
        started = [
            Worker(tmp_path, workers, k, *SET, f"--learning_rate={rate}")
            for k, rate in enumerate((0.005, 0.006))
        ]
        for done in [worker.wait() for worker in started]:
            assert done.returncode == 1, done.stdout + done.stderr
            (line,) = done.stderr.splitlines()
            assert "differ in the setting learning_rate" in line and workers[1] in line
        assert results(tmp_path / "worker0") == []

    @pytest.mark.slow
    def test_a_batch_that_they_cannot_share_ends_both(self, tmp_path):
        for done in worker_runs.run(tmp_path, *SET, "--batch_size=2047"):
            assert done.returncode == 1
            assert "2 replicas cannot divide it evenly; use 2046 or 2048" in done.stderr

    @pytest.mark.slow
    @pytest.mark.parametrize("index", [0, 1])
    def test_one_that_nobody_joins_says_who_is_missing(self, tmp_path, index):
        workers = worker_runs.addresses()
        done = Worker(tmp_path, workers, index, *SET, NEUMF_WORKER_SECONDS="8").wait()
        assert done.returncode == 1, done.stdout + done.stderr
        (line,) = done.stderr.splitlines()
        assert "within 8 s" in line and workers[1 - index] in line
        assert "NEUMF_WORKER_SECONDS" in line
        assert results(tmp_path / "worker0") == []


def under_way(folder: Path) -> list[Worker]:
    """Two workers whose first run has evaluated an epoch."""
    both = worker_runs.start(folder, *ENDLESS)
    logs = attempts(both[0].folder)
    wait_until(
        lambda: any('"eval_accuracy"' in p.read_text() for p in logs.glob("run_*.txt")),
        worker_runs.PATIENCE,
    )
    return both


def victim(worker: Worker, which: str) -> int:
    return worker.process.pid if which == "parent" else trial_of(worker.process.pid)


# (who is struck, with what, exit codes of chief and worker 1, the log's reason)
STRIKES = [
    (1, "trial", signal.SIGKILL, (2, 2), "worker_lost"),
    (1, "trial", signal.SIGSTOP, (2, None), "worker_lost"),
    (1, "parent", signal.SIGKILL, (2, -9), "worker_lost"),
    (1, "parent", signal.SIGINT, (2, 3), "worker_lost"),
    (1, "parent", signal.SIGTERM, (2, 3), "worker_lost"),
    (0, "trial", signal.SIGKILL, (2, 2), "killed"),
    (0, "trial", signal.SIGSTOP, (None, 2), None),
    (0, "parent", signal.SIGKILL, (-9, 2), "interrupted"),
    (0, "parent", signal.SIGINT, (3, 2), "interrupted"),
]


@pytest.mark.slow
@pytest.mark.parametrize("struck, which, number, codes, reason", STRIKES)
def test_when_a_worker_dies_all_end_in_time(tmp_path, struck, which, number, codes, reason):
    both = under_way(tmp_path)
    trials = [trial_of(worker.process.pid) for worker in both]
    pid = victim(both[struck], which)
    os.kill(pid, number)
    try:
        for worker, code in zip(both, codes):
            if code is not None:
                done = worker.wait(BOUND)
                assert done.returncode == code, done.stdout + done.stderr
                assert "Traceback" not in done.stdout + done.stderr
    finally:
        if number == signal.SIGSTOP:
            os.kill(pid, signal.SIGKILL)
            both[struck].wait()
    wait_until(lambda: not any(map(is_running, trials)))
    (log,) = attempts(both[0].folder).glob("run_*.txt")
    if reason is not None:
        assert read_outcome(log).reason == reason
    assert ends_of(log) == 1 and results(both[0].folder) == []
    assert not both[1].results.exists()


@pytest.mark.slow
def test_a_set_that_lost_a_worker_between_two_runs_goes_on_with_resume(tmp_path):
    """The chief alone cannot begin the next run, and what is finished stays."""
    both = worker_runs.start(tmp_path, *SET)
    first = both[0].results / "sys/ncf-tiny/result_0.txt"
    wait_until(first.exists, worker_runs.PATIENCE)
    both[1].process.kill()
    before = first.read_bytes()
    done = both[0].wait(BOUND + 30)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "FAIL: worker_lost; 1 of 2 runs are complete" in done.verdict
    (log,) = attempts(both[0].folder).glob("run_*.txt")
    assert read_outcome(log).reason == "worker_lost" and ends_of(log) == 1
    chief, worker = worker_runs.run(tmp_path, *SET, "--resume")
    assert (chief.returncode, worker.returncode) == (0, 0), chief.stdout + worker.stdout
    assert first.read_bytes() == before
    assert results(both[0].folder) == ["result_0.txt", "result_1.txt"]


@pytest.mark.slow
def test_a_worker_that_comes_but_never_connects_does_not_hold_the_chief(tmp_path):
    """TensorFlow waits for it without an end, and lets no other thread run meanwhile."""
    chief_folder = tmp_path / "worker0"
    assert harness(chief_folder, *SET, "--prepare_only").returncode == 0
    names = tuple(worker_runs.addresses())
    given = dict(flag.lstrip("-").split("=", 1) for flag in command(chief_folder, *SET)[3:])
    kinds = {"seed": int, "num_runs": int, "target": float}
    config = make_config({k: kinds.get(k, str)(v) for k, v in given.items()})
    header = prepare(dataset_spec(config.track), config.data_dir)
    chief = Worker(tmp_path, list(names), 0, *SET)
    come_together(worker_spec(config, header, 0), Cluster(names, 1), lambda *_: None)
    done = chief.wait(worker_runs.PATIENCE)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "worker_lost: TensorFlow did not connect the workers within 35 s" in done.stdout
    (log,) = attempts(chief_folder).glob("run_*.txt")
    assert read_outcome(log).reason == "worker_lost" and ends_of(log) == 1


@pytest.mark.slow
def test_slurms_variables_make_two_tasks_one_cluster(tmp_path):
    """As scripts/slurm.sbatch starts them, with the variables that srun gives to its tasks."""
    port = worker_runs.addresses(1)[0].rpartition(":")[2]
    script = (ROOT / "scripts" / "slurm.sbatch").read_text()
    task = script.partition("bash -c '")[2].partition("' worker")[0]
    running = []
    for index in range(2):
        folder = tmp_path / f"worker{index}"
        step = {
            "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_TASKS_PER_NODE": "2",
            "SLURM_PROCID": str(index), "SLURM_NODEID": "0", "SLURM_JOB_ID": "1",
            "NEUMF_PORT": port, "NEUMF_PYTHON": sys.executable,
        }  # fmt: skip
        words = ["bash", "-c", task, "worker", *command(folder, *SET)[3:]]
        running.append(subprocess.Popen(
            words, cwd=ROOT, env=environment(**step), stdout=subprocess.PIPE, text=True,
            stderr=subprocess.STDOUT,
        ))  # fmt: skip
    said = [one.communicate(timeout=worker_runs.PATIENCE)[0] for one in running]
    assert [one.returncode for one in running] == [0, 0], said
    assert results(tmp_path / "worker0") == ["result_0.txt", "result_1.txt"]
