"""Sets of runs: the ends of trials, the places of their logs, and --resume."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from compliance.checking import checker
from harness.base.seeds import choose_trial_seed
from tests.support.paths import ROOT
from tests.support.runs.harness_runs import (
    TOY,
    attempts,
    command,
    environment,
    experiments,
    harness,
    results,
    set_folder,
)


def last_line(done: subprocess.CompletedProcess) -> str:
    return done.stdout.rstrip().splitlines()[-1]


def ledger(folder: Path) -> list[dict]:
    lines = (attempts(folder) / "ledger.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def logs_of_attempts(folder: Path) -> list[Path]:
    return sorted(attempts(folder).glob("run_*.txt"))


def stop_record(log: Path) -> dict:
    """Returns the metadata of the only run_stop; only load and digests may follow it."""
    records = [json.loads(line.removeprefix(":::MLLOG ")) for line in log.open()]
    keys = [r["key"] for r in records]
    assert keys.count("run_stop") == 1
    stop = keys.index("run_stop")
    assert set(keys[stop + 1:]) <= {"machine_load", "epoch_variation", "data_digests", "checkpoint"}
    return records[stop]["metadata"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A set of three converged runs, and the output of the harness."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, harness(folder, TOY, "--target=0.1")


class TestAFinishedSet:
    def test_passes_and_prints_the_verdict_last(self, finished):
        folder, done = finished
        assert done.returncode == 0, done.stdout + done.stderr
        assert last_line(done).startswith("PASS: ")
        report = last_line(done).rpartition("report: ")[2]
        assert Path(report) == set_folder(folder) / "report.txt"
        assert Path(report).is_file()

    def test_its_folder_holds_its_logs_and_all_that_belongs_to_them(self, finished):
        folder = set_folder(finished[0])
        assert results(finished[0]) == ["result_0.txt", "result_1.txt", "result_2.txt"]
        assert {path.name for path in folder.iterdir()} == {
            *results(finished[0]), "attempts", "logs", "report.json", "report.txt", "system.json"}
        assert not (finished[0] / "results/sys/ncf-tiny").exists()

    def test_leaves_no_attempt(self, finished):
        assert logs_of_attempts(finished[0]) == []

    def test_seeds_are_unique(self, finished):
        checked = checker.check_paths([set_folder(finished[0])])
        assert len({f.summary.seed for f in checked.files}) == 3
        assert checked.verdict == "pass"

    def test_console_output_of_each_trial_is_kept(self, finished):
        logs = set_folder(finished[0]) / "logs"
        assert len(list(logs.glob("ncf-tiny_result_*.log"))) == 3

    def test_the_ledger_has_the_start_and_end_of_each_attempt(self, finished):
        events = [(entry["event"], entry.get("run")) for entry in ledger(finished[0])]
        runs = [(event, run) for run in range(3) for event in ("start", "end")]
        assert events == [("launcher", None), *runs]

    def test_the_summary_is_json(self, finished):
        path = set_folder(finished[0]) / "report.json"
        summary = json.loads(path.read_text())
        assert summary["passed"] is True and len(summary["check"]["files"]) == 3
        path = summary["score"]["per_run"][0]["path"]
        assert (finished[0] / "results" / "sys" / path).is_file()

    def test_only_the_console_output_names_a_folder_of_the_machine(self, finished):
        root = finished[0] / "results" / "sys"
        texts = {p: p.read_text() for p in root.rglob("*") if p.is_file() and "logs" not in p.parts}
        assert len(texts) > 5
        assert [str(path) for path, text in texts.items() if str(finished[0]) in text] == []

    def test_a_pipe_gets_one_line_of_at_most_80_columns_per_epoch(self, finished):
        lines = [x for x in finished[1].stdout.splitlines() if "HR@10 0." in x and " ep " in x]
        assert len(lines) == 3
        assert all(len(line) <= 80 and "\r" not in line for line in lines)

    def test_a_pipe_gets_no_colour(self, finished):
        assert "\x1b" not in finished[1].stdout


def test_an_experiment_leaves_the_others_as_they_are(tmp_path):
    harness(tmp_path, TOY, "--target=0.1", "--num_runs=1")
    before = (set_folder(tmp_path) / "result_0.txt").read_bytes()
    done = harness(tmp_path, TOY, "--target=0.1", "--num_runs=1", "--quiet", "--name=again")
    assert done.returncode == 0
    first, second = experiments(tmp_path)
    assert (first / "result_0.txt").read_bytes() == before
    assert second.name.endswith("-again") and (second / "result_0.txt").is_file()
    assert "valid, unscored: 1 of 3 runs" in last_line(done)


@pytest.mark.parametrize("name", ["", "../x", ".x", "a b", "x" * 65])
def test_a_name_that_can_be_no_folders_is_refused(tmp_path, name):
    done = harness(tmp_path, TOY, f"--name={name}")
    assert done.returncode == 1 and "--name=" in done.stderr
    assert not (tmp_path / "results").exists()


def test_runs_that_do_not_converge_are_results_and_fail(tmp_path):
    done = harness(tmp_path, TOY, "--target=0.9", "--num_runs=2", "--max_epochs=2")
    assert done.returncode == 2
    assert last_line(done).startswith("FAIL: 2 of 2 runs")
    assert results(tmp_path) == ["result_0.txt", "result_1.txt"]
    assert stop_record(set_folder(tmp_path) / "result_0.txt")["reason"] == "epoch_cap"


def test_a_nan_loss_is_a_result_that_did_not_converge(tmp_path):
    done = harness(tmp_path, TOY, "--target=0.9", "--num_runs=1", TOY_MODE="nan")
    assert done.returncode == 2
    stop = stop_record(set_folder(tmp_path) / "result_0.txt")
    assert (stop["status"], stop["reason"], stop["epoch_num"]) == ("aborted", "nan_loss", 1)


@pytest.mark.parametrize("mode", ["exception", "stalled", "killed"])
def test_a_broken_trial_ends_the_set_and_stays_an_attempt(tmp_path, mode):
    done = harness(tmp_path, TOY, "--target=0.9", TOY_MODE=mode)
    assert done.returncode == 2, done.stdout + done.stderr
    assert last_line(done).startswith(f"FAIL: {mode}; 0 of 3 runs")
    assert results(tmp_path) == []
    (log,) = logs_of_attempts(tmp_path)
    stop = stop_record(log)
    assert (stop["status"], stop["reason"]) == ("aborted", mode)
    assert ledger(tmp_path)[-1]["reason"] == mode
    assert "Traceback" not in done.stdout + done.stderr


def test_a_run_whose_figures_contradict_each_other_is_no_result(tmp_path):
    done = harness(tmp_path, TOY, "--target=0.9", TOY_MODE="liar")
    assert done.returncode == 2
    assert "HR 0.99 is not" in done.stdout
    assert results(tmp_path) == []


@pytest.mark.parametrize("mode", ["hang", "hang in prepare"])
def test_a_run_that_hangs_ends_as_stalled(tmp_path, mode):
    done = harness(tmp_path, TOY, "--target=0.9", TOY_MODE=mode, NEUMF_STALL_SECONDS="5")
    assert done.returncode == 2
    assert stop_record(logs_of_attempts(tmp_path)[0])["reason"] == "stalled"


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A set stopped by SIGINT in the second epoch of its second run."""
    folder = tmp_path_factory.mktemp("interrupted")
    harness(folder, TOY, "--target=0.3", "--num_runs=1")
    set_file = attempts(folder) / "set.json"
    set_file.write_text(set_file.read_text().replace('"num_runs": 1', '"num_runs": 3'))
    child = subprocess.Popen(
        command(folder, TOY, "--target=0.3", "--resume"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment(TOY_MODE="hang"),
    )
    lines = []
    for line in child.stdout:
        lines.append(line)
        if "ep 1 " in line:
            child.send_signal(signal.SIGINT)
    child.wait(timeout=60)
    return folder, child.returncode, "".join(lines)


class TestInterruption:
    def test_ends_with_code_3_and_names_resume(self, interrupted):
        _, code, text = interrupted
        assert code == 3
        assert "--resume" in text
        assert text.splitlines()[-1].startswith("INTERRUPTED: 1 of 3 runs complete")

    def test_keeps_the_log_as_an_aborted_attempt(self, interrupted):
        folder = interrupted[0]
        assert results(folder) == ["result_0.txt"]
        (log,) = logs_of_attempts(folder)
        stop = stop_record(log)
        assert (stop["status"], stop["reason"]) == ("aborted", "interrupted")

    def test_a_set_with_other_settings_cannot_be_resumed(self, interrupted):
        done = harness(interrupted[0], TOY, "--target=0.4", "--resume")
        assert done.returncode == 1
        assert "target" in done.stderr

    def test_resume_completes_the_set(self, interrupted):
        folder = interrupted[0]
        before = (set_folder(folder) / "result_0.txt").read_bytes()
        done = harness(folder, TOY, "--target=0.3", "--resume")
        assert done.returncode == 0, done.stdout + done.stderr
        assert results(folder) == ["result_0.txt", "result_1.txt", "result_2.txt"]
        assert (set_folder(folder) / "result_0.txt").read_bytes() == before
        assert len(experiments(folder)) == 1

    def test_resume_begins_a_set_where_there_is_none_and_repeats_a_finished_ones_verdict(
            self, tmp_path):
        for _ in range(2):
            done = harness(tmp_path, TOY, "--target=0.3", "--num_runs=1", "--resume")
            assert done.returncode == 0 and "valid, unscored: 1 of 3" in last_line(done)
        assert len(experiments(tmp_path)) == 1
        harness(tmp_path, TOY, "--target=0.2", "--num_runs=1", "--resume")
        assert len(experiments(tmp_path)) == 2


def test_a_second_harness_on_the_same_results_is_refused(tmp_path):
    child = subprocess.Popen(
        command(tmp_path, TOY, "--target=0.9"),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(TOY_MODE="hang"),
    )
    try:
        next(line for line in child.stdout if "ep 1 " in line)
        done = harness(tmp_path, TOY, "--target=0.9")
        assert done.returncode == 1
        assert "another harness" in done.stderr
    finally:
        child.terminate()
        child.communicate(timeout=60)
    assert child.returncode == 3


def test_prepare_only_trains_nothing(tmp_path):
    done = harness(tmp_path, "--prepare_only")
    assert done.returncode == 0
    assert last_line(done).startswith("prepared tiny: 200 users")
    assert not (tmp_path / "results").exists()


class TestSeeds:
    def test_seeds_without_a_base_come_from_the_operating_system(self):
        seeds = {choose_trial_seed(None, 0, set()) for _ in range(20)}
        assert len(seeds) == 20 and all(0 < seed < 2**31 for seed in seeds)

    def test_seeds_with_a_base_are_reproducible(self):
        assert choose_trial_seed(7, 3, set()) == choose_trial_seed(7, 3, set()) != choose_trial_seed(7, 4, set())

    def test_a_used_seed_is_not_used_again(self):
        first = choose_trial_seed(7, 3, set())
        assert choose_trial_seed(7, 3, {first}) != first


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--engine=no_such_module:Engine", "there is no module no_such_module"),
        ("--engine=tests.no_such_module:Engine", "importing tests.no_such_module failed"),
        ("--engine=tests.support.runs.toy_engine:NoSuchClass", "has no class NoSuchClass"),
        ("--engine=tests.support.runs.harness_runs:Path", "lacks prepare"),
        pytest.param("--device=gpu", "finds no GPU", marks=pytest.mark.slow),
    ],
)
def test_a_missing_engine_or_device_is_a_usage_error(tmp_path, flag, message):
    if flag == "--device=gpu":
        pytest.importorskip("tensorflow")
        if subprocess.run(["sh", "-c", "nvidia-smi -L"], capture_output=True).returncode == 0:
            pytest.skip("this machine has a GPU")
    done = harness(tmp_path, TOY, flag)
    assert done.returncode == 1, done.stdout
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_a_run_whose_parent_is_killed_ends_itself(tmp_path):
    if not Path("/proc/self").exists():
        pytest.skip("needs Linux")
    child = subprocess.Popen(
        command(tmp_path, TOY, "--target=0.9"),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(TOY_MODE="hang"),
    )
    next(line for line in child.stdout if "ep 1 " in line)
    child.kill()
    child.communicate(timeout=30)
    (log,) = logs_of_attempts(tmp_path)
    for _ in range(100):
        if "run_stop" in log.read_text():
            break
        time.sleep(0.1)
    assert stop_record(log)["reason"] == "interrupted"
