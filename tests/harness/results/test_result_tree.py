"""Closed-division results stay until a complete, scored set replaces them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from compliance.chain.ledger import read_ledger
from compliance.checking import checker
from compliance.results import scoring
from tests.support.runs.faults import fault_environment, wait_until
from tests.support.runs.harness_runs import (
    ROOT,
    TOY,
    closed_command,
    closed_harness,
    environment,
    experiments,
)

BENCHMARK = "ncf-ml-100k"


@pytest.fixture(scope="module")
def data_dir(ml_100k_file):
    return next(p for p in ml_100k_file.parents if (p / "ml-100k") in ml_100k_file.parents)


@pytest.fixture(scope="module")
def scored(tmp_path_factory, data_dir):
    """A tree with one scored set, with checkpoints, that no test may change."""
    folder = tmp_path_factory.mktemp("scored")
    done = closed_harness(folder, data_dir, "--keep_checkpoint")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def tree(scored, tmp_path):
    """A copy of that tree."""
    shutil.copytree(scored, tmp_path / "t")
    return tmp_path / "t"


def system(folder: Path) -> Path:
    return folder / "results" / "sys"


def published(folder: Path) -> Path:
    return system(folder) / BENCHMARK


def attempts_of(folder: Path) -> Path:
    return system(folder) / "attempts" / BENCHMARK


def contents(folder: Path) -> dict[str, str]:
    """Returns the digest of every file below a folder, and "folder" for folders, by path."""
    return {str(p.relative_to(folder)): "folder" if p.is_dir() else hashlib.sha256(
        p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*"))}


def set_id(folder: Path) -> str:
    return json.loads((attempts_of(folder) / "finished_set.json").read_text())["set"]


def last_line(done) -> str:
    return done.stdout.rstrip().splitlines()[-1]


class TestAScoredSet:
    def test_is_complete_and_alone_in_its_folder(self, scored):
        names = sorted(path.name for path in published(scored).iterdir())
        assert names == [f"result_{run}.txt" for run in range(5)]
        assert checker.check_paths([scored / "results"]).verdict == "pass"
        assert (attempts_of(scored) / "checkpoints" / "result_4.npz").is_file()
        assert not (attempts_of(scored) / "current").exists()

    def test_its_report_names_the_logs_where_they_are(self, scored):
        report = json.loads((system(scored) / "reports" / f"{BENCHMARK}.json").read_text())
        assert report["score"]["seconds"] > 0
        assert [f["path"] for f in report["check"]["files"]] == [
            f"{BENCHMARK}/result_{run}.txt" for run in range(5)]

    def test_resume_says_its_verdict_again_and_runs_nothing(self, tree, data_dir):
        before = contents(published(tree))
        done = closed_harness(tree, data_dir, "--resume")
        assert done.returncode == 0 and last_line(done).startswith("PASS: ")
        assert contents(published(tree)) == before

    def test_a_new_one_takes_its_place_and_says_so_first(self, tree, data_dir):
        before, old_id = contents(published(tree)), set_id(tree)
        done = closed_harness(tree, data_dir)
        assert done.returncode == 0, done.stdout + done.stderr
        aside = attempts_of(tree) / old_id
        notes = done.stdout[:done.stdout.index("run 1/5")]
        assert "contains a set (" in notes and " s); when the new set is complete" in notes
        assert str(aside) in notes
        assert {n: d for n, d in contents(aside).items() if n.startswith("result_")} == before
        assert (aside / "checkpoints" / "result_0.npz").is_file()
        assert (aside / f"{BENCHMARK}.txt").is_file()
        assert not contents(published(tree)).items() & before.items()
        assert checker.check_paths([aside]).verdict == "pass"
        assert checker.check_paths([tree / "results"]).verdict == "pass"
        assert str(aside) not in last_line(done)


# -- a call without a run changes nothing -------------------------------------------------


@pytest.mark.parametrize("flags, message", [
    (["--device=quantum"], "--device=quantum"), (["--engine=no_such:Engine"], "no module no_such"),
    (["--engine=tests.support.runs.toy_engine:NoSuch"], "has no class NoSuch"),
    (["--num_runs=many"], "num_runs"),
    pytest.param(["--device=tpu", "--tpu=grpc://127.0.0.1:1"], "127.0.0.1:1", marks=pytest.mark.slow),
    pytest.param(["--device=gpu"], "GPU", marks=pytest.mark.slow)])
def test_a_flag_that_cannot_be_followed_changes_nothing(tree, data_dir, flags, message):
    before = contents(tree)
    done = closed_harness(tree, data_dir, *flags)
    assert done.returncode == 1 and message in done.stderr, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert contents(tree) == before


def test_where_there_were_no_results_there_are_none_afterwards(tmp_path, data_dir):
    flag = "--engine=tests.support.runs.toy_engine:NoSuch"
    assert closed_harness(tmp_path, data_dir, flag).returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_before_the_first_run_changes_nothing(tree, data_dir):
    before = contents(tree)
    child = subprocess.Popen(
        closed_command(tree, data_dir), stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env=environment(TOY_INIT_SECONDS="20"))  # fmt: skip
    next(line for line in child.stdout if "engine" in line)
    while not list((system(tree) / "logs").glob("*")):
        pass
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 3 and "nothing was lost" in output.splitlines()[-1]
    assert contents(tree) == before


# -- a set that is not a result is an experiment ------------------------------------------------


def test_more_runs_than_required_make_a_result_if_their_number_is_fixed_first(tmp_path, data_dir):
    done = closed_harness(tmp_path, data_dir, "--num_runs=6")
    assert done.returncode == 0 and "6 of 6 runs converged" in last_line(done), done.stdout
    assert len(list(published(tmp_path).glob("result_*"))) == 6
    before = contents(tmp_path)
    # Neither can the number be raised, nor can the first runs be scored alone.
    done = closed_harness(tmp_path, data_dir, "--num_runs=7", "--resume")
    assert done.returncode == 1 and "other settings" in done.stderr
    assert contents(tmp_path) == before
    (published(tmp_path) / "result_5.txt").unlink()
    reason = scoring.score_folder(published(tmp_path)).result.reason
    assert "5 of 6 runs" in reason or "did not pass" in reason


@pytest.mark.parametrize("flags", [
    ["--seed=7"], ["--num_runs=1", "--max_epochs=1"], ["--num_runs=4"], ["--division=open"],
    ["--name=mine"], ["--log_format=v0.5"]])
def test_an_experiment_moves_no_result(tree, data_dir, flags):
    before = contents(published(tree)), contents(attempts_of(tree)), contents(
        system(tree) / "reports")
    done = closed_harness(tree, data_dir, *flags)
    assert done.returncode in (0, 2), done.stdout + done.stderr
    assert (contents(published(tree)), contents(attempts_of(tree)), contents(
        system(tree) / "reports")) == before
    (folder,) = experiments(tree)
    assert folder.parent == system(tree) / "experiments" / BENCHMARK
    assert (folder / "result_0.txt").is_file() and (folder / "report.txt").is_file()
    assert (folder / "attempts" / "ledger.jsonl").is_file() and list((folder / "logs").iterdir())
    assert last_line(done).endswith(str(folder / "report.txt"))
    assert len(checker.check_paths([tree / "results"]).files) == 5
    assert checker.check_paths([folder]).files[0].ruleset is not None


@pytest.mark.parametrize("flags", [["--precision=bfloat16"], ["--max_epochs=3"], ["--org=me"]])
def test_other_settings_of_the_closed_division_make_a_result(tmp_path, data_dir, flags):
    done = closed_harness(tmp_path, data_dir, *flags)
    assert done.returncode == 0 and last_line(done).startswith("PASS: "), done.stdout
    assert (published(tmp_path) / "result_4.txt").is_file()


# -- sets that fail, or are interrupted ------------------------------------------------


def test_a_complete_set_that_fails_goes_to_a_folder_of_its_own(tree, data_dir):
    before = contents(published(tree))
    done = closed_harness(tree, data_dir, "--max_epochs=1")
    assert done.returncode == 2 and last_line(done).startswith("FAIL: 5 of 5 runs")
    report = Path(last_line(done).rpartition("report: ")[2])
    assert report.name == "report.txt" and report.is_file()
    folder = report.parent
    assert folder.parent == attempts_of(tree) and folder.name[:8].isdigit()
    assert len(list(folder.glob("result_*.txt"))) == 5
    assert contents(published(tree)) == before
    assert checker.check_paths([folder]).verdict == "pass"  # valid, but without the target
    # The next set needs no --overwrite.
    assert closed_harness(tree, data_dir).returncode == 0


def test_an_interrupted_set_displaces_nothing_and_is_resumed(tree, data_dir):
    before = contents(published(tree))
    done = closed_harness(tree, data_dir, TOY_MODE="exception")
    assert done.returncode == 2 and "continue with --resume" in last_line(done)
    assert contents(published(tree)) == before
    again = closed_harness(tree, data_dir)
    assert again.returncode == 1 and "--resume" in again.stderr and "--overwrite" in again.stderr
    other = closed_harness(tree, data_dir, "--resume", "--batch_size=512")
    assert other.returncode == 1 and "batch_size" in other.stderr
    assert contents(published(tree)) == before
    done = closed_harness(tree, data_dir, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not contents(published(tree)).items() & before.items()
    result = checker.check_paths([tree / "results"])
    assert result.verdict == "pass"
    assert {v.rule for f in result.files for v in f.warnings.list()} >= {"NCF-CHAIN-NO-RUN"}


def test_resume_with_other_settings_than_the_finished_sets_is_refused(tree, data_dir):
    before = contents(tree)
    done = closed_harness(tree, data_dir, "--resume", "--batch_size=512")
    assert done.returncode == 1 and "there is no unfinished set" in done.stderr
    assert contents(tree) == before


def test_the_description_of_the_system_is_that_of_the_result(tree, data_dir):
    """An experiment and a failed set have their own descriptions."""
    file = system(tree) / "system.json"
    before = file.read_bytes()
    closed_harness(tree, data_dir, "--org=me", "--num_runs=1")
    (folder,) = experiments(tree)
    assert json.loads((folder / "system.json").read_text())["submitter"] == "me"
    closed_harness(tree, data_dir, "--org=me", "--max_epochs=1")
    assert file.read_bytes() == before
    closed_harness(tree, data_dir, "--org=me")
    assert json.loads(file.read_text())["submitter"] == "me"


def test_a_damaged_ledger_is_moved_away_by_overwrite_alone(tree, data_dir):
    ledger = attempts_of(tree) / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes() + b"garbage\n")
    before = contents(tree)
    for flags in ([], ["--resume"]):
        done = closed_harness(tree, data_dir, *flags)
        assert done.returncode == 1 and "--overwrite" in done.stderr
        assert contents(tree) == before
    assert closed_harness(tree, data_dir, "--overwrite").returncode == 0


def test_overwrite_sets_the_unfinished_set_aside(tree, data_dir):
    before = contents(published(tree))
    closed_harness(tree, data_dir, TOY_MODE="exception")
    unfinished = json.loads((attempts_of(tree) / "set.json").read_text())["set"]
    done = closed_harness(tree, data_dir, "--overwrite", "--max_epochs=1")
    assert done.returncode == 2 and contents(published(tree)) == before
    assert (attempts_of(tree) / unfinished / "set.json").is_file()


@pytest.fixture(scope="module")
def killed(scored, tmp_path_factory, data_dir):
    """A tree with an unfinished set of one run, that no test may change."""
    folder = tmp_path_factory.mktemp("killed") / "t"
    shutil.copytree(scored, folder)
    child = closed_harness(folder, data_dir, **fault_environment(FAULT_CRASH="parent:30"))
    assert child.returncode == -signal.SIGKILL
    return folder


class TestADamagedTree:
    @pytest.fixture
    def unfinished(self, killed, tmp_path):
        """A copy of that tree."""
        shutil.copytree(killed, tmp_path / "t")
        return tmp_path / "t"

    def test_the_ledger_of_an_unfinished_set(self, unfinished, data_dir):
        before = contents(published(unfinished))
        ledger = attempts_of(unfinished) / "ledger.jsonl"
        ledger.write_bytes(ledger.read_bytes().replace(b'"run": 0', b'"run": 1', 1))
        done = closed_harness(unfinished, data_dir, "--resume")
        assert done.returncode == 1 and "--overwrite" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        done = closed_harness(unfinished, data_dir, "--overwrite")
        assert done.returncode == 0, done.stdout + done.stderr
        kept = [p for p in attempts_of(unfinished).glob("*/ledger.jsonl")]
        assert len(kept) == 1
        aside = [p for p in attempts_of(unfinished).glob("*") if p.is_dir() and all(
            (p / name).is_file() for name in before)]
        assert [{n: d for n, d in contents(p).items() if n in before} for p in aside] == [before]

    @pytest.mark.parametrize("text", [
        '{"set": "../x", "num_runs": 1, "settings": {}}', "", "{}", "[]", "\x00",
        '{"set": "x", "num_runs": "1", "settings": {}}', "[" * 10**5])
    def test_the_description_of_the_set(self, unfinished, data_dir, text):
        before = contents(published(unfinished))
        (attempts_of(unfinished) / "set.json").write_text(text)
        done = closed_harness(unfinished, data_dir, "--resume")
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        done = closed_harness(unfinished, data_dir, "--overwrite", "--max_epochs=1")
        assert done.returncode == 2 and contents(published(unfinished)) == before

    @pytest.mark.parametrize("plant", [lambda p, o: p.symlink_to(o), lambda p, o: os.mkfifo(p)])
    def test_a_stray_file_that_is_no_log_is_left_alone(self, tree, data_dir, plant, tmp_path):
        other = tmp_path / "other.txt"
        other.write_text("of somebody")
        plant(attempts_of(tree) / "run_0_x_1.txt", other)
        assert closed_harness(tree, data_dir, "--max_epochs=1").returncode == 2
        assert other.read_text() == "of somebody"

    def test_the_ledger_may_not_be_a_link(self, tmp_path, data_dir):
        other = tmp_path / "other.txt"
        other.write_text("of somebody")  # an incomplete line, if read as a ledger
        attempts_of(tmp_path).mkdir(parents=True)
        (attempts_of(tmp_path) / "ledger.jsonl").symlink_to(other)
        done = closed_harness(tmp_path, data_dir)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert other.read_text() == "of somebody"


def assert_whole(folder: Path, old: dict[str, str]) -> None:
    """Checks for the old results or a complete new set; the old logs must still exist."""
    now = contents(published(folder))
    assert now == old or len(now) == 5 and not now.items() & old.items()
    digests = {hashlib.sha256(p.read_bytes()).hexdigest()
               for p in (folder / "results").rglob("result_*.txt")}
    assert set(old.values()) <= digests


@pytest.mark.parametrize("number", [12, 30, pytest.param("all", marks=pytest.mark.slow)])
def test_a_power_cut_at_any_write_leaves_a_whole_set_among_the_results(
        scored, tmp_path, data_dir, number):
    old = contents(published(scored))
    for at in range(1, 75) if number == "all" else [number]:
        folder = tmp_path / str(at)
        shutil.copytree(scored, folder)
        done = closed_harness(folder, data_dir, **fault_environment(FAULT_CRASH=f"parent:{at}"))
        assert done.returncode in (0, -signal.SIGKILL), done.stdout + done.stderr
        assert_whole(folder, old)
        done = closed_harness(folder, data_dir, "--resume")
        assert done.returncode == 0, (at, done.stdout + done.stderr)
        assert_whole(folder, old)
        read_ledger(attempts_of(folder) / "ledger.jsonl")
        assert checker.check_paths([folder / "results"]).verdict == "pass", at
        shutil.rmtree(folder)


# -- trees of earlier versions ---------------------------------------------------------


def as_earlier_version(folder: Path, runs: int) -> None:
    """Converts a tree to the layout of earlier versions: the set is among the results."""
    attempts = attempts_of(folder)
    value = json.loads((attempts / "finished_set.json").read_text())
    del value["layout"]
    (attempts / "set.json").write_text(json.dumps(value))
    (attempts / "finished_set.json").unlink()
    for run in range(runs, 5):
        (published(folder) / f"result_{run}.txt").unlink()
    # After the line of the launcher, each attempt has two lines.
    lines = (attempts / "ledger.jsonl").read_text().splitlines(keepends=True)
    (attempts / "ledger.jsonl").write_text("".join(lines[:1 + 2 * runs]))


def test_a_finished_set_of_an_earlier_version_is_a_finished_set(tree, data_dir):
    as_earlier_version(tree, 5)
    before, old_id = contents(published(tree)), json.loads(
        (attempts_of(tree) / "set.json").read_text())["set"]
    assert checker.check_paths([tree / "results"]).verdict == "pass"
    done = closed_harness(tree, data_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    aside = attempts_of(tree) / old_id
    assert {n: d for n, d in contents(aside).items() if n.startswith("result_")} == before
    assert checker.check_paths([aside]).verdict == "pass"


def test_an_unfinished_set_of_an_earlier_version_is_resumed(tree, data_dir):
    as_earlier_version(tree, 2)
    before = contents(published(tree))
    done = closed_harness(tree, data_dir)
    assert done.returncode == 1 and "--resume" in done.stderr
    assert contents(published(tree)) == before
    done = closed_harness(tree, data_dir, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    now = contents(published(tree))
    assert len(now) == 5 and before.items() <= now.items()
    assert checker.check_paths([tree / "results"]).verdict == "pass"


def test_an_unfinished_experiment_of_an_earlier_version_is_resumed(tmp_path, data_dir):
    """Earlier versions stored an open set among the results."""
    done = closed_harness(tmp_path, data_dir, "--seed=3", "--num_runs=2")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = experiments(tmp_path)
    old = attempts_of(tmp_path)
    old.parent.mkdir(exist_ok=True)
    (folder / "attempts").rename(old)
    value = json.loads((old / "set.json").read_text())
    del value["layout"]
    (old / "set.json").write_text(json.dumps({**value, "num_runs": 3}))
    published(tmp_path).mkdir()
    for log in folder.glob("result_*"):
        log.rename(published(tmp_path) / log.name)
    shutil.rmtree(folder)
    before = contents(published(tmp_path))
    done = closed_harness(tmp_path, data_dir, "--seed=3", "--num_runs=3", "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = experiments(tmp_path)
    assert before.items() <= contents(folder).items() and (folder / "result_2.txt").is_file()
    assert not published(tmp_path).exists() and checker.check_paths([folder]).verdict == "pass"


# -- the temporary folder ----------------------------------------------------------------


def test_the_temporary_folder_goes_with_a_trial_whose_parent_was_killed(tmp_path, data_dir):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    child = subprocess.Popen(
        closed_command(tmp_path, data_dir, "--quiet"), stdout=subprocess.DEVNULL, cwd=ROOT,
        env=environment(TMPDIR=str(temporary), TOY_INIT_SECONDS="20"))  # fmt: skip
    wait_until(lambda: any(temporary.iterdir()))
    time.sleep(1)  # so that the trial monitors its parent
    child.kill()
    child.wait()
    wait_until(lambda: not any(temporary.iterdir()))


@pytest.mark.parametrize("flags", [
    [TOY], pytest.param(["--engine=fused"], marks=pytest.mark.slow),
    pytest.param(["--engine=reference"], marks=pytest.mark.slow)])
def test_a_run_leaves_nothing_in_the_temporary_folder(tmp_path, data_dir, flags):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = closed_harness(tmp_path, data_dir, "--num_runs=1", "--max_epochs=1", *flags,
                          TMPDIR=str(temporary))
    assert done.returncode == 2, done.stdout + done.stderr
    assert list(temporary.iterdir()) == []
