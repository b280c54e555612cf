"""Which benchmarks got slower: significant and larger than the threshold, both.

Each process's median is divided by what the calibration benchmarks took in the same
process (the geometric mean of those that every process of both sides has), because
machines are noisy: a process that met a slow machine is slow in both.  The effect is
the ratio of the sides' medians after that.  Significant is what the exact one-sided
rank test gives at most 5% for, after Holm's correction over all benchmarks that are
compared, so that a comparison of two alike sides gives any false alarm at most once
in twenty (where processes are independent).

With few processes and many benchmarks not even complete separation is significant.
A ratio above the threshold is then "unresolved": reported, and no pass.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Sequence

from compliance.base.errors import UsageError
from compliance.regress.files import Process, Series, Side, differences, read_side, show

SCHEMA_VERSION = 1
ALPHA, MIN_PROCESSES, THRESHOLD = 0.05, 5, "10%"
REGRESSION, VANISHED, UNRESOLVED, TOO_FEW, OTHER_INPUT, IMPROVEMENT, UNSURE, NEW, SAME = STATUSES = (
    "regression", "vanished", "unresolved", "too few", "other input", "improvement",
    "not significant", "new", "same")
PASS, FAIL = "pass", "fail"
_CALIBRATION_NOTE = 0.1  # the machine itself ran so much slower or faster: say it
# Old and new names are held against each other where so few changed, by their ends.
_GUESSES, _ALIKE = 20, 200


@dataclass(frozen=True)
class Row:
    """One benchmark.  Ratios are new over baseline: above 1 is slower.

    ratio: after calibration; raw_ratio: before.  p: one-sided for slower (faster for
    an improvement), after Holm.  None where there is nothing to tell.
    """

    name: str
    status: str
    baseline_s: float | None = None
    new_s: float | None = None
    ratio: float | None = None
    raw_ratio: float | None = None
    p: float | None = None
    processes: tuple[int, int] = (0, 0)
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The row's object."""
        return {"name": self.name, "status": self.status, "baseline_s": self.baseline_s,
                "new_s": self.new_s, "ratio": self.ratio, "raw_ratio": self.raw_ratio,
                "p_holm": self.p, "processes": list(self.processes), "note": self.note}


