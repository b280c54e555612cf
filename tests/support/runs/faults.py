"""What must hold of a results tree whatever has happened to the processes and the disk."""

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
from harness.logs.run_log import PLACED_REASONS, read_outcome
from tests.support.runs.harness_runs import ROOT, TOY, attempts, command, environment, harness

SITE = ROOT / "tests" / "fault_site"
TARGET = "--target=0.3"


def fault_seed() -> int:
    """The seed of a random test: NEUMF_FAULT_SEED, or a new one, which is printed."""
    seed = int(os.environ.get("NEUMF_FAULT_SEED") or secrets.randbelow(2**31))
    print(f"NEUMF_FAULT_SEED={seed}")
    return seed


def results_folder(folder: Path) -> Path:
    return folder / "results" / "sys" / "ncf-tiny"


def snapshot(folder: Path) -> dict[str, str]:
    """{name: SHA-256} of the set's results."""
    place = results_folder(folder)
    paths = sorted(place.iterdir()) if place.is_dir() else []
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def anywhere(folder: Path) -> set[str]:
    """SHA-256 of every result there is, those of sets that were set aside too."""
    paths = (folder / "results").rglob("result_*.txt")
    return {hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def ends_of(log: Path) -> int:
    """How many run_stop records it has, in either dialect; run_final goes with it in v0.5."""
    text = log.read_text()
    ends = text.count('"key": "run_stop"') + text.count(") run_stop")
    if text.startswith(":::MLPv"):
        assert text.count(") run_final\n") == ends
    return ends


def assert_nothing_lost(folder: Path, before: dict[str, str]) -> dict[str, str]:
    """After a fault: what was finished is as it was, and nothing unfinished looks finished."""
    now = snapshot(folder)
    assert {name: now.get(name) for name in before} == before
    for name in now:
        log = results_folder(folder) / name
        assert name.startswith("result_") and name.endswith(".txt"), name
        assert read_outcome(log).reason in PLACED_REASONS, name
        assert ends_of(log) == 1
    ledger = attempts(folder) / "ledger.jsonl"
    if ledger.exists():
        read_ledger(ledger)
    return now


def assert_complete(folder: Path, done: subprocess.CompletedProcess, runs: int = 3) -> None:
    """After the last --resume: the set is whole, and all that happened is told."""
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert done.stdout.rstrip().splitlines()[-1].startswith(("PASS: ", "valid, unscored")), said
    found = checker.check_paths([results_folder(folder)])
    assert found.verdict == "pass", said
    assert [f.path.rpartition("/")[2] for f in found.files] == [
        f"result_{n}.txt" for n in range(runs)
    ]
    assert len({f.facts.seed for f in found.files}) == runs
    assert all(f.facts.converged for f in found.files)
    ledger = read_ledger(attempts(folder) / "ledger.jsonl")
    known = [a for one in ledger.sets.values() for a in one.attempts]
    assert all(a.end is not None for a in known)
    logs = sorted(attempts(folder).glob("run_*.txt"))
    assert len(logs) == sum(not a.is_result for a in known)
    for log in logs:
        assert read_outcome(log).reason not in (None, *PLACED_REASONS)
        assert ends_of(log) == 1
    current = json.loads((attempts(folder) / "set.json").read_text())["set"]
    assert sum(a.is_result for a in ledger.sets[current].attempts) == runs


def resume(folder: Path, *flags: str, **extra: str) -> subprocess.CompletedProcess:
    """The set is gone on with, or begun, with nothing in the way."""
    return harness(folder, TOY, TARGET, "--resume", *flags, **extra)


def with_faults(**extra: str) -> dict[str, str]:
    """Environment variables for `tests/fault_site`."""
    return {"PYTHONPATH": os.pathsep.join([str(SITE), str(ROOT)]), **extra}


def start(folder: Path, *flags: str, **extra: str) -> subprocess.Popen:
    """The harness in a process that is not waited for; its output is thrown away."""
    return subprocess.Popen(
        command(folder, TOY, TARGET, *flags), cwd=ROOT, env=environment(**extra),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def trial_of(parent: int) -> int | None:
    """The process id of the trial under way."""
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
    """Whether a process is there and not only waits to be buried."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(what, seconds: float = 30.0) -> None:
    """Until `what()` is true. Raises AssertionError when it takes too long."""
    for _ in range(int(seconds / 0.02)):
        if what():
            return
        time.sleep(0.02)
    raise AssertionError("it took too long")


assert sys.platform.startswith("linux"), "signals and /proc are Linux's here"
