"""`convergence`: did a set converge in fewer epochs than the reference allows?

The method is that of MLPerf's reference convergence points (mlcommons/
training_policies, training_rules.adoc, section 13, "Reference Convergence Points
(RCPs)", as `mlperf_logging.rcp_checker` 4.1 has it): the set's mean epochs, the
fastest and the slowest run dropped, must not be significantly below the
reference's at the same batch size, one-sided at 5%.
Three things differ, for NCF's sake:

- Significance comes from dividing the pooled runs anew at random (a permutation
  test of that same mean) rather than from Student's t.  Epochs are small whole
  numbers, a set may have five runs, and the t formula takes what is left of the
  runs for a sample: on sets simulated from the v0.5 logs its false alarms range
  from none (three runs) to 6.4%.  Ours are at most the 5% that is claimed, less
  where many runs tie (2 to 4.5% there), 5% where none do; tests/compliance/rcp/test_convergence.py
  shows it.  The limit that RCP's formula gives is shown beside ours.
- A run that did not converge is censored, not an error: it counts as later than
  the last epoch that both sides trained to.  Runs that converged later than that
  count the same, so that a lower cap on epochs gains nothing.
- Interpolation between batch sizes is refused where it is not defensible
  (`references.py`), and there is no extrapolation.

As in MLPerf's package checker only the closed division is held against the
reference: open runs may train another model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Sequence

from compliance.base.statistics import permutation_p, student_quantile, trimmed_mean
from compliance.checking.results import UNREADABLE
from compliance.rcp.calibration import POINTS_DIR
from compliance.rcp.points import NoReference, Point, find_point, load_points
from compliance.results.run_set import RunSet, SetRun, read_sets

SCHEMA_VERSION = 1
ALPHA = 0.05
MIN_RUNS = 3  # one remains when the fastest and the slowest are dropped
DRAWS, SEED = 19_999, 20200706
TOO_FAST, WITHIN, NO_REFERENCE, TOO_FEW = (
    "too fast", "within the reference", "no reference", "too few runs")
METHOD = ("permutation test of MLPerf's olympic mean of epochs (mlperf_logging.rcp_checker), "
          "one-sided at 5%; runs that did not converge are censored")


@dataclass(frozen=True)
class Held:
    """The two sides and what came of them; means are olympic, in epochs."""

    cap: float
    mean: float
    reference_mean: float
    p: float
    rcp_limit: float

    @property
    def too_fast(self) -> bool:
        """Whether the set is significantly below the reference."""
        return self.p <= ALPHA

    @property
    def normalization(self) -> float:
        """RCP's factor by which a faster set's time would be multiplied; from 1 up."""
        return max(self.reference_mean / self.mean, 1.0)


def hold_against(epochs: Sequence[float | None], caps: Sequence[float], point: Point,
                draws: int = DRAWS) -> Held:
    """Holds a set against a point.

    epochs: of each run to the target, None where it did not get there.  caps: the
    epochs that the runs without the target were trained for (those that lost
    their loss left out).  At least MIN_RUNS runs.
    """
    cap = min([point.cap, *caps])
    ours = [e if e is not None and e <= cap else cap + 1 for e in epochs]
    theirs = point.values(cap)
    return Held(cap, trimmed_mean(ours), trimmed_mean(theirs),
                permutation_p(ours, theirs, draws, SEED), rcp_limit(theirs, len(ours)))


def rcp_limit(reference: Sequence[float], runs: int) -> float:
    """The smallest mean that RCP's own formula accepts from so many runs.

    Student's t for two samples of equal variance, of which each lost two runs:
    mean - t(95%, n + m - 2) s sqrt(1/n + 1/m), s the reference's deviation over all runs.
    """
    mean = trimmed_mean(reference)
    middle = math.fsum(reference) / len(reference)
    deviation = math.sqrt(math.fsum((x - middle) ** 2 for x in reference) / len(reference))
    n, m = len(reference) - 2, runs - 2
    if deviation == 0:
        return mean
    return mean - student_quantile(1 - ALPHA, n + m - 2) * deviation * math.sqrt(1 / n + 1 / m)


@dataclass(frozen=True)
class Convergence:
    """The answer for one set; `test` and `point` are None where there is no verdict."""

    path: str
    verdict: str
    reason: str | None
    track: str | None
    batch_size: int | None
    runs: list[SetRun]
    attempts: int
    unreadable: int
    test: Held | None = None
    point: Point | None = None
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """One set of the answer."""
        test, point = self.test, self.point
        return {
            "path": self.path, "verdict": self.verdict, "reason": self.reason,
            "track": self.track, "batch_size": self.batch_size, "runs": len(self.runs),
            "converged": sum(r.epochs is not None for r in self.runs),
            "mean_epochs": test.mean if test else None,
            "p_value": test.p if test else None, "alpha": ALPHA,
            "censored_after": test.cap if test else None,
            "rcp_min_mean_epochs": test.rcp_limit if test else None,
            "normalization": test.normalization if test else None,
            "reference": None if point is None or test is None else {
                "batch_size": point.batch_size, "interpolated": point.interpolated,
                "runs": len(point.epochs), "converged": len(point.epochs) - point.censored,
                "mean_epochs": test.reference_mean, "target": point.target,
                "settings": point.settings, "source": point.source},
            "notes": self.notes,
            "per_run": [{"path": r.file.path, "epochs": r.epochs,
                         "epochs_trained": len(r.line.hit_rates)} for r in self.runs]}


def judge_set(runs: RunSet, folder: Path = POINTS_DIR) -> Convergence:
    """Holds one set against the reference points in `folder`."""
    members = [r for r in runs.runs if r.is_run]
    unreadable = sum(f.verdict == UNREADABLE for f in runs.files)
    attempts = len(runs.runs) - len(members) - unreadable
    sizes = {r.line.batch_size for r in members}
    batch_size = sizes.pop() if len(sizes) == 1 else None
    track = runs.track
    about = {"path": runs.path, "track": track.name if track else None,
             "batch_size": batch_size, "runs": members, "attempts": max(attempts, 0),
             "unreadable": unreadable, "notes": _notes(runs)}
    try:
        point = _reference(runs, members, batch_size, folder) if members else None
    except NoReference as error:
        return Convergence(verdict=NO_REFERENCE, reason=str(error), **about)
    if point is None or len(members) < MIN_RUNS:
        return Convergence(verdict=TOO_FEW, reason=f"{len(members)} of at least {MIN_RUNS} runs: "
                           "the fastest and the slowest are dropped", **about)
    caps = [len(r.line.hit_rates) for r in members if r.epochs is None and not r.lost]
    test = hold_against([r.epochs for r in members], caps, point)
    return Convergence(verdict=TOO_FAST if test.too_fast else WITHIN, reason=None, test=test,
                       point=point, **about)


def _notes(runs: RunSet) -> list[str]:
    bad = sum(f.verdict == "fail" for f in runs.files)
    return [f"{bad} of {len(runs.files)} logs do not pass check: their epochs may be wrong"] \
        if bad else []


def _reference(runs: RunSet, members: list[SetRun], batch_size: int | None, folder: Path) -> Point:
    track = runs.track
    if track is None:
        raise NoReference("the logs are not of one built-in track")
    if track.target is None:
        raise NoReference(f"track {track.name} has no target")
    if any(f.facts.division not in ("closed", None) for f in runs.files):
        raise NoReference("the reference holds for the closed division; these runs are open")
    if runs.target != track.target:
        raise NoReference(f"the runs' target is not the track's, {track.target}")
    if batch_size is None:
        mixed = len({r.line.batch_size for r in members}) > 1
        raise NoReference("the set mixes batch sizes" if mixed
                          else "the logs do not say the batch size")
    points = [p for p in load_points(track, folder) if p.target == track.target]
    if not points:
        raise NoReference(f"track {track.name} has no reference points")
    return find_point(points, batch_size)


@dataclass(frozen=True)
class Answer:
    """What `convergence` answers: one verdict for each set under the folder."""

    sets: list[Convergence]

    @property
    def too_fast(self) -> bool:
        """Whether any set is."""
        return any(s.verdict == TOO_FAST for s in self.sets)

    @property
    def unreadable(self) -> bool:
        """Whether any log is unreadable or incomplete."""
        return any(s.unreadable for s in self.sets)

    def as_json(self) -> dict[str, Any]:
        """The whole answer."""
        return {"schema_version": SCHEMA_VERSION, "method": METHOD,
                "sets": [s.as_json() for s in self.sets]}


def judge_folder(folder: str | Path) -> Answer:
    """Each set under a folder against the reference.  Raises UsageError."""
    return Answer([judge_set(runs) for runs in read_sets(folder)])
