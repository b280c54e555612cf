"""The folders of one system's results: begins, resumes and sets aside sets of runs.

    results/<system>/<benchmark>/result_N.txt     the set, and nothing else
    results/<system>/system.json, reports/, logs/
    results/<system>/attempts/<benchmark>/        logs under way and interrupted,
        set.json (the current set and its settings), ledger.jsonl (every attempt, in a
        chain), checkpoints/ (of the current set), set_<date>/ (sets that were set aside)
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance.base.untrusted_files import read_bounded
from compliance.chain.ledger import LEDGER_NAME as LEDGER
from compliance.chain.ledger import LedgerError
from harness.base.clock import Stopwatch
from harness.base.output_files import write_json
from harness.config.run_config import ConfigError, RunConfig
from harness.results import checkpoints
from harness.results.attempts import AttemptRegistry, close_stray_logs

MAX_SET_BYTES = 1 << 20  # of set.json
# The last trial of a harness that was killed holds the lock until it has ended itself. A
# new harness waits as long for it.
LOCK_WAIT_SECONDS = 3.0
_RESULT_NAME = re.compile(r"result_(0|[1-9]\d*)\.txt")
_ASIDE_NAME = re.compile(r"set_\w+")


class TreeError(RuntimeError):
    """The results are in a state that stops the harness; the message is for the user."""


class TreeLocked(TreeError):
    """Another harness is working on the same system's results."""


@dataclass(frozen=True)
class SetState:
    """The set under way.

    Attributes:
      set_id: Its name, the UTC time of its beginning.
      num_runs: Runs that it is to have.
      seeds: Seeds that its attempts have used.
    """

    set_id: str
    num_runs: int
    seeds: frozenset[int]


