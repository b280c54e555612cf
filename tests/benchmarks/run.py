"""Runs the suite in several fresh processes and compares with the committed baseline.

    python -m tests.benchmarks.run [--processes N] [--output FILE] [pytest arguments]

What all processes recorded is merged into one slim file (default:
`.benchmarks/latest.json`; what each one recorded and printed stands beside it in
`latest-processes`), which `python -m compliance regress` compares with
`baselines/<machine class>.json`. With pytest arguments, such as `-k sampling`, the suite
is not whole and nothing is compared.

Exits: those of `regress`; 0 where there is no baseline; 1 where a process failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from compliance.regress.judge import processes_needed
from tests.benchmarks.merging import machine_class, merge, read_document, write_document
from tests.support.paths import ROOT

BASELINES = ROOT / "tests" / "benchmarks" / "baselines"
OUTPUT = ROOT / ".benchmarks" / "latest.json"
# The suite has over 46 benchmarks: with 6 processes a side none could be significant
# (Holm), with 7 only where no two processes overlap; with 8 some overlap is left.
PROCESSES = 8


class Failed(Exception):
    """A process that could not measure; the message is one line."""


def record_run(output: Path, processes: int, arguments: list[str], say=print) -> dict:
    """Runs the suite so often, each time in a new process; writes and returns the merger."""
    folder = _processes_of(output)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("process_*"):
        old.unlink()
    documents = []
    for number in range(1, processes + 1):
        start = time.monotonic()
        documents.append(_record_process(folder / f"process_{number}", arguments))
        say(f"process {number} of {processes}: {len(documents[-1]['benchmarks'])} benchmarks, "
            f"{time.monotonic() - start:.0f} s", flush=True)  # fmt: skip
    merged = merge(documents)
    write_document(output, merged)
    return merged


def _processes_of(output: Path) -> Path:
    """The folder of what single processes recorded and printed."""
    return output.with_name(f"{output.stem}-processes")


def _record_process(stem: Path, arguments: list[str]) -> dict:
    """One process: its JSON and what it printed stand beside each other."""
    json_file, text_file = stem.with_suffix(".json"), stem.with_suffix(".txt")
    command = [sys.executable, "-m", "pytest", "--slow", "-rs",
               f"--benchmark-json={json_file}", "tests/benchmarks", *arguments]  # fmt: skip
    # pytest-benchmark measures nothing where it believes that it is a worker of pytest-xdist.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST_")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**inherited, "PYTHONPATH": path}
    with text_file.open("w") as text:
        code = subprocess.call(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                               stdout=text, stderr=subprocess.STDOUT)  # fmt: skip
    if code:
        raise Failed(f"the benchmarks failed (pytest exit {code}); see {_shown(text_file)}")
    return read_document(json_file)


def _skipped(text_file: Path) -> list[str]:
    lines = text_file.read_text(errors="replace").splitlines()
    return [line for line in lines if line.startswith("SKIPPED")]


def _shown(path: Path) -> str:
    """The path as one would type it in the project's folder."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def compare(output: Path, merged: dict) -> int:
    """Compares with the baseline of this class of machine, if there is one."""
    name = machine_class(merged["machine_info"])
    baseline = BASELINES / f"{name}.json"
    sys.stdout.flush()
    needed = processes_needed(len(merged["benchmarks"]) // merged["processes"])
    if not baseline.is_file() and merged["processes"] < needed:
        print(f"no baseline for {name}, and too few processes to make one: run at least {needed}")
        return 0
    if not baseline.is_file():
        print(f"no baseline for {name}; keep this run with: "
              f"cp {_shown(output)} {_shown(baseline)}")  # fmt: skip
        return 0
    return subprocess.call(
        [sys.executable, "-m", "compliance", "regress", str(baseline), str(output)], cwd=ROOT
    )


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="tests.benchmarks.run", allow_abbrev=False, description=__doc__.split("\n")[0],
        epilog="Other arguments go to pytest; nothing is compared then.")  # fmt: skip
    parser.add_argument("--processes", type=int, default=PROCESSES, metavar="N")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE")
    parser.add_argument("--no-compare", action="store_true", help="only record")
    options, arguments = parser.parse_known_args(argv)
    arguments = [word for word in arguments if word != "--slow"]  # they always run with it
    if options.processes < 1 or options.output.suffix != ".json":
        print("tests.benchmarks.run: --processes is at least 1, --output ends in .json",
              file=sys.stderr)  # fmt: skip
        return 1
    output = options.output.absolute()
    try:
        merged = record_run(output, options.processes, arguments)
    except (Failed, OSError, ValueError) as error:
        print(f"tests.benchmarks.run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tests.benchmarks.run: interrupted", file=sys.stderr)
        return 1
    for line in _skipped(_processes_of(output) / "process_1.txt"):
        print(line)
    print(f"wrote {_shown(output)}")
    if arguments or options.no_compare:
        print("not compared" + (": pytest arguments change the suite" if arguments else ""))
        return 0
    return compare(output, merged)


if __name__ == "__main__":
    sys.exit(main())
