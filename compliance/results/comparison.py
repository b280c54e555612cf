"""`compare A B`: is B faster than A, and where does the difference come from?

The answer is "faster" or "slower" (B against A) only where two things agree: the
rank test of Mann and Whitney at 5%, in which runs that did not converge count as
slower than any that did, and the 95% bootstrap interval of the ratio of mean
times, which then leaves out 1.  The rank test is exact, so that sets of equal
speed are told apart wrongly at most once in twenty.  With fewer than four runs a
side not even complete separation would be significant: "too few runs".

The mean time is the mean epochs times the seconds per epoch (all seconds over all
epochs), so that the ratio of times is exactly the product of these two ratios;
and it is the sum of the stages' means and the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from compliance.base.errors import UsageError
from compliance.logs.stage_times import STAGES
from compliance.results.run_set import RunSet, SetRun, read_one_set

SCHEMA_VERSION = 1
ALPHA, MIN_RUNS = 0.05, 4
RESAMPLES, SEED = 10_000, 20181108
FASTER, SLOWER, NO_DIFFERENCE, TOO_FEW = (
    "faster", "slower", "no difference shown", "too few runs")
# Settings in which two sets may honestly differ; the answer names them.
_NAMED = ("submission_platform", "submission_division", "device", "engine", "precision",
          "global_batch_size", "eval_batch_size", "opt_name", "opt_base_learning_rate",
          "opt_adam_beta_1", "opt_adam_beta_2", "opt_adam_epsilon", "model_mf_dim", "cache_clear")


@dataclass(frozen=True)
class Side:
    """One set: the runs that converged, whose times are compared, and all that ran."""

    path: str
    runs: list[SetRun]
    converged: list[SetRun]

    @property
    def times(self) -> list[float]:
        """Seconds of the converged runs."""
        return [r.file.facts.seconds or 0.0 for r in self.converged]

    @property
    def ranked(self) -> list[float]:
        """Seconds of all runs; infinite where the target was not reached."""
        return self.times + [math.inf] * (len(self.runs) - len(self.converged))

    @property
    def epochs(self) -> list[int]:
        """Epochs of the converged runs."""
        return [len(r.line.hit_rates) for r in self.converged]

    def mean(self, stage: str) -> float | None:
        """Mean seconds of a stage (or "rest"); None where a log cannot tell."""
        values = [getattr(r.stages, stage) if r.stages else None for r in self.converged]
        return None if not values or None in values else math.fsum(values) / len(values)

    def as_json(self) -> dict[str, Any]:
        """The side's own figures."""
        count, epochs = len(self.converged), sum(self.epochs)
        total = math.fsum(self.times)
        return {"path": self.path, "runs": len(self.runs), "converged": count,
                "mean_s": total / count if count else None,
                "mean_epochs": epochs / count if count else None,
                "seconds_per_epoch": total / epochs if epochs else None}


@dataclass(frozen=True)
class Ratio:
    """B's figure over A's, with its 95% interval (None where there is none)."""

    value: float
    low: float | None
    high: float | None

    def as_json(self) -> dict[str, float | None]:
        """The ratio's object."""
        return {"ratio": self.value, "ci95": None if self.low is None else [self.low, self.high]}


@dataclass(frozen=True)
class Comparison:
    """The answer; ratios are B over A, None where a side has no converged run."""

    verdict: str
    a: Side
    b: Side
    time: Ratio | None
    epochs: Ratio | None
    per_epoch: Ratio | None
    p: float | None
    stages: list[dict[str, Any]]
    notes: list[str]
    unreadable: bool

    def as_json(self) -> dict[str, Any]:
        """The whole answer."""
        ratios = {"time": self.time, "epochs": self.epochs, "seconds_per_epoch": self.per_epoch}
        return {"schema_version": SCHEMA_VERSION, "verdict": self.verdict,
                "a": self.a.as_json(), "b": self.b.as_json(), "p_value": self.p, "alpha": ALPHA,
                **{name: r.as_json() if r else None for name, r in ratios.items()},
                "stages": self.stages, "notes": self.notes}


def compare_folders(first: str, second: str) -> Comparison:
    """Compares the sets in two folders.  Raises UsageError where times cannot be compared."""
    return compare_sets(read_one_set(first), read_one_set(second))


def compare_sets(first: RunSet, second: RunSet) -> Comparison:
    """B (`second`) against A.  Raises UsageError."""
    _same_task(first, second)
    a, b = _side(first), _side(second)
    notes = [*_set_notes("A", first, a), *_set_notes("B", second, b), *_differences(a, b)]
    unreadable = any(not r.file.facts.complete for r in first.runs + second.runs)
    if not a.converged or not b.converged:
        return Comparison(TOO_FEW, a, b, None, None, None, None, [], notes, unreadable)
    enough = min(len(a.runs), len(b.runs)) >= MIN_RUNS \
        and min(len(a.converged), len(b.converged)) >= MIN_RUNS
    time, epochs, per_epoch = _ratios(a, b, enough)
    if not enough:
        return Comparison(TOO_FEW, a, b, time, epochs, per_epoch, None, _stages(a, b), notes,
                          unreadable)
    from compliance.base.statistics import mann_whitney
    p = mann_whitney(a.ranked, b.ranked)
    return Comparison(_verdict(a, b, time, p), a, b, time, epochs, per_epoch, p, _stages(a, b),
                      notes, unreadable)


