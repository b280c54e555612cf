"""`compare A B`: tests whether B is faster than A, and divides the difference into its parts.

Two methods are used, each at 5%:

- the rank test of Mann and Whitney (1947), exact, in which runs that did not converge count as
  slower than any that did;
- the 95% interval of the ratio of mean times (Welch's, on the log scale; see `ratio_bounds`),
  of the runs that converged.

If both show a difference in the same direction, the answer is "faster" or "slower" (B against A);
if neither does, "no difference shown"; otherwise "inconclusive". For sets of equal mean times the
false-alarm rate is at most 5%, even if their spreads and sizes differ, and the intervals contain
the true ratio in 94 to 98% of cases: docs/comparing.md
describes the simulations.

The answer is "too few runs" if either set has fewer than four runs that converged. With
three runs in each set the rank test could not be significant even if all runs of one set were
faster than all of the other, and the interval uses only runs that converged.

The mean time is the mean epochs times the seconds per epoch (all seconds over all epochs),
so the ratio of times is exactly the product of the other two ratios. The mean time is also
the sum of the mean seconds of the stages and of the time in no stage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Sequence

from compliance.base.errors import UsageError
from compliance.logs.stage_times import STAGES
from compliance.checking.results import NOISE_RULES
from compliance.results.run_set import RunSet, SetRun

if TYPE_CHECKING:
    from compliance.base.power import Power

SCHEMA_VERSION = 1
MIN_RUNS = 4
FASTER, SLOWER, NO_DIFFERENCE, INCONCLUSIVE, TOO_FEW_RUNS = (
    "faster", "slower", "no difference shown", "inconclusive", "too few runs")
ALPHA = 0.05
# Settings that may differ between the two sets; the notes list the differences.
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
      converged: The runs that reached the target; only their times are compared.
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
        """Seconds of each run; infinite if it did not converge."""
        return self.times_s + [math.inf] * (len(self.runs) - len(self.converged))

    @property
    def epochs(self) -> list[int]:
        """Epochs of each converged run."""
        return [len(r.timeline.hit_rates) for r in self.converged]

    def mean_stage_seconds(self, stage: str) -> float | None:
        """Returns the mean seconds of a stage (or "rest"), or None if a log does not have it."""
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
    """The ratio of a mean of B to the same mean of A.

    Attributes:
      value: The ratio.
      low: The lower end of its 95% interval; None if there is no interval.
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
      verdict: FASTER or SLOWER (B against A), NO_DIFFERENCE, INCONCLUSIVE or TOO_FEW_RUNS.
      a: The first set.
      b: The second set.
      time: Ratio of the mean times to train; None if a set has no converged run.
      epochs: Ratio of the mean epochs.
      epoch_time: Ratio of the seconds per epoch.
      p_value: Two-sided p value of the rank test; None if there are too few runs.
      power: The smallest difference that such sets show; None if there are too few runs.
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
    power: Power | None
    stages: list[dict[str, Any]]
    notes: list[str]
    has_unreadable_logs: bool

    def as_json(self) -> dict[str, Any]:
        """Returns the object of `compare --format json`."""
        ratios = {"time": self.time, "epochs": self.epochs, "seconds_per_epoch": self.epoch_time}
        return {"schema_version": SCHEMA_VERSION, "verdict": self.verdict,
                "a": self.a.as_json(), "b": self.b.as_json(), "p_value": self.p_value,
                "alpha": ALPHA, "power": self.power.as_json() if self.power else None,
                **{name: r.as_json() if r else None for name, r in ratios.items()},
                "stages": self.stages, "notes": self.notes}


