"""Measures the false-alarm rate and the power of `./run_tests.sh --benchmarks --against REV`.

    python -m tests.benchmarks.against_power FOLDER [--record PAIRS] [--processes N] [pytest arguments]

Records pairs of runs of this checkout in FOLDER, in turn as `--against` does, and compares the two
sides of each pair: every regression is a false alarm. Then one benchmark of each pair, a different
one each time, is slowed down by `--planted` (its recorded times are multiplied), and the detected
slowdowns are counted. Existing pairs are kept, so an interrupted recording can be resumed.
Intervals are 95% Wilson intervals; no two pairs share a run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from compliance.regress.files import Recording, read_recording
from compliance.regress.judge import REGRESSION, compare_recordings, parse_threshold
from tests.benchmarks.false_alarms import interval
from tests.benchmarks.run import RecordingFailed, Side, record_in_turn
from tests.support.paths import ROOT

PROCESSES = 5


def read_pairs(folder: Path) -> list[tuple[Recording, Recording]]:
    """Reads the complete pairs, in numerical order."""
    pairs = []
    for first in sorted(folder.glob("pair_*_a.json")):
        second = first.with_name(first.name.replace("_a.json", "_b.json"))
        if second.is_file():
            pairs.append((read_recording(first), read_recording(second)))
    return pairs


def found(pair: tuple[Recording, Recording], threshold: float) -> set[str]:
    """Returns the names of the benchmarks reported as regressions."""
    answer = compare_recordings(*pair, threshold)
    return {row.name for row in answer.rows if row.status == REGRESSION}


def with_slowdown(recording: Recording, name: str, ratio: float) -> None:
    """Multiplies the times of a benchmark by `ratio`, in place."""
    medians = recording.benchmarks[name].medians
    for process in medians:
        medians[process] *= ratio


def share(hits: int, of: int) -> str:
    """Formats a proportion with its interval."""
    low, high = interval(hits, of)
    return f"{hits} of {of} ({100 * hits / max(of, 1):.0f}%, 95% {100 * low:.0f}% to {100 * high:.0f}%)"


def describe(folder: Path, thresholds: list[str], planted: str) -> str:
    """Returns the report, one line per threshold."""
    lines = []
    for text in thresholds:
        threshold, ratio = parse_threshold(text), 1 + parse_threshold(planted)
        alarms = hits = others = 0
        pairs = read_pairs(folder)
        for number, pair in enumerate(pairs):
            alarms += bool(found(pair, threshold))
            names = sorted(n for n, b in pair[1].benchmarks.items() if not b.is_calibration)
            slowed = names[number % len(names)]
            with_slowdown(pair[1], slowed, ratio)
            regressions = found(pair, threshold)
            hits += slowed in regressions
            others += bool(regressions - {slowed})
        lines.append(f"threshold {text}: false alarms in {share(alarms, len(pairs))} pairs; a slowdown "
                     f"of {planted} found in {share(hits, len(pairs))}, with another alarm in {others}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="tests.benchmarks.against_power", allow_abbrev=False,
        description="False alarms and power of --against.")  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--record", type=int, default=0, metavar="PAIRS")
    parser.add_argument("--processes", type=int, default=PROCESSES, metavar="N")
    parser.add_argument("--planted", default="10%", metavar="SHARE")
    parser.add_argument("--thresholds", default="5%,10%", metavar="SHARES")
    options, arguments = parser.parse_known_args(argv)
    folder = options.folder.absolute()
    try:
        for number in range(1, options.record + 1):
            sides = [Side(ROOT, sys.executable, folder / f"pair_{number:03}_{letter}.json")
                     for letter in "ab"]
            if not all(side.output.is_file() for side in sides):
                print(f"pair {number} of {options.record}", flush=True)
                record_in_turn(sides, options.processes, arguments, lambda *_, **__: None)
        if not read_pairs(folder):
            raise ValueError(f"{options.folder}: no recorded pair; record some with --record")
        print(describe(folder, options.thresholds.split(","), options.planted))
    except (RecordingFailed, OSError, ValueError) as error:
        print(f"tests.benchmarks.against_power: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
