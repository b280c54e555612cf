"""Finds benchmarks that got slower: a regression is both significant and above the threshold.

Machines are noisy: a process that ran on a slow machine is slow in all its benchmarks. Each
process's median is therefore divided by the calibration time of the same process (the
geometric mean of the calibration benchmarks that every process of both recordings has). The
effect is the ratio of the medians of both recordings after that division.

Significance is tested in two steps:

- For each benchmark the exact one-sided rank test of Mann and Whitney (1947, "On a Test of
  Whether one of Two Random Variables is Stochastically Larger than the Other", Ann. Math.
  Statist. 18(1)) compares the processes of both recordings.
- The p values are corrected by Holm's procedure (1979, "A Simple Sequentially Rejective
  Multiple Test Procedure", Scand. J. Statist. 6(2)) over all benchmarks that are compared, so
  the false-alarm rate of a comparison of two recordings of the same program is at most 5% (if
  processes are independent).

A recording that is too noisy, or has too few processes, would not show a slowdown. For each
benchmark the answer contains the smallest slowdown that would be significant in 8 of 10 cases
(`compliance.base.rank_test_power`). If that is above the threshold, the benchmark is
"unresolved", unless it is a regression or an improvement, and the verdict is not PASS.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Sequence

from compliance.base.errors import UsageError
from compliance.regress.files import (
    Benchmark,
    ProcessId,
    Recording,
    describe_differences,
    read_recording,
    short_line,
)
from compliance.regress.notes import (
    ALPHA,
    MIN_PROCESSES,
    calibration_notes,
    iteration_notes,
    power_notes,
    recording_notes,
)

SCHEMA_VERSION = 1
REGRESSION, VANISHED, UNRESOLVED, TOO_FEW_PROCESSES, DIFFERENT_INPUT = (
    "regression", "vanished", "unresolved", "too few", "other input")
IMPROVEMENT, NOT_SIGNIFICANT, NEW, SAME = "improvement", "not significant", "new", "same"
# All statuses, in the order in which the answer lists the benchmarks.
STATUSES = (REGRESSION, VANISHED, UNRESOLVED, TOO_FEW_PROCESSES, DIFFERENT_INPUT, IMPROVEMENT,
            NOT_SIGNIFICANT, NEW, SAME)
PASS, FAIL = "pass", "fail"
# A vanished benchmark is matched with new names if at most this many names changed; only the
# last characters of the names are compared.
_MAX_NAMES_TO_MATCH, _MATCHED_CHARS = 20, 200


@dataclass(frozen=True)
class BenchmarkComparison:
    """One benchmark in both recordings. Ratios are new over baseline: above 1 is slower.

    Attributes:
      name: The benchmark's full name.
      status: One of STATUSES.
      baseline_s: Median seconds over the processes of the baseline; None if it is absent.
      new_s: Median seconds over the processes of the new recording; None if it is absent.
      ratio: Ratio of the medians after the division by the calibration.
      raw_ratio: Ratio of the medians as they were recorded.
      p_value: Corrected one-sided p value for "slower" (for "faster" if the status is
        IMPROVEMENT); None if the benchmark was not tested.
      processes: The number of processes in (baseline, new).
      detectable: The smallest slowdown that would be significant in 8 of 10 cases, as a ratio;
        infinite if none would; None if the benchmark was not tested.
      note: A remark for the reader, or an empty string.
    """

    name: str
    status: str
    baseline_s: float | None = None
    new_s: float | None = None
    ratio: float | None = None
    raw_ratio: float | None = None
    p_value: float | None = None
    processes: tuple[int, int] = (0, 0)
    detectable: float | None = None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Returns the benchmark's object of `regress --format json`."""
        return {"name": self.name, "status": self.status, "baseline_s": self.baseline_s,
                "new_s": self.new_s, "ratio": self.ratio, "raw_ratio": self.raw_ratio,
                "p_holm": self.p_value, "processes": list(self.processes),
                "detectable_ratio": None if self.detectable is None
                or math.isinf(self.detectable) else self.detectable, "note": self.note}


