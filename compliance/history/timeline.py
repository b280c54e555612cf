"""The sets of each benchmark in the order of their start, with changed settings and steps.

Each set is compared with the sets before it of the same track and target by the test of
`compare`: with the runs of up to SETS_OF_LEVEL sets, back to the last step. Experiments are
compared with sets that are no experiments. docs/comparing.md has the simulated error rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from compliance.history.ledgers import LedgerReader
from compliance.history.set_entry import (
    FAIL,
    UNSCORED,
    SetEntry,
    missing_entry,
    read_set_entry,
)
from compliance.history.set_folders import (
    ASIDE,
    EXPERIMENT,
    RESULT,
    UNDER_WAY,
    SetPlace,
    find_set_folders,
)
from compliance.results.comparison import FASTER, SLOWER, verdict_between
from compliance.results.run_set import RunSet

SCHEMA_VERSION = 1
SETS_OF_LEVEL = 4


@dataclass(frozen=True)
class BenchmarkHistory:
    """The sets of one benchmark on one system.

    Attributes:
      system: The name of the system's folder.
      benchmark: The name of the benchmark's folder.
      sets: The listed sets, the oldest first.
    """

    system: str
    benchmark: str
    sets: list[SetEntry]

    @property
    def steps(self) -> list[SetEntry]:
        """The sets that are faster or slower than those before."""
        return [entry for entry in self.sets if entry.step in (FASTER, SLOWER)]


@dataclass(frozen=True)
class History:
    """The answer of `history`.

    Attributes:
      path: The folder that was given.
      benchmarks: The histories, by system and benchmark.
      hidden_aside: The number of sets that --set_aside would add.
      hidden_experiments: The number of sets that --experiments would add.
    """

    path: str
    benchmarks: list[BenchmarkHistory]
    hidden_aside: int
    hidden_experiments: int

    @property
    def has_unreadable_logs(self) -> bool:
        """Whether a log of a listed set cannot be read or is incomplete."""
        return any(log.problem is not None for one in self.benchmarks for entry in one.sets
                   for log in entry.logs)


def build_history(folder: str | Path, with_aside: bool = False, with_experiments: bool = False
                  ) -> History:
    """Reads the history of every benchmark under a folder.

    Args:
      folder: As for `find_set_folders`.
      with_aside: Whether to list sets that never were a result: unfinished and failed ones.
      with_experiments: Whether to list experiments.

    Raises:
      UsageError: There is no such folder, or no log in it.
    """
    places = find_set_folders(folder)
    ledgers = LedgerReader()
    groups: dict[tuple[Path, str], list[SetPlace]] = {}
    for place in places:
        groups.setdefault((place.system, place.benchmark), []).append(place)
    benchmarks, num_aside, num_experiments = [], 0, 0
    for (system, benchmark), members in groups.items():
        experiments = [place for place in members if place.kind == EXPERIMENT]
        if not with_experiments:
            num_experiments += len(experiments)
        wanted = [place for place in members if with_experiments or place.kind != EXPERIMENT]
        entries = [read_set_entry(place, ledgers.of_folder(place.folder)) for place in wanted]
        entries += _missing_sets(system, benchmark, members, entries, ledgers)
        shown = [entry for entry in entries if with_aside or not _was_never_a_result(entry)]
        num_aside += len(entries) - len(shown)
        if shown:
            _add_changes_and_steps(shown)
            benchmarks.append(BenchmarkHistory(system.name, benchmark, shown))
    return History(str(folder), benchmarks, num_aside, num_experiments)


def _was_never_a_result(entry: SetEntry) -> bool:
    """Whether a set is known to have been unfinished or failed; a damaged one may be anything."""
    if entry.kind == UNDER_WAY:
        return True
    return entry.kind == ASIDE and entry.score is not None and entry.verdict in (FAIL, UNSCORED)


def _missing_sets(system: Path, benchmark: str, places: list[SetPlace], entries: list[SetEntry],
                  ledgers: LedgerReader) -> list[SetEntry]:
    """Returns the sets with results in the benchmark's ledger that have no folder."""
    path = system / "attempts" / benchmark / "ledger.jsonl"
    ledger = ledgers.at(path).ledger if path.is_file() else None
    if ledger is None:
        return []
    known = {entry.set_id for entry in entries} | {place.folder.name for place in places}
    # The set of an experiment by an earlier version has a copy of this ledger.
    known |= {place.folder.name.partition("-")[0] for place in places}
    missing = []
    for set_id, found in ledger.sets.items():
        num_results = len({attempt.run for attempt in found.attempts if attempt.is_result})
        if set_id in known or not num_results:
            continue
        aside = ledger.set_aside_folders.get(set_id)
        # The path is shown, never opened.
        folder = system / benchmark if aside is None else path.parent / Path(aside).name
        missing.append(missing_entry(
            folder, RESULT if aside is None else ASIDE, set_id,
            f"the ledger has {num_results} results of this set, whose logs are missing"))
    return missing


def _add_changes_and_steps(entries: list[SetEntry]) -> None:
    """Sorts the sets by their start; adds what changed, and whether the time did."""
    entries.sort(key=lambda entry: (entry.start_s or math.inf, entry.set_id or "", entry.path))
    # By task, the sets since the last step, which determine the present level.
    levels: dict[object, list[SetEntry]] = {}
    for entry in entries:
        if entry.score is None or entry.task is None:
            continue
        level = levels.setdefault(entry.task, [])
        if level:
            entry.before = level[-SETS_OF_LEVEL:]
            old, new = level[-1].settings, entry.settings
            # A setting that one of the two does not log is not counted as changed.
            entry.changes = [(name, old[name], new[name]) for name in new
                             if name in old and old[name] != new[name]]
            entry.step, entry.ratio = _compare(entry.before, entry)
        if entry.kind == EXPERIMENT and level:
            continue
        if entry.step in (FASTER, SLOWER) or level and level[-1].kind == EXPERIMENT:
            level.clear()
        level.append(entry)


def _compare(before: list[SetEntry], entry: SetEntry
             ) -> tuple[str, tuple[float, float | None, float | None] | None]:
    """Returns the verdict of `compare` on the runs of several sets and those of one set."""
    runs = [run for one in before for run in one.run_set().runs]
    verdict, ratio = verdict_between(RunSet(before[-1].path, runs), entry.run_set())
    return verdict, None if ratio is None else (ratio.value, ratio.low, ratio.high)
