"""Faults of storage: full and read-only disks, damaged files."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
from pathlib import Path

import pytest

from harness.logs.run_log import read_outcome
from tests.support.paths import ROOT
from tests.support.runs.faults import (
    TARGET,
    assert_complete,
    assert_nothing_lost,
    fault_seed,
    result_digests,
    results_folder,
    resume,
)
from tests.support.runs.harness_runs import TOY, attempts, command, environment, harness


def slow(value):
    """Marks a parameter as slow; a tuple is one case with several values."""
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=pytest.mark.slow)


def mounted(folder: Path, options: str) -> None:
    """Mounts a file system in memory; skips the test if that is not permitted."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode:
        pytest.skip("mounting is not permitted")


@pytest.fixture()
def small_disk(tmp_path):
    """A folder whose results/ is a file system of 1 MiB."""
    mounted(tmp_path / "results", "size=1m")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path / "results")], check=True)


def fill_disk(folder: Path, left: int) -> Path:
    """Fills the disk except for `left` bytes; returns the file that fills it."""
    ballast = folder / "results" / "ballast"
    free = os.statvfs(folder / "results")
    with open(ballast, "wb") as file:
        file.write(bytes(max(free.f_bavail * free.f_frsize - left, 0)))
    return ballast


def assert_failure_is_explained(done: subprocess.CompletedProcess) -> None:
    """Checks that a failure has exit code 1 or 2 and a message for the user."""
    assert done.returncode in (1, 2), done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    if done.returncode == 1:
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "No space" in done.stderr or "too large" in done.stderr


class TestAFullDisk:
    @pytest.mark.parametrize("left", [slow(0), 24 << 10, slow(48 << 10)])
    def test_a_full_disk_loses_no_result(self, small_disk, left):
        """The disk is full at once, during the write of a log, or after the first run."""
        assert_complete(small_disk, resume(small_disk, "--num_runs=1"), 1)
        before = result_digests(small_disk)
        ballast = fill_disk(small_disk, left)
        done = resume(small_disk, "--num_runs=4")
        assert_failure_is_explained(done)
        before = assert_nothing_lost(small_disk, before)
        ballast.unlink()
        done = resume(small_disk, "--num_runs=4")
        assert_nothing_lost(small_disk, before)
        assert_complete(small_disk, done, 4)

    @pytest.mark.parametrize("limit", [slow(600), 2500, slow(7000)])
    def test_a_file_size_limit_loses_no_result(self, tmp_path, limit):
        """Uses RLIMIT_FSIZE instead of a full disk, which needs no permission."""
        resume(tmp_path, "--prepare_only")
        done = subprocess.run(
            command(tmp_path, TOY, TARGET, "--resume"), cwd=ROOT,
            env=environment(), capture_output=True, text=True, timeout=60,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )  # fmt: skip
        assert_failure_is_explained(done)
        before = assert_nothing_lost(tmp_path, {})
        assert before == {}
        assert_complete(tmp_path, resume(tmp_path, "--num_runs=1"), 1)


class TestAReadOnlyDisk:
    def test_a_read_only_disk_is_one_line_and_changes_nothing(self, small_disk):
        assert_complete(small_disk, resume(small_disk, "--num_runs=1"), 1)
        before = result_digests(small_disk)
        place = str(small_disk / "results")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        for flags in (["--resume", "--num_runs=3"], ["--overwrite"], []):
            done = harness(small_disk, TOY, TARGET, *flags)
            assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
            assert result_digests(small_disk) == before
        subprocess.run(["mount", "-o", "remount,rw", place], check=True)
        assert_complete(small_disk, resume(small_disk, "--num_runs=3"))
        assert_nothing_lost(small_disk, before)

    def test_a_folder_without_permission_is_one_line_and_changes_nothing(self, tmp_path):
        if os.geteuid() == 0:
            pytest.skip("root may write anywhere")
        assert_complete(tmp_path, resume(tmp_path, "--num_runs=1"), 1)
        folders = [p for p in (tmp_path / "results").rglob("*") if p.is_dir()]
        for folder in folders:
            folder.chmod(0o555)
        done = resume(tmp_path, "--num_runs=3")
        for folder in folders:
            folder.chmod(0o755)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert_complete(tmp_path, resume(tmp_path, "--num_runs=3"))


def damage_file(path: Path, rng: random.Random) -> str:
    """Truncates a file, or flips one of its bits, at a random place; returns a description."""
    data = bytearray(path.read_bytes())
    where = rng.randrange(len(data))
    if rng.random() < 0.3:
        path.write_bytes(data[:where])
        return f"cut at {where}"
    bit = rng.randrange(8)
    data[where] ^= 1 << bit
    path.write_bytes(data)
    return f"bit {bit} of byte {where}"


def digest_of(folder: Path, run: int) -> str:
    log = results_folder(folder) / f"result_{run}.txt"
    records = (json.loads(line.removeprefix(":::MLLOG ")) for line in log.open())
    return next(r["value"] for r in records if r["key"] == "dataset_digest")