class ResultTree:
    """One benchmark of one system in a folder of results.

    Args:
      results_dir: The folder of all systems, `--results_dir`.
      system: Name of the system, `--system`.
      benchmark: Name of the benchmark's folder.

    Attributes:
      root: Folder of the system.
      benchmark: Name of the benchmark's folder.
      results: Folder of the current set's results.
      attempts_dir: Folder of the attempts.
      logs: Folder of the trials' console output.
      reports: Folder of the reports.
      lock_descriptor: File descriptor of the lock; None where it is not held.
    """

    def __init__(self, results_dir: Path | str, system: str, benchmark: str):
        self.root = Path(results_dir) / system
        self.benchmark = benchmark
        self.results = self.root / benchmark
        self.attempts_dir = self.root / "attempts" / benchmark
        self.logs = self.root / "logs"
        self.reports = self.root / "reports"
        self.lock_descriptor: int | None = None
        self._attempts: AttemptRegistry | None = None

    @property
    def attempts(self) -> AttemptRegistry:
        """The attempts of this benchmark, once `begin_set` has read their ledger."""
        if self._attempts is None:
            raise RuntimeError("no set has begun")
        return self._attempts

    # -- one harness at a time ----------------------------------------------

    def lock(self) -> None:
        """Takes the advisory lock on the system's results. Raises TreeLocked."""
        folder = self.root / "attempts"
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        watch = Stopwatch()
        while not _try_lock(descriptor):
            if watch.seconds() > LOCK_WAIT_SECONDS:
                os.close(descriptor)
                raise TreeLocked(
                    f"another harness is working in {self.root}; wait for it, or use another "
                    "--system or --results_dir"
                )
            time.sleep(0.1)
        self.lock_descriptor = descriptor

    def unlock(self) -> None:
        """Releases the lock, unless a trial still holds it."""
        if self.lock_descriptor is not None:
            os.close(self.lock_descriptor)
            self.lock_descriptor = None

    # -- the set --------------------------------------------------------------

    def finished_runs(self) -> dict[int, Path]:
        """Returns the logs among the results by the number of their run, in order."""
        found = {}
        if self.results.is_dir():
            for path in self.results.iterdir():
                match = _RESULT_NAME.fullmatch(path.name)
                if match:
                    found[int(match.group(1))] = path
        return dict(sorted(found.items()))

    def result_path(self, run: int) -> Path:
        """Returns the path of a run's log among the results."""
        return self.results / f"result_{run}.txt"

    def new_attempt(self, state: SetState, run: int) -> tuple[Path, Path]:
        """Returns new paths for an attempt's (log, console output)."""
        count = 1
        while True:
            log = self.attempts_dir / f"run_{run}_{state.set_id}_{count}.txt"
            console = self.logs / f"{self.benchmark}_result_{run}_{state.set_id}_{count}.log"
            if not log.exists() and not console.exists():
                return log, console
            count += 1

    def begin_set(self, config: RunConfig, num_runs_given: bool) -> SetState:
        """Closes interrupted attempts, then starts a new set or resumes the old one.

        Args:
          config: The settings of the set.
          num_runs_given: Whether --num_runs was given, and so overrides the number of
            runs of a set that is resumed.

        Raises:
          ConfigError: an unfinished set is there and neither --resume nor
            --overwrite was given, or --resume with other settings.
          TreeError: the ledger was changed by somebody else, and --resume was given.
        """
        damage = self._recover_set()
        # A set exists where there are results, or a file that describes the set.
        old = self._read_set()
        runs = self.finished_runs()
        if damage is not None and config.resume:
            raise TreeError(
                f"{self.attempts_dir / LEDGER} is not as it was written ({damage}): its set cannot "
                "be completed; set it aside with --overwrite"
            )
        if config.resume and (runs or old):
            state = self._resume(config, old, num_runs_given)
            self.attempts.declare_launcher(state.set_id, state.num_runs)
            return state
        # A finished set makes room for the new one; an unfinished one only by --overwrite.
        if (runs or old) and not config.overwrite:
            self._refuse_unfinished(config, old, set(runs))
        if runs or old or damage is not None:
            self._set_aside(old, damage)
        return self._new_set(config)

    def _refuse_unfinished(self, config: RunConfig, old: dict | None, runs: set[int]) -> None:
        """Raises ConfigError where a set was begun and not completed."""
        wanted = old["num_runs"] if old else config.required_runs
        has_attempts = bool(old and self._attempts and
                            self.attempts.ledger.set_ledger(old["set"]).attempts)
        if (runs or has_attempts) and not runs >= set(range(wanted)):
            raise ConfigError(
                f"{self.results} holds an unfinished set ({len(runs)} of {wanted} runs); "
                "go on with --resume, or set it aside with --overwrite"
            )

    def _recover_set(self) -> str | None:
        """Finishes the set-aside or the attempt that was under way when a harness died.

        Returns the fault of the ledger, if it has one; then its set can only be set aside.
        """
        old = self._read_set() or {}
        try:
            self._attempts = AttemptRegistry(self.attempts_dir, self.results)
            # The ledger records that a set is set aside before its files move.
            folder = self.attempts.ledger.content.set_aside_folders.get(old["set"]) if old else None
            if folder is not None and _ASIDE_NAME.fullmatch(folder):
                self._move_aside(self.attempts_dir / folder)
                old = {}
            log_format = old.get("settings", {}).get("log_format", "mllog")
            self.attempts.recover_interrupted(old.get("set"), log_format)
        except LedgerError as error:
            self._attempts = None
            close_stray_logs(self.attempts_dir)
            return str(error)
        return None

    def discard_set(self, state: SetState) -> None:
        """Discards a set whose only attempt ended because of a wrong flag.

        The set then counts as never begun, so that the next call needs no --overwrite.
        """
        attempts = self.attempts.ledger.set_ledger(state.set_id).attempts
        if not self.finished_runs() and len(attempts) == 1:
            (self.attempts_dir / "set.json").unlink(missing_ok=True)

    def _new_set(self, config: RunConfig) -> SetState:
        """Starts a set with a name that no set has had."""
        set_id = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        count = 1
        while set_id in self.attempts.ledger.content.sets or list(
            self.attempts_dir.glob(f"run_*_{set_id}_*.txt")
        ):
            set_id, count = f"{set_id.partition('_')[0]}_{count}", count + 1
        self.attempts.declare_launcher(set_id, config.num_runs)
        self._write_set(set_id, config, config.num_runs)
        return SetState(set_id, config.num_runs, frozenset())

    def _resume(self, config: RunConfig, old: dict | None, num_runs_given: bool) -> SetState:
        """Resumes the set, which must have the same settings and all of its results."""
        if old is None:
            raise ConfigError(
                f"{self.results} was not made by this harness ({self.attempts_dir}/set.json is "
                "missing or damaged) and cannot be resumed; use --overwrite"
            )
        # Through JSON, as the old settings went: tuples become lists.
        settings = json.loads(json.dumps(config.shared_settings()))
        old_settings = old["settings"]
        changed = sorted(
            key for key in {*settings, *old_settings} if settings.get(key) != old_settings.get(key)
        )
        if changed:
            key = changed[0]
            raise ConfigError(
                f"--resume: the set was started with {key} {old_settings.get(key)}, not "
                f"{settings.get(key)}; give the same flags as then, or use --overwrite"
            )
        if old["set"] not in self.attempts.ledger.content.sets:
            raise TreeError(
                f"{self.attempts_dir / LEDGER} does not know the set in {self.results}: it cannot "
                "be completed; set it aside with --overwrite"
            )
        attempts = self.attempts.ledger.set_ledger(old["set"]).attempts
        recorded = {attempt.run for attempt in attempts if attempt.is_result}
        missing = sorted(recorded - set(self.finished_runs()))
        if missing:
            raise TreeError(
                f"{self.result_path(missing[0])} is gone, but the ledger has it: a run is not made "
                "twice; put it back, or begin anew with --overwrite"
            )
        num_runs = config.num_runs if num_runs_given else old["num_runs"]
        self._write_set(old["set"], config, num_runs)
        seeds = frozenset(attempt.seed for attempt in attempts if attempt.seed is not None)
        return SetState(old["set"], num_runs, seeds)

    def _read_set(self) -> dict[str, Any] | None:
        """Returns the content of set.json; None where it is missing or damaged."""
        try:
            value = json.loads(read_bounded(self.attempts_dir / "set.json", MAX_SET_BYTES))
        except (OSError, ValueError, RecursionError):
            return None
        types = {"set": str, "num_runs": int, "settings": dict}
        is_valid = isinstance(value, dict) and all(
            type(value.get(key)) is expected for key, expected in types.items()
        )
        # The set's name becomes part of file names.
        return value if is_valid and re.fullmatch(r"\w+", value["set"]) else None

    def _write_set(self, set_id: str, config: RunConfig, num_runs: int) -> None:
        """Writes set.json."""
        self.attempts_dir.mkdir(parents=True, exist_ok=True)
        value = {"set": set_id, "num_runs": num_runs, "settings": config.shared_settings()}
        write_json(self.attempts_dir / "set.json", value)

    def _aside_folder(self, stamp: str) -> Path:
        """Returns the folder for a set that is set aside at a time."""
        return self.attempts_dir / f"set_{stamp}"

    def _set_aside(self, old: dict | None, damage: str | None) -> None:
        """Moves the set, its checkpoints and its reports to a folder with the date.

        The ledger records it first, so that the next harness finishes the moves of one
        that died in between. A damaged ledger is moved with the set.
        """
        stamp = base = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        count = 1
        while self._aside_folder(stamp).exists():
            stamp, count = f"{base}_{count}", count + 1
        folder = self._aside_folder(stamp)
        if damage is None:
            set_id = (old or {}).get("set", "")
            self.attempts.ledger.append("set_aside", set=set_id, folder=folder.name)
        self._move_aside(folder, damage is not None)
        if damage is not None:
            self._attempts = AttemptRegistry(self.attempts_dir, self.results)

    def _move_aside(self, folder: Path, with_ledger: bool = False) -> None:
        """Makes the moves of `_set_aside`; skips those that were made already."""
        if self.results.exists() and not folder.exists():
            os.rename(self.results, folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [self.attempts_dir / checkpoints.FOLDER, *self.reports.glob(f"{self.benchmark}.*")]
        # set.json goes last: as long as it is there, the moves can be finished.
        paths += [self.attempts_dir / LEDGER] * with_ledger + [self.attempts_dir / "set.json"]
        for path in paths:
            if path.exists():
                os.rename(path, folder / path.name)


def _try_lock(descriptor: int) -> bool:
    """Takes the lock if no other process holds it; returns whether it did."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
