"""Invariants of a results tree under faults of processes and of the disk."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

from compliance.chain.ledger import read_ledger
from compliance.checking import checker
from harness.logs.run_log import RESULT_REASONS, read_outcome
from tests.support.runs.harness_runs import (
    ROOT,
    TOY,
    attempts,
    command,
    environment,
    harness,
    set_folder,
)

SITE = ROOT / "tests" / "fault_site"
TARGET = "--target=0.3"


def fault_seed() -> int:
    """Returns the seed of a random test: NEUMF_FAULT_SEED, or a new one; prints it."""
    seed = int(os.environ.get("NEUMF_FAULT_SEED") or secrets.randbelow(2**31))
    print(f"NEUMF_FAULT_SEED={seed}")
    return seed


def results_folder(folder: Path) -> Path:
    """Returns the folder of the finished runs of the set."""
    return set_folder(folder)


def result_digests(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each result of the set, by name."""
    paths = sorted(results_folder(folder).glob("result_*"))
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def all_result_digests(folder: Path) -> set[str]:
    """Returns the SHA-256 of all results, including those of sets that were set aside."""
    paths = (folder / "results").rglob("result_*.txt")
    return {hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def count_run_stops(log: Path) -> int:
    """Counts the run_stop records of a log; in v0.5 each must have a run_final."""
    text = log.read_text()
    ends = text.count('"key": "run_stop"') + text.count(") run_stop")
    if text.startswith(":::MLPv"):
        assert text.count(") run_final\n") == ends
    return ends


def assert_nothing_lost(folder: Path, before: dict[str, str]) -> dict[str, str]:
    """Checks a tree after a fault; returns the digests of its results by name.

    Finished results must be unchanged, and their folder must contain no unfinished log.
    """
    now = result_digests(folder)
    assert {name: now.get(name) for name in before} == before
    for name in now:
        log = results_folder(folder) / name
        assert name.startswith("result_") and name.endswith(".txt"), name
        assert read_outcome(log).reason in RESULT_REASONS, name
        assert count_run_stops(log) == 1
    ledger = attempts(folder) / "ledger.jsonl"
    if ledger.exists():
        read_ledger(ledger)
    return now


def assert_complete(folder: Path, done: subprocess.CompletedProcess, runs: int = 3) -> None:
    """Checks a tree after the last --resume: the set is complete, and every attempt is recorded."""
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert done.stdout.rstrip().splitlines()[-1].startswith(("PASS: ", "valid, unscored")), output
    found = checker.check_paths([results_folder(folder)])
    assert found.verdict == "pass", output
    assert [f.path.rpartition("/")[2] for f in found.files] == [
        f"result_{n}.txt" for n in range(runs)
    ]
    assert len({f.summary.seed for f in found.files}) == runs
    assert all(f.summary.converged for f in found.files)
    ledger = read_ledger(attempts(folder) / "ledger.jsonl")
    known = [a for one in ledger.sets.values() for a in one.attempts]
    assert all(a.end is not None for a in known)
    logs = sorted(attempts(folder).glob("run_*.txt"))
    assert len(logs) == sum(not a.is_result for a in known)
    for log in logs:
        assert read_outcome(log).reason not in (None, *RESULT_REASONS)
        assert count_run_stops(log) == 1
    current = json.loads((attempts(folder) / "set.json").read_text())["set"]
    assert sum(a.is_result for a in ledger.sets[current].attempts) == runs


def resume(folder: Path, *flags: str, **extra: str) -> subprocess.CompletedProcess:
    """Starts or resumes the set, without fault injection."""
    return harness(folder, TOY, TARGET, "--resume", *flags, **extra)


def fault_environment(**extra: str) -> dict[str, str]:
    """Returns environment variables that inject faults with `tests/fault_site`."""
    return {"PYTHONPATH": os.pathsep.join([str(SITE), str(ROOT)]), **extra}


def start(folder: Path, *flags: str, **extra: str) -> subprocess.Popen:
    """Starts the harness in the background; its output is discarded."""
    return subprocess.Popen(
        command(folder, TOY, TARGET, *flags), cwd=ROOT, env=environment(**extra),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def find_trial(parent: int) -> int | None:
    """Returns the process id of the running trial of a harness, or None."""
    try:
        words = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return None
    for word in words:
        try:
            if b"harness.trial" in Path(f"/proc/{word}/cmdline").read_bytes():
                return int(word)
        except OSError:
            continue
    return None


def is_running(process: int | None) -> bool:
    """Returns whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds: float = 30.0) -> None:
    """Waits until `condition()` is true. Raises AssertionError after `seconds`."""
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"the condition was still false after {seconds:g} s")


assert sys.platform.startswith("linux"), "these tests need the signals and /proc of Linux"
