"""The score of a set of runs: the two rules, each in one place.

olympic-mean: of the track's number of runs the fastest and the slowest are dropped
and the rest averaged; a run that did not converge counts as the slowest, so at
most one may be.

v0.5-ncf-first-50-of-100: of 100 runs, by start time, the first 50 that converged
are taken; the fastest and the slowest of them are dropped and the remaining 48
averaged.

`SOURCES` cites where each rule is from.  The median is that of the runs that enter
the mean.  The 95% interval is Efron's percentile bootstrap of the whole rule.
"""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Sequence

from compliance.base.errors import UsageError
from compliance.checking.checker import check_member, check_sets
from compliance.checking.results import FAIL, PASS, UNREADABLE, FileResult
from compliance.logs.find_logs import find_logs
from compliance.logs.keys import NO_RUN_REASONS
from compliance.tracks import BUILTIN_TRACKS, Track, load_track

SCHEMA_VERSION = 1
OLYMPIC, V05 = "olympic-mean", "v0.5-ncf-first-50-of-100"
V05_RUNS, V05_TAKEN = 100, 50
SOURCES = {
    OLYMPIC: "MLPerf training rules (mlcommons/training_policies, training_rules.adoc), Benchmark "
             "results: drop the fastest and the slowest run, mean of the rest",
    V05: "MLPerf Training v0.5 rules (mlcommons/training_policies, November 2018), Benchmark "
         "results, NCF: run 100, take the first 50 that converge, drop the fastest and the "
         "slowest, mean of the rest"}
RESAMPLES, RESAMPLE_SEED, CI_MIN_RUNS = 2000, 20181108, 10
# Where most resampled sets have no score, those that have one say too little.
CI_MIN_SCORED = 0.5


@dataclass(frozen=True)
class Run:
    """One run as the scoring rules see it."""

    path: str
    seconds: float
    converged: bool
    start: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """A rule applied: the mean and what entered it, or the reason for none."""

    seconds: float | None
    reason: str | None
    counted: tuple[int, ...] = ()  # indices of the runs in the mean
    fastest: float | None = None
    slowest: float | None = None
    median: float | None = None
    dropped: tuple[int, ...] = ()  # the fastest and the slowest that the rule took


def olympic_mean(runs: Sequence[Run], required: int) -> Outcome:
    """Drop the fastest and the slowest of exactly `required` runs, mean the rest."""
    problem = _wrong_number(len(runs), required)
    if problem:
        return Outcome(None, problem)
    failed = sum(not run.converged for run in runs)
    if failed > 1:
        return Outcome(None, f"{failed} of {len(runs)} runs did not converge; at most one may")
    order = sorted(range(len(runs)), key=lambda i: (not runs[i].converged, runs[i].seconds, i))
    return _trimmed(runs, order)


def first_50_of_100(runs: Sequence[Run], required: int = V05_RUNS) -> Outcome:
    """MLPerf v0.5's rule for NCF."""
    problem = _wrong_number(len(runs), required)
    if problem:
        return Outcome(None, problem)
    by_start = sorted(range(len(runs)), key=lambda i: (runs[i].start, i))
    taken = [i for i in by_start if runs[i].converged][:V05_TAKEN]
    if len(taken) < V05_TAKEN:
        return Outcome(None, f"only {len(taken)} of {len(runs)} runs converged; the rule takes "
                             f"the first {V05_TAKEN}")
    return _trimmed(runs, sorted(taken, key=lambda i: (runs[i].seconds, i)))


RULES = {OLYMPIC: olympic_mean, V05: first_50_of_100}


def _wrong_number(count: int, required: int) -> str | None:
    if count < required:
        return f"{count} of {required} runs"
    if count > required:
        return f"{count} runs, but the rule takes {required}; which ones may not be chosen afterwards"
    return None


def _trimmed(runs: Sequence[Run], order: list[int]) -> Outcome:
    """`order`: indices from the fastest to the slowest, at least three."""
    kept = order[1:-1]
    times = [runs[i].seconds for i in kept]
    return Outcome(sum(times) / len(times), None, tuple(kept), runs[order[0]].seconds,
                   runs[order[-1]].seconds, statistics.median(times), (order[0], order[-1]))


def confidence_interval(runs: Sequence[Run], rule: str, required: int) -> list[float] | None:
    """95% percentile interval of the score over resampled sets, or None.

    Whole sets are drawn with replacement and the whole rule is applied to each;
    sets without a score drop out.  The seed is fixed, so that the same set gives
    the same interval.
    """
    if len(runs) < CI_MIN_RUNS:
        return None
    draw = random.Random(RESAMPLE_SEED)
    scores = []
    for _ in range(RESAMPLES):
        seconds = RULES[rule](draw.choices(runs, k=len(runs)), required).seconds
        if seconds is not None:
            scores.append(seconds)
    if len(scores) < CI_MIN_SCORED * RESAMPLES:
        return None
    scores.sort()
    last = len(scores) - 1
    return [scores[math.floor(0.025 * last)], scores[math.ceil(0.975 * last)]]


