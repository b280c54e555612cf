"""Runs the benchmark suite in several fresh processes and compares with the baseline.

    python -m tests.benchmarks.run [--processes N] [--output FILE] [pytest arguments]

The recordings of all processes are merged into one small file (default:
`.benchmarks/latest.json`), which `python -m compliance regress` compares with the committed
`baselines/<machine class>.json`. The recording and the output of each process are beside it
in `latest-processes`. With pytest arguments, such as `-k sampling`, only a part of the suite
runs, and nothing is compared.

Exit codes are those of `regress`; 0 where there is no baseline; 1 where a process failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

from compliance.regress.judge import processes_needed
from tests.benchmarks.merging import machine_class, merge, read_document, write_document
from tests.support.paths import ROOT

BASELINES = ROOT / "tests" / "benchmarks" / "baselines"
OUTPUT = ROOT / ".benchmarks" / "latest.json"
# The suite has over 46 benchmarks: with 6 processes a side none could be significant
# (Holm), with 7 only where no two processes overlap; with 8 some overlap is left.
PROCESSES = 8


class RecordingFailed(Exception):
    """A process could not measure; the message is one line."""


def record_run(
    output: Path, processes: int, arguments: list[str], report_progress: Callable[..., None] = print
) -> dict:
    """Runs the suite in new processes; writes and returns the merged document.

    Args:
      output: The JSON file to write.
      processes: The number of processes.
      arguments: Further arguments for pytest.
      report_progress: Called as `print` is, after each process.

    Returns:
      The merged document.
    """
    folder = _process_folder(output)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("process_*"):
        old.unlink()
    documents = []
    for number in range(1, processes + 1):
        start = time.monotonic()
        documents.append(_record_process(folder / f"process_{number}", arguments))
        count, seconds = len(documents[-1]["benchmarks"]), time.monotonic() - start
        report_progress(
            f"process {number} of {processes}: {count} benchmarks, {seconds:.0f} s", flush=True
        )
    merged = merge(documents)
    write_document(output, merged)
    return merged


def _process_folder(output: Path) -> Path:
    """Returns the folder for the recordings and outputs of single processes."""
    return output.with_name(f"{output.stem}-processes")


def _record_process(stem: Path, arguments: list[str]) -> dict:
    """Runs one process, which writes its JSON and its output beside each other."""
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
        raise RecordingFailed(f"the benchmarks failed (pytest exit {code}); see {_relative_path(text_file)}")
    return read_document(json_file)


def _skipped_tests(text_file: Path) -> list[str]:
    lines = text_file.read_text(errors="replace").splitlines()
    return [line for line in lines if line.startswith("SKIPPED")]


def _relative_path(path: Path) -> str:
    """Returns the path as one would type it in the project's folder."""
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
              f"cp {_relative_path(output)} {_relative_path(baseline)}")  # fmt: skip
        return 0
    return subprocess.call(
        [sys.executable, "-m", "compliance", "regress", str(baseline), str(output)], cwd=ROOT
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
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
    except (RecordingFailed, OSError, ValueError) as error:
        print(f"tests.benchmarks.run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tests.benchmarks.run: interrupted", file=sys.stderr)
        return 1
    for line in _skipped_tests(_process_folder(output) / "process_1.txt"):
        print(line)
    print(f"wrote {_relative_path(output)}")
    if arguments or options.no_compare:
        print("not compared" + (": pytest arguments change the suite" if arguments else ""))
        return 0
    return compare(output, merged)


if __name__ == "__main__":
    sys.exit(main())
