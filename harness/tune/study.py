"""The folder of a tuning, which is an experiment, and the database of its trials.

    results/<system>/experiments/<benchmark>/<UTC time>-tune[-NAME]/
        study.db       Optuna's SQLite database: one entry for each finished trial
        tune.json      settings, what was searched, minutes and candidates of the race
        tuned.flags    the tuned settings, for --flagfile
        report.txt, report.json, report.html
        confirmation/<UTC time>-start/, confirmation/<UTC time>-tuned/: ordinary sets of runs

A trial is written in one transaction when it has finished, so that a killed tuner loses at most
the trial that was running.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, Iterator

from harness.base.error_text import one_line
from harness.base.output_files import write_json
from harness.config.flag_values import ConfigError
from harness.config.run_config import RunConfig
from harness.results.set_folder import TreeError, try_lock
from harness.tune.learning.proposals import distributions, sampler_values
from harness.tune.learning.record import CONVERGED, FAILED, TrialRecord
from harness.tune.learning.settings import Settings, Space

STATE_FILE, DATABASE, FLAG_FILE = "tune.json", "study.db", "tuned.flags"
STATE_VERSION = 1
_STUDY_NAME, _RECORD = "tune", "record"
_SUFFIX = "-tune"


class TuningFolder:
    """The folder of one tuning, locked by this process.

    Args:
      path: The folder.
      state: The content of tune.json.

    Attributes:
      state: The content of tune.json; `save` writes it.
    """

    def __init__(self, path: Path, state: dict[str, Any]):
        self.path, self.state = path, state
        self._lock: int | None = None
        self._study: Any = None

    # -- state ----------------------------------------------------------------

    @property
    def racers(self) -> list[Settings]:
        """The settings in the race; empty before the race."""
        return [Settings.of(values) for values in self.state["racers"]]

    def save(self) -> None:
        """Writes tune.json."""
        write_json(self.path / STATE_FILE, self.state)

    def set_racers(self, racers: list[Settings]) -> None:
        """Records the settings in the race."""
        self.state["racers"] = [dataclasses.asdict(s) for s in racers]
        self.save()

    def add_seconds(self, seconds: float) -> None:
        """Adds to the time that all calls have spent."""
        self.state["seconds"] = round(self.state["seconds"] + seconds, 3)
        self.save()

    # -- trials ---------------------------------------------------------------

    def _open_study(self) -> Any:
        if self._study is None:
            import optuna

            optuna.logging.set_verbosity(optuna.logging.ERROR)
            storage = optuna.storages.RDBStorage(f"sqlite:///{self.path / DATABASE}")
            self._study = optuna.create_study(
                storage=storage, study_name=_STUDY_NAME, load_if_exists=True
            )
        return self._study

    def records(self) -> list[TrialRecord]:
        """Reads the finished trials, in their order.

        Raises:
          TreeError: The database is damaged.
        """
        try:
            trials = self._open_study().get_trials(deepcopy=False)
            return [_record_of(trial.user_attrs[_RECORD]) for trial in trials]
        except Exception as error:  # SQLAlchemy's and sqlite3's errors, missing keys
            raise TreeError(
                f"{self.path / DATABASE} cannot be read ({type(error).__name__}); leave out "
                "--resume to begin a new tuning"
            ) from None

    def add(self, record: TrialRecord, space: Space, value: float | None) -> None:
        """Writes a finished trial.

        Args:
          record: The trial.
          space: The space of the study.
          value: Expected seconds of a run, for Optuna's own tools; None if unknown.

        Raises:
          TreeError: The database cannot be written.
        """
        from optuna.distributions import IntDistribution
        from optuna.trial import TrialState, create_trial

        any_batch = IntDistribution(1, 2**31 - 1, log=True)
        is_valued = record.outcome == CONVERGED and value is not None
        state = TrialState.COMPLETE if is_valued else (
            TrialState.FAIL if record.outcome == FAILED else TrialState.PRUNED)
        trial = create_trial(
            state=state,
            value=value if is_valued else None,
            params=sampler_values(record.settings),
            # Optuna refuses other choices of a category later, but which batch sizes fit may change.
            distributions={**distributions(space), "batch_size": any_batch},
            user_attrs={_RECORD: json.dumps(dataclasses.asdict(record))},
            intermediate_values=dict(enumerate(record.hit_rates, 1)),
        )
        try:
            self._open_study().add_trial(trial)
        except Exception as error:  # SQLAlchemy's errors: the disk is full, the file is locked
            raise TreeError(
                f"{self.path / DATABASE}: a trial cannot be written ({one_line(error, 120)}); "
                "free space, then continue with --resume"
            ) from None

    # -- one tuner at a time ----------------------------------------------------

    def lock(self) -> None:
        """Locks the folder; raises TreeError if another tuner uses it."""
        self._lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not try_lock(self._lock):
            os.close(self._lock)
            self._lock = None
            raise TreeError(
                f"another tuner is using {self.path}; wait until it has ended, or leave out "
                "--resume"
            )

    def release(self) -> None:
        """Releases the lock; removes the folder if no trial was ever recorded in it."""
        if self._lock is None:
            return
        if self._study is not None and not self._study.get_trials(deepcopy=False):
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._lock = None


def _record_of(text: str) -> TrialRecord:
    values = json.loads(text)
    return TrialRecord(**{
        **values,
        "settings": Settings.of(values["settings"]),
        "hit_rates": tuple(values["hit_rates"]),
        "seconds": tuple(values["seconds"]),
    })  # fmt: skip


def open_folder(config: RunConfig, fixed: list[str]) -> TuningFolder:
    """Opens the folder of a new tuning or, with --resume, of the newest one with equal settings.

    Args:
      config: The settings.
      fixed: Dimensions that flags fix.

    Raises:
      ConfigError: --resume was given, and all tunings have other settings.
      TreeError: Another tuner is using the folder.
    """
    parent = config.system_dir / "experiments" / config.benchmark
    wanted = {"fixed": fixed, "settings": json.loads(json.dumps(config.shared_settings()))}
    suffix = _SUFFIX + (f"-{config.name}" if config.name else "")
    if config.resume:
        folder = _find(parent, suffix if config.name else None, wanted)
        if folder is not None:
            folder.lock()
            return folder
    set_id = base = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    count = 1
    while list(parent.glob(f"{set_id}*")):
        set_id, count = f"{base}_{count}", count + 1
    path = parent / f"{set_id}{suffix}"
    path.mkdir(parents=True)
    state = {"schema_version": STATE_VERSION, "kind": "tuning", "track": config.track_name,
             "system": config.system, **wanted, "seconds": 0.0, "racers": [], "confirmation": None}
    folder = TuningFolder(path, state)
    folder.lock()
    folder.save()
    return folder


def _find(parent: Path, suffix: str | None, wanted: dict[str, Any]) -> TuningFolder | None:
    """Returns the newest tuning with equal settings; None if there is no tuning at all."""
    newest: tuple[Path, dict[str, Any]] | None = None
    for path in sorted(parent.glob(f"*/{STATE_FILE}"), reverse=True):
        if suffix and not path.parent.name.endswith(suffix):
            continue
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads(path.read_text(encoding="utf-8"))
            if state["kind"] != "tuning" or state["schema_version"] != STATE_VERSION:
                continue
            if state["fixed"] == wanted["fixed"] and state["settings"] == wanted["settings"]:
                return TuningFolder(path.parent, state)
            newest = newest or (path.parent, state)
    if newest is None:
        return None
    path, state = newest
    if state["fixed"] != wanted["fixed"]:
        key, there, here = "fixed settings", state["fixed"], wanted["fixed"]
        there, here = (", ".join(x) or "none" for x in (there, here))
    else:
        names = sorted({*state["settings"], *wanted["settings"]})
        key = next(n for n in names if state["settings"].get(n) != wanted["settings"].get(n))
        there, here = state["settings"].get(key), wanted["settings"].get(key)
    raise ConfigError(
        f"--resume: the tuning {path.name} was started with {key} {there}, not {here}; give the "
        "same flags as then, or leave out --resume"
    )


# -- the lock of the machine ------------------------------------------------------


@contextlib.contextmanager
def timing_lock(path: Path) -> Iterator[bool]:
    """Holds the lock of this machine's timings; yields whether this process has it.

    While another tuner has it, trials train but are not timed.

    Args:
      path: The file, `timing.lock` in the user's cache folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:  # a cache folder that cannot be written to: no other tuner can use it either
        yield True
        return
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)
