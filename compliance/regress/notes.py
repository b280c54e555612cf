"""Notes of `regress` on both recordings, and the number of processes that a comparison needs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from compliance.regress.files import Recording, short_line

if TYPE_CHECKING:
    from compliance.regress.judge import BenchmarkComparison

ALPHA, MIN_PROCESSES = 0.05, 5
# A note is given if the time of the calibration changed by more than this share.
_NOTABLE_SPEED_CHANGE = 0.1


def processes_needed(num_benchmarks: int) -> int:
    """Returns the smallest number of processes per recording that allows a significant result.

    Args:
      num_benchmarks: The number of benchmarks that are compared.

    Returns:
      The number of processes with which a benchmark that is slower in every process is
      significant after Holm's correction.
    """
    count = MIN_PROCESSES
    while smallest_p_value(count, count) * num_benchmarks > ALPHA:
        count += 1
    return count


def smallest_p_value(first: int, second: int) -> float:
    """Returns the rank test's p value if all values of one sample exceed those of the other.

    It is 1 / C(first + second, first): one of all ways to divide the pooled ranks.

    Args:
      first: The size of the first sample.
      second: The size of the second sample.
    """
    return 1 / math.comb(first + second, first)


def power_notes(rows: list[BenchmarkComparison]) -> list[str]:
    """Returns a note if no slowdown, however large, could be significant."""
    tested = [row for row in rows if row.p_value is not None]
    if not tested:
        return []
    first, second = (max(row.processes[i] for row in tested) for i in (0, 1))
    if smallest_p_value(first, second) * len(tested) <= ALPHA:
        return []
    return [f"with {first} and {second} processes and {len(tested)} benchmarks no slowdown can be "
            f"significant; use at least {processes_needed(len(tested))} on each side"]


def recording_notes(baseline: Recording, new: Recording) -> list[str]:
    """Returns notes on duplicate documents, and on recordings of different days."""
    notes = [f"{side.path} contains duplicate documents, which count once: {side.num_equal}"
             for side in (baseline, new) if side.num_equal]
    days = [side.day for side in (baseline, new)]
    if all(days) and days[0] != days[1]:
        notes.append(f"the baseline was recorded on {days[0]}, the new recording on {days[1]}: the "
                     "speed of a machine varies from day to day; ./run_tests.sh --benchmarks "
                     "--against REV records both alternately")
    return notes


def iteration_notes(baseline: Recording, new: Recording) -> list[str]:
    """Returns a note on benchmarks whose number of iterations per round changed."""
    differ = [(name, *(sorted(side.benchmarks[name].iterations) for side in (baseline, new)))
              for name in sorted(baseline.benchmarks.keys() & new.benchmarks.keys())]
    differ = [entry for entry in differ if entry[1] and entry[2] and entry[1] != entry[2]]
    if not differ:
        return []
    name, *both = differ[0]
    words = [" or ".join(map(str, counts)) for counts in both]
    others = f" (and {len(differ) - 1} more benchmark{'s' * (len(differ) > 2)})" \
        if len(differ) > 1 else ""
    return [f"{short_line(name.rpartition('/')[2])} ran {words[0]} iterations per round, now "
            f"{words[1]}{others}: this changes the time per iteration of short tasks"]


def calibration_notes(rows: list[BenchmarkComparison], used: list[str]) -> list[str]:
    """Returns notes on a changed speed of the machine and on unused calibration benchmarks."""
    if not used:
        return ["no calibration benchmark is in every process of both sides: raw times are "
                "compared"]
    ratios = [row.raw_ratio for row in rows if row.name in used and row.raw_ratio]
    mean_ratio = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
    notes = []
    if abs(math.log(mean_ratio)) > math.log1p(_NOTABLE_SPEED_CHANGE):
        notes.append(
            f"the calibration takes {mean_ratio:.2f} times the baseline's time: the machine ran "
            "at a different speed, and the ratios depend on the calibration")
    num_unused = sum(row.name not in used for row in rows)
    if num_unused:
        notes.append(f"{num_unused} calibration benchmark{'s' * (num_unused != 1)} not used: not "
                     "in every process, or with a different input")
    return notes
