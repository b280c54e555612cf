"""What a race may claim, by simulation with pools of epochs like the measured ones."""

from __future__ import annotations

import numpy as np
import pytest

from compliance.tracks import load_track
from harness.tune.learning import race
from tests.harness.tune.test_learning import settings, trial

TRACK = load_track("ml-100k")
# Pools of epochs: small and large spreads, at few and at many epochs.
POOLS = ([4, 4, 5, 5, 6], [5] * 9 + [4], [6, 7, 8, 8, 9, 10])


def run_race(pools, generator) -> list[race.Racer]:
    """Runs a race to its end; racer k draws its epochs from pools[k]."""
    racers = [settings(learning_rate=0.01 + 0.001 * k) for k in range(len(pools))]
    by_rate = {r.learning_rate: pool for r, pool in zip(racers, pools)}
    records: list = []
    while True:
        found = race.standings(racers, records, TRACK)
        chosen = race.next_racer(found)
        if chosen is None:
            return found
        rate = chosen.learning_rate
        epochs = int(generator.choice(by_rate[rate]))
        records.append(trial(epochs, phase="race", learning_rate=rate, seed=len(records)))


@pytest.mark.slow
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_of_six_equal_settings_any_is_rarely_claimed_to_be_slower(pool):
    """At most 5% of the races; 120 races, so the bound of the test is 5% and two errors."""
    generator, wrong, repeats = np.random.default_rng(1), 0, 120
    for _ in range(repeats):
        wrong += any(r.is_slower for r in run_race([pool] * 6, generator))
    print(f"claimed in {wrong} of {repeats}")
    assert wrong / repeats <= 0.05 + 2 * (0.05 * 0.95 / repeats) ** 0.5


@pytest.mark.slow
def test_the_faster_of_two_settings_wins():
    """Settings that need a fifth more epochs lose at least 95% of the races."""
    generator, right, repeats = np.random.default_rng(2), 0, 100
    for _ in range(repeats):
        best = race.winner(run_race([[4, 4, 5, 5, 6], [5, 5, 6, 6, 7]], generator))
        right += best.settings.learning_rate == 0.01
    assert right / repeats >= 0.95


def test_a_race_ends_and_every_racer_gets_its_runs():
    found = run_race([[4, 4, 5], [4, 5, 5], [9, 10, 11]], np.random.default_rng(3))
    assert race.winner(found).standing.runs >= race.MIN_RUNS
    assert all(1 <= r.standing.runs <= race.MAX_RUNS for r in found)
    assert all(r.standing.runs >= 2 for r in found if not r.is_out)
    assert found[-1].standing.epochs[0] >= 9 and found[-1].is_out
