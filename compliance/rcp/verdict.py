"""`convergence`: tests whether a set converged in fewer epochs than the reference allows.

The method is that of MLPerf's reference convergence points (RCPs; mlcommons/
training_policies, training_rules.adoc, section 13, "Reference Convergence Points
(RCPs)", as `mlperf_logging.rcp_checker` 4.1 implements it). The mean epochs of the
set, without its fastest and its slowest run, must not be significantly below the
mean of the reference at the same batch size (one-sided, at 5%).
Three things differ from MLPerf's checker, because of NCF:

- Significance comes from a permutation test of that same mean instead of Student's t
  test. Epochs are small whole numbers, a set may have only five runs, and the t
  formula treats the runs that remain after the two were dropped as a full sample: on
  sets simulated from the v0.5 logs its false-alarm rate ranges from 0% (three runs) to
  6.4%. The false-alarm rate of the permutation test is at most the nominal 5%: 2 to
  4.5% with many ties, 5% without ties (tests/compliance/rcp/test_convergence.py).
  The limit of RCP's own formula is reported with the verdict.
- A run that did not converge is censored and is not an error: it counts as later than
  the last epoch that both sides trained. Runs that converged after that epoch count
  the same, so a set gains nothing from a lower epoch cap.
- Interpolation between batch sizes is restricted (`points.py`), and there is no
  extrapolation.

As in MLPerf's package checker, only the closed division is compared with the
reference: open runs may train another model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Sequence

from compliance.base.statistics import permutation_p_value, student_t_quantile, trimmed_mean
from compliance.checking.results import UNREADABLE
from compliance.rcp.calibration import REFERENCE_POINTS_DIR
from compliance.rcp.points import (
    NoReferencePoint,
    ReferencePoint,
    find_reference_point,
    load_reference_points,
)
from compliance.results.run_set import RunSet, SetRun, read_sets

SCHEMA_VERSION = 1
ALPHA = 0.05
MIN_RUNS = 3  # one run remains when the fastest and the slowest are dropped
PERMUTATIONS, SEED = 19_999, 20200706
TOO_FAST, WITHIN_REFERENCE, NO_REFERENCE, TOO_FEW_RUNS = (
    "too fast", "within the reference", "no reference", "too few runs")
METHOD = ("permutation test of MLPerf's olympic mean of epochs (mlperf_logging.rcp_checker), "
          "one-sided at 5%; runs that did not converge are censored")


@dataclass(frozen=True)
class ConvergenceTest:
    """The result of the test of one set against one reference point.

    Attributes:
      max_epochs: The last epoch that both sides trained; later epochs are censored.
      mean_epochs: The set's mean epochs to the target without its fastest and slowest run.
      reference_mean_epochs: The same mean of the reference's runs.
      p_value: One-sided p value for a mean as low as the set's.
      rcp_min_mean_epochs: The lowest mean that RCP's own formula accepts.
    """

    max_epochs: float
    mean_epochs: float
    reference_mean_epochs: float
    p_value: float
    rcp_min_mean_epochs: float

    @property
    def is_too_fast(self) -> bool:
        """Whether the set is significantly below the reference."""
        return self.p_value <= ALPHA

    @property
    def normalization(self) -> float:
        """RCP's factor, at least 1, which multiplies the time of a faster set."""
        return max(self.reference_mean_epochs / self.mean_epochs, 1.0)


def compare_to_reference(epochs: Sequence[float | None], epoch_caps: Sequence[float],
                         reference: ReferencePoint,
                         permutations: int = PERMUTATIONS) -> ConvergenceTest:
    """Tests whether a set's mean epochs are below those of a reference point.

    Args:
      epochs: Epochs to the target of each run, at least MIN_RUNS values; None if the run
        did not reach the target.
      epoch_caps: The epochs trained by each run that missed the target. Runs whose loss
        became NaN are left out, since they could not converge in more epochs.
      reference: The reference point.
      permutations: The number of random permutations.

    Returns:
      The result of the test.
    """
    # Both sides are censored after the last epoch that both trained: a run that reached the
    # target later, or never, counts as one epoch more.
    max_epochs = min([reference.epochs_trained, *epoch_caps])
    set_epochs = [e if e is not None and e <= max_epochs else max_epochs + 1 for e in epochs]
    reference_epochs = reference.censored_epochs(max_epochs)
    return ConvergenceTest(
        max_epochs, trimmed_mean(set_epochs), trimmed_mean(reference_epochs),
        permutation_p_value(set_epochs, reference_epochs, permutations, SEED),
        rcp_min_mean_epochs(reference_epochs, len(set_epochs)))


