"""`compare A B`: is B faster than A, and where does the difference come from?

The answer is "faster" or "slower" (B against A) only where two things agree:

- the rank test of Mann and Whitney (1947) at 5%, in which runs that did not converge count
  as slower than any that did.  The test is exact, so that sets of equal speed are called
  different at most once in twenty comparisons;
- the 95% bootstrap interval of the ratio of mean times (Efron's percentile method), which
  then excludes 1.

The answer is "too few runs" where either set has fewer than four runs that converged.  With
three runs in each set the rank test could not be significant even if all runs of one set were
faster than all of the other, and the interval takes only runs that converged.

The mean time is the mean epochs times the seconds per epoch (all seconds over all epochs),
so that the ratio of times is exactly the product of the other two ratios.  It is also the
sum of the mean seconds of the stages and of the time outside them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from compliance.base.errors import UsageError
from compliance.logs.stage_times import STAGES
from compliance.results.run_set import RunSet, SetRun

SCHEMA_VERSION = 1
ALPHA, MIN_RUNS = 0.05, 4
RESAMPLES, SEED = 10_000, 20181108
FASTER, SLOWER, NO_DIFFERENCE, TOO_FEW_RUNS = (
    "faster", "slower", "no difference shown", "too few runs")
# Settings in which two sets may differ and still be compared; the notes name them.
_REPORTED_SETTINGS = (
    "submission_platform", "submission_division", "device", "engine", "precision",
    "global_batch_size", "eval_batch_size", "opt_name", "opt_base_learning_rate",
    "opt_adam_beta_1", "opt_adam_beta_2", "opt_adam_epsilon", "model_mf_dim", "cache_clear")


@dataclass(frozen=True)
class ComparedSet:
    """One of the two sets.

    Attributes:
      path: The set's folder.
      runs: The complete runs.
      converged: Those that reached the target; only their times are compared.
    """

    path: str
    runs: list[SetRun]
    converged: list[SetRun]

    @property
    def times_s(self) -> list[float]:
        """Seconds of each converged run."""
        return [r.file.summary.seconds or 0.0 for r in self.converged]

    @property
    def ranking_times_s(self) -> list[float]:
        """Seconds of each run; infinite where it did not converge."""
        return self.times_s + [math.inf] * (len(self.runs) - len(self.converged))

    @property
    def epochs(self) -> list[int]:
        """Epochs of each converged run."""
        return [len(r.timeline.hit_rates) for r in self.converged]

    def mean_stage_seconds(self, stage: str) -> float | None:
        """Returns the mean seconds of a stage (or "rest"), or None where a log has none."""
        values = [r.stages.as_json()[f"{stage}_s"] if r.stages else None for r in self.converged]
        return None if not values or None in values else math.fsum(values) / len(values)

    def as_json(self) -> dict[str, Any]:
        """Returns the set's object of `compare --format json`."""
        count, epochs = len(self.converged), sum(self.epochs)
        total = math.fsum(self.times_s)
        return {"path": self.path, "runs": len(self.runs), "converged": count,
                "mean_s": total / count if count else None,
                "mean_epochs": epochs / count if count else None,
                "seconds_per_epoch": total / epochs if epochs else None}


@dataclass(frozen=True)
class Ratio:
    """A mean of B over the same mean of A.

    Attributes:
      value: The ratio.
      low: The lower end of its 95% interval; None where there is no interval.
      high: The upper end.
    """

    value: float
    low: float | None
    high: float | None

    def as_json(self) -> dict[str, float | None]:
        """Returns the ratio's object of `compare --format json`."""
        return {"ratio": self.value, "ci95": None if self.low is None else [self.low, self.high]}