@dataclass(frozen=True)
class Judgement:
    """The answer: `rows` by status, then by name; `calibration` is not judged."""

    verdict: str
    baseline: Side
    new: Side
    threshold: float
    rows: list[Row]
    calibration: list[Row]
    notes: list[str]

    def count(self, *statuses: str) -> int:
        """How many benchmarks have one of these statuses."""
        return sum(row.status in statuses for row in self.rows)

    @property
    def compared(self) -> int:
        """Benchmarks that were tested."""
        return sum(row.p is not None for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """The whole answer."""
        sides = {name: {"path": side.path, "processes": side.processes, "machine": side.machine}
                 for name, side in (("baseline", self.baseline), ("new", self.new))}
        return {"schema_version": SCHEMA_VERSION, "verdict": self.verdict,
                "threshold": self.threshold, "alpha": ALPHA, **sides, "compared": self.compared,
                "counts": {status: self.count(status) for status in STATUSES},
                "benchmarks": [row.as_json() for row in self.rows],
                "calibration": [row.as_json() for row in self.calibration], "notes": self.notes}


def parse_threshold(text: str) -> float:
    """"10%" or "0.1" as a share.  Raises UsageError."""
    match = re.fullmatch(r"\s*([0-9]{1,6}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s*(%?)\s*", text, re.ASCII)
    value = float(match[1]) / (100 if match[2] else 1) if match else math.nan
    if not match or (value >= 1 and not match[2]):
        raise UsageError(f"--threshold {show(text)}: write a share such as 10% or 0.1")
    return value


def compare_files(baseline: str, new: str, threshold: float) -> Judgement:
    """Reads and compares two recordings.  Raises UsageError where they cannot be."""
    return compare_sides(read_side(baseline), read_side(new), threshold)


def compare_sides(baseline: Side, new: Side, threshold: float) -> Judgement:
    """`new` against `baseline`.

    Raises UsageError where the machines differ, or where no benchmark has enough
    processes and none has vanished (to see that needs no statistics).
    """
    other = differences(baseline.machine, new.machine)
    if other:
        raise UsageError(f"{new.path} was recorded on another machine than {baseline.path}: "
                         f"{'; '.join(other)}; compare recordings of one machine")
    gone = _gone(baseline, new)
    factors = [_Factors(side, _common_calibration(baseline, new)) for side in (baseline, new)]
    rows = [_row(baseline.benchmarks[name], new.benchmarks[name], *factors)
            for name in sorted(baseline.benchmarks.keys() & new.benchmarks.keys())]
    tested = _tested([r for r in rows if not _is_calibration(r.name, baseline, new)], threshold,
                     baseline, new, factors)
    if not gone and tested and all(row.status == TOO_FEW for row in tested):
        raise UsageError(_too_few(baseline, new))
    added = [Row(name, NEW, new_s=_middle(series), processes=(0, len(series.medians)))
             for name, series in new.benchmarks.items() if name not in baseline.benchmarks]
    judged = sorted(tested + gone + added, key=lambda r: (STATUSES.index(r.status), r.name))
    calibration = [r for r in rows if _is_calibration(r.name, baseline, new)]
    notes = [*_power_notes(tested), *_calibration_notes(calibration, factors[0].names),
             *(f"the recordings differ in {text}"
               for text in differences(baseline.circumstances, new.circumstances))]
    return Judgement(_verdict(judged), baseline, new, threshold, judged, calibration, notes)


def processes_needed(benchmarks: int) -> int:
    """The fewest processes a side with which one of so many can be significant."""
    count = MIN_PROCESSES
    while smallest_p(count, count) * benchmarks > ALPHA:
        count += 1
    return count


def smallest_p(first: int, second: int) -> float:
    """The rank test's p where every value of one side is above all of the other's."""
    return 1 / math.comb(first + second, first)


def _verdict(rows: list[Row]) -> str:
    found = {row.status for row in rows}
    if found & {REGRESSION, VANISHED}:
        return FAIL
    compared = any(row.p is not None for row in rows)
    return UNRESOLVED if found & {UNRESOLVED, TOO_FEW} or not compared else PASS


def _middle(series: Series) -> float:
    return median(series.medians.values())


def _is_calibration(name: str, *sides: Side) -> bool:
    return any(name in side.benchmarks and side.benchmarks[name].calibration for side in sides)


def _common_calibration(baseline: Side, new: Side) -> list[str]:
    """Calibration benchmarks with one input that every process of both sides has."""
    names = []
    for name in sorted(baseline.benchmarks.keys() & new.benchmarks.keys()):
        pair = [side.benchmarks[name] for side in (baseline, new)]
        inputs = pair[0].inputs | pair[1].inputs
        if all(s.calibration for s in pair) and len(inputs) == 1 and all(
                _all_processes(side) == set(s.medians) for side, s in zip((baseline, new), pair)):
            names.append(name)
    return names


def _all_processes(side: Side) -> set[Process]:
    return set().union(*(series.medians for series in side.benchmarks.values()))


class _Factors:
    """How slow the machine was in each process: what medians are divided by."""

    def __init__(self, side: Side, names: list[str]):
        self.names = names
        self._seconds = {process: math.exp(math.fsum(
            math.log(side.benchmarks[n].medians[process]) for n in names) / len(names))
            for process in _all_processes(side)} if names else {}

    def relative(self, series: Series) -> list[float]:
        """Each process's median over its calibration."""
        return [value / self._seconds.get(process, 1.0)
                for process, value in series.medians.items()]


def _row(first: Series, second: Series, before: _Factors, after: _Factors) -> Row:
    """Both medians and their ratios; not judged yet."""
    a, b = _middle(first), _middle(second)
    ratio = median(after.relative(second)) / median(before.relative(first))
    return Row(first.name, SAME, a, b, ratio, b / a,
               processes=(len(first.medians), len(second.medians)))


def _tested(rows: list[Row], threshold: float, baseline: Side, new: Side,
            factors: Sequence[_Factors]) -> list[Row]:
    """The rows with their status; the family of Holm's correction are those compared."""
    from compliance.base.statistics import holm, rank_tails

    settled, family = [], []
    for row in rows:
        inputs = [side.benchmarks[row.name].inputs for side in (baseline, new)]
        if len(inputs[0] | inputs[1]) > 1:
            words = ["/".join(sorted(i)) or "none" for i in inputs]
            settled.append(replace(row, status=OTHER_INPUT, ratio=None, raw_ratio=None,
                                   note=f"input {show(words[0])}, now {show(words[1])}"))
        elif min(row.processes) < MIN_PROCESSES:
            settled.append(replace(row, status=TOO_FEW))
        else:
            family.append(row)
    tails = [rank_tails(*(f.relative(side.benchmarks[row.name])
                          for f, side in zip(factors, (baseline, new)))) for row in family]
    slower, faster = (holm([tail[i] for tail in tails]) for i in (0, 1))
    return settled + [_judged(row, p, q, threshold, len(family))
                      for row, p, q in zip(family, slower, faster)]


def _judged(row: Row, slower: float, faster: float, threshold: float, family: int) -> Row:
    """One row's status from its Holm-corrected p for slower and for faster."""
    assert row.ratio is not None
    if row.ratio < 1 / (1 + threshold) and faster <= ALPHA:
        return replace(row, status=IMPROVEMENT, p=faster)
    if row.ratio <= 1 + threshold:
        return replace(row, p=slower)
    if slower <= ALPHA:
        return replace(row, status=REGRESSION, p=slower)
    powerless = smallest_p(*row.processes) * family > ALPHA
    return replace(row, status=UNRESOLVED if powerless else UNSURE, p=slower)


def _gone(baseline: Side, new: Side) -> list[Row]:
    """The benchmarks of the baseline that are not in the new file, calibration too."""
    names = [name for name in baseline.benchmarks if name not in new.benchmarks]
    added = [name for name in new.benchmarks if name not in baseline.benchmarks]
    guess = max(len(names), len(added)) <= _GUESSES
    rows = []
    for name in names:
        like = difflib.get_close_matches(name[-_ALIKE:], [n[-_ALIKE:] for n in added], 1, 0.7) \
            if guess else []
        rows.append(Row(name, VANISHED, _middle(baseline.benchmarks[name]),
                        processes=(len(baseline.benchmarks[name].medians), 0),
                        note=f"perhaps now {show(like[0].rpartition('/')[2])}" if like else ""))
    return rows


def _too_few(baseline: Side, new: Side) -> str:
    counts = ", ".join(f"{side.path} has {side.processes}" for side in (baseline, new))
    return (f"too few processes: {counts}; a side is at least {MIN_PROCESSES} processes, because "
            "the rounds of one process are not independent (a folder of JSON files, or one "
            "file in which each benchmark stands once a process)")


def _power_notes(tested: list[Row]) -> list[str]:
    """In plain words where no slowdown, however large, can be significant."""
    family = [row for row in tested if row.p is not None]
    if not family:
        return []
    first, second = (max(row.processes[i] for row in family) for i in (0, 1))
    if smallest_p(first, second) * len(family) <= ALPHA:
        return []
    return [f"with {first} and {second} processes and {len(family)} benchmarks no slowdown can be "
            f"significant; use {processes_needed(len(family))} a side at least"]


def _calibration_notes(rows: list[Row], used: list[str]) -> list[str]:
    """Whether the machine itself ran at another speed, and what was not used."""
    if not used:
        return ["no calibration benchmark that every process of both sides has: raw times are "
                "compared"]
    ratios = [row.raw_ratio for row in rows if row.name in used and row.raw_ratio]
    ratio = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
    notes = []
    if abs(math.log(ratio)) > math.log1p(_CALIBRATION_NOTE):
        notes.append(f"the calibration itself takes {ratio:.2f} times the baseline's time: the "
                     "machine ran at another speed, and the ratios rest on the calibration")
    left = sum(row.name not in used for row in rows)
    if left:
        notes.append(f"{left} calibration benchmarks are not in every process, or have another "
                     "input, and are not used")
    return notes
