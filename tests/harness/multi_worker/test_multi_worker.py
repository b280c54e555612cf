"""Sets of runs on two workers: real processes on the loopback interface."""

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
from harness.multi_worker.coordination import rendezvous
from reference_model.data.prepare import prepare_split
from tests.support.runs import worker_runs
from tests.support.runs.faults import count_run_stops, find_trial, is_running, wait_until
from tests.support.runs.harness_runs import (
    ROOT,
    attempts,
    command,
    environment,
    harness,
    result_log,
    results,
)
from tests.support.runs.worker_runs import Worker

# A run that never ends by itself.
ENDLESS = ("--num_runs=2", "--target=1.0", "--max_epochs=1000000")
# The most seconds between the death of one worker and the end of all processes.
EXIT_LIMIT_S = 60.0
SHORT_SET = ("--num_runs=2", "--target=0.14", "--seed=3")


def records(log: Path) -> list[dict]:
    return [json.loads(line.removeprefix(":::MLLOG ")) for line in log.open()]


@pytest.fixture(scope="module")
def finished_set(tmp_path_factory):
    """Two runs on two workers: (the folder, the finished chief, the finished worker 1)."""
    folder = tmp_path_factory.mktemp("finished_set")
    return folder, *worker_runs.run(folder, *SHORT_SET)


class TestTwoRunsOnTwoWorkers:
    def test_the_chief_prints_the_verdict_and_the_worker_refers_to_it(self, finished_set):
        _, chief, worker = finished_set
        assert chief.returncode == 0, chief.stdout + chief.stderr
        assert worker.returncode == 0, worker.stdout + worker.stderr
        assert chief.verdict.startswith("PASS: valid, unscored: 2 of 3 runs")
        assert worker.verdict.startswith("done: worker 1 of 2 took part in 2 runs; the chief")

    def test_only_the_chief_writes_results(self, finished_set):
        folder = finished_set[0]
        assert results(folder / "worker0") == ["result_0.txt", "result_1.txt"]
        assert [path.name for path in (folder / "worker1").iterdir()] == ["data"]

    def test_the_log_says_how_many_workers_trained(self, finished_set):
        log = result_log(finished_set[0] / "worker0")
        (device,) = (r for r in records(log) if r["key"] == "device")
        logged = device["metadata"]
        assert (logged["strategy"], logged["workers"], logged["num_devices"]) == (
            "multi_worker_mirrored", 2, 2)
        assert checker.check_paths([log]).verdict == "pass"

    def test_each_run_has_its_own_seed_and_its_own_rendezvous(self, finished_set):
        logs = [result_log(finished_set[0] / "worker0", k) for k in (0, 1)]
        assert len({read_outcome(log).seed for log in logs}) == 2
        assert finished_set[2].stdout.count(": seed ") == 2

    @pytest.mark.slow
    def test_the_hit_rate_equals_that_of_one_device(self, finished_set, tmp_path):
        folder = finished_set[0]
        alone = harness(tmp_path, *SHORT_SET, "--num_runs=1", "--strategy=one_device")
        assert alone.returncode == 0, alone.stdout + alone.stderr
        several, one = (
            [r["value"] for r in records(result_log(root))
             if r["key"] == "eval_accuracy"] for root in (folder / "worker0", tmp_path)
        )  # fmt: skip
        assert several[0] == pytest.approx(one[0], abs=max(2 / 200, 0.001))


class TestWorkersThatCannotTrainTogether:
    @pytest.mark.slow
    def test_a_different_flag_is_named_on_both_workers(self, tmp_path):
        workers = worker_runs.addresses()
        started = [
            Worker(tmp_path, workers, k, *SHORT_SET, f"--learning_rate={rate}")
            for k, rate in enumerate((0.005, 0.006))
        ]
        for done in [worker.wait() for worker in started]:
            assert done.returncode == 1, done.stdout + done.stderr
            (line,) = done.stderr.splitlines()
            assert "differ in the setting learning_rate" in line and workers[1] in line
        assert results(tmp_path / "worker0") == []

    @pytest.mark.slow
    def test_a_batch_size_that_two_workers_cannot_share_ends_both(self, tmp_path):
        for done in worker_runs.run(tmp_path, *SHORT_SET, "--batch_size=2047"):
            assert done.returncode == 1
            assert "the number of replicas (2); use 2046 or 2048" in done.stderr

    @pytest.mark.slow
    @pytest.mark.parametrize("index", [0, 1])
    def test_a_worker_alone_names_the_missing_one(self, tmp_path, index):
        workers = worker_runs.addresses()
        done = Worker(tmp_path, workers, index, *SHORT_SET, NEUMF_WORKER_SECONDS="8").wait()
        assert done.returncode == 1, done.stdout + done.stderr
        (line,) = done.stderr.splitlines()
        assert "within 8 s" in line and workers[1 - index] in line
        assert "NEUMF_WORKER_SECONDS" in line
        assert results(tmp_path / "worker0") == []