def rcp_min_mean_epochs(reference_epochs: Sequence[float], num_runs: int) -> float:
    """Computes the lowest mean that RCP's own formula accepts.

    It is Student's t test for two samples of equal variance, with n and m runs after two
    are dropped on each side: mean - t(95%, n + m - 2) s sqrt(1/n + 1/m), where s is the
    standard deviation of all the reference's runs (`mlperf_logging.rcp_checker`).

    Args:
      reference_epochs: Epochs of each run of the reference.
      num_runs: Runs of the tested set.

    Returns:
      The limit, in epochs.
    """
    mean = trimmed_mean(reference_epochs)
    mean_of_all = math.fsum(reference_epochs) / len(reference_epochs)
    deviation = math.sqrt(
        math.fsum((x - mean_of_all) ** 2 for x in reference_epochs) / len(reference_epochs))
    n, m = len(reference_epochs) - 2, num_runs - 2
    if deviation == 0:
        return mean
    return mean - student_t_quantile(1 - ALPHA, n + m - 2) * deviation * math.sqrt(1 / n + 1 / m)


@dataclass(frozen=True)
class SetConvergence:
    """The verdict on the convergence of one set.

    Attributes:
      path: The set's folder.
      verdict: TOO_FAST, WITHIN_REFERENCE, NO_REFERENCE or TOO_FEW_RUNS.
      reason: The reason why there is no test; None if there is a test.
      track: The name of the built-in track, or None.
      batch_size: The global batch size that all runs share, or None.
      runs: The complete runs; interrupted attempts are left out.
      num_interrupted: Interrupted attempts.
      num_unreadable: Logs that cannot be read or are incomplete.
      test: The test, or None.
      reference: The reference point of the test, or None.
      notes: Remarks for the reader.
    """

    path: str
    verdict: str
    reason: str | None
    track: str | None
    batch_size: int | None
    runs: list[SetRun]
    num_interrupted: int
    num_unreadable: int
    test: ConvergenceTest | None = None
    reference: ReferencePoint | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def num_converged(self) -> int:
        """Runs that reached the target."""
        return sum(r.epochs_to_target is not None for r in self.runs)

    def as_json(self) -> dict[str, Any]:
        """Returns the set's object of `convergence --format json`."""
        test, reference = self.test, self.reference
        return {
            "path": self.path, "verdict": self.verdict, "reason": self.reason,
            "track": self.track, "batch_size": self.batch_size, "runs": len(self.runs),
            "converged": self.num_converged,
            "mean_epochs": test.mean_epochs if test else None,
            "p_value": test.p_value if test else None, "alpha": ALPHA,
            "censored_after": test.max_epochs if test else None,
            "rcp_min_mean_epochs": test.rcp_min_mean_epochs if test else None,
            "normalization": test.normalization if test else None,
            "reference": None if reference is None or test is None else {
                "batch_size": reference.batch_size, "interpolated": reference.is_interpolated,
                "runs": len(reference.epochs),
                "converged": len(reference.epochs) - reference.num_censored,
                "mean_epochs": test.reference_mean_epochs, "target": reference.target,
                "settings": reference.settings, "source": reference.source},
            "notes": self.notes,
            "per_run": [{"path": r.file.path, "epochs": r.epochs_to_target,
                         "epochs_trained": len(r.timeline.hit_rates)} for r in self.runs]}


