"""Simulated error rates of the steps of `history`.

The table of docs/comparing.md is printed by

    python -m tests.compliance.history.test_step_simulation
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest

from compliance.history.timeline import _add_changes_and_steps
from compliance.rcp.points import load_reference_points
from compliance.results.comparison import FASTER, SLOWER
from compliance.tracks import load_track

RUNS, SEED, HISTORIES, SETS = 5, 3, 40, 40
BEFORE, AFTER = 8, 4
CHANGES = (1.1, 1.25, 1.5)
TIMES = ("spread 5%", "spread 15%", "epochs of ml-100k")


@lru_cache
def pool() -> np.ndarray:
    """Returns the epochs to the target of the reference runs of ml-100k."""
    epochs = [e for e in load_reference_points(load_track("ml-100k"))[0].epochs if e is not None]
    return np.array(epochs, np.float64)


def draw_times(draw: np.random.Generator, name: str) -> np.ndarray:
    """Returns the seconds of the runs of one set."""
    if name == "epochs of ml-100k":
        return draw.choice(pool(), RUNS) * np.exp(0.05 * draw.standard_normal(RUNS))
    spread = float(name.split()[1].rstrip("%")) / 100
    return np.exp(spread * draw.standard_normal(RUNS))


def entry(number: int, times: np.ndarray) -> SimpleNamespace:
    """Returns a stand-in for a SetEntry whose runs took these seconds."""
    runs = [SimpleNamespace(is_complete_run=True, converged=True,
                            file=SimpleNamespace(summary=SimpleNamespace(seconds=t)),
                            timeline=SimpleNamespace(hit_rates=[0.1])) for t in times.tolist()]
    return SimpleNamespace(
        start_s=number + 1.0, set_id=None, path=str(number), score=object(), task="task",
        kind="result", settings={}, step=None, ratio=None, before=[], changes=[],
        run_set=lambda: SimpleNamespace(path=str(number), runs=runs))


def steps(times: list[np.ndarray]) -> list[str | None]:
    """Returns the step of each set of a history."""
    entries = [entry(number, seconds) for number, seconds in enumerate(times)]
    _add_changes_and_steps(entries)
    return [e.step if e.step in (FASTER, SLOWER) else None for e in entries]


def marked_by_chance(name: str, histories: int = HISTORIES) -> float:
    """Returns the share of sets that are marked although nothing changed."""
    draw = np.random.default_rng(SEED)
    found = [step is not None for _ in range(histories)
             for step in steps([draw_times(draw, name) for _ in range(SETS)])[1:]]
    return float(np.mean(found))


def found(name: str, change: float, histories: int = 5 * HISTORIES) -> tuple[float, float]:
    """Returns the shares of changes that are marked (at their first set, within AFTER sets)."""
    draw = np.random.default_rng(SEED)
    at_once = within = 0
    for _ in range(histories):
        times = [draw_times(draw, name) * (change if number >= BEFORE else 1)
                 for number in range(BEFORE + AFTER)]
        marks = [step == SLOWER for step in steps(times)[BEFORE:]]
        at_once += marks[0]
        within += any(marks)
    return at_once / histories, within / histories


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMES)
def test_few_sets_are_marked_by_chance(name):
    assert marked_by_chance(name) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name, change", [("spread 5%", 1.1), ("spread 15%", 1.5)])
def test_large_changes_are_found(name, change):
    assert found(name, change)[0] >= 0.9


def main() -> None:
    """Prints the table of docs/comparing.md."""
    heads = ["times of a run", "marked by chance",
             *(f"{c - 1:.0%} slower: at once (within {AFTER} sets)" for c in CHANGES)]
    print(f"| {' | '.join(heads)} |\n|---|{'---|' * (len(heads) - 1)}")
    for name in TIMES:
        cells = [f"{a:.0%} ({b:.0%})" for a, b in (found(name, c) for c in CHANGES)]
        print(f"| {name} | {marked_by_chance(name):.1%} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
