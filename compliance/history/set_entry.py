"""One set of a history: its score, figures, settings and verdict."""

from __future__ import annotations

import datetime
import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Sequence

from compliance.checking.ruleset import load_ruleset
from compliance.history.ledgers import ReadLedger, lacks_ledger, ledger_problem, set_id_of
from compliance.history.light_logs import LightLog, read_light_log
from compliance.history.set_folders import SetPlace
from compliance.logs.epoch_times import epoch_variation
from compliance.logs.timeline import Timeline
from compliance.results.run_set import RunSet, SetRun
from compliance.results.scoring import Score, score_files

PASS, FAIL, UNSCORED, UNREADABLE, MISSING = "pass", "fail", "unscored", "unreadable", "missing"
_SET_ID = re.compile(r"(\d{8}T\d{6})Z")
_LAST_TIME = 253_402_300_799  # the end of the year 9999


@lru_cache(maxsize=1)
def _noise_limit() -> float:
    """Returns the parameter of the rule about noise."""
    rules = load_ruleset("ncf-open").rules
    return next(rule.params["share"] for rule in rules if rule.id == "NCF-EPOCHS-VARY")


@dataclass
class SetEntry:
    """One set.

    Attributes:
      path: Its folder.
      kind: As in `set_folders.SetPlace`.
      set_id: Its identifier, from the logs or the ledger; None if unknown.
      logs: Its logs.
      score: The result of the scoring rule; None if the logs cannot be used.
      verdict: PASS, FAIL, UNSCORED, UNREADABLE or MISSING.
      reason: Why the verdict is not PASS, or that there is no ledger; None otherwise.
      changes: (setting, value in the set before, value here) of each setting that changed.
      before: The sets with which this one is compared, the last one with its settings.
      step: A verdict of `compare`; None if there is nothing to compare with.
      ratio: Mean time over that of the sets before, and its 95% interval; None if unknown.
    """

    path: str
    kind: str
    set_id: str | None
    logs: list[LightLog]
    score: Score | None
    verdict: str
    reason: str | None
    changes: list[tuple[str, Any, Any]] = field(default_factory=list)
    before: list[SetEntry] = field(default_factory=list)
    step: str | None = None
    ratio: tuple[float, float | None, float | None] | None = None

    @property
    def start_s(self) -> float | None:
        """The start of the first run, in seconds since 1970; else the time in the identifier."""
        starts = [start for log in self.logs if (start := log.file.summary.time("run_start"))
                  and 0 < start < _LAST_TIME]
        if starts:
            return min(starts)
        match = _SET_ID.match(self.set_id or "")
        try:
            return datetime.datetime.strptime(match[1] + "+0000", "%Y%m%dT%H%M%S%z").timestamp() \
                if match else None
        except ValueError:
            return None

    @property
    def source(self) -> tuple[str | None, bool | None]:
        """The commit that ran, and whether the checkout had changes."""
        return next((log.source for log in self.logs if log.source[0]), (None, None))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the first log that can be used."""
        return next((log.settings for log in self.logs if log.problem is None), {})

    @property
    def task(self) -> tuple[str | None, float | None] | None:
        """Track and target, if all logs have the same; only such sets are compared."""
        tasks = {(log.file.summary.track, log.file.summary.target) for log in self.logs}
        return tasks.pop() if len(tasks) == 1 else None

    @property
    def times_s(self) -> list[float]:
        """Seconds of each run that reached its target."""
        return [log.file.summary.seconds for log in self.logs
                if log.file.summary.converged and (log.file.summary.seconds or 0) > 0]

    @property
    def num_converged(self) -> int:
        """The number of runs that reached their target."""
        return sum(bool(log.file.summary.converged) for log in self.logs)

    @property
    def num_noisy(self) -> int:
        """The number of runs whose epochs vary so much that `check` warns (NCF-EPOCHS-VARY)."""
        found = [epoch_variation(log.file.summary.epoch_times.seconds) for log in self.logs]
        return sum(one is not None and one.excess > _noise_limit() for one in found)

    @property
    def mean_epochs(self) -> float | None:
        """Mean epochs of the runs."""
        epochs = [log.file.summary.num_accuracies for log in self.logs if log.problem is None]
        return math.fsum(epochs) / len(epochs) if epochs else None

    @property
    def seconds_per_epoch(self) -> float | None:
        """All seconds of the runs over all their epochs."""
        used = [log.file.summary for log in self.logs if log.problem is None]
        epochs = sum(summary.num_accuracies for summary in used)
        return math.fsum(summary.seconds or 0 for summary in used) / epochs if epochs else None

    @property
    def seconds(self) -> float | None:
        """The score; None if there is none."""
        return self.score.result.seconds if self.score is not None else None

    def run_set(self) -> RunSet:
        """Returns the set in the form that `compare` takes, without intervals and stages."""
        return RunSet(self.path, [
            SetRun(log.file, Timeline(log.file.path, hit_rates=[
                (0.0, rate) for rate in log.file.summary.measurements.hit_rates]), None)
            for log in self.logs])


def read_set_entry(place: SetPlace, ledger: ReadLedger | None) -> SetEntry:
    """Reads and judges one set.

    Args:
      place: Its folder.
      ledger: The ledger of the folder; None if there is none.
    """
    logs = [read_light_log(path) for path in place.logs]
    problem = next((log.problem for log in logs if log.problem), None)
    contradiction = ledger_problem(logs, ledger)
    if problem is not None or contradiction is not None:
        verdict = FAIL if contradiction is not None else UNREADABLE
        reason = "; ".join(filter(None, (contradiction, problem)))
        return SetEntry(str(place.folder), place.kind, set_id_of(logs), logs, None, verdict, reason)
    score = score_files([log.file for log in logs])
    verdict, reason = _judge(score, logs)
    if lacks_ledger(logs, ledger):
        reason = "; ".join(filter(None, (reason, "there is no ledger for these logs")))
    return SetEntry(str(place.folder), place.kind, set_id_of(logs), logs, score, verdict, reason)


def _judge(score: Score, logs: Sequence[LightLog]) -> tuple[str, str | None]:
    """Returns (verdict, reason), as the harness decides of a set whose logs pass `check`."""
    if score.result.seconds is not None:
        return PASS, None
    missed = sum(log.file.summary.converged is False for log in logs)
    # A complete set tolerates one run that missed the target; a smaller one tolerates none.
    tolerated = 1 if score.required is not None and len(logs) >= score.required else 0
    if missed > tolerated and any(log.file.summary.target is not None for log in logs):
        return FAIL, f"{missed} of {len(logs)} runs did not reach the target"
    return UNSCORED, score.result.reason


def missing_entry(folder: Path, kind: str, set_id: str, text: str) -> SetEntry:
    """Returns the entry of a set that the ledger has, and whose logs are gone."""
    return SetEntry(str(folder), kind, set_id, [], None, MISSING, text)
