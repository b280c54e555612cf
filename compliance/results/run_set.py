"""Sets of runs: the checked logs of one folder, each with its timeline."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from compliance.base.errors import UsageError
from compliance.checking.results import FileResult
from compliance.logs.find_logs import find_logs
from compliance.logs.keys import NO_RUN_REASONS
from compliance.logs.stage_times import StageTimes, stage_times
from compliance.logs.timeline import Timeline, read_timeline
from compliance.results.scoring import check_logs_for_scoring
from compliance.tracks import BUILTIN_TRACKS, Track, load_track


@dataclass(frozen=True)
class SetRun:
    """One log of a set.

    Attributes:
      file: The checker's result.
      timeline: The intervals, hit rates and settings of the log.
      stages: Seconds of each stage; None if the log has no complete run.
    """

    file: FileResult
    timeline: Timeline
    stages: StageTimes | None

    @property
    def is_complete_run(self) -> bool:
        """Whether the run ended by itself; an interrupted attempt is not a run."""
        facts = self.file.summary
        return facts.is_complete and facts.reason not in NO_RUN_REASONS

    @property
    def converged(self) -> bool:
        """Whether the run reached its target."""
        return bool(self.file.summary.converged)

    @property
    def has_nan_loss(self) -> bool:
        """Whether the run ended because its loss became NaN; such a run cannot converge."""
        return self.file.summary.reason == "nan_loss"

    @property
    def epochs_to_target(self) -> int | None:
        """Epochs until the run reached its target; None if it did not."""
        return self.timeline.epochs_to(self.file.summary.target) if self.converged else None


@dataclass(frozen=True)
class RunSet:
    """The logs of one folder.

    Attributes:
      path: The folder.
      runs: The logs in natural order of their names, including interrupted attempts.
    """

    path: str
    runs: list[SetRun]

    @property
    def files(self) -> list[FileResult]:
        """The checker's results."""
        return [run.file for run in self.runs]

    @property
    def track(self) -> Track | None:
        """The built-in track of all logs, or None; v0.5 logs that name none are of ml-20m."""
        names = {f.summary.track or ("ml-20m" if f.dialect == "v0.5" and f.ruleset else None)
                 for f in self.files}
        name = names.pop() if len(names) == 1 else None
        return load_track(name) if name in BUILTIN_TRACKS else None

    @property
    def target(self) -> float | None:
        """The target that all logs share, or None."""
        targets = {f.summary.target for f in self.files}
        return targets.pop() if len(targets) == 1 else None


def read_set(logs: list[Path], ruleset: str | None = None) -> RunSet:
    """Checks and reads the logs of one folder.

    Args:
      logs: The logs, at least one.
      ruleset: The ruleset for the check, as for `check_logs_for_scoring`.

    Returns:
      The set.
    """
    runs = []
    for file in check_logs_for_scoring(logs, ruleset):
        # A file without a digest could not be read, so it has no timeline.
        timeline = Timeline(file.path) if file.sha256 is None else read_timeline(file.path)
        runs.append(SetRun(file, timeline, stage_times(timeline)))
    return RunSet(str(logs[0].parent), runs)


def read_sets(folder: str | Path, ruleset: str | None = None) -> list[RunSet]:
    """Reads the sets under a folder: one for each folder that contains logs.

    Raises:
      UsageError: There is no such folder, or no log in it.
    """
    folder = require_folder(folder)
    groups: dict[Path, list[Path]] = {}
    for log in find_logs(folder):
        groups.setdefault(log.parent, []).append(log)
    return [read_set(logs, ruleset) for logs in groups.values()]


def read_single_set(folder: str | Path) -> RunSet:
    """Reads the only set under a folder.

    Raises:
      UsageError: There is no such folder, or it contains no set or several sets.
    """
    folder = require_folder(folder)
    parents = {log.parent: None for log in find_logs(folder)}
    if len(parents) > 1:
        raise UsageError(f"{folder}: contains {len(parents)} sets; give one of them, such as "
                         f"{next(iter(parents))}")
    return read_sets(folder)[0]


def require_folder(folder: str | Path) -> Path:
    """Returns the path if it is a folder.

    Raises:
      UsageError: It is not a folder.
    """
    path = Path(folder)
    if not path.is_dir():
        problem = "not a folder" if path.exists() else "no such folder"
        raise UsageError(f"{path}: {problem}; give the folder of a set, with result_*.txt in it")
    return path


def relative_paths(paths: Sequence[str]) -> list[str]:
    """Returns the paths relative to the innermost folder that contains all of these files."""
    absolute = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath([os.path.dirname(path) for path in absolute]) if absolute else ""
    return [os.path.relpath(path, root) for path in absolute]