@pytest.mark.parametrize("count", [2, slow(40)])
def test_a_damaged_prepared_split_is_made_again(tmp_path, count):
    """Damages the split between the runs of a set; all runs must use the same data."""
    rng = random.Random(fault_seed())
    for number in range(count):
        assert_complete(tmp_path, resume(tmp_path, f"--num_runs={number + 1}"), number + 1)
        (cache,) = (tmp_path / "data" / "prepared").glob("*.split")
        print(damage_file(cache, rng))
    assert_complete(tmp_path, resume(tmp_path, f"--num_runs={count + 1}"), count + 1)
    assert len({digest_of(tmp_path, run) for run in range(count + 1)}) == 1


def test_a_log_without_an_end_is_completed_by_the_next_harness(tmp_path):
    """Parent and trial have ended, and the last line of the log is incomplete."""
    harness(tmp_path, TOY, TARGET, TOY_MODE="killed")
    (log,) = attempts(tmp_path).glob("run_*.txt")
    ledger = attempts(tmp_path) / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:-1]))
    whole = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(whole[:-1]) + b':::MLLOG {"namespace": ""')
    assert_complete(tmp_path, resume(tmp_path, "--num_runs=1"), 1)
    assert read_outcome(log).reason == "killed"


def test_a_missing_result_is_not_made_again(tmp_path):
    resume(tmp_path, "--num_runs=2")
    (results_folder(tmp_path) / "result_0.txt").unlink()
    done = resume(tmp_path, "--num_runs=3")
    assert done.returncode == 1 and "result_0.txt is missing" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def tear_log(folder: Path, path: Path, at: bytes, after: int) -> bytes:
    """Restores the state after a stop during the first attempt, whose log is now `path`.

    The log ends `after` bytes after the beginning of the first `at`, and the ledger does not record
    the end of the attempt.

    Returns:
      The content of the log.
    """
    ledger = attempts(folder) / "ledger.jsonl"
    start = json.loads(ledger.read_text().splitlines()[1])
    data = path.read_bytes()
    data = data[: data.index(at) + after]
    path.unlink()
    (attempts(folder) / start["log"]).write_bytes(data)
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:2]))
    return data


def test_a_log_that_is_torn_after_run_stop_is_a_result(tmp_path):
    """The stop occurs during the write of the digests that follow run_stop."""
    resume(tmp_path, "--num_runs=1")
    result = results_folder(tmp_path) / "result_0.txt"
    data = tear_log(tmp_path, result, b'"data_digests"', 50)
    done = resume(tmp_path, "--num_runs=1")
    assert_complete(tmp_path, done, 1)
    assert data.startswith(result.read_bytes()) and "run_stop" in result.read_text()


V05 = "--log_format=v0.5"


@pytest.mark.parametrize("at, after", [(b"run_final", 3), slow((b'{"success": true}', 18))])
def test_a_v05_log_that_is_torn_between_run_stop_and_run_final_is_a_result(tmp_path, at, after):
    """In this dialect a log ends with two records; the run ended with the first of them."""
    resume(tmp_path, V05, "--num_runs=1")
    result = results_folder(tmp_path) / "result_0.txt"
    data = tear_log(tmp_path, result, at, after)
    assert_complete(tmp_path, resume(tmp_path, V05, "--num_runs=3"))
    whole = data[: data.rindex(b"\n") + 1]
    assert result.read_bytes().startswith(whole) and b"run_stop" in whole


@pytest.mark.parametrize(
    "at, after", [(b"run_final", 3), slow((b"run_stop", 3)), slow((b":::MLP", 4))]
)
def test_a_v05_attempt_that_is_torn_at_its_end_is_no_result(tmp_path, at, after):
    harness(tmp_path, TOY, TARGET, V05, TOY_MODE="exception")
    (log,) = attempts(tmp_path).glob("run_*.txt")
    tear_log(tmp_path, log, at, after)
    assert_complete(tmp_path, resume(tmp_path, V05, "--num_runs=1"), 1)
    assert log.read_bytes().startswith(b":::MLPv0.5.0 ")
    assert read_outcome(log).reason == ("exception" if at == b"run_final" else "killed")


class TestATreeFromSomebodyElse:
    """The target of a link in the tree is neither read as a log nor written to."""

    def test_an_attempt_under_way_may_not_be_a_link(self, tmp_path):
        resume(tmp_path, "--num_runs=1")
        log = results_folder(tmp_path) / "result_0.txt"
        tear_log(tmp_path, log, b'"run_start"', 50)
        (log,) = attempts(tmp_path).glob("run_*.txt")
        other = log.rename(tmp_path / "other.txt")
        log.symlink_to(other)
        before = other.read_bytes()
        done = resume(tmp_path, "--num_runs=1")
        assert done.returncode == 1 and "is a symbolic link" in done.stderr
        assert other.read_bytes() == before
