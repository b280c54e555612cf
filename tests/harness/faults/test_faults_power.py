"""A power cut at any write loses only data that was not synced."""

from __future__ import annotations

import random
import signal

import pytest

from compliance.chain.ledger import read_ledger
from tests.support.runs.faults import (
    TARGET,
    assert_complete,
    assert_nothing_lost,
    fault_environment,
    fault_seed,
    resume,
)
from tests.support.runs.harness_runs import TOY, attempts, harness

# The approximate number of writes, syncs and renames of a set of three runs.
OF_PARENT, OF_TRIAL, OF_TRIAL_V05 = 33, 83, 42


def cut_power(folder, who: str, number: int, *flags: str) -> bool:
    """Runs the harness until the power cut; returns whether the cut occurred."""
    done = harness(folder, TOY, TARGET, *flags, **fault_environment(FAULT_CRASH=f"{who}:{number}"))
    assert done.returncode in (0, -signal.SIGKILL), done.stdout + done.stderr
    return done.returncode != 0


def cut_power_and_resume(folder, who: str, number: int, *flags: str) -> None:
    print(f"FAULT_CRASH={who}:{number}")
    came = cut_power(folder, who, number, *flags)
    before = assert_nothing_lost(folder, {})
    done = resume(folder, *flags)
    assert_nothing_lost(folder, before)
    assert_complete(folder, done)
    assert came or len(before) == 3


@pytest.mark.parametrize("who, most", [("parent", OF_PARENT), ("trial", OF_TRIAL)])
def test_a_power_cut_at_a_random_write(tmp_path, who, most):
    rng = random.Random(fault_seed())
    for part in range(2):
        (tmp_path / str(part)).mkdir()
        cut_power_and_resume(tmp_path / str(part), who, rng.randint(1, most))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, OF_PARENT + 2))
def test_a_power_cut_at_every_write_of_the_parent(tmp_path, number):
    cut_power_and_resume(tmp_path, "parent", number)


@pytest.mark.slow
@pytest.mark.parametrize("number", [*range(1, OF_TRIAL - 8, 3), *range(OF_TRIAL - 8, OF_TRIAL + 2)])
def test_a_power_cut_at_writes_of_a_trial(tmp_path, number):
    cut_power_and_resume(tmp_path, "trial", number)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, *range(OF_TRIAL_V05 - 10, OF_TRIAL_V05 + 2)])
def test_a_power_cut_at_writes_of_a_trial_in_v05(tmp_path, number):
    cut_power_and_resume(tmp_path, "trial", number, "--log_format=v0.5")


@pytest.mark.slow
def test_twenty_power_cuts_on_one_set(tmp_path):
    """Each attempt is recorded exactly once."""
    rng = random.Random(fault_seed())
    before: dict[str, str] = {}
    for _ in range(20):
        who = rng.choice(("parent", "trial"))
        cut_power(tmp_path, who, rng.randint(1, OF_PARENT if who == "parent" else OF_TRIAL), "--resume")
        before = assert_nothing_lost(tmp_path, before)
    assert_complete(tmp_path, resume(tmp_path))


def test_a_torn_ledger_line_is_cut_off(tmp_path):
    assert_complete(tmp_path, resume(tmp_path))
    ledger = attempts(tmp_path) / "ledger.jsonl"
    whole = ledger.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut_at in (len(whole) - 1, len(whole) - len(lines[-1]) // 2):
        ledger.write_bytes(whole[:cut_at])  # as if cut during the write of the last run's end
        assert_complete(tmp_path, resume(tmp_path))
        assert read_ledger(ledger).size == len(ledger.read_bytes())
