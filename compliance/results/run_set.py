"""Sets of runs for the verbs that compare them: judged logs with their timelines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compliance.base.errors import UsageError
from compliance.checking.results import FileResult
from compliance.logs.find_logs import find_logs
from compliance.logs.keys import NO_RUN_REASONS
from compliance.logs.stage_times import StageTimes, stage_times
from compliance.logs.timeline import Timeline, read_timeline
from compliance.results.scoring import judge_logs
from compliance.tracks import BUILTIN_TRACKS, Track, load_track


@dataclass(frozen=True)
class SetRun:
    """One log of a set: what the checker and the clock say of it."""

    file: FileResult
    line: Timeline
    stages: StageTimes | None

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.file.path).name

    @property
    def is_run(self) -> bool:
        """Whether it ran to an end of its own: an interrupted attempt is no run."""
        facts = self.file.facts
        return facts.complete and facts.reason not in NO_RUN_REASONS

    @property
    def converged(self) -> bool:
        """Whether it reached its target."""
        return bool(self.file.facts.converged)

    @property
    def lost(self) -> bool:
        """Whether its loss was lost: it would never have converged."""
        return self.file.facts.reason == "nan_loss"

    @property
    def epochs(self) -> int | None:
        """Epochs to the target; None where it did not reach it."""
        return self.line.epochs_to(self.file.facts.target) if self.converged else None


@dataclass(frozen=True)
class RunSet:
    """The logs of one folder, in natural order."""

    path: str
    runs: list[SetRun]

    @property
    def files(self) -> list[FileResult]:
        """The judged logs."""
        return [run.file for run in self.runs]

    def one(self, what: str, values: list[object]) -> str | None:
        """Why there is not one value for the whole set; None where there is."""
        known = {repr(v) for v in values}
        return f"the set mixes {what}" if len(known) > 1 else None

    @property
    def track(self) -> Track | None:
        """The built-in track of all its runs; v0.5 logs follow ml-20m's rules."""
        names = {"ml-20m" if f.dialect == "v0.5" and f.ruleset else f.facts.track
                 for f in self.files}
        name = names.pop() if len(names) == 1 else None
        return load_track(name) if name in BUILTIN_TRACKS else None

    @property
    def target(self) -> float | None:
        """The one target of all its runs."""
        targets = {f.facts.target for f in self.files}
        return targets.pop() if len(targets) == 1 else None


def read_set(logs: list[Path], ruleset: str | None = None) -> RunSet:
    """Judges (as `judge_logs` does) and reads the logs of one folder."""
    runs = []
    for file in judge_logs(logs, ruleset):
        line = Timeline(file.path) if file.sha256 is None else read_timeline(file.path)
        runs.append(SetRun(file, line, stage_times(line)))
    return RunSet(str(logs[0].parent), runs)


def read_sets(folder: str | Path, ruleset: str | None = None) -> list[RunSet]:
    """The sets under a folder, one for each folder with logs.  Raises UsageError."""
    folder = existing_folder(folder)
    groups: dict[Path, list[Path]] = {}
    for log in find_logs(folder):
        groups.setdefault(log.parent, []).append(log)
    return [read_set(logs, ruleset) for logs in groups.values()]


def read_one_set(folder: str | Path) -> RunSet:
    """The only set under a folder.  Raises UsageError where there are several."""
    folder = existing_folder(folder)
    parents = {log.parent: None for log in find_logs(folder)}
    if len(parents) > 1:
        raise UsageError(f"{folder}: {len(parents)} sets under it; give one, such as "
                         f"{next(iter(parents))}")
    return read_sets(folder)[0]


def existing_folder(folder: str | Path) -> Path:
    """The path, if it is a folder.  Raises UsageError."""
    path = Path(folder)
    if not path.is_dir():
        what = "is no folder" if path.exists() else "there is no such folder"
        raise UsageError(f"{path}: {what}; give the folder of a set, with result_*.txt in it")
    return path
