"""Measures the false-alarm rate of `regress` on repeated identical runs.

    python -m tests.benchmarks.false_alarms FOLDER [--record RUNS] [--processes N] [pytest arguments]

Compares the runs in FOLDER (one merged file each, as written by `tests.benchmarks.run`) in the
order of their names: the first with the second, the third with the fourth, and so on (pairs that
share no run), and every run with every other in both directions. Nothing changed between runs, so
every regression is a false alarm. An interval is reported only for pairs that share no run.
`--record` first records RUNS runs in FOLDER; existing runs are kept, so an interrupted recording
can be resumed. State a rate only from at least 20 runs.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Iterable

from compliance.regress.files import Recording, read_recording
from compliance.regress.judge import REGRESSION, UNRESOLVED, compare_recordings, parse_threshold
from tests.benchmarks.run import PROCESSES, RecordingFailed, record_run

ENOUGH = 20


def count_alarms(pairs: Iterable[tuple[Recording, Recording]], threshold: float) -> dict:
    """Counts comparisons, those with an alarm or unresolved, benchmarks, and alarms by name."""
    found = {"comparisons": 0, "alarmed": 0, "unresolved": 0, "benchmarks": 0, "by_name": Counter()}
    for baseline, new in pairs:
        answer = compare_recordings(baseline, new, threshold)
        names = [row.name for row in answer.rows if row.status == REGRESSION]
        found["comparisons"] += 1
        found["alarmed"] += bool(names)
        found["unresolved"] += answer.count(UNRESOLVED) > 0
        found["benchmarks"] += answer.num_tested
        found["by_name"].update(names)
    return found


def interval(hits: int, of: int) -> tuple[float, float]:
    """Returns the 95% interval of a proportion (Wilson 1927, JASA 22(158))."""
    if not of:
        return 0.0, 1.0
    z, p = 1.959964, hits / of
    middle, half = p + z * z / (2 * of), z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return max((middle - half) / (1 + z * z / of), 0.0), (middle + half) / (1 + z * z / of)


def describe(title: str, found: dict, independent: bool) -> str:
    """Formats the counts: two lines, then one for each benchmark with alarms."""
    alarms = sum(found["by_name"].values())
    low, high = interval(found["alarmed"], found["comparisons"])
    bounds = f" (95% {100 * low:.1f}% to {100 * high:.1f}%)" if independent else ""
    rate = found["alarmed"] / max(found["comparisons"], 1)
    lines = [f"{title}: {found['alarmed']} of {found['comparisons']} comparisons raised an alarm, "
             f"{100 * rate:.1f}%{bounds}; {found['unresolved']} were unresolved",
             f"  {alarms} of {found['benchmarks']} benchmark comparisons, "
             f"{100 * alarms / max(found['benchmarks'], 1):.2f}%"]  # fmt: skip
    return "\n".join(lines + [f"  {n} x {name}" for name, n in found["by_name"].most_common(20)])


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="tests.benchmarks.false_alarms", allow_abbrev=False,
        description="Counts false alarms among repeated identical runs.")  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--record", type=int, default=0, metavar="RUNS")
    parser.add_argument("--processes", type=int, default=PROCESSES, metavar="N")
    parser.add_argument("--threshold", default="10%", metavar="SHARE")
    options, arguments = parser.parse_known_args(argv)
    try:
        for number in range(1, options.record + 1):
            output = options.folder.absolute() / f"run_{number:03}.json"
            if not output.is_file():
                print(f"run {number} of {options.record}", flush=True)
                record_run(output, options.processes, arguments)
        threshold = parse_threshold(options.threshold)
        sides = [read_recording(path) for path in sorted(options.folder.glob("*.json"))]
        if len(sides) < 2:
            raise ValueError(f"{options.folder}: at least two recorded runs are needed")
        print(f"{len(sides)} runs of {min(s.num_processes for s in sides)} processes, threshold "
              f"{100 * threshold:g}%")  # fmt: skip
        disjoint = zip(sides[::2], sides[1::2])
        print(describe("pairs that share no run", count_alarms(disjoint, threshold), True))
        print(describe("all pairs, both ways", count_alarms(permutations(sides, 2), threshold), False))
    except (RecordingFailed, OSError, ValueError) as error:
        print(f"tests.benchmarks.false_alarms: {error}", file=sys.stderr)
        return 1
    if len(sides) < ENOUGH:
        print(f"fewer than {ENOUGH} runs: too few to state a rate")
    return 0


if __name__ == "__main__":
    sys.exit(main())