def check_set_convergence(run_set: RunSet, folder: Path = REFERENCE_POINTS_DIR) -> SetConvergence:
    """Tests one set against the reference point of its track and batch size.

    Args:
      run_set: The set.
      folder: The folder of the files of reference points.

    Returns:
      The verdict on the set, with the test if it was possible.
    """
    runs = [r for r in run_set.runs if r.is_complete_run]
    num_unreadable = sum(f.verdict == UNREADABLE for f in run_set.files)
    num_interrupted = len(run_set.runs) - len(runs) - num_unreadable
    batch_sizes = {r.timeline.batch_size for r in runs}
    batch_size = batch_sizes.pop() if len(batch_sizes) == 1 else None
    track = run_set.track
    fields = {"path": run_set.path, "track": track.name if track else None,
              "batch_size": batch_size, "runs": runs, "num_interrupted": max(num_interrupted, 0),
              "num_unreadable": num_unreadable, "notes": _notes(run_set)}
    try:
        reference = _find_reference(run_set, runs, batch_size, folder) if runs else None
    except NoReferencePoint as error:
        return SetConvergence(verdict=NO_REFERENCE, reason=str(error), **fields)
    if reference is None or len(runs) < MIN_RUNS:
        reason = (f"{len(runs)} of at least {MIN_RUNS} runs, since the fastest and the slowest "
                  "are dropped")
        return SetConvergence(verdict=TOO_FEW_RUNS, reason=reason, **fields)
    # A run with a NaN loss could never converge, so its cap must not censor the others.
    epoch_caps = [len(r.timeline.hit_rates) for r in runs
                  if r.epochs_to_target is None and not r.has_nan_loss]
    test = compare_to_reference([r.epochs_to_target for r in runs], epoch_caps, reference)
    return SetConvergence(verdict=TOO_FAST if test.is_too_fast else WITHIN_REFERENCE, reason=None,
                          test=test, reference=reference, **fields)


def _notes(run_set: RunSet) -> list[str]:
    """Warns of logs that break rules, since their epochs may be wrong."""
    failing = sum(f.verdict == "fail" for f in run_set.files)
    return [f"{failing} of {len(run_set.files)} logs failed check, so their epochs may be wrong"
            ] if failing else []


def _find_reference(run_set: RunSet, runs: list[SetRun], batch_size: int | None, folder: Path
                    ) -> ReferencePoint:
    """Finds the reference point of a set; raises NoReferencePoint if there is none."""
    track = run_set.track
    if track is None:
        raise NoReferencePoint("the logs are not all of one built-in track")
    if track.target is None:
        raise NoReferencePoint(f"track {track.name} has no target")
    if any(f.summary.division not in ("closed", None) for f in run_set.files):
        raise NoReferencePoint(
            "the reference points apply only to the closed division; these runs are open")
    if run_set.target != track.target:
        raise NoReferencePoint(f"the runs' target differs from the track's target {track.target}")
    if batch_size is None:
        mixed = len({r.timeline.batch_size for r in runs}) > 1
        raise NoReferencePoint("the set mixes batch sizes" if mixed
                               else "the logs do not contain the batch size")
    points = [p for p in load_reference_points(track, folder) if p.target == track.target]
    if not points:
        raise NoReferencePoint(f"track {track.name} has no reference points")
    return find_reference_point(points, batch_size)


@dataclass(frozen=True)
class ConvergenceReport:
    """The answer of `convergence`: a verdict on each set under the folder."""

    sets: list[SetConvergence]

    @property
    def is_too_fast(self) -> bool:
        """Whether any set converged too fast."""
        return any(s.verdict == TOO_FAST for s in self.sets)

    @property
    def has_unreadable_logs(self) -> bool:
        """Whether any log cannot be read or is incomplete."""
        return any(s.num_unreadable for s in self.sets)

    def as_json(self) -> dict[str, Any]:
        """Returns the object of `convergence --format json`."""
        return {"schema_version": SCHEMA_VERSION, "method": METHOD,
                "sets": [s.as_json() for s in self.sets]}


def check_folder_convergence(folder: str | Path) -> ConvergenceReport:
    """Tests each set under a folder against the reference points.

    Raises:
      UsageError: There is no such folder, or no log in it.
    """
    return ConvergenceReport([check_set_convergence(run_set) for run_set in read_sets(folder)])