def comparisons_as_json(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Returns the object of `compare --format json`: for several sets a list of comparisons."""
    if len(comparisons) == 1:
        return comparisons[0].as_json()
    return {"schema_version": SCHEMA_VERSION, "comparisons": [c.as_json() for c in comparisons]}


def compare_run_sets(first: RunSet, second: RunSet) -> Comparison:
    """Compares two sets.

    Args:
      first: The set to compare with, A.
      second: The set to judge, B.

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
        return Comparison(TOO_FEW_RUNS, a, b, None, None, None, None, None, [], notes, unreadable)
    time, epochs, epoch_time = _ratios(a, b, with_interval=_has_enough_runs(a, b))
    verdict, p_value = _judge(a, b, time)
    power = None
    if p_value is not None:
        from compliance.base.power import power_of
        power = power_of(a.times_s, b.times_s, ALPHA)
    return Comparison(verdict, a, b, time, epochs, epoch_time, p_value, power,
                      _stage_differences(a, b), notes, unreadable)


def verdict_between(first: RunSet, second: RunSet) -> tuple[str, Ratio | None]:
    """Returns the verdict of `compare_run_sets` and the ratio of mean times, and nothing else.

    Args:
      first: The set to compare with.
      second: The set to judge, of the same track and target; this is not checked.
    """
    a, b = _compared_set(first), _compared_set(second)
    if not a.converged or not b.converged:
        return TOO_FEW_RUNS, None
    time = _time_ratio(a, b, with_interval=_has_enough_runs(a, b))
    return _judge(a, b, time)[0], time


def _has_enough_runs(a: ComparedSet, b: ComparedSet) -> bool:
    return min(len(a.converged), len(b.converged)) >= MIN_RUNS


def _judge(a: ComparedSet, b: ComparedSet, time: Ratio) -> tuple[str, float | None]:
    """Returns (verdict, p value of the rank test or None), given the ratio of mean times."""
    if not _has_enough_runs(a, b):
        return TOO_FEW_RUNS, None
    from compliance.base.statistics import mann_whitney
    p_value = mann_whitney(a.ranking_times_s, b.ranking_times_s)
    return _verdict(a, b, time, p_value), p_value


def _time_ratio(a: ComparedSet, b: ComparedSet, with_interval: bool) -> Ratio:
    """Returns the ratio of mean times of the converged runs, as `_ratios` does."""
    import numpy as np

    times = [np.array(side.times_s, np.float64) for side in (a, b)]
    ratio = float(times[1].mean() / times[0].mean())
    if not with_interval:
        return Ratio(ratio, None, None)
    return _ratio(ratio, [values / values.mean() - 1 for values in times])


def _verdict(a: ComparedSet, b: ComparedSet, time: Ratio, p_value: float) -> str:
    """Returns the verdict from the results of the rank test and the interval."""
    of_test = NO_DIFFERENCE
    if p_value <= ALPHA:
        # The test is two-sided: the mean ranks show which set tends to longer times.
        of_test = SLOWER if _b_ranks_slower(a, b) else FASTER
    of_interval = SLOWER if time.low > 1 else FASTER if time.high < 1 else NO_DIFFERENCE
    return of_test if of_test == of_interval else INCONCLUSIVE


def _b_ranks_slower(a: ComparedSet, b: ComparedSet) -> bool:
    from compliance.base.statistics import midranks

    ranks = midranks(a.ranking_times_s + b.ranking_times_s)
    count = len(a.ranking_times_s)
    return math.fsum(ranks[count:]) / len(b.ranking_times_s) > math.fsum(ranks[:count]) / count


def _require_same_task(first: RunSet, second: RunSet) -> None:
    """Raises UsageError unless both sets train the same track to the same target."""
    for run_set in (first, second):
        if run_set.target is None:
            raise UsageError(
                f"{run_set.path}: the logs do not have one common target, so their times cannot "
                "be compared; give runs of one --target")
    names = [_task_name(run_set) for run_set in (first, second)]
    if names[0] != names[1]:
        raise UsageError(f"{first.path} is of {names[0]}, {second.path} of {names[1]}: their "
                         "times cannot be compared; give sets of one track and target")


def _task_name(run_set: RunSet) -> str:
    """Returns track and target as text."""
    track = run_set.track.name if run_set.track else ", ".join(
        sorted({f.summary.track or f.summary.benchmark or "no track" for f in run_set.files}))
    return f"{track} to {run_set.target}"


def _compared_set(run_set: RunSet) -> ComparedSet:
    """Returns the set's complete runs, and the complete runs that converged."""
    runs = [r for r in run_set.runs if r.is_complete_run and (r.file.summary.seconds or 0) > 0]
    return ComparedSet(run_set.path, runs, [r for r in runs if r.converged])


def _set_notes(name: str, run_set: RunSet, compared: ComparedSet) -> list[str]:
    """Returns remarks on the logs of one set."""
    notes = []
    num_runs = len(compared.runs)
    num_failing = sum(f.verdict == "fail" for f in run_set.files)
    if num_failing:
        notes.append(f"{name}: {num_failing} of {len(run_set.files)} logs failed check")
    if num_runs < len(run_set.runs):
        notes.append(f"{name}: {len(run_set.runs) - num_runs} of {len(run_set.runs)} logs left "
                     "out, without a complete run")
    num_missed = num_runs - len(compared.converged)
    if num_missed:
        notes.append(f"{name}: {num_missed} of {num_runs} runs did not converge; they count as "
                     "the slowest in the rank test and are left out of the ratios")
    num_varying = sum(any(map(f.has_violation_of, NOISE_RULES)) for f in run_set.files)
    if num_varying:
        notes.append(f"{name}: {num_varying} of {len(run_set.files)} runs have epochs that vary, or "
                     "differ from those of other runs: the machine was busy or slowed down; the "
                     "times are not comparable")
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
    """Returns the ratios of mean time, mean epochs and seconds per epoch, of converged runs."""
    import numpy as np

    times, epochs = ([np.array(getattr(side, name), np.float64) for side in (a, b)]
                     for name in ("times_s", "epochs"))
    # The influence of each run on the log of its set's mean.
    time_influences, epoch_influences = (
        [values / values.mean() - 1 for values in both] for both in (times, epochs))
    time, epoch = (float(both[1].mean() / both[0].mean()) for both in (times, epochs))
    if not with_interval:
        return Ratio(time, None, None), Ratio(epoch, None, None), Ratio(time / epoch, None, None)
    # Seconds per epoch are a ratio of both means, whose influence is the difference.
    return (_ratio(time, time_influences), _ratio(epoch, epoch_influences),
            _ratio(time / epoch, [t - e for t, e in zip(time_influences, epoch_influences)]))


def _ratio(value: float, influences: Sequence[Any]) -> Ratio:
    from compliance.base.statistics import ratio_bounds

    factor = math.exp(float(ratio_bounds(*influences)))
    return Ratio(value, value / factor, value * factor)


def _stage_differences(a: ComparedSet, b: ComparedSet) -> list[dict[str, Any]]:
    """Returns the mean seconds of each stage in both sets, with the difference B - A."""
    result = []
    for stage in (*STAGES, "rest"):
        mean_a, mean_b = a.mean_stage_seconds(stage), b.mean_stage_seconds(stage)
        is_known = mean_a is not None and mean_b is not None
        result.append({"stage": stage, "a_s": mean_a, "b_s": mean_b,
                       "difference_s": mean_b - mean_a if is_known else None,
                       "ratio": mean_b / mean_a if is_known and mean_a > 0 else None})
    return result
