"""The folders of one system's results, and what may be done to a set of runs.

    results/<system>/<benchmark>/result_N.txt     the set, and nothing else
    results/<system>/system.json, reports/, logs/
    results/<system>/attempts/<benchmark>/        logs under way and interrupted,
        set.json (what the current set is), ledger.jsonl (every attempt, in a chain),
        checkpoints/ (of the current set), set_<date>/ (sets that were set aside)
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
from compliance.chain.ledger import NAME as LEDGER
from compliance.chain.ledger import LedgerError
from harness.base.clock import Stopwatch
from harness.base.machine import write_json
from harness.config.run_config import ConfigError, RunConfig
from harness.results.attempts import Attempts, close_strays

CHECKPOINTS = "checkpoints"
MAX_SET = 1 << 20  # bytes of set.json
# How long a harness waits for another one's last trial to end itself.
LOCK_WAIT_SECONDS = 3.0
_RESULT = re.compile(r"result_(0|[1-9]\d*)\.txt")
_ASIDE = re.compile(r"set_\w+")


class TreeError(RuntimeError):
    """The results cannot be worked on as they are; the message is for the user."""


class TreeLocked(TreeError):
    """Another harness works on the same system's results."""


@dataclass(frozen=True)
class SetState:
    """The set under way: its id, how many runs it is to have, the seeds it used."""

    set_id: str
    num_runs: int
    seeds: frozenset[int]


