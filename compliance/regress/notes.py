"""Remarks of `regress` on both recordings, and how many processes a comparison needs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from compliance.regress.files import Recording, short_line

if TYPE_CHECKING:
    from compliance.regress.judge import BenchmarkComparison

ALPHA, MIN_PROCESSES = 0.05, 5
# A note is given where the calibration itself took longer or shorter by more than this share.
_NOTABLE_SPEED_CHANGE = 0.1


def processes_needed(num_benchmarks: int) -> int:
    """Returns the fewest processes in each recording that allow a significant result.

    Args:
      num_benchmarks: The number of benchmarks that are compared.

    Returns:
      The number of processes with which a benchmark whose processes are all slower than
      before is significant after Holm's correction.
    """
    count = MIN_PROCESSES
    while smallest_p_value(count, count) * num_benchmarks > ALPHA:
        count += 1
    return count


def smallest_p_value(first: int, second: int) -> float:
    """Returns the rank test's p value where all values of one sample are the larger ones.

    It is 1 / C(first + second, first), one of all ways to divide the pooled ranks.

    Args:
      first: The size of the first sample.
      second: The size of the second sample.
    """
    return 1 / math.comb(first + second, first)


def power_notes(rows: list[BenchmarkComparison]) -> list[str]:
    """Returns a note where no slowdown, however large, could be significant."""
    tested = [row for row in rows if row.p_value is not None]
    if not tested:
        return []
    first, second = (max(row.processes[i] for row in tested) for i in (0, 1))
    if smallest_p_value(first, second) * len(tested) <= ALPHA:
        return []
    return [f"with {first} and {second} processes and {len(tested)} benchmarks no slowdown can be "
            f"significant; use {processes_needed(len(tested))} a side at least"]


def recording_notes(baseline: Recording, new: Recording) -> list[str]:
    """Returns notes on recordings that count once, and on recordings of other days."""
    notes = [f"{side.num_equal} documents of {side.path} are equal to others there and count once"
             for side in (baseline, new) if side.num_equal]
    days = [side.day for side in (baseline, new)]
    if all(days) and days[0] != days[1]:
        notes.append(f"the baseline was recorded on {days[0]}, the new recording on {days[1]}: a "
                     "machine differs from day to day; ./run_tests.sh --benchmarks --against REV "
                     "records both in turn")
    return notes


def iteration_notes(baseline: Recording, new: Recording) -> list[str]:
    """Returns a note on benchmarks whose rounds have another number of iterations."""
    differ = [(name, *(sorted(side.benchmarks[name].iterations) for side in (baseline, new)))
              for name in sorted(baseline.benchmarks.keys() & new.benchmarks.keys())]
    differ = [entry for entry in differ if entry[1] and entry[2] and entry[1] != entry[2]]
    if not differ:
        return []
    name, *both = differ[0]
    words = [" or ".join(map(str, counts)) for counts in both]
    others = f" (and {len(differ) - 1} more benchmarks)" if len(differ) > 1 else ""
    return [f"{short_line(name.rpartition('/')[2])} ran {words[0]} iterations a round, now "
            f"{words[1]}{others}: short tasks then take another time each"]


def calibration_notes(rows: list[BenchmarkComparison], used: list[str]) -> list[str]:
    """Returns notes on a changed speed of the machine and on unused calibration benchmarks."""
    if not used:
        return ["no calibration benchmark that every process of both sides has: raw times are "
                "compared"]
    ratios = [row.raw_ratio for row in rows if row.name in used and row.raw_ratio]
    mean_ratio = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
    notes = []
    if abs(math.log(mean_ratio)) > math.log1p(_NOTABLE_SPEED_CHANGE):
        notes.append(
            f"the calibration itself takes {mean_ratio:.2f} times the baseline's time: the "
            "machine ran at another speed, and the ratios rest on the calibration")
    num_unused = sum(row.name not in used for row in rows)
    if num_unused:
        notes.append(f"{num_unused} calibration benchmarks are not in every process, or have "
                     "another input, and are not used")
    return notes
