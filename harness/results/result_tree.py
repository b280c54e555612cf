"""The results of one benchmark of one system: complete, scored sets of the closed division.

    results/<system>/<benchmark>/result_N.txt     the last of these sets, and nothing else
    results/<system>/system.json, reports/, logs/
    results/<system>/attempts/<benchmark>/        logs under way and interrupted; ledger.jsonl
        (every attempt, in a chain); current/ and set.json (the set under way);
        finished_set.json and checkpoints/ (of the set among the results); <identifier>/ (a set
        that was set aside, or that failed)

A set is made in current/ and takes the place of the one among the results when it is
complete and scored. Sets of earlier versions, which were made among the results, are finished
or moved to current/.
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
    """Where a set of the closed division is made, and where it goes.

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
        """Path of the report of the set, wherever it is, without its ending."""
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
        """Plans a new set, or to go on with the one under way.

        Args:
          config: The settings of the set.
          num_runs_given: Whether --num_runs was given; such a set has the track's number.
          conclude: Judges the set under way and moves it to its place: called where a harness
            died between the last run and that.

        Raises:
          ConfigError: an unfinished set is there and neither --resume nor --overwrite was
            given, or --resume with other settings.
          TreeError: the ledger was changed by somebody else, and --overwrite was not given.
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
                f"--resume: there is no unfinished set, and the one in {self.published} has other "
                "settings; leave out --resume to make another one"
            )
        self._refuse_unfinished(config, old, set(runs))
        if old or runs or damage is not None:
            self._steps.append(lambda: self._set_current_aside(old, damage is not None))
        return self._plan_new_set(config, self._new_set_id())

    def _resume(self, config: RunConfig, old: SetFile | None) -> SetState:
        if old is None:
            raise ConfigError(
                f"{self.results} was not made by this harness ({self.set_file} is missing or "
                f"damaged) and cannot be resumed; {self.INSTEAD_OF_RESUME}"
            )
        refuse_other_settings(config, old, self.INSTEAD_OF_RESUME)
        return self._plan_resume(config, old, old.num_runs)

    def _finished_set(self, config: RunConfig) -> SetState | None:
        """The set among the results, where it has the same settings: nothing is missing."""
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
        """Raises ConfigError where a set was begun and not completed, without --overwrite."""
        has_attempts = old and self.attempts.ledger.set_ledger(old.set_id).attempts
        if (runs or has_attempts) and not config.overwrite:
            folder = self.results if runs else self.attempts_dir
            wanted = old.num_runs if old else config.required_runs
            raise ConfigError(
                f"{folder} holds an unfinished set ({len(runs)} of {wanted} runs); "
                "go on with --resume, or set it aside with --overwrite"
            )

    def _convert_old_layout(self, config: RunConfig, old: SetFile) -> SetFile | None:
        """Makes a set of an earlier version, which is among the results, one of this layout.

        A complete one is finished. An unfinished one becomes the set under way.
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
        # The layout is written last, so that an interrupted conversion is made again.
        write_set_file(self.set_file, old.set_id, config, old.num_runs)
        return read_set_file(self.set_file)

    # -- the place of a complete set ----------------------------------------------

    def published_id(self) -> str | None:
        """Returns the identifier of the set among the results; None where there is none."""
        if not runs_in(self.published):
            return None
        finished = read_set_file(self._finished_file)
        return finished.set_id if finished else set_id_in_logs(self.published)

    def aside_folder(self, set_id: str) -> Path:
        """Returns the folder to which a set will be or was moved: its identifier, if it is free."""
        known = self.attempts.ledger.content.set_aside_folders.get(set_id)
        if known is not None and _FOLDER_NAME.fullmatch(known):
            return self.attempts_dir / known
        name, count = set_id, 1
        while (self.attempts_dir / name).exists():
            name, count = f"{set_id}_{count}", count + 1
        return self.attempts_dir / name

    def publish(self) -> None:
        """Puts the set under way among the results; sets aside the one that was there."""
        old_id, current = self.published_id(), self.results
        if old_id is not None:
            folder = self.aside_folder(old_id)
            self._record_aside(old_id, folder)
            # At every moment a whole set is among the results, where the system can exchange
            # two folders.
            if exchange_folders(current, self.published):
                os.rename(current, folder)
            self._move_published_aside(folder)
        if current.exists():
            os.rename(current, self.published)
        self._finish_publishing()
        self.results = self.published

    def _finish_publishing(self) -> None:
        """Moves everything that belongs to the set which is now among the results."""
        if (self.published / checkpoints.FOLDER).exists():
            os.rename(self.published / checkpoints.FOLDER, self._checkpoints)
        if self.system_file.exists():
            os.replace(self.system_file, self.root / SYSTEM_FILE)
        for path in self.attempts_dir.glob("report.*"):
            path.unlink()
        # Goes last: as long as set.json is there, these moves can be made again.
        os.replace(self.set_file, self._finished_file)

    def set_failed_aside(self, state: SetState) -> Path:
        """Moves a complete set that has no score to a folder of its own; returns it."""
        folder = self.aside_folder(state.set_id)
        self._record_aside(state.set_id, folder)
        self._move_current_aside(folder)
        self.results = folder
        return folder

    def _set_current_aside(self, old: SetFile | None, is_damaged: bool) -> None:
        """Moves the unfinished set aside, with its ledger where that is damaged."""
        set_id = old.set_id if old else "unknown"
        folder = self.aside_folder(set_id)
        if not is_damaged:
            self._record_aside(set_id, folder)
        self._move_current_aside(folder)
        if is_damaged:
            os.rename(self.attempts_dir / LEDGER_NAME, folder / LEDGER_NAME)

    def _record_aside(self, set_id: str, folder: Path) -> None:
        """Records in the ledger that a set is set aside, before its files move."""
        if set_id not in self.attempts.ledger.content.set_aside_folders:
            self.attempts.ledger.append("set_aside", set=set_id, folder=folder.name)

    def _move_current_aside(self, folder: Path) -> None:
        """Moves the set under way; skips what was moved already."""
        current = self.attempts_dir / "current"
        if current.exists() and not folder.exists():
            os.rename(current, folder)
        folder.mkdir(parents=True, exist_ok=True)
        # set.json goes last: as long as it is there, the moves can be finished.
        for path in [*self.attempts_dir.glob("report.*"), self.system_file, self.set_file]:
            if path.exists():
                os.rename(path, folder / path.name)

    def _move_published_aside(self, folder: Path) -> None:
        """Moves the set among the results; skips what was moved already."""
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
        if is_new_in_place and self.results.exists():  # exchanged: current/ is the old set
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