class ResultTree:
    """One benchmark of one system in a results folder."""

    def __init__(self, results_dir: Path | str, system: str, benchmark: str):
        self.root = Path(results_dir) / system
        self.benchmark = benchmark
        self.results = self.root / benchmark
        self.attempts_dir = self.root / "attempts" / benchmark
        self.logs = self.root / "logs"
        self.reports = self.root / "reports"
        self.lock_descriptor: int | None = None
        self._attempts: Attempts | None = None

    @property
    def attempts(self) -> Attempts:
        """The attempts of this benchmark, once `begin` has read their ledger."""
        if self._attempts is None:
            raise RuntimeError("no set has begun")
        return self._attempts

    # -- one harness at a time ----------------------------------------------

    def lock(self) -> None:
        """Takes the advisory lock until this process ends. Raises TreeLocked."""
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
        if self.lock_descriptor is not None:
            os.close(self.lock_descriptor)
            self.lock_descriptor = None

    # -- the set --------------------------------------------------------------

    def finished_runs(self) -> dict[int, Path]:
        """The logs in the results folder by their number, in order."""
        found = {}
        if self.results.is_dir():
            for path in self.results.iterdir():
                match = _RESULT.fullmatch(path.name)
                if match:
                    found[int(match.group(1))] = path
        return dict(sorted(found.items()))

    def result_path(self, run: int) -> Path:
        return self.results / f"result_{run}.txt"

    def new_attempt(self, state: SetState, run: int) -> tuple[Path, Path]:
        """(log, console output) of an attempt: names that none has had."""
        count = 1
        while True:
            log = self.attempts_dir / f"run_{run}_{state.set_id}_{count}.txt"
            console = self.logs / f"{self.benchmark}_result_{run}_{state.set_id}_{count}.log"
            if not log.exists() and not console.exists():
                return log, console
            count += 1

    def begin(self, config: RunConfig, num_runs_given: bool) -> SetState:
        """Recovers what died, then starts a new set or goes on with the old one.

        Raises:
          ConfigError: an unfinished set is there and neither --resume nor
            --overwrite was given, or --resume with other settings.
          TreeError: the ledger is not as it was written, and --resume was given.
        """
        damage = self._recover()
        old = self._read_set()
        runs = self.finished_runs()
        if damage is not None and config.resume:
            raise TreeError(
                f"{self.attempts_dir / LEDGER} is not as it was written ({damage}): its set cannot "
                "be completed; set it aside with --overwrite"
            )
        if config.resume and (runs or old):
            state = self._resume(config, old, num_runs_given)
            self.attempts.declare(state.set_id, state.num_runs)
            return state
        if (runs or old) and not config.overwrite:
            self._refuse_unfinished(config, old, set(runs))
        if runs or old or damage is not None:
            self._set_aside(old, damage)
        return self._new_set(config)

    def _refuse_unfinished(self, config: RunConfig, old: dict | None, runs: set[int]) -> None:
        """A set that was begun is completed or set aside, but not by accident."""
        wanted = old["num_runs"] if old else config.required_runs
        begun = bool(runs) or bool(old and self._attempts and
                                   self.attempts.ledger.of_set(old["set"]).attempts)
        if begun and not runs >= set(range(wanted)):
            raise ConfigError(
                f"{self.results} holds an unfinished set ({len(runs)} of {wanted} runs); "
                "go on with --resume, or set it aside with --overwrite"
            )

    def _recover(self) -> str | None:
        """Finishes whatever was under way when a harness died.

        Returns what is wrong with the ledger, if anything; then its set can only
        be set aside.
        """
        old = self._read_set() or {}
        try:
            self._attempts = Attempts(self.attempts_dir, self.results)
            folder = self.attempts.ledger.known.aside.get(old["set"]) if old else None
            if folder is not None and _ASIDE.fullmatch(folder):
                self._move_aside(self.attempts_dir / folder)
                old = {}
            log_format = old.get("settings", {}).get("log_format", "mllog")
            self.attempts.recover(old.get("set"), log_format)
        except LedgerError as error:
            self._attempts = None
            close_strays(self.attempts_dir)
            return str(error)
        return None

    def forget(self, state: SetState) -> None:
        """A set whose only attempt met a flag that cannot be: it never began."""
        attempts = self.attempts.ledger.of_set(state.set_id).attempts
        if not self.finished_runs() and len(attempts) == 1:
            (self.attempts_dir / "set.json").unlink(missing_ok=True)

    def _new_set(self, config: RunConfig) -> SetState:
        set_id = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        count = 1
        while set_id in self.attempts.ledger.known.sets or list(
            self.attempts_dir.glob(f"run_*_{set_id}_*.txt")
        ):
            set_id, count = f"{set_id.partition('_')[0]}_{count}", count + 1
        self.attempts.declare(set_id, config.num_runs)
        self._write_set(set_id, config, config.num_runs)
        return SetState(set_id, config.num_runs, frozenset())

    def _resume(self, config: RunConfig, old: dict | None, num_runs_given: bool) -> SetState:
        if old is None:
            raise ConfigError(
                f"{self.results} was not made by this harness ({self.attempts_dir}/set.json is "
                "missing or damaged) and cannot be resumed; use --overwrite"
            )
        settings = json.loads(json.dumps(config.set_settings()))
        before = old["settings"]
        changed = sorted(k for k in {*settings, *before} if settings.get(k) != before.get(k))
        if changed:
            key = changed[0]
            raise ConfigError(
                f"--resume: the set was started with {key} {before.get(key)}, not "
                f"{settings.get(key)}; give the same flags as then, or use --overwrite"
            )
        if old["set"] not in self.attempts.ledger.known.sets:
            raise TreeError(
                f"{self.attempts_dir / LEDGER} does not know the set in {self.results}: it cannot "
                "be completed; set it aside with --overwrite"
            )
        known = self.attempts.ledger.of_set(old["set"]).attempts
        gone = sorted({a.run for a in known if a.is_result} - set(self.finished_runs()))
        if gone:
            raise TreeError(
                f"{self.result_path(gone[0])} is gone, but the ledger has it: a run is not made "
                "twice; put it back, or begin anew with --overwrite"
            )
        num_runs = config.num_runs if num_runs_given else old["num_runs"]
        self._write_set(old["set"], config, num_runs)
        seeds = frozenset(a.seed for a in known if a.seed is not None)
        return SetState(old["set"], num_runs, seeds)

    def _read_set(self) -> dict[str, Any] | None:
        """set.json, or None where there is none that can be used."""
        try:
            value = json.loads(read_bounded(self.attempts_dir / "set.json", MAX_SET))
        except (OSError, ValueError, RecursionError):
            return None
        kinds = {"set": str, "num_runs": int, "settings": dict}
        is_whole = isinstance(value, dict) and all(
            type(value.get(key)) is kind for key, kind in kinds.items()
        )
        return value if is_whole and re.fullmatch(r"\w+", value["set"]) else None

    def _write_set(self, set_id: str, config: RunConfig, num_runs: int) -> None:
        self.attempts_dir.mkdir(parents=True, exist_ok=True)
        value = {"set": set_id, "num_runs": num_runs, "settings": config.set_settings()}
        write_json(self.attempts_dir / "set.json", value)

    def _aside(self, stamp: str) -> Path:
        return self.attempts_dir / f"set_{stamp}"

    def _set_aside(self, old: dict | None, damage: str | None) -> None:
        """Moves the set, its checkpoints and its reports away, dated.

        The ledger says so first, so that a harness that dies in between is
        followed by one that finishes it. A ledger that is damaged goes with the set.
        """
        stamp = base = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        count = 1
        while self._aside(stamp).exists():
            stamp, count = f"{base}_{count}", count + 1
        folder = self._aside(stamp)
        if damage is None:
            set_id = (old or {}).get("set", "")
            self.attempts.ledger.append("set_aside", set=set_id, folder=folder.name)
        self._move_aside(folder, damage is not None)
        if damage is not None:
            self._attempts = Attempts(self.attempts_dir, self.results)

    def _move_aside(self, folder: Path, with_ledger: bool = False) -> None:
        """The moves of `_set_aside`; those that were made already are left out."""
        if self.results.exists() and not folder.exists():
            os.rename(self.results, folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [self.attempts_dir / CHECKPOINTS, *self.reports.glob(f"{self.benchmark}.*")]
        paths += [self.attempts_dir / LEDGER] * with_ledger + [self.attempts_dir / "set.json"]
        for path in paths:
            if path.exists():
                os.rename(path, folder / path.name)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
