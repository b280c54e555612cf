"""Waiting times of the user: for the checker's result and for the start of training.

Goals: `--help` 0.6 s, `check` of one log 1 s, a second `run_and_time.sh` 10 s until
`run_start` (`seconds_to_run_start`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from tests.benchmarks.measuring import file_version, measure
from tests.support.logs.log_builder import good_log, write_log
from tests.support.runs.harness_runs import ROOT, TRACK, harness


def _compliance(*args) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "compliance", *map(str, args)]
    subprocess.run(command, env=env, capture_output=True, check=True, timeout=60)


def test_help_of_the_checker(benchmark):
    measure(benchmark, lambda: _compliance("--help"), group="start-up", version="--help", rounds=7)


def test_check_of_one_log(benchmark, tmp_path):
    path = write_log(tmp_path / "a.txt", good_log(epochs=20))
    measure(benchmark, lambda: _compliance("check", path), group="start-up", rounds=7,
            version=file_version(path))  # fmt: skip


def test_start_of_training(benchmark, tmp_path):
    """A complete small run; also records the time from the script's start to run_start."""
    harness(tmp_path, "--prepare_only")
    seconds = []

    def run():
        folder = tmp_path / f"results{len(seconds)}"
        begun = time.time()
        subprocess.run(
            [
                ROOT / "run_and_time.sh",
                f"--track={TRACK}",
                f"--data_dir={tmp_path / 'data'}",
                f"--results_dir={folder}",
                "--system=sys",
                "--num_runs=1",
            ],
            env={**os.environ, "NEUMF_PYTHON": sys.executable},
            capture_output=True,
            check=True,
        )
        (log,) = folder.rglob("result_0.txt")
        for line in log.open():
            record = json.loads(line.removeprefix(":::MLLOG "))
            if record["key"] == "run_start":
                seconds.append(record["time_ms"] / 1000 - begun)

    measure(benchmark, run, group="start-up", version=file_version(TRACK), rounds=2, warmup=0)
    benchmark.extra_info["seconds_to_run_start"] = sorted(seconds)[len(seconds) // 2]
