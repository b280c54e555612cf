"""Simulated error rates of `compare`: coverage, false alarms and power.

The table of docs/comparing.md is printed by

    python -m tests.compliance.results.test_comparison_simulation
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest

from compliance.base.statistics import mann_whitney, ratio_bounds
from compliance.rcp.points import load_reference_points
from compliance.results.comparison import ALPHA, FASTER, SLOWER, _verdict, Ratio
from compliance.tracks import load_track

PAIRS, SEED = 16_000, 7
SIZES = [(4, 4), (4, 5), (5, 5), (10, 10), (20, 20), (5, 20), (20, 5), (4, 20), (20, 4)]
SPREADS = [(0.05, 0.05), (0.15, 0.15), (0.3, 0.3), (0.05, 0.3), (0.3, 0.05)]
# Intervals must cover the true ratio in 94 to 98% of cases; an estimate from PAIRS pairs has a
# standard error of 0.0019.
LOW, HIGH, SIGMAS = 0.94, 0.98, 3


@lru_cache
def epoch_pools() -> dict[str, np.ndarray]:
    """Returns the epochs to the target of the measured runs, by track and batch size."""
    pools = {}
    for track in ("ml-100k", "ml-1m", "ml-1m-paper", "ml-20m"):
        for point in load_reference_points(load_track(track)):
            epochs = [e for e in point.epochs if e is not None]
            pools[f"{track}, batch {point.batch_size:,}"] = np.array(epochs, np.float64)
    return pools


def lognormal(spread: float):
    """Returns a source of lognormal times with mean 1 and standard deviation about `spread`."""
    return lambda draw, shape: np.exp(spread * draw.standard_normal(shape) - spread**2 / 2)


def drawn_from(pool: np.ndarray):
    """Returns a source of epochs from a pool."""
    return lambda draw, shape: draw.choice(pool, shape)


def coverage(first, second, sizes, ratio, pairs=PAIRS) -> float:
    """Returns the share of intervals of the ratio of means that contain the true ratio."""
    draw = np.random.default_rng(SEED)
    a, b = first(draw, (pairs, sizes[0])), second(draw, (pairs, sizes[1]))
    half = ratio_bounds(*(x / x.mean(axis=1, keepdims=True) - 1 for x in (a, b)))
    off = np.log(b.mean(axis=1) / a.mean(axis=1)) - math.log(ratio)
    return float((np.abs(off) <= half + 1e-12).mean())


def coverage_of_epoch_seconds(pool, spread, sizes, pairs=PAIRS) -> float:
    """Returns the same share for seconds per epoch, with noise per run."""
    draw, influences, logs = np.random.default_rng(SEED), [], []
    for size in sizes:
        epochs = draw.choice(pool, (pairs, size))
        times = epochs * lognormal(spread)(draw, (pairs, size))
        parts = [x / x.mean(axis=1, keepdims=True) - 1 for x in (times, epochs)]
        influences.append(parts[0] - parts[1])
        logs.append(np.log(times.mean(axis=1) / epochs.mean(axis=1)))
    return float((np.abs(logs[1] - logs[0]) <= ratio_bounds(*influences) + 1e-12).mean())


class _Side:
    """The times of one set, as an argument of `_verdict`."""

    def __init__(self, times: np.ndarray) -> None:
        self.times_s = self.ranking_times_s = times.tolist()


def verdicts(first, second, sizes, ratio, pairs) -> dict[str, float]:
    """Returns the share of each verdict of the real rule; B's times are multiplied by `ratio`."""
    draw, shares = np.random.default_rng(SEED), {}
    for _ in range(pairs):
        a, b = first(draw, sizes[0]), second(draw, sizes[1]) * ratio
        value = b.mean() / a.mean()
        factor = math.exp(float(ratio_bounds(a / a.mean() - 1, b / b.mean() - 1)))
        found = _verdict(_Side(a), _Side(b), Ratio(value, value / factor, value * factor),
                         mann_whitney(a.tolist(), b.tolist()))
        shares[found] = shares.get(found, 0) + 1 / pairs
    return shares


