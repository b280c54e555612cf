"""The score of a set of runs: MLPerf's two scoring rules.

olympic-mean: a set has exactly the number of runs that the track requires. The fastest
and the slowest are dropped, and the rest are averaged. A run that did not converge counts
as the slowest, so at most one run may miss the target.

v0.5-ncf-first-50-of-100: of 100 runs, in the order of their start, the first 50 that
converged are taken; the fastest and the slowest of them are dropped, and the remaining
48 are averaged.

`SOURCES` cites the source of each rule. The median is computed from the runs that enter
the mean. The 95% interval is a percentile bootstrap interval of the whole rule (Efron and
Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13).
"""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Sequence

from compliance.base.errors import UsageError
from compliance.base.text import format_value
from compliance.checking.checker import check_folder_log, check_sets
from compliance.checking.results import FAIL, PASS, UNREADABLE, FileResult
from compliance.logs.find_logs import find_logs
from compliance.logs.keys import NO_RUN_REASONS
from compliance.tracks import BUILTIN_TRACKS, load_track
from compliance.tracks.track import OLYMPIC_MEAN, V05_FIRST_50

SCHEMA_VERSION = 1
V05_RUNS, V05_RUNS_TAKEN, V05_TARGET = 100, 50, 0.635
SOURCES = {
    OLYMPIC_MEAN:
        "MLPerf training rules (mlcommons/training_policies, training_rules.adoc), Benchmark "
        "results: drop the fastest and the slowest run, mean of the rest",
    V05_FIRST_50:
        "MLPerf Training v0.5 rules (mlcommons/training_policies, November 2018), Benchmark "
        "results, NCF: run 100, take the first 50 that converge, drop the fastest and the "
        "slowest, mean of the rest"}
RESAMPLES, RESAMPLE_SEED, CI_MIN_RUNS = 2000, 20181108, 10
# At least this share of the resampled sets must have a score for an interval.
CI_MIN_SCORED_SHARE = 0.5


@dataclass(frozen=True)
class TimedRun:
    """The properties of one run that the scoring rules use.

    Attributes:
      path: The log.
      seconds: Time to train, from run_start to run_stop.
      converged: Whether the run reached its target.
      start_s: The time of run_start, in seconds since 1970.
    """

    path: str
    seconds: float
    converged: bool
    start_s: float = 0.0


@dataclass(frozen=True)
class ScoringResult:
    """The result of a scoring rule: the mean and its runs, or the reason for no score.

    Attributes:
      seconds: The mean time to train; None if there is no score.
      reason: The reason why there is no score; None if there is a score.
      counted_indices: Indices of the runs that enter the mean, from the fastest to the slowest.
      fastest_s: Seconds of the fastest run, which is dropped.
      slowest_s: Seconds of the slowest run, which is dropped.
      median_s: Median seconds of the runs that enter the mean.
      dropped_indices: Indices of the fastest and the slowest run; empty if there is no score.
    """

    seconds: float | None
    reason: str | None
    counted_indices: tuple[int, ...] = ()
    fastest_s: float | None = None
    slowest_s: float | None = None
    median_s: float | None = None
    dropped_indices: tuple[int, ...] = ()


def olympic_mean(runs: Sequence[TimedRun], required: int) -> ScoringResult:
    """Applies the rule "olympic-mean".

    Args:
      runs: The runs of the set.
      required: The number of runs that the track requires, or the larger number that every log
        records.

    Returns:
      The mean of the runs without the fastest and the slowest, or the reason for no score.
    """
    reason = _run_count_problem(len(runs), required)
    if reason:
        return ScoringResult(None, reason)
    not_converged = sum(not run.converged for run in runs)
    if not_converged > 1:
        return ScoringResult(
            None, f"{not_converged} of {len(runs)} runs did not converge; at most one run may "
                  "miss the target")
    order = sorted(range(len(runs)), key=lambda i: (not runs[i].converged, runs[i].seconds, i))
    return _drop_fastest_and_slowest(runs, order)


