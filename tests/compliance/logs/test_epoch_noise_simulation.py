"""Simulated error rates of the warnings about noise: NCF-EPOCHS-VARY and NCF-SET-EPOCHS-VARY.

The tables of docs/noise.md are printed by

    python -m tests.compliance.logs.test_epoch_noise_simulation
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from compliance.checking.ruleset import load_ruleset
from compliance.logs.epoch_times import epoch_variation, median_epoch, run_delays

RUNS, SETS, SEED = 4000, 2000, 11
# Epochs of a run, counting the first, which the statistic leaves out.
EPOCHS = (4, 6, 9, 13, 20)
SPREADS = (0.02, 0.05, 0.07, 0.1)
# Another program runs during one stretch of the run, which lasts this share of the undisturbed run
# and slows the epochs in it by this factor.
STRETCHES = ((0.25, 1.5), (0.5, 1.5), (0.25, 2.0), (0.5, 2.0), (0.75, 2.0), (0.5, 3.0))
# (spread of an epoch, spread between the runs of a quiet set, number of runs)
SETS_OF_RUNS = ((0.02, 0.02, 5), (0.05, 0.05, 5), (0.05, 0.05, 20), (0.05, 0.05, 100),
                (0.1, 0.1, 5), (0.1, 0.1, 20))
SLOWDOWNS = (1.25, 1.5, 2.0)
EPOCHS_OF_A_SET = 9


@lru_cache
def threshold(rule_id: str) -> float:
    """Returns the share above which a rule warns."""
    return next(r for r in load_ruleset("ncf-open").rules if r.id == rule_id).params["share"]


def quiet_epochs(draw: np.random.Generator, epochs: int, spread: float, runs: int = RUNS):
    """Returns lognormal seconds [runs, epochs] with mean 1."""
    return np.exp(spread * draw.standard_normal((runs, epochs)) - spread**2 / 2)


def with_pauses(draw: np.random.Generator, seconds: np.ndarray, probability: float):
    """Adds a pause to some epochs; a pause lasts as long as an epoch, on average."""
    return seconds + (draw.random(seconds.shape) < probability) * draw.exponential(1, seconds.shape)


def with_other_program(draw: np.random.Generator, seconds: np.ndarray, share: float, factor: float):
    """Slows a stretch of each run that starts at a uniformly random time within the run."""
    ends = seconds.cumsum(axis=1)
    total = ends[:, -1:]
    begin = draw.random((len(seconds), 1)) * total * (1 - share)
    overlap = np.minimum(ends, begin + share * total) - np.maximum(ends - seconds, begin)
    return seconds + np.maximum(overlap, 0) * (factor - 1)


def warned(seconds: np.ndarray) -> np.ndarray:
    """Returns for each run whether NCF-EPOCHS-VARY warns."""
    found = [epoch_variation(run) for run in seconds.tolist()]
    return np.array([f is not None and f.excess > threshold("NCF-EPOCHS-VARY") for f in found])


def false_alarms(epochs: int, spread: float) -> float:
    draw = np.random.default_rng(SEED)
    return float(warned(quiet_epochs(draw, epochs, spread)).mean())


def pause_alarms(epochs: int, spread: float = 0.05, probability: float = 0.05
                 ) -> tuple[float, float]:
    """Returns the shares of warnings: (of runs that pauses lengthen by < 10%, of the others)."""
    draw = np.random.default_rng(SEED)
    quiet = quiet_epochs(draw, epochs, spread)
    paused = with_pauses(draw, quiet, probability)
    # The first epoch does not count.
    lengthened = paused[:, 1:].sum(axis=1) / quiet[:, 1:].sum(axis=1) - 1
    is_warned, is_slight = warned(paused), lengthened < 0.1
    return float(is_warned[is_slight].mean()), float(is_warned[~is_slight].mean())


def power(epochs: int, share: float, factor: float, spread: float = 0.05) -> float:
    draw = np.random.default_rng(SEED)
    quiet = quiet_epochs(draw, epochs, spread)
    return float(warned(with_other_program(draw, quiet, share, factor)).mean())


def set_alarms(spread: float, between: float, runs: int, slowdown: float | None = None) -> float:
    """Returns a share of sets in which NCF-SET-EPOCHS-VARY warns.

    Without `slowdown`, of quiet sets in which it warns about any run; with it, of sets in which it
    warns about the one run that was slower from its first epoch to its last.
    """
    draw = np.random.default_rng(SEED)
    limit, count = threshold("NCF-SET-EPOCHS-VARY"), 0
    for _ in range(SETS // (1 if runs < 50 else 10)):
        seconds = quiet_epochs(draw, EPOCHS_OF_A_SET, spread, runs)
        seconds *= np.exp(between * draw.standard_normal((runs, 1)))
        if slowdown:
            seconds[0] *= slowdown
        delays = run_delays(dict(enumerate(map(median_epoch, seconds.tolist()))))
        count += delays[0] > limit if slowdown else max(delays.values()) > limit
    return count / (SETS // (1 if runs < 50 else 10))


@pytest.mark.slow
@pytest.mark.parametrize("epochs", EPOCHS)
def test_quiet_runs_rarely_get_a_warning(epochs):
    assert false_alarms(epochs, 0.05) <= 0.002
    assert false_alarms(epochs, 0.07) <= 0.03


@pytest.mark.slow
@pytest.mark.parametrize("epochs", EPOCHS)
def test_short_pauses_rarely_cause_a_warning_and_long_ones_do(epochs):
    slight, _ = pause_alarms(epochs)
    assert slight <= 0.04


@pytest.mark.slow
@pytest.mark.parametrize("epochs", EPOCHS[1:])
def test_another_program_that_lengthens_a_run_by_half_is_found(epochs):
    assert power(epochs, 0.5, 2.0) >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("spread, between, runs", SETS_OF_RUNS[:3])
def test_a_run_of_half_speed_is_found_in_a_set_and_quiet_sets_are_not_reported(
        spread, between, runs):
    assert set_alarms(spread, between, runs) <= 0.01
    assert set_alarms(spread, between, runs, 2.0) >= 0.99


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Prints the tables of docs/noise.md."""
    header = ["epochs of the run", *map(str, EPOCHS)]
    rows = [[f"quiet, epochs spread by {s:.0%}", *(f"{false_alarms(n, s):.1%}" for n in EPOCHS)]
            for s in SPREADS]
    alarms = [pause_alarms(n) for n in EPOCHS]
    rows += [["pauses in 5% of the epochs, which lengthen the run by less than 10%",
              *(f"{a:.1%}" for a, _ in alarms)],
             ["the same, by 10% or more", *(f"{b:.0%}" for _, b in alarms)]]
    rows += [[f"another program for {share:.0%} of the run, which slows it {factor:g} times "
              f"(+{share * (factor - 1):.0%})", *(f"{power(n, share, factor):.0%}" for n in EPOCHS)]
             for share, factor in STRETCHES]
    print(table(header, rows) + "\n")
    header = ["set", "quiet: any warning",
              *(f"one run {s:g} times slower: found" for s in SLOWDOWNS)]
    print(table(header, [
        [f"{runs} runs, spread {between:.0%} between runs, {spread:.0%} between epochs",
         f"{set_alarms(spread, between, runs):.1%}",
         *(f"{set_alarms(spread, between, runs, s):.0%}" for s in SLOWDOWNS)]
        for spread, between, runs in SETS_OF_RUNS]))


if __name__ == "__main__":
    main()