def told_apart(spreads, sizes, ratio=1.0, pairs=2000) -> float:
    """Returns the share of pairs of sets with the verdict faster or slower."""
    shares = verdicts(*map(lognormal, spreads), sizes, ratio, pairs)
    return shares.get(FASTER, 0) + shares.get(SLOWER, 0)


def within(share: float, low: float, high: float, pairs: int) -> bool:
    """Whether a simulated share is compatible with a true share from `low` to `high`."""
    low_error, high_error = (SIGMAS * math.sqrt(x * (1 - x) / pairs) for x in (low, high))
    return low - low_error <= share <= high + high_error


@pytest.mark.parametrize("sizes", [(4, 4), (5, 20)])
def test_intervals_hold_as_often_as_they_say(sizes):
    """A subset of the slow test."""
    assert within(coverage(lognormal(0.3), lognormal(0.3), sizes, 1.0), LOW, HIGH, PAIRS)
    pool = epoch_pools()["ml-100k, batch 4,096"]
    assert within(coverage(drawn_from(pool), drawn_from(pool), sizes, 1.0), LOW, HIGH, PAIRS)


def test_equal_sets_of_unequal_spread_and_size_are_seldom_told_apart():
    assert told_apart((0.05, 0.3), (20, 5), pairs=400) <= ALPHA + SIGMAS * math.sqrt(
        ALPHA * (1 - ALPHA) / 400)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES)
def test_intervals_of_times_epochs_and_seconds_per_epoch_hold_94_to_98_percent(sizes):
    found = {f"times {a}, {b}": coverage(lognormal(a), lognormal(b), sizes, 1.0)
             for a, b in SPREADS}
    for name, pool in epoch_pools().items():
        found[name] = coverage(drawn_from(pool), drawn_from(pool), sizes, 1.0)
        found[f"{name}, s/epoch"] = coverage_of_epoch_seconds(pool, 0.1, sizes)
        for other_name, other in epoch_pools().items():
            found[f"{name} / {other_name}"] = coverage(
                drawn_from(pool), drawn_from(other), sizes, other.mean() / pool.mean())
    wrong = {k: v for k, v in found.items() if not within(v, LOW, HIGH, PAIRS)}
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES)
def test_sets_of_equal_mean_times_are_told_apart_at_most_once_in_twenty(sizes):
    pairs = 2000
    limit = ALPHA + SIGMAS * math.sqrt(ALPHA * (1 - ALPHA) / pairs)
    assert {s: share for s in SPREADS if (share := told_apart(s, sizes, pairs=pairs)) > limit} == {}


def table() -> str:
    """Returns the table of docs/comparing.md."""
    lines = ["| runs | coverage: times | epochs | seconds per epoch | told apart wrongly "
             "| finds 15%, spread 5% | 15% | 30% |", "|" + "---|" * 8]
    pools = epoch_pools()
    for sizes in SIZES:
        times = [coverage(lognormal(a), lognormal(b), sizes, 1.0) for a, b in SPREADS]
        epochs = [coverage(drawn_from(a), drawn_from(b), sizes, b.mean() / a.mean())
                  for a in pools.values() for b in pools.values()]
        seconds = [coverage_of_epoch_seconds(pool, 0.1, sizes) for pool in pools.values()]
        wrong = [told_apart(spreads, sizes, pairs=2000) for spreads in SPREADS]
        power = [told_apart((s, s), sizes, 1.15, pairs=1000) for s in (0.05, 0.15, 0.3)]
        cells = [f"{sizes[0]} and {sizes[1]}",
                 *(f"{min(x):.1%} to {max(x):.1%}" for x in (times, epochs, seconds, wrong)),
                 *(f"{p:.0%}" for p in power)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
