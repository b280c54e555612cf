"""Experiments: sets of runs that are not results.

    results/<system>/experiments/<benchmark>/<UTC time>[-NAME]/
        result_N.txt, report.txt, report.json, system.json
        attempts/      set.json, ledger.jsonl, logs of current and interrupted attempts
        checkpoints/, logs/

A set is an experiment if it is in the open division, has fewer runs than the track requires, is
profiled or uses synthetic data. An experiment never changes a result or another experiment.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Callable

from compliance.chain.ledger import LEDGER_NAME, LedgerError
from compliance.logs.find_logs import natural_sort_key
from harness.config.run_config import RunConfig
from harness.results import checkpoints
from harness.results.ledger_file import LedgerFile
from harness.results.set_file import SET_FILE, SetFile, read_set_file, write_set_file
from harness.results.set_folder import (
    SYSTEM_FILE,
    SetFolder,
    SetState,
    refuse_other_settings,
    runs_in,
)


class Experiment(SetFolder):
    """The folder of an experiment.

    Args:
      config: The settings of the set.
      parent: The folder in which the experiment's folder is made; None for that of the benchmark.
    """

    INSTEAD_OF_RESUME = "leave out --resume"

    def __init__(self, config: RunConfig, parent: Path | None = None):
        self._parent = parent or config.system_dir / "experiments" / config.benchmark
        self._name = config.name
        super().__init__(config, self._parent, self._parent / "attempts", self._parent / "logs")

    @property
    def system_file(self) -> Path:
        """Path of the system's description, in the folder of the logs."""
        return self.results / SYSTEM_FILE

    @property
    def report_stem(self) -> Path:
        """Path of the report without its extension."""
        return self.results / "report"

    def begin_set(
        self, config: RunConfig, num_runs_given: bool, conclude: Callable[[SetState], None]
    ) -> SetState:
        """Plans a new experiment or, with --resume, the continuation of the newest unfinished one.

        If no experiment with these settings is unfinished, --resume selects the newest finished
        experiment, which has no missing runs.

        Args:
          config: The settings of the set.
          num_runs_given: Whether --num_runs was given; it then overrides the number of runs
            of a resumed experiment.
          conclude: Not used: an experiment is never moved.

        Raises:
          ConfigError: --resume was given, and all unfinished experiments have other settings.
          TreeError: --resume was given, and the ledger is invalid or was changed outside the
            harness.
        """
        found = self._find(config, num_runs_given) if config.resume else None
        if found is None:
            set_id, folder = self._new_folder()
            self._use(folder)
            self._recover(None, self.results)
            self._steps.append(lambda: self.attempts_dir.mkdir(parents=True, exist_ok=True))
            return self._plan_new_set(config, set_id)
        folder, old = found
        self._use(folder)
        damage = self._recover(old, self.results)
        if damage is not None:
            raise self._damaged_ledger(damage)
        return self._plan_resume(
            config, old, config.num_runs if num_runs_given else old.num_runs
        )

    def _use(self, folder: Path) -> None:
        """Sets the paths to those of one experiment."""
        self.results, self.attempts_dir, self.logs = folder, folder / "attempts", folder / "logs"

    def _new_folder(self) -> tuple[str, Path]:
        """Returns a new identifier (UTC time) and a folder named after it and `--name`."""
        set_id = base = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        count = 1
        while list(self._parent.glob(f"{set_id}*")):
            set_id, count = f"{base}_{count}", count + 1
        return set_id, self._parent / (f"{set_id}-{self._name}" if self._name else set_id)

    def _find(self, config: RunConfig, num_runs_given: bool) -> tuple[Path, SetFile] | None:
        """Finds the newest experiment with these settings; unfinished experiments come first.

        Raises ConfigError if none matches and there are unfinished experiments.
        """
        self._convert_old_layout(config)
        finished, unfinished = [], []
        for path in sorted(self._parent.glob(f"*/attempts/{SET_FILE}"), key=natural_sort_key):
            old = read_set_file(path)
            folder = path.parents[1]
            if old is None or self._name and not folder.name.endswith(f"-{self._name}"):
                continue
            num_runs = config.num_runs if num_runs_given else old.num_runs
            is_complete = runs_in(folder).keys() >= set(range(num_runs))
            is_open = not is_complete or _has_open_attempt(path.parent)
            (unfinished if is_open else finished).append((folder, old))
        for folder, old in [*reversed(unfinished), *reversed(finished)]:
            if old.differing_setting(config) is None:
                return folder, old
        if unfinished:
            refuse_other_settings(config, unfinished[-1][1], self.INSTEAD_OF_RESUME)
        return None

    def _convert_old_layout(self, config: RunConfig) -> None:
        """Converts an unfinished set of an earlier version with these settings to an experiment."""
        attempts, published = self.root / "attempts" / self.benchmark, self.root / self.benchmark
        old = read_set_file(attempts / SET_FILE)
        if old is None or old.layout != 1 or old.differing_setting(config):
            return
        if runs_in(published).keys() >= set(range(old.num_runs)):
            return
        folder = self._parent / old.set_id
        folder.parent.mkdir(parents=True, exist_ok=True)
        if published.exists() and not folder.exists():
            os.rename(published, folder)
        (folder / "attempts").mkdir(parents=True, exist_ok=True)
        if (attempts / LEDGER_NAME).exists():
            # Copy the ledger, because it also records the earlier sets of the benchmark.
            shutil.copyfile(attempts / LEDGER_NAME, folder / "attempts" / LEDGER_NAME)
        for path in attempts.glob(f"run_*_{old.set_id}_*.txt"):
            os.rename(path, folder / "attempts" / path.name)
        if (attempts / checkpoints.FOLDER).exists():
            os.rename(attempts / checkpoints.FOLDER, folder / checkpoints.FOLDER)
        write_set_file(folder / "attempts" / SET_FILE, old.set_id, config, old.num_runs)
        (attempts / SET_FILE).unlink()


def _has_open_attempt(attempts_dir: Path) -> bool:
    """Returns whether the ledger has an attempt without an end, whose harness died."""
    try:
        return bool(LedgerFile(attempts_dir).open_attempts())
    except (LedgerError, OSError):
        return True  # `begin_set` reports the error
