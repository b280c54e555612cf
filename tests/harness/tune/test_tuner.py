"""The tuner as a user runs it: `python -m harness --tune`, with a toy engine."""

from __future__ import annotations

import importlib.util
import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from compliance.checking import checker
from harness.__main__ import main
from harness.base.exit_codes import INTERRUPTED
from harness.flags import parse_flags
from harness.tune.study import TuningFolder, timing_lock
from tests.support.html_reader import parse_page
from tests.support.paths import ROOT
from tests.support.runs.faults import fault_seed
from tests.support.runs.harness_runs import command, environment, harness

ENGINE = "--engine=tests.support.runs.tunable_engine:TunableEngine"
# One number of threads, since TensorFlow sets threads; one engine has no precision to search.
TUNE = ("--tune", ENGINE, "--max_epochs=12", "--num_runs=4", "--precision=float32",
        "--optimizer=adam")  # fmt: skip


def tunings(folder: Path) -> list[Path]:
    return sorted((folder / "results/sys/experiments/ncf-tiny").glob("*-tune*"))


def trials(folder: Path) -> list:
    (path,) = tunings(folder)
    return TuningFolder(path, json.loads((path / "tune.json").read_text())).records()


def run_tuner(folder: Path, *flags: str, **extra: str) -> subprocess.CompletedProcess:
    return harness(folder, *TUNE, *flags, XDG_CACHE_HOME=str(folder / "cache"), **extra)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A tuning that was confirmed: its folder and the output of the harness."""
    folder = tmp_path_factory.mktemp("tuned")
    return folder, run_tuner(folder, "--minutes=5", "--max_trials=36")


@pytest.mark.slow
class TestATuning:
    def test_confirms_faster_settings(self, tuned):
        folder, done = tuned
        assert done.returncode == 0, done.stdout + done.stderr
        last = done.stdout.rstrip().splitlines()[-1]
        assert last.startswith("CONFIRMED: tuned settings take 0."), done.stdout
        assert Path(last.rpartition("report: ")[2]).is_file()

    def test_finds_the_known_learning_rate(self, tuned):
        (path,) = tunings(tuned[0])
        best = json.loads((path / "report.json").read_text())["best"]
        assert 0.01 < best["learning_rate"] < 0.04

    def test_its_confirmation_is_ordinary_logs_with_fresh_seeds(self, tuned):
        folder, _ = tuned
        (path,) = tunings(folder)
        checked = checker.check_paths([path])
        assert checked.verdict == "pass" and len(checked.files) == 8
        used = {record.seed for record in trials(folder)}
        assert not used & {f.summary.seed for f in checked.files}

    def test_is_no_result(self, tuned):
        folder, _ = tuned
        system = folder / "results/sys"
        assert {p.name for p in system.iterdir()} <= {"attempts", "experiments", "system.json"}
        done = subprocess.run(command(folder)[:2] + ["compliance", "check", str(system)],
                              capture_output=True, text=True, cwd=ROOT, env=environment())
        assert done.returncode == 1 and "no " in done.stderr

    def test_its_flag_file_repeats_the_settings(self, tuned):
        (path,) = tunings(tuned[0])
        flags = parse_flags([f"--flagfile={path / 'tuned.flags'}"])
        best = json.loads((path / "report.json").read_text())["best"]
        assert flags["learning_rate"] == best["learning_rate"]
        assert flags["batch_size"] == best["batch_size"]
        assert flags["engine"] == ENGINE.partition("=")[2] and flags["max_epochs"] == 12

    def test_its_page_is_self_contained(self, tuned):
        (path,) = tunings(tuned[0])
        text = (path / "report.html").read_text()
        for heading in ("Race", "Confirmation", "Epochs against seconds per epoch",
                        "Time to the target by learning_rate", "Importance of the settings",
                        "Hit rate of every trial", "Every trial"):
            assert heading in text, heading
        page = parse_page(text)
        assert not [n for n in page.find_all() if n.attributes.get("src") or (
            n.attributes.get("href") or "#")[0] not in "#d"]

    def test_counts_only_runs_of_the_race(self, tuned):
        (path,) = tunings(tuned[0])
        report = json.loads((path / "report.json").read_text())
        race = [r for r in trials(tuned[0]) if r.phase == "race"]
        assert sum(len(r["epochs"]) + r["failures"] for r in report["race"]) == len(race)
        (best,) = [r for r in report["race"] if r["settings"] == report["best"]]
        assert len(best["epochs"]) + best["failures"] >= 5

    def test_says_what_is_searched_and_how_far_it_is(self, tuned):
        out = tuned[1].stdout
        assert "search   batch_size, learning_rate, beta1, beta2, epsilon" in out
        assert "trial 1 search b 2048 lr 0.005" in out and " left\n" in out
        assert "the last 1 min are for the confirmation" in out

    def test_continues_with_resume(self, tuned):
        folder, _ = tuned
        before, state = trials(folder), json.loads((tunings(folder)[0] / "tune.json").read_text())
        done = run_tuner(folder, "--minutes=5", "--max_trials=2", "--resume", "--quiet")
        assert done.returncode == 0, done.stdout + done.stderr
        assert trials(folder)[: len(before)] == before and len(trials(folder)) == len(before) + 2
        after = json.loads((tunings(folder)[0] / "tune.json").read_text())
        assert after["seconds"] > state["seconds"]  # minutes add up
        assert "trial 1 " not in done.stdout and "run 1/4" not in done.stdout  # --quiet


@pytest.mark.parametrize("flags, said", [
    (["--minutes=0"], "--minutes=0: use a number of minutes above 0"),
    (["--minutes=-1"], "use a number of minutes above 0"),
    (["--minutes=nan"], "use a number of minutes above 0"),
    (["--minutes=ten"], "--minutes=ten: use a number"),
    (["--max_trials=0"], "use a whole number of at least 1"),
    (["--export=programs"], "--export cannot be combined with --tune"),
    (["--synthetic_batches"], "--synthetic_batches cannot be combined with --tune"),
    (["--input=timed_shards"], "--input=timed_shards cannot be combined with --tune"),
    (["--overwrite"], "--overwrite cannot be combined with --tune"),
    (["--batch_size=1024", "--learning_rate=0.1", "--beta1=0.9", "--beta2=0.9", "--epsilon=1e-8",
      "--intra_op_threads=1"], "the flags fix every setting"),
    (["--engine=no_such_module:Class"], "there is no module no_such_module"),
])  # fmt: skip
def test_wrong_use_is_one_line(tmp_path, capsys, flags, said):
    assert main([*command(tmp_path, *TUNE)[3:], *flags]) == 1
    text = capsys.readouterr().err
    assert said in text and len(text.splitlines()) == 1 and not tunings(tmp_path)


@pytest.mark.parametrize("flags", [["--minutes=5"], ["--max_trials=5"]])
def test_flags_of_the_tuner_need_it(capsys, flags):
    assert main(flags) == 1 and "requires --tune" in capsys.readouterr().err


def test_a_track_without_target_has_nothing_to_tune(capsys):
    assert main(["--tune", "--track=ml-20m-synthetic"]) == 1
    assert "has no target to reach" in capsys.readouterr().err


def test_without_optuna_it_is_one_line(tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name, *a: None if name == "optuna" else find(name, *a))
    assert main(command(tmp_path, *TUNE)[3:]) == 1
    text = capsys.readouterr().err
    assert "--tune requires Optuna: pip install" in text and "[tune]" in text
    assert len(text.splitlines()) == 1 and not tunings(tmp_path)


@pytest.mark.slow
def test_resume_refuses_other_settings(tmp_path):
    run_tuner(tmp_path, "--max_trials=2")
    done = run_tuner(tmp_path, "--max_trials=2", "--resume", "--batch_size=1024")
    assert done.returncode == 1 and "was started with fixed settings" in done.stderr
    done = run_tuner(tmp_path, "--max_trials=2", "--resume", "--max_epochs=11")
    assert done.returncode == 1 and "max_epochs 12, not 11" in done.stderr
    assert len(tunings(tmp_path)) == 1


def test_start_settings_that_do_not_run_are_one_line_and_leave_nothing(tmp_path):
    done = run_tuner(tmp_path, NEUMF_TUNABLE_FAILURE="no memory")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "the first trial failed: MemoryError: no memory" in done.stderr
    assert not tunings(tmp_path)


@pytest.mark.slow
def test_a_damaged_database_is_one_line(tmp_path):
    run_tuner(tmp_path, "--max_trials=2")
    (path,) = tunings(tmp_path)
    (path / "study.db").write_bytes(b"no database" * 1000)
    done = run_tuner(tmp_path, "--max_trials=2", "--resume")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "study.db cannot be read" in done.stderr


def test_a_call_that_is_too_short_for_a_trial_leaves_nothing(tmp_path):
    done = run_tuner(tmp_path, "--minutes=0.001")
    assert done.returncode == 0 and not tunings(tmp_path)
    assert done.stdout.splitlines()[-1].startswith("NO TRIAL: ")


@pytest.mark.slow
def test_an_interrupted_confirmation_loses_no_trial(tmp_path):
    process = start(tmp_path, "--max_trials=44")
    for line in process.stdout:
        if line.startswith("confirmation run 1/4"):
            process.send_signal(signal.SIGTERM)
            break
    out, _ = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, out
    assert out.splitlines()[-1].startswith("INTERRUPTED: 44 trials are kept")
    done = run_tuner(tmp_path, "--max_trials=1", "--resume", "--minutes=5")
    assert done.returncode == 0 and len(trials(tmp_path)) == 45
    assert "confirmation run 4/4 tuned" in done.stdout


@pytest.mark.slow
def test_while_another_tuner_times_the_machine_only_epochs_count(tmp_path):
    with timing_lock(tmp_path / "cache/neumf-bench/timing.lock") as is_held:
        assert is_held
        run_tuner(tmp_path, "--max_trials=3")
    assert [r.seconds for r in trials(tmp_path)] == [()] * 3
    assert all(r.hit_rates for r in trials(tmp_path))


@pytest.mark.slow
def test_ctrl_c_keeps_the_trials_and_exits_with_3(tmp_path):
    process = start(tmp_path)
    wait_for_trials(tmp_path, 3)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, out
    lines = out.splitlines()
    assert lines[-2] == "continue with the same flags and --resume"
    assert lines[-1].startswith("INTERRUPTED: ") and len(trials(tmp_path)) >= 3


@pytest.mark.slow
def test_two_tuners_do_not_share_a_folder(tmp_path):
    process = start(tmp_path)
    try:
        wait_for_trials(tmp_path, 1)
        done = run_tuner(tmp_path, "--resume", "--max_trials=1")
        assert done.returncode == 1 and "another tuner is using" in done.stderr
    finally:
        process.kill()
        process.communicate()


def start(folder: Path, *flags: str) -> subprocess.Popen:
    """Starts or continues a tuner in the background."""
    return subprocess.Popen(
        command(folder, *TUNE, "--minutes=5", *flags), cwd=ROOT, text=True,
        env=environment(XDG_CACHE_HOME=str(folder / "cache")),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def wait_for_trials(folder: Path, count: int) -> None:
    for _ in range(600):
        if tunings(folder) and (tunings(folder)[0] / "tune.json").exists():
            if len(trials(folder)) >= count:
                return
        time.sleep(0.1)
    raise AssertionError(f"no {count} trials")


@pytest.mark.slow
def test_killed_at_random_moments_it_loses_no_finished_trial(tmp_path):
    """SIGKILL, SIGTERM or SIGINT at a random moment, eight times; then the tuner completes."""
    generator, known, announced = random.Random(fault_seed()), [], 0
    for _ in range(8):
        process = start(tmp_path, "--resume")
        time.sleep(generator.uniform(0.2, 6))
        process.send_signal(generator.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
        out, _ = process.communicate(timeout=60)
        numbers = [int(line.split()[1]) for line in out.splitlines() if line.startswith("trial ")]
        announced = max([announced, *numbers])  # trials that the user saw as finished
        if tunings(tmp_path):
            now = trials(tmp_path)
            assert now[: len(known)] == known and len(now) >= announced
            known = now
    done = run_tuner(tmp_path, "--resume", "--minutes=5", f"--max_trials={max(40 - len(known), 8)}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert trials(tmp_path)[: len(known)] == known
    assert len({r.seed for r in trials(tmp_path)}) == len(trials(tmp_path))
    workers = subprocess.run(["pgrep", "-f", f"harness.tune.worker.*{tmp_path}"],
                             capture_output=True, text=True).stdout
    assert not workers
