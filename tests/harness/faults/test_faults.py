"""No result is lost or invented: signals, hangs, clock steps, no memory, concurrent harnesses."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from compliance.chain.ledger import read_ledger
from compliance.checking import checker
from harness.logs.run_log import read_outcome
from tests.support.runs.faults import (
    TARGET,
    assert_complete,
    assert_nothing_lost,
    fault_environment,
    fault_seed,
    find_trial,
    is_running,
    results_folder,
    resume,
    start,
    wait_until,
)
from tests.support.runs.harness_runs import TOY, attempts, experiments, harness

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# With this, a run of the toy engine takes about as long as its start-up.
SLOWLY = {"TOY_EPOCH_SECONDS": "0.15"}


def send_random_signal(folder, rng: random.Random, runs: int) -> str:
    """Resumes the set and sends a signal at a random moment; returns a description."""
    child = start(folder, "--resume", f"--num_runs={runs}", **SLOWLY)
    number, victim = rng.choice(SIGNALS), rng.choice(("parent", "trial", "both"))
    wait = rng.uniform(0.1, 3.0)
    time.sleep(wait)
    trial = find_trial(child.pid)
    told = f"{signal.Signals(number).name} to {victim} after {wait:.3f} s"
    for name, process in (("parent", child.pid), ("trial", trial)):
        if victim in (name, "both") and process is not None:
            try:
                os.kill(process, number)
            except ProcessLookupError:
                pass
    code = child.wait(timeout=60)
    assert code in (0, 2, 3, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT), (told, code)
    return f"{told}: code {code}"


def send_random_signals(folder, count: int, runs: int) -> None:
    seed = fault_seed()
    rng = random.Random(seed)
    before: dict[str, str] = {}
    told = []
    for _ in range(count):
        told.append(send_random_signal(folder, rng, runs))
        print(told[-1])
        before = assert_nothing_lost(folder, before)
    done = resume(folder, f"--num_runs={runs}")
    assert_nothing_lost(folder, before)
    assert_complete(folder, done, runs)


def test_signals_at_random_moments(tmp_path):
    send_random_signals(tmp_path, 5, 4)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_signals_at_a_hundred_random_moments(tmp_path, part):
    send_random_signals(tmp_path, 10, 6)


@pytest.mark.parametrize("module", ["numpy", "harness.launcher.run_set"])
def test_an_interrupt_during_imports_ends_the_process_silently(tmp_path, module):
    """An exception during the import of NumPy could crash Python."""
    done = harness(tmp_path, TOY, TARGET, **fault_environment(FAULT_IMPORT=module))
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
    assert not (tmp_path / "results").exists()


def test_out_of_memory_is_an_aborted_attempt(tmp_path):
    done = harness(tmp_path, TOY, TARGET, TOY_MODE="hog")
    assert done.returncode == 2 and "MemoryError" in done.stdout
    before = assert_nothing_lost(tmp_path, {})
    assert before == {}
    (log,) = attempts(tmp_path).glob("run_*.txt")
    assert read_outcome(log).reason == "exception"
    assert_complete(tmp_path, resume(tmp_path, "--num_runs=1"), 1)


def test_a_clock_that_steps_backward_changes_no_duration(tmp_path):
    """The step occurs during a run.

    The duration is right, but the log fails, because its run clock differs from the wall clock by
    an hour.
    """
    begun = time.monotonic()
    done = resume(tmp_path, "--num_runs=1", **fault_environment(FAULT_CLOCK="3"), **SLOWLY)
    took = time.monotonic() - begun
    assert done.returncode == 2 and done.stdout.splitlines()[-1].startswith("FAIL")
    (file,) = checker.check_paths([results_folder(tmp_path)]).files
    broken = {v.rule for v in file.errors.list()}
    assert broken and broken <= {"NCF-CLOCK-START-JUMP", "NCF-CLOCK-STOP-JUMP"}
    assert 0.4 < file.summary.seconds < took
    # This set is an hour earlier than the previous one, but its folder is separate.
    done = harness(tmp_path, TOY, TARGET, "--num_runs=1", **fault_environment(FAULT_CLOCK="1"))
    assert done.stdout.splitlines()[-1].startswith(("PASS", "FAIL"))
    assert [len(list(path.glob("result_*"))) for path in experiments(tmp_path)] == [1, 1]


def test_two_concurrent_harnesses_make_one_set(tmp_path):
    resume(tmp_path, "--prepare_only")
    children = [start(tmp_path, "--resume", **SLOWLY) for _ in range(2)]
    codes = sorted(child.wait(timeout=60) for child in children)
    assert codes in ([0, 0], [0, 1])  # the second waits briefly, then is refused
    assert_complete(tmp_path, resume(tmp_path))
    ledger = read_ledger(attempts(tmp_path) / "ledger.jsonl")
    assert sum(len(one.attempts) for one in ledger.sets.values()) == 3


def test_the_next_harness_waits_for_a_trial_that_outlives_its_parent(tmp_path):
    """The trial cannot end at once; until then, no other process may write to its log."""
    child = start(tmp_path, "--resume", TOY_MODE="deaf")
    wait_until(lambda: any(
        "epoch_stop" in p.read_text() for p in attempts(tmp_path).glob("run_*")))
    time.sleep(0.2)
    trial = find_trial(child.pid)
    child.kill()
    child.wait()
    done = resume(tmp_path, "--num_runs=1")
    assert not is_running(trial)
    assert_complete(tmp_path, done, 1)
    (log,) = attempts(tmp_path).glob("run_*.txt")
    assert read_outcome(log).reason == "interrupted"


def test_a_trial_that_dies_at_its_start_is_no_attempt(tmp_path):
    """The trial did not report that it can run, so only its output is kept."""
    done = resume(tmp_path, **fault_environment(FAULT_STILLBORN="1"))
    assert done.returncode == 2 and "killed" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("no set was changed")
    (output,) = (p for p in (tmp_path / "results").rglob("*") if p.is_file() and p.name != ".lock")
    assert output.suffix == ".log" and str(output) in done.stdout
    assert_complete(tmp_path, resume(tmp_path, "--num_runs=1"), 1)


def test_a_wrong_flag_leaves_no_set_to_resume(tmp_path):
    assert harness(tmp_path, "--engine=tests.support.runs.toy_engine:NoSuch").returncode == 1
    assert harness(tmp_path, TOY, TARGET).returncode == 0