def v05_first_50_of_100(runs: Sequence[TimedRun], required: int = V05_RUNS) -> ScoringResult:
    """Applies MLPerf v0.5's rule for NCF.

    Args:
      runs: The runs of the set.
      required: The number of runs that the rule requires.

    Returns:
      The mean of 48 of the first 50 converged runs, or the reason for no score.
    """
    reason = _run_count_problem(len(runs), required)
    if reason:
        return ScoringResult(None, reason)
    by_start = sorted(range(len(runs)), key=lambda i: (runs[i].start_s, i))
    # The rule takes runs in the order of their start, so later runs cannot replace slow ones.
    taken = [i for i in by_start if runs[i].converged][:V05_RUNS_TAKEN]
    if len(taken) < V05_RUNS_TAKEN:
        return ScoringResult(
            None, f"only {len(taken)} of {len(runs)} runs converged; the rule "
                  f"requires {V05_RUNS_TAKEN}")
    return _drop_fastest_and_slowest(runs, sorted(taken, key=lambda i: (runs[i].seconds, i)))


RULE_FUNCTIONS = {OLYMPIC_MEAN: olympic_mean, V05_FIRST_50: v05_first_50_of_100}


def _run_count_problem(count: int, required: int) -> str | None:
    """Returns why the number of runs is wrong, or None."""
    if count < required:
        return f"{count} of {required} runs"
    if count > required:
        return (f"{count} runs, but the rule requires {required}; runs may not be selected "
                "afterwards")
    return None


def _drop_fastest_and_slowest(runs: Sequence[TimedRun], order: list[int]) -> ScoringResult:
    """Averages the runs of `order` without the first and the last.

    `order` contains at least three indices of `runs`, from the fastest to the slowest.
    """
    kept = order[1:-1]
    times = [runs[i].seconds for i in kept]
    return ScoringResult(sum(times) / len(times), None, tuple(kept), runs[order[0]].seconds,
                         runs[order[-1]].seconds, statistics.median(times), (order[0], order[-1]))


def confidence_interval(runs: Sequence[TimedRun], rule: str, required: int) -> list[float] | None:
    """Computes the 95% percentile bootstrap interval of a score.

    Whole sets are drawn with replacement from the runs, and the whole rule is applied to each
    set; sets without a score are left out. The seed is fixed, so the same set gives the same
    interval.

    Args:
      runs: The runs of the set.
      rule: The name of the scoring rule.
      required: The number of runs that the rule requires.

    Returns:
      [low, high] in seconds. None if the set has fewer than CI_MIN_RUNS runs, or if less than
      CI_MIN_SCORED_SHARE of the drawn sets have a score.
    """
    if len(runs) < CI_MIN_RUNS:
        return None
    draw = random.Random(RESAMPLE_SEED)
    scores = []
    for _ in range(RESAMPLES):
        seconds = RULE_FUNCTIONS[rule](draw.choices(runs, k=len(runs)), required).seconds
        if seconds is not None:
            scores.append(seconds)
    if len(scores) < CI_MIN_SCORED_SHARE * RESAMPLES:
        return None
    scores.sort()
    last = len(scores) - 1
    return [scores[math.floor(0.025 * last)], scores[math.ceil(0.975 * last)]]


@dataclass(frozen=True)
class Score:
    """The answer of `score`.

    Attributes:
      rule: The name of the scoring rule.
      result: The mean, or the reason for no score.
      runs: The runs that the rule was applied to; interrupted attempts are left out.
      counted: Paths of the logs whose runs enter the mean.
      ci95: [low, high] of the score in seconds, or None.
      verdict: The checker's verdict over all logs.
      files: The checker's results, one for each log.
      required: The number of runs that the rule requires; None if unknown.
    """

    rule: str
    result: ScoringResult
    runs: list[TimedRun]
    counted: set[str]
    ci95: list[float] | None
    verdict: str
    files: list[FileResult]
    required: int | None

    def as_json(self) -> dict[str, Any]:
        """Returns the object of `score --format json`."""
        result = self.result
        return {
            "schema_version": SCHEMA_VERSION, "rule": self.rule, "runs": len(self.runs),
            "converged": sum(run.converged for run in self.runs), "counted": len(self.counted),
            "seconds": result.seconds, "reason": result.reason,
            "dropped_fastest_s": result.fastest_s,
            "dropped_slowest_s": result.slowest_s, "median_s": result.median_s, "ci95_s": self.ci95,
            "per_run": [{"path": f.path, "seconds": f.summary.seconds,
                         "converged": f.summary.converged, "counted": f.path in self.counted}
                        for f in self.files]}


