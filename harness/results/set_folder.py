"""The current set of runs: its folders, its attempts, and the lock on the system's results.

Nothing is written before the first trial reports that it can run (`SetFolder.start`), so a
command that cannot run leaves the disk unchanged.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from compliance.chain.ledger import LEDGER_NAME, LedgerError
from harness.base.clock import Stopwatch
from harness.config.run_config import ConfigError, RunConfig
from harness.results.attempts import AttemptRegistry, close_stray_logs
from harness.results.set_file import SET_FILE, SetFile, read_set_file, write_set_file

# If a harness was killed, its last trial keeps the lock until the trial has ended. A new
# harness waits for the lock this long.
LOCK_WAIT_SECONDS = 3.0
# The description of the system, in the system's folder and in the folders of sets that are
# not results.
SYSTEM_FILE = "system.json"
_RESULT_NAME = re.compile(r"result_(0|[1-9]\d*)\.txt")


class TreeError(RuntimeError):
    """The state of the result folder stops the harness; the message is for the user."""


class TreeLocked(TreeError):
    """Another harness is using the results of the same system."""


@dataclass(frozen=True)
class SetState:
    """The current set.

    Attributes:
      set_id: Its identifier, its start time in UTC.
      num_runs: Number of runs of the complete set.
      seeds: Seeds used by its attempts.
      finished: Numbers of the runs that were finished when the set was begun or resumed.
    """

    set_id: str
    num_runs: int
    seeds: frozenset[int] = frozenset()
    finished: frozenset[int] = frozenset()

    @property
    def missing_runs(self) -> list[int]:
        """The numbers of the runs that are not finished, in order."""
        return sorted(set(range(self.num_runs)) - self.finished)


class SetFolder:
    """The folders of one set of runs.

    Args:
      config: The settings of the set.

    Attributes:
      root: Folder of the system.
      benchmark: Name of the benchmark's folder.
      results: Folder of the set's logs.
      attempts_dir: Folder of set.json, the ledger and the logs of attempts.
      logs: Folder of the trials' console output.
      has_started: Whether a trial of this process has become an attempt.
      lock_descriptor: File descriptor of the lock; None if it is not locked.
    """

    # The advice in messages about a set that cannot be resumed.
    INSTEAD_OF_RESUME = ""

    def __init__(self, config: RunConfig, results: Path, attempts_dir: Path, logs: Path):
        self.root = config.system_dir
        self.benchmark = config.benchmark
        self.results, self.attempts_dir, self.logs = results, attempts_dir, logs
        self.has_started = False
        self.lock_descriptor: int | None = None
        self._attempts: AttemptRegistry | None = None
        # Steps to execute when the first trial can run.
        self._steps: list[Callable[[], None]] = []
        # Folders and the lock file created by this object, outermost first.
        self._made: list[Path] = []

    @property
    def attempts(self) -> AttemptRegistry:
        """The attempts in this set's ledger; available after `begin_set`."""
        if self._attempts is None:
            raise RuntimeError("no set has begun")
        return self._attempts

    @property
    def set_file(self) -> Path:
        """The file that describes the current set."""
        return self.attempts_dir / SET_FILE

    @property
    def system_file(self) -> Path:
        """Path of the system's description during the set."""
        return self.attempts_dir / SYSTEM_FILE

    @property
    def report_stem(self) -> Path:
        """Path of the report without its extension."""
        raise NotImplementedError

    def settings_of(self, set_id: str) -> dict[str, Any] | None:
        """Returns the settings of a set from its set.json; None if there is none."""
        found = map(read_set_file, self._set_files())
        return next((one.settings for one in found if one and one.set_id == set_id), None)

    def _set_files(self) -> list[Path]:
        """The files that may describe the set."""
        return [self.set_file]

    # -- one harness at a time ----------------------------------------------

    def lock(self) -> None:
        """Acquires the advisory lock on the system's results. Raises TreeLocked."""
        folder, watch = self.root / "attempts", Stopwatch()
        path = folder / ".lock"
        while True:
            self._make_folder(folder)
            is_new = not path.exists()
            with contextlib.suppress(FileNotFoundError):  # another harness removed the folder
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                if try_lock(descriptor) and _is_file(path, descriptor):
                    break
                os.close(descriptor)
            if watch.seconds() > LOCK_WAIT_SECONDS:
                raise TreeLocked(
                    f"another harness is using {self.root}; wait until it has ended, or use "
                    "another --system or --results_dir"
                )
            time.sleep(0.1)
        if is_new:
            self._made.append(path)
        self.lock_descriptor = descriptor

    def unlock(self) -> None:
        """Releases the lock, unless a running trial still has it.

        If no attempt has begun, the folders created by this object are removed again.
        """
        if self.lock_descriptor is None:
            return
        if not self.has_started:
            for path in reversed(self._made):
                with contextlib.suppress(OSError):  # another process uses it
                    path.rmdir() if path.is_dir() else path.unlink()
        os.close(self.lock_descriptor)
        self.lock_descriptor = None

    def _make_folder(self, folder: Path) -> None:
        """Creates a folder and its missing parents, and records which of them are new."""
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self._made += reversed(missing)

    # -- the runs ---------------------------------------------------------------

    def finished_runs(self) -> dict[int, Path]:
        """Returns the logs of finished runs by run number, in order."""
        return runs_in(self.results)

    def result_path(self, run: int) -> Path:
        """Returns the path of the log of a finished run."""
        return self.results / f"result_{run}.txt"

    def new_attempt(self, state: SetState, run: int) -> tuple[Path, Path]:
        """Returns unused paths for an attempt's (log, console output); creates the logs folder."""
        self._make_folder(self.logs)
        count = 1
        while True:
            log = self.attempts_dir / f"run_{run}_{state.set_id}_{count}.txt"
            console = self.logs / f"{self.benchmark}_result_{run}_{state.set_id}_{count}.log"
            if not log.exists() and not console.exists():
                return log, console
            count += 1

    # -- the set --------------------------------------------------------------

    def start(self) -> None:
        """Executes all steps deferred until a trial can run; later calls do nothing."""
        self.has_started = True
        while self._steps:
            self._steps.pop(0)()

    def discard_set(self, state: SetState) -> None:
        """Discards a set whose only attempt ended because of an invalid flag.

        The set is then treated as never begun, so the next call does not need --overwrite.
        """
        attempts = self.attempts.ledger.set_ledger(state.set_id).attempts
        if self.has_started and not self.finished_runs() and len(attempts) == 1:
            self.set_file.unlink(missing_ok=True)

    def _recover(self, old: SetFile | None, results: Path) -> str | None:
        """Closes the attempt that was running when a harness died.

        Args:
          old: The set to which `results` belongs.
          results: The folder of its finished runs.

        Returns:
          The error in the ledger, or None. After an error, the set cannot be completed.
        """
        try:
            self._attempts = AttemptRegistry(self.attempts_dir, results)
            self._finish_moves(old)
            old = read_set_file(self.set_file) if old else None
            self.attempts.recover_interrupted(
                old.set_id if old else None, old.log_format if old else "mllog"
            )
            self._attempts.results = self.results
        except LedgerError as error:
            # A new ledger begins after the damaged one is set aside.
            self._attempts = AttemptRegistry(self.attempts_dir, self.results, is_new=True)
            close_stray_logs(self.attempts_dir)
            return str(error)
        return None

    def _damaged_ledger(self, damage: str) -> TreeError:
        """Creates the exception for an error in the ledger that `_recover` found."""
        return TreeError(
            f"{self.attempts_dir / LEDGER_NAME} is damaged ({damage}): its set cannot be "
            f"completed; {self.INSTEAD_OF_RESUME}"
        )

    def _finish_moves(self, old: SetFile | None) -> None:
        """Finishes the moves of a harness that died between two moves."""

    def _plan_new_set(self, config: RunConfig, set_id: str) -> SetState:
        """Defers the steps that begin a set; returns its state."""
        self._steps += [
            lambda: self.attempts.declare_launcher(set_id, config.num_runs),
            lambda: write_set_file(self.set_file, set_id, config, config.num_runs),
        ]
        return SetState(set_id, config.num_runs)

    def _new_set_id(self) -> str:
        """Returns an identifier that no earlier set in these folders has."""
        set_id = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        count = 1
        while set_id in self.attempts.ledger.content.sets or list(
            self.attempts_dir.glob(f"run_*_{set_id}_*.txt")
        ):
            set_id, count = f"{set_id.partition('_')[0]}_{count}", count + 1
        return set_id

    def _plan_resume(self, config: RunConfig, old: SetFile, num_runs: int) -> SetState:
        """Defers the steps that continue a set, whose recorded results must all exist."""
        if old.set_id not in self.attempts.ledger.content.sets:
            raise TreeError(
                f"{self.attempts_dir / LEDGER_NAME} does not contain the set in {self.results}: "
                f"the set cannot be completed; {self.INSTEAD_OF_RESUME}"
            )
        attempts = self.attempts.ledger.set_ledger(old.set_id).attempts
        recorded = {attempt.run for attempt in attempts if attempt.is_result}
        missing = sorted(recorded - set(self.finished_runs()))
        if missing:
            raise TreeError(
                f"{self.result_path(missing[0])} is missing, but the ledger records it, and a run "
                f"is not repeated; put the file back, or {self.INSTEAD_OF_RESUME}"
            )
        self._steps += [
            lambda: self.attempts.declare_launcher(old.set_id, num_runs),
            lambda: write_set_file(self.set_file, old.set_id, config, num_runs),
        ]
        seeds = frozenset(attempt.seed for attempt in attempts if attempt.seed is not None)
        return SetState(old.set_id, num_runs, seeds, frozenset(self.finished_runs()))


def refuse_other_settings(config: RunConfig, old: SetFile, instead: str) -> None:
    """Raises ConfigError if the set to be resumed has other settings.

    Args:
      config: The settings from the flags.
      old: The set.
      instead: The alternative, which completes "give the same flags as then, or".
    """
    difference = old.differing_setting(config)
    if difference:
        key, there, here = difference
        if key == "required_runs":
            key, there, here = "num_runs", old.num_runs, config.num_runs
        raise ConfigError(
            f"--resume: the set was started with {key} {there}, not {here}; give the same flags "
            f"as then, or {instead}"
        )


def runs_in(folder: Path) -> dict[int, Path]:
    """Returns the result_N.txt of a folder by N, in order; an empty dict if it does not exist."""
    found = {}
    if folder.is_dir():
        for path in folder.iterdir():
            match = _RESULT_NAME.fullmatch(path.name)
            if match:
                found[int(match.group(1))] = path
    return dict(sorted(found.items()))


def try_lock(descriptor: int) -> bool:
    """Acquires the lock if no other process has it; returns whether it was acquired."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_file(path: Path, descriptor: int) -> bool:
    """Returns whether a path still refers to an open file, which another process may remove."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    return False