@dataclass(frozen=True)
class Comparison:
    """The answer of `compare`.

    Attributes:
      verdict: FASTER or SLOWER (B against A), NO_DIFFERENCE or TOO_FEW_RUNS.
      a: The first set.
      b: The second set.
      time: Ratio of the mean times to train; None where a set has no converged run.
      epochs: Ratio of the mean epochs.
      epoch_time: Ratio of the seconds per epoch.
      p_value: Two-sided p value of the rank test; None where there are too few runs.
      stages: For each stage the mean seconds of both sets, their difference and ratio.
      notes: Remarks for the reader.
      has_unreadable_logs: Whether a log of either set is incomplete.
    """

    verdict: str
    a: ComparedSet
    b: ComparedSet
    time: Ratio | None
    epochs: Ratio | None
    epoch_time: Ratio | None
    p_value: float | None
    stages: list[dict[str, Any]]
    notes: list[str]
    has_unreadable_logs: bool

    def as_json(self) -> dict[str, Any]:
        """Returns the object of `compare --format json`."""
        ratios = {"time": self.time, "epochs": self.epochs, "seconds_per_epoch": self.epoch_time}
        return {"schema_version": SCHEMA_VERSION, "verdict": self.verdict,
                "a": self.a.as_json(), "b": self.b.as_json(), "p_value": self.p_value,
                "alpha": ALPHA,
                **{name: r.as_json() if r else None for name, r in ratios.items()},
                "stages": self.stages, "notes": self.notes}


def compare_run_sets(first: RunSet, second: RunSet) -> Comparison:
    """Compares two sets.

    Args:
      first: The set that is compared with, A.
      second: The set that the answer is about, B.

    Returns:
      The comparison.

    Raises:
      UsageError: The sets are of different tracks or targets.
    """
    _require_same_task(first, second)
    a, b = _compared_set(first), _compared_set(second)
    notes = [*_set_notes("A", first, a), *_set_notes("B", second, b), *_setting_differences(a, b)]
    unreadable = any(not r.file.summary.is_complete for r in first.runs + second.runs)
    if not a.converged or not b.converged:
        return Comparison(TOO_FEW_RUNS, a, b, None, None, None, None, [], notes, unreadable)
    has_enough_runs = min(len(a.converged), len(b.converged)) >= MIN_RUNS
    time, epochs, epoch_time = _ratios(a, b, with_interval=has_enough_runs)
    verdict, p_value = TOO_FEW_RUNS, None
    if has_enough_runs:
        from compliance.base.statistics import mann_whitney
        p_value = mann_whitney(a.ranking_times_s, b.ranking_times_s)
        verdict = _verdict(a, b, time, p_value)
    return Comparison(verdict, a, b, time, epochs, epoch_time, p_value, _stage_differences(a, b),
                      notes, unreadable)


def _verdict(a: ComparedSet, b: ComparedSet, time: Ratio, p_value: float) -> str:
    """Returns FASTER or SLOWER where rank test and interval agree, else NO_DIFFERENCE."""
    from compliance.base.statistics import midranks

    if p_value > ALPHA or time.low is None or time.high is None:
        return NO_DIFFERENCE
    # The test is two-sided: the mean ranks say which set tends to the longer times.
    ranks = midranks(a.ranking_times_s + b.ranking_times_s)
    count = len(a.ranking_times_s)
    mean_rank_a = math.fsum(ranks[:count]) / count
    b_ranks_slower = math.fsum(ranks[count:]) / len(b.ranking_times_s) > mean_rank_a
    if time.high < 1 and not b_ranks_slower:
        return FASTER
    return SLOWER if time.low > 1 and b_ranks_slower else NO_DIFFERENCE


def _require_same_task(first: RunSet, second: RunSet) -> None:
    """Raises UsageError unless both sets train the same track to the same target."""
    for run_set in (first, second):
        if run_set.target is None:
            raise UsageError(
                f"{run_set.path}: the logs do not have one target; times to no target, "
                "or to several, cannot be compared; give runs of one --target")
    names = [_task_name(run_set) for run_set in (first, second)]
    if names[0] != names[1]:
        raise UsageError(f"{first.path} is of {names[0]}, {second.path} of {names[1]}: their "
                         "times cannot be compared; give sets of one track and target")


def _task_name(run_set: RunSet) -> str:
    """Returns track and target in words."""
    track = run_set.track.name if run_set.track else ", ".join(
        sorted({f.summary.track or f.summary.benchmark or "no track" for f in run_set.files}))
    return f"{track} to {run_set.target}"