def start_and_wait_for_an_epoch(folder: Path) -> list[Worker]:
    """Starts two workers; returns them after the first evaluation of their first run."""
    workers = worker_runs.start(folder, *ENDLESS)
    logs = attempts(workers[0].folder)
    wait_until(
        lambda: any('"eval_accuracy"' in p.read_text() for p in logs.glob("run_*.txt")),
        worker_runs.PATIENCE,
    )
    return workers


def process_id(worker: Worker, which: str) -> int:
    """Returns the process id of a worker's "parent" or "trial"."""
    return worker.process.pid if which == "parent" else find_trial(worker.process.pid)


# (Worker, its process, signal, exit codes of chief and worker 1, reason in the log.)
SIGNALS = [
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
@pytest.mark.parametrize("target, which, number, codes, reason", SIGNALS)
def test_when_a_worker_dies_all_end_in_time(tmp_path, target, which, number, codes, reason):
    both = start_and_wait_for_an_epoch(tmp_path)
    trials = [find_trial(worker.process.pid) for worker in both]
    pid = process_id(both[target], which)
    os.kill(pid, number)
    try:
        for worker, code in zip(both, codes):
            if code is not None:
                done = worker.wait(EXIT_LIMIT_S)
                assert done.returncode == code, done.stdout + done.stderr
                assert "Traceback" not in done.stdout + done.stderr
    finally:
        if number == signal.SIGSTOP:
            os.kill(pid, signal.SIGKILL)
            both[target].wait()
    wait_until(lambda: not any(map(is_running, trials)))
    (log,) = attempts(both[0].folder).glob("run_*.txt")
    if reason is not None:
        assert read_outcome(log).reason == reason
    assert count_run_stops(log) == 1 and results(both[0].folder) == []
    assert not both[1].results.exists()


@pytest.mark.slow
def test_a_set_that_lost_a_worker_between_runs_is_completed_by_resume(tmp_path):
    """The chief cannot begin the next run alone; finished runs stay unchanged."""
    both = worker_runs.start(tmp_path, *SHORT_SET)
    first = both[0].results / "sys/ncf-tiny/result_0.txt"
    wait_until(first.exists, worker_runs.PATIENCE)
    both[1].process.kill()
    before = first.read_bytes()
    done = both[0].wait(EXIT_LIMIT_S + 30)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "FAIL: worker_lost; 1 of 2 runs complete" in done.verdict
    (log,) = attempts(both[0].folder).glob("run_*.txt")
    assert read_outcome(log).reason == "worker_lost" and count_run_stops(log) == 1
    chief, worker = worker_runs.run(tmp_path, *SHORT_SET, "--resume")
    assert (chief.returncode, worker.returncode) == (0, 0), chief.stdout + worker.stdout
    assert first.read_bytes() == before
    assert results(both[0].folder) == ["result_0.txt", "result_1.txt"]


@pytest.mark.slow
def test_a_worker_whose_tensorflow_never_connects_does_not_hold_the_chief(tmp_path):
    """TensorFlow waits for it without a limit and blocks all other threads."""
    chief_folder = tmp_path / "worker0"
    assert harness(chief_folder, *SHORT_SET, "--prepare_only").returncode == 0
    names = tuple(worker_runs.addresses())
    given = dict(flag.lstrip("-").split("=", 1) for flag in command(chief_folder, *SHORT_SET)[3:])
    kinds = {"seed": int, "num_runs": int, "target": float}
    config = make_config({k: kinds.get(k, str)(v) for k, v in given.items()})
    header = prepare_split(dataset_spec(config.track), config.data_dir)
    chief = Worker(tmp_path, list(names), 0, *SHORT_SET)
    rendezvous(worker_spec(config, header, 0), Cluster(names, 1), lambda *_: None)
    done = chief.wait(worker_runs.PATIENCE)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "worker_lost: TensorFlow did not connect the workers within 35 s" in done.stdout
    (log,) = attempts(chief_folder).glob("run_*.txt")
    assert read_outcome(log).reason == "worker_lost" and count_run_stops(log) == 1


@pytest.mark.slow
def test_two_slurm_tasks_become_one_cluster(tmp_path):
    """Starts the tasks like scripts/slurm.sbatch, with the variables that srun sets."""
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
        words = ["bash", "-c", task, "worker", *command(folder, *SHORT_SET)[3:]]
        running.append(subprocess.Popen(
            words, cwd=ROOT, env=environment(**step), stdout=subprocess.PIPE, text=True,
            stderr=subprocess.STDOUT,
        ))  # fmt: skip
    said = [one.communicate(timeout=worker_runs.PATIENCE)[0] for one in running]
    assert [one.returncode for one in running] == [0, 0], said
    assert results(tmp_path / "worker0") == ["result_0.txt", "result_1.txt"]
