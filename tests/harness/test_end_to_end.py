"""The whole benchmark, from flags to verdict, with the reference engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compliance.logs.test_keys import check_log
from tests.support.runs.harness_runs import ROOT, environment, harness, result_log


def compliance(*words: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "compliance", *map(str, words)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )


def accuracies(log: Path) -> list[float]:
    records = [json.loads(line.removeprefix(":::MLLOG ")) for line in log.open()]
    return [r["value"] for r in records if r["key"] == "eval_accuracy"]


@pytest.fixture(scope="module")
def reproducible(tmp_path_factory):
    """Two sets of one run each with the same base seed: their folders."""
    folders = [tmp_path_factory.mktemp("seeded") for _ in range(2)]
    for folder in folders:
        done = harness(folder, "--seed=5", "--num_runs=1", "--target=1", "--max_epochs=3")
        assert done.returncode == 2, done.stdout + done.stderr
        assert "open division: --track is a file of your own; --seed" in done.stdout
    return folders


@pytest.mark.slow  # test_audit.py always runs one seed twice
def test_equal_seeds_give_equal_figures_to_the_last_digit(reproducible):
    first, second = (result_log(f) for f in reproducible)
    assert len(accuracies(first)) == 3
    assert accuracies(first) == accuracies(second)


@pytest.fixture(scope="module")
def real_run(tmp_path_factory, ml_100k_file):
    """One closed run on MovieLens 100K: (its folder, the finished process)."""
    folder = tmp_path_factory.mktemp("real")
    data_dir = next(p for p in ml_100k_file.parents if (p / "ml-100k") in ml_100k_file.parents)
    done = subprocess.run(
        [
            sys.executable, "-m", "harness", "--track=ml-100k", "--num_runs=1",
            f"--data_dir={data_dir}", f"--results_dir={folder / 'results'}", "--system=sys",
        ],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )  # fmt: skip
    return folder, done


class TestRealData:
    def test_the_verdict_agrees_with_the_log(self, real_run):
        """About one run in 100 ends at the cap, and closed runs cannot choose a seed."""
        folder, done = real_run
        reached = accuracies(result_log(folder))[-1] >= 0.197
        verdict = (
            "PASS: valid, unscored: 1 of 5 runs; report: "
            if reached
            else "FAIL: 1 of 1 runs did not reach the target; report: "
        )
        assert done.stdout.splitlines()[-1].startswith(verdict), done.stdout + done.stderr
        assert done.returncode == (0 if reached else 2)

    def test_the_run_needs_more_than_one_epoch(self, real_run):
        assert len(accuracies(result_log(real_run[0]))) > 1

    def test_the_log_passes_the_check(self, real_run):
        done = compliance("check", result_log(real_run[0]).parent)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_the_log_has_only_known_keys(self, real_run):
        check_log(result_log(real_run[0]))

    def test_the_load_is_logged_before_and_after_the_timed_part(self, real_run):
        lines = [json.loads(line.removeprefix(":::MLLOG "))
                 for line in result_log(real_run[0]).open()]
        keys = [(r["key"], r["metadata"].get("when")) for r in lines]
        before, start, stop, after = (keys.index(key) for key in (
            ("machine_load", "before_run"), ("run_start", None), ("run_stop", None),
            ("machine_load", "after_run")))
        assert before < start < stop < after < keys.index(("epoch_variation", None))
        load = lines[after]["value"]
        assert load["cpus"] >= 1 and load["seconds"] > 0
        if Path("/proc/stat").is_file():
            assert load["other_cpus"] is None or load["other_cpus"] >= 0

    def test_the_system_description_is_written(self, real_run):
        described = json.loads((real_run[0] / "results/sys/system.json").read_text())
        assert described["system_name"] == "sys" and described["framework"] != "unknown"

    def test_a_changed_digit_fails_the_check_at_its_line(self, real_run, tmp_path):
        log = (result_log(real_run[0])).read_text()
        lines = log.splitlines(keepends=True)
        number = max(i for i, line in enumerate(lines) if '"eval_accuracy"' in line)
        value = re.search(r'"value": (\d\.\d+)', lines[number]).group(1)
        changed = value[:-1] + str((int(value[-1]) + 1) % 10)
        lines[number] = lines[number].replace(value, changed)
        (tmp_path / "result_0.txt").write_text("".join(lines))
        done = compliance("check", tmp_path, "--format", "json")
        assert done.returncode == 2
        (found,) = json.loads(done.stdout)["files"]
        assert number + 1 in [violation["line"] for violation in found["violations"]]
