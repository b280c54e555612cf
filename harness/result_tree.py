"""The folders of one system's results, and what may be done to a set of runs.

    results/<system>/<benchmark>/result_N.txt     the set, and nothing else
    results/<system>/system.json, reports/, logs/
    results/<system>/attempts/<benchmark>/        logs under way and interrupted,
        set.json (what the current set is), ledger.jsonl (every attempt),
        set_<date>/ (sets that were set aside)
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

from harness.config import ConfigError, RunConfig
from harness.lifecycle import PLACED_REASONS, close_killed, format_of, place, read_outcome
from harness.system import write_json

_RESULT = re.compile(r"result_(0|[1-9]\d*)\.txt")
_ATTEMPT = re.compile(r"run_(\d+)_(\w+)_\d+\.txt")


class TreeLocked(RuntimeError):
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
        self.attempts = self.root / "attempts" / benchmark
        self.logs = self.root / "logs"
        self.reports = self.root / "reports"
        self._lock: int | None = None

    # -- one harness at a time ----------------------------------------------

    def lock(self) -> None:
        """Takes the advisory lock until this process ends. Raises TreeLocked."""
        folder = self.root / "attempts"
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise TreeLocked(
                f"another harness is working in {self.root}; wait for it, or use another "
                "--system or --results_dir"
            ) from None
        self._lock = descriptor

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

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

    def attempt_path(self, state: SetState, run: int) -> Path:
        """A log name that no attempt has had."""
        count = 1
        while True:
            path = self.attempts / f"run_{run}_{state.set_id}_{count}.txt"
            if not path.exists():
                return path
            count += 1

    def console_path(self, attempt: Path, run: int) -> Path:
        """Where an attempt's console output goes."""
        tail = attempt.stem.removeprefix(f"run_{run}_")
        return self.logs / f"{self.benchmark}_result_{run}_{tail}.log"

    def begin(self, config: RunConfig, num_runs_given: bool) -> SetState:
        """Recovers what died, then starts a new set or goes on with the old one.

        Raises:
          ConfigError: an unfinished set is there and neither --resume nor
            --overwrite was given, or --resume with other settings.
        """
        self.recover()
        old = self._read_set()
        runs = self.finished_runs()
        if config.resume and (runs or old):
            return self._resume(config, old, num_runs_given)
        if runs:
            wanted = old["num_runs"] if old else config.required_runs
            complete = all(number in runs for number in range(wanted))
            if not complete and not config.overwrite:
                raise ConfigError(
                    f"{self.results} holds an unfinished set ({len(runs)} of {wanted} runs); "
                    "go on with --resume, or set it aside with --overwrite"
                )
            self._set_aside(old)
        return self._new_set(config)

    def recover(self) -> None:
        """Closes logs of runs that died, and places runs that ended unplaced."""
        old = self._read_set() or {}
        for path in sorted(self.attempts.glob("run_*.txt")):
            match = _ATTEMPT.fullmatch(path.name)
            if not match:
                continue
            outcome = read_outcome(path)
            if outcome.reason is None:
                close_killed(path, format_of(path))
                self.note("end", run=int(match.group(1)), log=path.name, reason="killed")
            elif outcome.reason in PLACED_REASONS and match.group(2) == old.get("set"):
                target = self.result_path(int(match.group(1)))
                if not target.exists():
                    place(path, target)

    def _new_set(self, config: RunConfig) -> SetState:
        set_id = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        count = 1
        while list(self.attempts.glob(f"run_*_{set_id}_*.txt")) or self._aside(set_id).exists():
            set_id, count = f"{set_id.partition('_')[0]}_{count}", count + 1
        self._write_set(set_id, config, config.num_runs)
        return SetState(set_id, config.num_runs, frozenset())

    def _resume(self, config: RunConfig, old: dict | None, num_runs_given: bool) -> SetState:
        if old is None:
            raise ConfigError(
                f"{self.results} was not made by this harness ({self.attempts}/set.json is "
                "missing) and cannot be resumed; use --overwrite"
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
        num_runs = config.num_runs if num_runs_given else old["num_runs"]
        self._write_set(old["set"], config, num_runs)
        seeds = {read_outcome(path).seed for path in self.finished_runs().values()}
        seeds |= {read_outcome(p).seed for p in self.attempts.glob(f"run_*_{old['set']}_*.txt")}
        return SetState(old["set"], num_runs, frozenset(seeds - {None}))

    def _read_set(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.attempts / "set.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _write_set(self, set_id: str, config: RunConfig, num_runs: int) -> None:
        self.attempts.mkdir(parents=True, exist_ok=True)
        value = {"set": set_id, "num_runs": num_runs, "settings": config.set_settings()}
        write_json(self.attempts / "set.json", value)

    def _aside(self, stamp: str) -> Path:
        return self.attempts / f"set_{stamp}"

    def _set_aside(self, old: dict | None) -> None:
        """Moves the set and its reports away, dated; one rename for the set."""
        stamp = base = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        count = 1
        while self._aside(stamp).exists():
            stamp, count = f"{base}_{count}", count + 1
        folder = self._aside(stamp)
        self.attempts.mkdir(parents=True, exist_ok=True)
        os.rename(self.results, folder)
        for path in [self.attempts / "set.json", *self.reports.glob(f"{self.benchmark}.*")]:
            if path.exists():
                os.rename(path, folder / path.name)
        self.note("set_aside", folder=folder.name, set=(old or {}).get("set"))

    # -- the ledger -----------------------------------------------------------

    def note(self, event: str, **values: Any) -> None:
        """Appends one line to ledger.jsonl: what was attempted, and how it ended."""
        self.attempts.mkdir(parents=True, exist_ok=True)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"time": now, "event": event, **values}, allow_nan=False)
        with open(self.attempts / "ledger.jsonl", "a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