@dataclass(frozen=True)
class RegressionReport:
    """The answer of `regress`.

    Attributes:
      verdict: PASS, FAIL or UNRESOLVED.
      baseline: The recording to compare with.
      new: The recording to judge.
      threshold: The share by which a benchmark must be slower to be a regression.
      rows: The benchmarks, in the order of their statuses and then of their names.
      calibration: The calibration benchmarks, which have no status.
      notes: Remarks for the reader.
    """

    verdict: str
    baseline: Recording
    new: Recording
    threshold: float
    rows: list[BenchmarkComparison]
    calibration: list[BenchmarkComparison]
    notes: list[str]

    def count(self, status: str) -> int:
        """Returns the number of benchmarks with this status."""
        return sum(row.status == status for row in self.rows)

    @property
    def num_tested(self) -> int:
        """The number of benchmarks that were tested."""
        return sum(row.p_value is not None for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """Returns the object of `regress --format json`."""
        recordings = {name: {"path": recording.path, "processes": recording.num_processes,
                             "machine": recording.machine}
                      for name, recording in (("baseline", self.baseline), ("new", self.new))}
        return {"schema_version": SCHEMA_VERSION, "verdict": self.verdict,
                "threshold": self.threshold, "alpha": ALPHA, **recordings,
                "compared": self.num_tested,
                "counts": {status: self.count(status) for status in STATUSES},
                "benchmarks": [row.as_json() for row in self.rows],
                "calibration": [row.as_json() for row in self.calibration], "notes": self.notes}


def parse_threshold(text: str) -> float:
    """Parses a threshold such as "10%" or "0.1" into a share.

    Raises:
      UsageError: The text is neither a percentage nor a share below 1.
    """
    match = re.fullmatch(r"\s*([0-9]{1,6}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s*(%?)\s*", text, re.ASCII)
    value = float(match[1]) / (100 if match[2] else 1) if match else math.nan
    # A number of 1 or more without % is probably a percentage without its sign.
    if not match or (value >= 1 and not match[2]):
        raise UsageError(f"--threshold {short_line(text)}: write a share such as 10% or 0.1")
    return value


def compare_files(baseline: str, new: str, threshold: float) -> RegressionReport:
    """Reads and compares two recordings; arguments and errors are as in compare_recordings."""
    return compare_recordings(read_recording(baseline), read_recording(new), threshold)


def compare_recordings(baseline: Recording, new: Recording, threshold: float) -> RegressionReport:
    """Compares two recordings.

    Args:
      baseline: The recording to compare with.
      new: The recording to judge.
      threshold: The share by which a benchmark must be slower to be a regression.

    Returns:
      The comparison of all benchmarks and the verdict.

    Raises:
      UsageError: The recordings are from different machines, or no benchmark has enough
        processes and none has vanished (a vanished benchmark needs no statistics).
    """
    machine_differences = describe_differences(baseline.machine, new.machine)
    if machine_differences:
        raise UsageError(f"{new.path} was recorded on a different machine than {baseline.path}: "
                         f"{'; '.join(machine_differences)}; compare recordings of one machine")
    vanished = _vanished_benchmarks(baseline, new)
    calibration_names = _common_calibration(baseline, new)
    factors = [_CalibrationFactors(side, calibration_names) for side in (baseline, new)]
    common = [_compare_benchmark(baseline.benchmarks[name], new.benchmarks[name], *factors)
              for name in sorted(baseline.benchmarks.keys() & new.benchmarks.keys())]
    calibration = [row for row in common if _is_calibration(row.name, baseline, new)]
    measured = [row for row in common if not _is_calibration(row.name, baseline, new)]
    tested = _test_benchmarks(measured, threshold, baseline, new, factors)
    if not vanished and tested and all(row.status == TOO_FEW_PROCESSES for row in tested):
        raise UsageError(_too_few_processes_message(baseline, new))
    added = [BenchmarkComparison(name, NEW, new_s=_median_seconds(benchmark),
                                 processes=(0, len(benchmark.medians)))
             for name, benchmark in new.benchmarks.items() if name not in baseline.benchmarks]
    rows = sorted(tested + vanished + added, key=lambda r: (STATUSES.index(r.status), r.name))
    notes = [*power_notes(tested), *recording_notes(baseline, new),
             *iteration_notes(baseline, new), *calibration_notes(calibration, calibration_names),
             *(f"the recordings differ in {text}"
               for text in describe_differences(baseline.environment, new.environment))]
    return RegressionReport(_verdict(rows), baseline, new, threshold, rows, calibration, notes)


def _verdict(rows: list[BenchmarkComparison]) -> str:
    """Returns FAIL, UNRESOLVED or PASS.

    FAIL: a benchmark regressed or vanished. UNRESOLVED: a benchmark could not be judged.
    """
    statuses = {row.status for row in rows}
    if statuses & {REGRESSION, VANISHED}:
        return FAIL
    has_tested = any(row.p_value is not None for row in rows)
    return UNRESOLVED if statuses & {UNRESOLVED, TOO_FEW_PROCESSES} or not has_tested else PASS


def _median_seconds(benchmark: Benchmark) -> float:
    """Returns the median over the processes."""
    return median(benchmark.medians.values())


def _is_calibration(name: str, *recordings: Recording) -> bool:
    """Whether the benchmark is marked as calibration in any of the recordings."""
    return any(name in recording.benchmarks and recording.benchmarks[name].is_calibration
               for recording in recordings)


def _common_calibration(baseline: Recording, new: Recording) -> list[str]:
    """Returns the calibration benchmarks that every process of both recordings has.

    They must work on the same input in both recordings.
    """
    names = []
    for name in sorted(baseline.benchmarks.keys() & new.benchmarks.keys()):
        first, second = baseline.benchmarks[name], new.benchmarks[name]
        has_one_input = len(first.inputs | second.inputs) == 1
        is_everywhere = _all_processes(baseline) == set(first.medians) \
            and _all_processes(new) == set(second.medians)
        if first.is_calibration and second.is_calibration and has_one_input and is_everywhere:
            names.append(name)
    return names


def _all_processes(recording: Recording) -> set[ProcessId]:
    return set().union(*(benchmark.medians for benchmark in recording.benchmarks.values()))


class _CalibrationFactors:
    """The speed of the machine in each process of one recording.

    It is the geometric mean of the seconds of the calibration benchmarks.
    """

    def __init__(self, recording: Recording, names: list[str]):
        self._seconds = {process: math.exp(math.fsum(
            math.log(recording.benchmarks[name].medians[process]) for name in names) / len(names))
            for process in _all_processes(recording)} if names else {}

    def relative_times(self, benchmark: Benchmark) -> list[float]:
        """Returns each process's median divided by the calibration of that process."""
        return [seconds / self._seconds.get(process, 1.0)
                for process, seconds in benchmark.medians.items()]


def _compare_benchmark(first: Benchmark, second: Benchmark, baseline_factors: _CalibrationFactors,
                       new_factors: _CalibrationFactors) -> BenchmarkComparison:
    """Returns the medians and ratios of a benchmark, before it is tested."""
    baseline_s, new_s = _median_seconds(first), _median_seconds(second)
    ratio = median(new_factors.relative_times(second)) \
        / median(baseline_factors.relative_times(first))
    return BenchmarkComparison(first.name, SAME, baseline_s, new_s, ratio, new_s / baseline_s,
                               processes=(len(first.medians), len(second.medians)))


def _test_benchmarks(rows: list[BenchmarkComparison], threshold: float, baseline: Recording,
                     new: Recording, factors: Sequence[_CalibrationFactors]
                     ) -> list[BenchmarkComparison]:
    """Tests the benchmarks and returns them with their status.

    Benchmarks with different inputs or too few processes are not tested; all others form the
    family of Holm's correction.
    """
    from compliance.base.statistics import holm_adjusted, rank_test_tails
    from compliance.base.rank_test_power import detectable_ratio

    recordings = (baseline, new)
    untested, comparable = [], []
    for row in rows:
        inputs = [recording.benchmarks[row.name].inputs for recording in recordings]
        if len(inputs[0] | inputs[1]) > 1:
            words = ["/".join(sorted(i)) or "none" for i in inputs]
            note = f"input {short_line(words[0])}, now {short_line(words[1])}"
            untested.append(
                replace(row, status=DIFFERENT_INPUT, ratio=None, raw_ratio=None, note=note))
        elif min(row.processes) < MIN_PROCESSES:
            untested.append(replace(row, status=TOO_FEW_PROCESSES))
        else:
            comparable.append(row)
    times = [[side_factors.relative_times(recording.benchmarks[row.name])
              for side_factors, recording in zip(factors, recordings)] for row in comparable]
    # One-sided p values of each benchmark: (slower, faster).
    tails = [rank_test_tails(*both) for both in times]
    p_slower, p_faster = (holm_adjusted([tail[i] for tail in tails]) for i in (0, 1))
    detectable = [detectable_ratio(*both, ALPHA / len(comparable)) for both in times]
    return untested + [
        _with_status(replace(row, detectable=ratio), slower, faster, threshold)
        for row, slower, faster, ratio in zip(comparable, p_slower, p_faster, detectable)]


def _with_status(row: BenchmarkComparison, p_slower: float, p_faster: float,
                 threshold: float) -> BenchmarkComparison:
    """Returns the benchmark with its status, from its corrected p values."""
    assert row.ratio is not None and row.detectable is not None
    if row.ratio < 1 / (1 + threshold) and p_faster <= ALPHA:
        return replace(row, status=IMPROVEMENT, p_value=p_faster)
    if row.ratio > 1 + threshold and p_slower <= ALPHA:
        return replace(row, status=REGRESSION, p_value=p_slower)
    if row.detectable > (1 + threshold) * (1 + 1e-9):  # tolerates rounding errors
        return replace(row, status=UNRESOLVED, p_value=p_slower)
    return replace(row, status=SAME if row.ratio <= 1 + threshold else NOT_SIGNIFICANT,
                   p_value=p_slower)


def _vanished_benchmarks(baseline: Recording, new: Recording) -> list[BenchmarkComparison]:
    """Returns the benchmarks that only the baseline has, including calibration benchmarks.

    If few names changed, the note suggests a similar new name.
    """
    vanished = [name for name in baseline.benchmarks if name not in new.benchmarks]
    added = [name for name in new.benchmarks if name not in baseline.benchmarks]
    can_match = max(len(vanished), len(added)) <= _MAX_NAMES_TO_MATCH
    rows = []
    for name in vanished:
        similar = difflib.get_close_matches(
            name[-_MATCHED_CHARS:], [n[-_MATCHED_CHARS:] for n in added], 1, 0.7) \
            if can_match else []
        benchmark = baseline.benchmarks[name]
        rows.append(BenchmarkComparison(
            name, VANISHED, _median_seconds(benchmark), processes=(len(benchmark.medians), 0),
            note=f"perhaps now {short_line(similar[0].rpartition('/')[2])}" if similar else ""))
    return rows


def _too_few_processes_message(baseline: Recording, new: Recording) -> str:
    counts = ", ".join(f"{recording.path} has {recording.num_processes}"
                       for recording in (baseline, new))
    return (f"too few processes: {counts}; each side needs at least {MIN_PROCESSES}, because the "
            "rounds of one process are not independent (give a folder of JSON files, or one "
            "file in which each benchmark appears once per process)")