def score_words(score: dict[str, Any]) -> str:
    """Returns a score in words.

    Args:
      score: `Score.as_json` of a set that has a score.
    """
    low, high = score["ci95_s"] or (None, None)
    interval = "" if low is None else f"; 95% interval {low:.3f} to {high:.3f} s"
    return (f"score {score['seconds']:.3f} s ({score['rule']}, {score['counted']} of "
            f"{score['runs']} runs{interval})")


def score_folder(folder: str | Path, ruleset: str | None = None) -> Score:
    """Checks and scores the one set under a folder.

    Args:
      folder: The folder.
      ruleset: The ruleset for the check, as for `check_logs_for_scoring`.

    Returns:
      The score.

    Raises:
      UsageError: There is no such folder, or it contains no set or several sets.
    """
    folder = Path(folder)
    if not folder.exists():
        raise UsageError(f"{folder}: no such folder; give the folder of a set, with "
                         "result_*.txt in it")
    if not folder.is_dir():
        raise UsageError(f"{folder}: a score requires the folder of a set, not one file; give "
                         f"{folder.parent}")
    logs = find_logs(folder)
    parents = sorted({log.parent for log in logs})
    if len(parents) > 1:
        raise UsageError(f"{folder}: contains {len(parents)} sets; give one of them, such as "
                         f"{parents[0]}")
    return score_files(check_logs_for_scoring(logs, ruleset))


def check_logs_for_scoring(logs: Iterable[Path], ruleset: str | None = None) -> list[FileResult]:
    """Checks the logs of one folder as a set, with the ruleset required for scoring.

    Args:
      logs: The logs.
      ruleset: The name of a ruleset. None selects each log's own, but level 1 for v0.5 logs,
        since the original scorer requires no more once a set is accepted.

    Returns:
      The checker's results, with the violations of the rules about sets.
    """
    files = []
    for log in logs:
        result = check_folder_log(log, ruleset or "auto")
        if ruleset is None and result.ruleset == "ncf-v0.5-l2":
            result = check_folder_log(log, "ncf-v0.5-l1")
        files.append(result)
    check_sets(files)
    return files


def score_checked_set(files: list[FileResult]) -> Score:
    """Scores one set that `check` has checked.

    A closed v0.5 set is checked again at level 1, which scoring requires.
    """
    if any(f.ruleset == "ncf-v0.5-l2" for f in files):
        return score_files(check_logs_for_scoring(Path(f.path) for f in files))
    return score_files(files)


def score_files(files: list[FileResult]) -> Score:
    """Scores one set of logs that have been checked as a set.

    Args:
      files: The checker's results, at least one.

    Returns:
      The score.
    """
    verdicts = {f.verdict for f in files}
    verdict = FAIL if FAIL in verdicts else UNREADABLE if UNREADABLE in verdicts else PASS
    rule, required, reason = _rule_for(files)
    # Interrupted attempts are not runs and do not count toward the required number.
    attempts = [f for f in files if f.summary.reason in NO_RUN_REASONS]
    runs = [_timed_run(f) for f in files if f not in attempts and f.summary.seconds is not None]
    reason = _no_score_reason(files) or reason
    result = ScoringResult(None, reason) if reason else RULE_FUNCTIONS[rule](runs, required or 0)
    counted = {runs[i].path for i in result.counted_indices}
    interval = None if result.seconds is None else confidence_interval(runs, rule, required or 0)
    return Score(rule, result, runs, counted, interval, verdict, files, required)