def _verdict(a: Side, b: Side, time: Ratio, p: float) -> str:
    """What both the rank test and the interval say; else that nothing is shown."""
    from compliance.base.statistics import midranks

    if p > ALPHA or time.low is None or time.high is None:
        return NO_DIFFERENCE
    ranks = midranks(a.ranked + b.ranked)
    count = len(a.ranked)
    b_later = math.fsum(ranks[count:]) / len(b.ranked) > math.fsum(ranks[:count]) / count
    if time.high < 1 and not b_later:
        return FASTER
    return SLOWER if time.low > 1 and b_later else NO_DIFFERENCE


def _same_task(first: RunSet, second: RunSet) -> None:
    """Raises UsageError unless both train the same thing to the same target."""
    for runs in (first, second):
        if runs.target is None:
            raise UsageError(f"{runs.path}: the logs do not have one target; times to no target, "
                             "or to several, cannot be compared; give runs of one --target")
    names = [_task(runs) for runs in (first, second)]
    if names[0] != names[1]:
        raise UsageError(f"{first.path} is of {names[0]}, {second.path} of {names[1]}: their "
                         "times cannot be compared; give sets of one track and target")


def _task(runs: RunSet) -> str:
    track = runs.track.name if runs.track else ", ".join(
        sorted({f.facts.track or f.facts.benchmark or "no track" for f in runs.files}))
    return f"{track} to {runs.target}"


def _side(runs: RunSet) -> Side:
    members = [r for r in runs.runs if r.is_run and (r.file.facts.seconds or 0) > 0]
    return Side(runs.path, members, [r for r in members if r.converged])


def _set_notes(name: str, runs: RunSet, side: Side) -> list[str]:
    notes = []
    bad = sum(f.verdict == "fail" for f in runs.files)
    if bad:
        notes.append(f"{name}: {bad} of {len(runs.files)} logs do not pass check")
    if len(side.runs) < len(runs.runs):
        notes.append(f"{name}: {len(runs.runs) - len(side.runs)} logs are no complete run and "
                     "are left out")
    missed = len(side.runs) - len(side.converged)
    if missed:
        notes.append(f"{name}: {missed} of {len(side.runs)} runs did not converge; the rank test "
                     "takes them as the slowest, the ratios leave them out")
    loose = sum(r.stages is not None and not r.stages.add_up for r in side.runs)
    if loose:
        notes.append(f"{name}: in {loose} of {len(side.runs)} runs the stages do not add up to "
                     "the run within 0.1%")
    return notes


def _differences(a: Side, b: Side) -> list[str]:
    """The settings in which the sets differ, one line each."""
    notes = []
    for key in _NAMED:
        values = [sorted({str(r.line.settings[key]) for r in side.runs if key in r.line.settings})
                  for side in (a, b)]
        if values[0] and values[1] and values[0] != values[1]:
            notes.append(f"the sets differ in {key}: A {' '.join(values[0])}, "
                         f"B {' '.join(values[1])}")
    return notes


def _ratios(a: Side, b: Side, interval: bool) -> tuple[Ratio, Ratio, Ratio]:
    """Ratios of mean time, mean epochs and seconds per epoch."""
    import numpy as np

    from compliance.base.statistics import bootstrap
    rows = [np.array([side.times, side.epochs], dtype=np.float64).T for side in (a, b)]

    def figure(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        time, epochs = second[:, 0] / first[:, 0], second[:, 1] / first[:, 1]
        return np.stack([time, epochs, time / epochs], axis=1)

    values = figure(rows[0].mean(axis=0, keepdims=True), rows[1].mean(axis=0, keepdims=True))[0]
    bounds = bootstrap(rows[0], rows[1], figure, RESAMPLES, SEED) if interval \
        else [(None, None)] * 3
    time, epochs, per_epoch = (Ratio(float(v), *low_high) for v, low_high in zip(values, bounds))
    return time, epochs, per_epoch


def _stages(a: Side, b: Side) -> list[dict[str, Any]]:
    """Mean seconds of each stage on either side, with B's less A's."""
    result = []
    for stage in (*STAGES, "rest"):
        ours, theirs = a.mean(stage), b.mean(stage)
        known = ours is not None and theirs is not None
        result.append({"stage": stage, "a_s": ours, "b_s": theirs,
                       "difference_s": theirs - ours if known else None,
                       "ratio": theirs / ours if known and ours > 0 else None})
    return result