@dataclass(frozen=True)
class Score:
    """What `score` answers; `files` are the judged logs behind it."""

    rule: str
    outcome: Outcome
    runs: list[Run]
    counted: set[str]
    ci95: list[float] | None
    verdict: str
    files: list[FileResult]
    required: int | None

    def as_json(self) -> dict[str, Any]:
        """The contract's object."""
        out = self.outcome
        return {
            "schema_version": SCHEMA_VERSION, "rule": self.rule, "runs": len(self.runs),
            "converged": sum(run.converged for run in self.runs), "counted": len(self.counted),
            "seconds": out.seconds, "reason": out.reason, "dropped_fastest_s": out.fastest,
            "dropped_slowest_s": out.slowest, "median_s": out.median, "ci95_s": self.ci95,
            "per_run": [{"path": f.path, "seconds": f.facts.seconds,
                         "converged": f.facts.converged, "counted": f.path in self.counted}
                        for f in self.files]}


def score_folder(folder: str | Path, ruleset: str | None = None) -> Score:
    """Judges and scores the one set under a folder.  Raises UsageError."""
    folder = Path(folder)
    if not folder.exists():
        raise UsageError(f"{folder}: there is no such folder; give the folder of a set, with "
                         "result_*.txt in it")
    if not folder.is_dir():
        raise UsageError(f"{folder}: a score takes the folder of a set, not one file; give "
                         f"{folder.parent}")
    logs = find_logs(folder)
    parents = sorted({log.parent for log in logs})
    if len(parents) > 1:
        raise UsageError(f"{folder}: {len(parents)} sets under it; score one at a time, such as "
                         f"{parents[0]}")
    return score_files(judge_logs(logs, ruleset))


def judge_logs(logs: Iterable[Path], ruleset: str | None = None) -> list[FileResult]:
    """Judges the logs of one folder as a set, by the ruleset that scoring asks for.

    None: the log's own; level 1 for v0.5, since the original scorer asks no more.
    """
    files = []
    for log in logs:
        result = check_member(log, ruleset or "auto")
        if ruleset is None and result.ruleset == "ncf-v0.5-l2":
            result = check_member(log, "ncf-v0.5-l1")
        files.append(result)
    check_sets(files)
    return files


def score_judged(files: list[FileResult]) -> Score:
    """The score of one set that `check` has judged.

    Only a closed v0.5 set is scored by another ruleset than it is judged by.
    """
    if any(f.ruleset == "ncf-v0.5-l2" for f in files):
        return score_files(judge_logs(Path(f.path) for f in files))
    return score_files(files)


def score_files(files: list[FileResult], track: Track | None = None) -> Score:
    """Scores one set of logs that have been judged as a set.

    `track`: for MLLOG runs of a track that is not built in, which a log alone
    cannot point to.
    """
    verdicts = {f.verdict for f in files}
    verdict = FAIL if FAIL in verdicts else UNREADABLE if UNREADABLE in verdicts else PASS
    rule, required, problem = _rule_of(files, track)
    attempts = [f for f in files if f.facts.reason in NO_RUN_REASONS]
    runs = [_run(f) for f in files if f not in attempts and f.facts.seconds is not None]
    problem = _refusal(files) or problem
    outcome = Outcome(None, problem) if problem else RULES[rule](runs, required or 0)
    counted = {runs[i].path for i in outcome.counted}
    interval = None if outcome.seconds is None else confidence_interval(runs, rule, required or 0)
    return Score(rule, outcome, runs, counted, interval, verdict, files, required)


def _run(result: FileResult) -> Run:
    facts = result.facts
    return Run(result.path, facts.seconds or 0.0, bool(facts.converged),
               facts.time("run_start") or 0.0)


def _rule_of(files: list[FileResult], track: Track | None) -> tuple[str, int | None, str | None]:
    """(rule, runs required, why there can be no score)."""
    if all(f.dialect == "v0.5" for f in files):
        return V05, V05_RUNS, None
    if any(f.dialect == "v0.5" for f in files):
        return OLYMPIC, None, "the set mixes logs of two dialects"
    names = {f.facts.track for f in files}
    if len(names) > 1:
        return OLYMPIC, None, "the set mixes tracks"
    name = names.pop()
    if name in BUILTIN_TRACKS:
        track = load_track(name)
    if track is None or track.name != name:
        return OLYMPIC, None, "the track is not a built-in one: no number of runs is required"
    if track.target is None:
        return track.scoring, track.runs, f"track {name} has no target: never scored"
    return track.scoring, track.runs, None


def _refusal(files: list[FileResult]) -> str | None:
    """Why this set may have no score whatever its times are; or None."""
    bad = [f for f in files if f.verdict != PASS]
    if bad:
        found = bad[0].errors.list()
        first = f"{Path(bad[0].path).name}: {found[0].rule}: {found[0].message}" if found else ""
        return f"{len(bad)} of {len(files)} logs do not pass {bad[0].ruleset or 'any ruleset'} ({first})"
    if len({f.sha256 for f in files}) < len(files):
        return "two files of the set are the same log"
    profiled = [f for f in files if f.facts.profiled]
    if profiled:
        return f"{Path(profiled[0].path).name} was profiled"
    synthetic = [f for f in files if f.facts.synthetic]
    if synthetic:
        return f"{Path(synthetic[0].path).name} trained on synthetic batches"
    return None