def _timed_run(result: FileResult) -> TimedRun:
    facts = result.summary
    return TimedRun(result.path, facts.seconds or 0.0, bool(facts.converged),
                    facts.time("run_start") or 0.0)


def _rule_for(files: list[FileResult]) -> tuple[str, int | None, str | None]:
    """Returns (scoring rule, required number of runs, reason why there can be no score)."""
    if all(f.dialect == "v0.5" for f in files):
        return V05_FIRST_50, V05_RUNS, None
    if any(f.dialect == "v0.5" for f in files):
        return OLYMPIC_MEAN, None, "the set mixes logs of two dialects"
    names = {f.summary.track for f in files}
    if len(names) > 1:
        return OLYMPIC_MEAN, None, "the set mixes tracks"
    name = names.pop()
    if name not in BUILTIN_TRACKS:
        return OLYMPIC_MEAN, None, "the track is not built in: it has no required number of runs"
    track = load_track(name)
    if track.target is None:
        return track.scoring, track.runs, f"track {name} has no target: never scored"
    # A set may have more runs than the track requires if their number was fixed before the first
    # run. Each log then records it, so that it cannot be chosen after the times are known.
    for file in files:
        stated = file.summary.stated_required_runs
        if stated is not None and (file.summary.required_runs or 0) < track.runs:
            return track.scoring, track.runs, (
                f"{file.path}: required_runs of configuration is {format_value(stated)}, but "
                f"the rule takes {track.runs_in_words()}")
    numbers = {file.summary.required_runs or track.runs for file in files}
    number = numbers.pop()
    if numbers:
        return track.scoring, track.runs, (
            "the logs record different numbers of runs (required_runs of configuration): "
            f"{', '.join(map(str, sorted({number, *numbers})))}")
    if number > track.most_runs:
        return track.scoring, track.runs, (
            f"the set was begun with {number} runs, but the rule takes {track.runs_in_words()}")
    return track.scoring, number, None


def _v05_no_score_reason(files: list[FileResult]) -> str | None:
    """Returns the reason why a v0.5 set gets no score although its logs pass level 1 or 2.

    The original checker judges no values, so a set could otherwise be scored with times, targets
    or logs that no run produced.
    """
    logs_by_curve: dict[str, str] = {}
    for file in files:
        summary, name = file.summary, Path(file.path).name
        if summary.seconds is None or not summary.seconds > 0:
            return f"{name}: the time from run_start to run_stop is not positive"
        if summary.target != V05_TARGET:
            return f"{name}: eval_target is {summary.target}; the rule requires {V05_TARGET}"
        if summary.curve is not None:
            if summary.curve in logs_by_curve:
                return (f"{name} has the same hit rates as {logs_by_curve[summary.curve]}: one "
                        "run twice")
            logs_by_curve[summary.curve] = name
    if not any(file.summary.converged for file in files):
        return "no run of the set reached the target"
    return None


def _no_score_reason(files: list[FileResult]) -> str | None:
    """Returns the reason for no score that does not depend on the times, or None."""
    failing = [f for f in files if f.verdict != PASS]
    if failing:
        errors = failing[0].errors.list()
        example = f"{Path(failing[0].path).name}: {errors[0].rule}: {errors[0].message}" \
            if errors else ""
        return (f"{len(failing)} of {len(files)} logs did not pass "
                f"{failing[0].ruleset or 'any ruleset'} ({example})")
    if len({f.sha256 for f in files}) < len(files):
        return "two files of the set are the same log"
    v05_logs = [f for f in files if f.dialect == "v0.5"]
    if v05_logs:
        return _v05_no_score_reason(v05_logs)
    profiled = [f for f in files if f.summary.is_profiled]
    if profiled:
        return f"{Path(profiled[0].path).name} was profiled"
    synthetic = [f for f in files if f.summary.is_synthetic]
    if synthetic:
        return f"{Path(synthetic[0].path).name} trained on synthetic batches"
    return None