def _compared_set(run_set: RunSet) -> ComparedSet:
    """Returns the set's complete runs, and those of them that converged."""
    runs = [r for r in run_set.runs if r.is_complete_run and (r.file.summary.seconds or 0) > 0]
    return ComparedSet(run_set.path, runs, [r for r in runs if r.converged])


def _set_notes(name: str, run_set: RunSet, compared: ComparedSet) -> list[str]:
    """Returns remarks on the logs of one set."""
    notes = []
    num_runs = len(compared.runs)
    num_failing = sum(f.verdict == "fail" for f in run_set.files)
    if num_failing:
        notes.append(f"{name}: {num_failing} of {len(run_set.files)} logs do not pass check")
    if num_runs < len(run_set.runs):
        notes.append(f"{name}: {len(run_set.runs) - num_runs} logs are no complete run and "
                     "are left out")
    num_missed = num_runs - len(compared.converged)
    if num_missed:
        notes.append(f"{name}: {num_missed} of {num_runs} runs did not converge; the rank test "
                     "takes them as the slowest, the ratios leave them out")
    num_loose = sum(r.stages is not None and not r.stages.add_up for r in compared.runs)
    if num_loose:
        notes.append(f"{name}: in {num_loose} of {num_runs} runs the stages do not add up to "
                     "the run within 0.1%")
    return notes


def _setting_differences(a: ComparedSet, b: ComparedSet) -> list[str]:
    """Returns one line for each setting in which the sets differ."""
    notes = []
    for key in _REPORTED_SETTINGS:
        values = [sorted({str(r.timeline.settings[key]) for r in compared.runs
                          if key in r.timeline.settings}) for compared in (a, b)]
        # A setting that one set does not log at all is not counted as a difference.
        if values[0] and values[1] and values[0] != values[1]:
            notes.append(f"the sets differ in {key}: A {' '.join(values[0])}, "
                         f"B {' '.join(values[1])}")
    return notes


def _ratios(a: ComparedSet, b: ComparedSet, with_interval: bool) -> tuple[Ratio, Ratio, Ratio]:
    """Returns the ratios of mean time, mean epochs and seconds per epoch.

    The intervals are percentile bootstrap intervals (Efron and Tibshirani 1993, "An
    Introduction to the Bootstrap", chapter 13): the converged runs of each set are drawn
    anew with replacement, with a fixed seed.
    """
    import numpy as np

    from compliance.base.statistics import bootstrap
    # float64 [converged runs, 2] of each set: seconds and epochs of a run stay together.
    samples = [np.array([side.times_s, side.epochs], dtype=np.float64).T for side in (a, b)]

    def ratios_of_means(means_a: np.ndarray, means_b: np.ndarray) -> np.ndarray:
        """[n, 2] means of both sets -> [n, 3] ratios of time, epochs, seconds per epoch."""
        time, epochs = means_b[:, 0] / means_a[:, 0], means_b[:, 1] / means_a[:, 1]
        return np.stack([time, epochs, time / epochs], axis=1)

    values = ratios_of_means(*(sample.mean(axis=0, keepdims=True) for sample in samples))[0]
    bounds = bootstrap(samples[0], samples[1], ratios_of_means, RESAMPLES, SEED) \
        if with_interval else [(None, None)] * 3
    time, epochs, epoch_time = (Ratio(float(v), *low_high) for v, low_high in zip(values, bounds))
    return time, epochs, epoch_time


def _stage_differences(a: ComparedSet, b: ComparedSet) -> list[dict[str, Any]]:
    """Returns the mean seconds of each stage in both sets, with B's less A's."""
    result = []
    for stage in (*STAGES, "rest"):
        mean_a, mean_b = a.mean_stage_seconds(stage), b.mean_stage_seconds(stage)
        is_known = mean_a is not None and mean_b is not None
        result.append({"stage": stage, "a_s": mean_a, "b_s": mean_b,
                       "difference_s": mean_b - mean_a if is_known else None,
                       "ratio": mean_b / mean_a if is_known and mean_a > 0 else None})
    return result
