"""The confirmation: complete, ordinary sets of runs with the start settings and the tuned ones.

The runs have seeds that no trial had, so that the choice among many settings cannot flatter them.
Both sets run in turns, so that a machine that gets slower or faster does not favour one. They are
experiments in the tuning's folder: no other command takes them for a result.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance.checking.checker import check_folder_log
from compliance.checking.results import PASS
from compliance.rcp.verdict import check_folder_convergence
from compliance.report.comparison import verdict_sentence
from compliance.results.comparison import FASTER, compare_run_sets
from compliance.results.run_set import read_single_set
from compliance.results.scoring import score_folder
from harness.base import exit_codes
from harness.base.console import Console
from harness.config.run_config import RunConfig
from harness.launcher import run_set
from harness.processes.trial_process import Interrupts
from harness.results.set_folder import TreeError
from harness.tune.learning.settings import Settings

FOLDER = "confirmation"
START, TUNED = "start", "tuned"
# `compare` needs at least 4 runs that converged on each side. A set of a rule with more runs than
# this would take too long; 5 runs are confirmed then.
MAX_RUNS, FEW_RUNS = 10, 5


@dataclass(frozen=True)
class Confirmation:
    """The answer of a confirmation.

    Attributes:
      folders: The folder of each set, by START and TUNED.
      verdict: The verdict of `compare`, the start settings first.
      sentence: The same in a sentence.
      ratio: Time of the tuned settings over that of the start settings: value, low, high; None if
        too few runs converged.
      scores: Score of each set in seconds, or None.
      converged: (Runs that converged, runs) of each set.
      convergence: (Verdict of `convergence`, its reason or p value) of the tuned set.
      violations: Logs that do not pass `check`.
    """

    folders: dict[str, Path]
    verdict: str
    sentence: str
    ratio: tuple[float, float | None, float | None] | None
    scores: dict[str, float | None]
    converged: dict[str, tuple[int, int]]
    convergence: tuple[str, str]
    violations: int = 0

    @property
    def is_confirmed(self) -> bool:
        """Whether the tuned settings are shown to be faster, by logs that pass `check`."""
        return self.verdict == FASTER and not self.violations

    def as_json(self, root: Path) -> dict[str, Any]:
        """Returns JSON values, with paths relative to `root`."""
        return {
            **dataclasses.asdict(self),
            "folders": {name: os.path.relpath(path, root) for name, path in self.folders.items()},
            "confirmed": self.is_confirmed,
        }


def confirmation_runs(config: RunConfig, num_runs_given: bool) -> int:
    """Returns the number of runs of each set: the track's, or --num_runs."""
    if num_runs_given:
        return config.num_runs
    return config.required_runs if config.required_runs <= MAX_RUNS else FEW_RUNS


def confirm(
    config: RunConfig, tuned: Settings, folder: Path, runs: int, console: Console,
    interrupts: Interrupts,
) -> Confirmation | None:  # fmt: skip
    """Runs both sets and compares them.

    Args:
      config: The settings of the tuning, with the start settings.
      tuned: The tuned settings.
      folder: The tuning's folder.
      runs: Runs of each set.
      console: Shows the progress of the runs.
      interrupts: Handles this process's signals.

    Returns:
      The answer; None if it was interrupted.
    """
    parent, folders = folder / FOLDER, {}
    configs = {START: Settings.of(config).apply_to(config), TUNED: tuned.apply_to(config)}
    silent = Console(stream=open(os.devnull, "w"), quiet=True)
    for number in range(1, runs + 1):
        # Start, tuned, tuned, start: neither is always the first of a turn.
        for name in ((START, TUNED), (TUNED, START))[(number - 1) % 2]:
            console.progress(f"confirmation run {number}/{runs} {name} settings", lasting=False)
            one = dataclasses.replace(
                configs[name], name=name, num_runs=number, resume=number > 1, overwrite=False,
                quiet=True,
            )  # fmt: skip
            before = set(parent.glob(f"*-{name}"))
            code = run_set.run_config(one, True, silent, interrupts, parent)
            if code == exit_codes.INTERRUPTED or interrupts.requested:
                return None
            if number == 1:
                made = set(parent.glob(f"*-{name}")) - before
                if not made:
                    raise TreeError(f"--tune: the run with the {name} settings did not start")
                folders[name] = made.pop()
            _show_run(console, folders[name], name, number, runs)
    return compare_folders(folders)


def _show_run(console: Console, folder: Path, name: str, number: int, runs: int) -> None:
    """Shows the result of one run; raises TreeError if it has none."""
    log = folder / f"result_{number - 1}.txt"
    if not log.exists():
        raise TreeError(f"--tune: a run of the confirmation has no result; see {folder / 'logs'}")
    summary = check_folder_log(log, "auto").summary
    outcome = "converged" if summary.converged else "not converged"
    console.progress(
        f"confirmation run {number}/{runs} {name} settings: {summary.num_accuracies} epochs, "
        f"{summary.seconds or 0:.3f} s, {outcome}"
    )


def compare_folders(folders: dict[str, Path]) -> Confirmation:
    """Compares the two sets and tests how fast the tuned one converged."""
    sets = {name: read_single_set(path) for name, path in folders.items()}
    comparison = compare_run_sets(sets[START], sets[TUNED])
    scores = {name: score_folder(path).result.seconds for name, path in folders.items()}
    (tuned,) = check_folder_convergence(folders[TUNED]).sets
    detail = tuned.reason or (f"p {tuned.test.p_value:.2g}" if tuned.test else "")
    time = comparison.time
    return Confirmation(
        folders,
        comparison.verdict,
        verdict_sentence(comparison),
        None if time is None else (time.value, time.low, time.high),
        scores,
        {name: (sum(r.converged for r in s.runs), len(s.runs)) for name, s in sets.items()},
        (tuned.verdict, detail),
        sum(f.verdict != PASS for s in sets.values() for f in s.files),
    )
