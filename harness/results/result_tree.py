"""The results of one benchmark on one system: complete, scored sets of the closed division.

    results/<system>/<benchmark>/result_N.txt     the latest of these sets, and nothing else
    results/<system>/system.json, reports/, logs/
    results/<system>/attempts/<benchmark>/        logs of current and interrupted attempts;
        ledger.jsonl (hash chain of all attempts); current/ and set.json (the current set);
        finished_set.json and checkpoints/ (of the set among the results); <identifier>/ (a set
        that was set aside or that failed)

A set is written to current/. When it is complete and scored, it replaces the set among the
results. Earlier versions wrote a set directly to the results. If such a set is complete, it is
marked as finished; otherwise it is moved to current/.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Callable

from compliance.chain.ledger import LEDGER_NAME
from harness.config.run_config import ConfigError, RunConfig
from harness.results import checkpoints
from harness.results.moves import exchange_folders, set_id_in_logs
from harness.results.set_file import (
    FINISHED_FILE,
    SET_FILE,
    SetFile,
    read_set_file,
    write_set_file,
)
from harness.results.set_folder import (
    SYSTEM_FILE,
    SetFolder,
    SetState,
    refuse_other_settings,
    runs_in,
)

_FOLDER_NAME = re.compile(r"\w+")


class ResultTree(SetFolder):
    """The folders of a set of the closed division, during the set and after it.

    Args:
      config: The settings of the set.

    Attributes:
      published: Folder of the set among the results.
      reports: Folder of the reports.
    """

    INSTEAD_OF_RESUME = "set it aside with --overwrite"

    def __init__(self, config: RunConfig):
        attempts_dir = config.system_dir / "attempts" / config.benchmark
        super().__init__(
            config, attempts_dir / "current", attempts_dir, config.system_dir / "logs"
        )
        self.published = self.root / self.benchmark
        self.reports = self.root / "reports"

    @property
    def report_stem(self) -> Path:
        """Path of the report, without its extension, for the current place of the set."""
        if self.results == self.published:
            return self.reports / self.benchmark
        is_under_way = self.results.name == "current"
        return (self.attempts_dir if is_under_way else self.results) / "report"

    def _set_files(self) -> list[Path]:
        return [self.set_file, self._finished_file, self.results / SET_FILE]

    @property
    def _finished_file(self) -> Path:
        return self.attempts_dir / FINISHED_FILE

    @property
    def _checkpoints(self) -> Path:
        """Folder of the checkpoints of the set among the results."""
        return self.attempts_dir / checkpoints.FOLDER

    # -- beginning ---------------------------------------------------------------

    def begin_set(
        self, config: RunConfig, num_runs_given: bool, conclude: Callable[[SetState], None]
    ) -> SetState:
        """Plans a new set, or the continuation of the current one.

        Args:
          config: The settings of the set.
          num_runs_given: Not used: such a set always has the track's number of runs.
          conclude: Scores the current set and moves it to its final place. Called if a harness
            died between the last run and this step.

        Raises:
          ConfigError: there is an unfinished set, and neither --resume nor --overwrite was
            given, or --resume was given with other settings.
          TreeError: the ledger is invalid or was changed outside the harness, and --overwrite
            was not given.
        """
        old = read_set_file(self.set_file)
        is_old_layout = old is not None and old.layout == 1
        damage = self._recover(old, self.published if is_old_layout else self.results)
        old = read_set_file(self.set_file)
        if damage is not None and not config.overwrite:
            raise self._damaged_ledger(damage)
        if old is not None and old.layout == 1:
            old = self._convert_old_layout(config, old)
        runs = self.finished_runs()
        if old is not None and not config.resume and runs.keys() >= set(range(old.num_runs)):
            conclude(SetState(old.set_id, old.num_runs))
            old, runs = None, {}
            self.results = self.attempts_dir / "current"
        if config.resume and (runs or old):
            return self._resume(config, old)
        if config.resume and (finished := self._finished_set(config)):
            return finished
        if config.resume and self.published_id() is not None:
            raise ConfigError(
                f"--resume: there is no unfinished set, and the set in {self.published} has other "
                "settings; leave out --resume to begin a new set"
            )
        self._refuse_unfinished(config, old, set(runs))
        if old or runs or damage is not None:
            self._steps.append(lambda: self._set_current_aside(old, damage is not None))
        return self._plan_new_set(config, self._new_set_id())

    def _resume(self, config: RunConfig, old: SetFile | None) -> SetState:
        if old is None:
            raise ConfigError(
                f"{self.results} was not written by this harness ({self.set_file} is missing or "
                f"damaged) and cannot be resumed; {self.INSTEAD_OF_RESUME}"
            )
        refuse_other_settings(config, old, self.INSTEAD_OF_RESUME)
        return self._plan_resume(config, old, old.num_runs)

    def _finished_set(self, config: RunConfig) -> SetState | None:
        """Returns the set among the results if it is complete and has the same settings."""
        finished = read_set_file(self._finished_file)
        if finished is None or finished.differing_setting(config):
            return None
        if not runs_in(self.published).keys() >= set(range(finished.num_runs)):
            return None
        self.results = self.published
        return SetState(
            finished.set_id, finished.num_runs, finished=frozenset(self.finished_runs())
        )

    def _refuse_unfinished(
        self, config: RunConfig, old: SetFile | None, runs: set[int]
    ) -> None:
        """Raises ConfigError if there is an unfinished set and --overwrite was not given."""
        has_attempts = old and self.attempts.ledger.set_ledger(old.set_id).attempts
        if (runs or has_attempts) and not config.overwrite:
            folder = self.results if runs else self.attempts_dir
            wanted = old.num_runs if old else config.required_runs
            raise ConfigError(
                f"{folder} contains an unfinished set ({len(runs)} of {wanted} runs); "
                "continue it with --resume, or set it aside with --overwrite"
            )

    def _convert_old_layout(self, config: RunConfig, old: SetFile) -> SetFile | None:
        """Converts a set of an earlier version, which is among the results, to this layout.

        A complete set is marked as finished. An unfinished set becomes the current set.
        """
        runs = runs_in(self.published)
        if runs.keys() >= set(range(old.num_runs)):
            self._steps.append(lambda: os.replace(self.set_file, self._finished_file))
            return None
        if not config.resume:
            self._refuse_unfinished(config, old, set(runs))
        if self.published.exists():
            os.rename(self.published, self.results)
        self.results.mkdir(exist_ok=True)
        if self._checkpoints.exists():
            os.rename(self._checkpoints, self.results / checkpoints.FOLDER)
        # Write the layout last, so that an interrupted conversion is repeated.
        write_set_file(self.set_file, old.set_id, config, old.num_runs)
        return read_set_file(self.set_file)

    # -- the place of a complete set ----------------------------------------------

    def published_id(self) -> str | None:
        """Returns the identifier of the set among the results; None if there is none."""
        if not runs_in(self.published):
            return None
        finished = read_set_file(self._finished_file)
        return finished.set_id if finished else set_id_in_logs(self.published)

    def aside_folder(self, set_id: str) -> Path:
        """Returns the folder to which a set will be or was moved, named after its identifier."""
        known = self.attempts.ledger.content.set_aside_folders.get(set_id)
        if known is not None and _FOLDER_NAME.fullmatch(known):
            return self.attempts_dir / known
        name, count = set_id, 1
        while (self.attempts_dir / name).exists():
            name, count = f"{set_id}_{count}", count + 1
        return self.attempts_dir / name

    def publish(self) -> None:
        """Moves the current set to the results; sets aside the previous set there."""
        old_id, current = self.published_id(), self.results
        if old_id is not None:
            folder = self.aside_folder(old_id)
            self._record_aside(old_id, folder)
            # If the system can exchange two folders, there is a complete set among the results
            # at any time.
            if exchange_folders(current, self.published):
                os.rename(current, folder)
            self._move_published_aside(folder)
        if current.exists():
            os.rename(current, self.published)
        self._finish_publishing()
        self.results = self.published

    def _finish_publishing(self) -> None:
        """Moves the remaining files of the set that is now among the results."""
        if (self.published / checkpoints.FOLDER).exists():
            os.rename(self.published / checkpoints.FOLDER, self._checkpoints)
        if self.system_file.exists():
            os.replace(self.system_file, self.root / SYSTEM_FILE)
        for path in self.attempts_dir.glob("report.*"):
            path.unlink()
        # Move set.json last: as long as it exists, these moves can be repeated.
        os.replace(self.set_file, self._finished_file)

    def set_failed_aside(self, state: SetState) -> Path:
        """Moves a complete set without a score to its own folder; returns the folder."""
        folder = self.aside_folder(state.set_id)
        self._record_aside(state.set_id, folder)
        self._move_current_aside(folder)
        self.results = folder
        return folder

    def _set_current_aside(self, old: SetFile | None, is_damaged: bool) -> None:
        """Sets the unfinished set aside, with its ledger if the ledger is damaged."""
        set_id = old.set_id if old else "unknown"
        folder = self.aside_folder(set_id)
        if not is_damaged:
            self._record_aside(set_id, folder)
        self._move_current_aside(folder)
        if is_damaged:
            os.rename(self.attempts_dir / LEDGER_NAME, folder / LEDGER_NAME)

    def _record_aside(self, set_id: str, folder: Path) -> None:
        """Records in the ledger that a set is set aside; call it before its files are moved."""
        if set_id not in self.attempts.ledger.content.set_aside_folders:
            self.attempts.ledger.append("set_aside", set=set_id, folder=folder.name)

    def _move_current_aside(self, folder: Path) -> None:
        """Moves the current set to `folder`; skips files that have already been moved."""
        current = self.attempts_dir / "current"
        if current.exists() and not folder.exists():
            os.rename(current, folder)
        folder.mkdir(parents=True, exist_ok=True)
        # Move set.json last: as long as it exists, the moves can be finished.
        for path in [*self.attempts_dir.glob("report.*"), self.system_file, self.set_file]:
            if path.exists():
                os.rename(path, folder / path.name)

    def _move_published_aside(self, folder: Path) -> None:
        """Moves the set among the results to `folder`; skips files that have been moved."""
        if self.published.exists() and not folder.exists():
            os.rename(self.published, folder)
        folder.mkdir(parents=True, exist_ok=True)
        if (self.root / SYSTEM_FILE).exists():
            shutil.copyfile(self.root / SYSTEM_FILE, folder / SYSTEM_FILE)
        paths = [self._checkpoints, *self.reports.glob(f"{self.benchmark}.*"), self._finished_file]
        for path in paths:
            if path.exists():
                os.rename(path, folder / path.name)

    def _finish_moves(self, old: SetFile | None) -> None:
        """Finishes the moves of a harness that died in `publish` or while it set a set aside."""
        set_aside = self.attempts.ledger.content.set_aside_folders
        finished = read_set_file(self._finished_file)
        is_new_in_place = old is not None and old.layout != 1 and (
            set_id_in_logs(self.published) == old.set_id)
        if is_new_in_place and self.results.exists():  # exchanged: current/ has the old set
            folder = self.aside_folder(set_id_in_logs(self.results) or "unknown")
            if not folder.exists():
                os.rename(self.results, folder)
        if finished is not None and finished.set_id in set_aside:
            self._move_published_aside(self.aside_folder(finished.set_id))
        if old is None or old.layout == 1:
            return
        if old.set_id in set_aside:
            self._move_current_aside(self.aside_folder(old.set_id))
        elif is_new_in_place:
            self._finish_publishing()
