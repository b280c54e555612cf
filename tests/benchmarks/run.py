"""Runs the benchmark suite in several fresh processes and compares the times.

    python -m tests.benchmarks.run [--processes N] [--output FILE] [--against REV] [pytest arguments]

The recordings of all processes are merged into one small file (default:
`.benchmarks/latest.json`). The recording and the output of each process are beside it in
`latest-processes`.

`--against REV` measures the commit REV and this working tree in turn, process by process, on this
machine, and compares both with `python -m compliance regress`. REV is checked out in
`.benchmarks/against`, with its own environment if its dependencies differ. Without `--against`, the
recording is compared with the committed `baselines/<machine class>.json`, if that file exists. With
pytest arguments, such as `-k sampling`, only a part of the suite runs, and nothing is compared.

The exit code is that of `regress`; 0 if nothing is compared; 1 if a process failed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

from compliance.base.rank_test_power import log_spread
from compliance.regress.notes import processes_needed
from tests.benchmarks.merging import machine_class, merge, read_document, write_document
from tests.support.paths import ROOT

BASELINES = ROOT / "tests" / "benchmarks" / "baselines"
OUTPUT = ROOT / ".benchmarks" / "latest.json"
# The suite has over 46 benchmarks. With 6 processes per side no change can be significant (Holm),
# with 7 only a change without any overlap between the sides; 8 processes tolerate some overlap.
PROCESSES = 8
# The machine is quiet if no calibration varies by more than this from process to process.
QUIET_SPREAD = 0.02


class RecordingFailed(Exception):
    """A benchmark process failed; the message is one line."""


@dataclass(frozen=True)
class Side:
    """A checkout whose benchmarks are recorded.

    Attributes:
      root: The folder of the project.
      python: The Python that runs them.
      output: The JSON file for the merged recording.
    """

    root: Path
    python: str
    output: Path


def record_run(
    output: Path, processes: int, arguments: list[str], report_progress: Callable[..., None] = print
) -> dict:
    """Runs the suite in new processes; writes and returns the merged document.

    Args:
      output: The JSON file to write.
      processes: The number of processes.
      arguments: Further arguments for pytest.
      report_progress: Called like `print`, after each process.
    """
    side = Side(ROOT, sys.executable, output)
    return record_in_turn([side], processes, arguments, report_progress)[0]


def record_in_turn(
    sides: Sequence[Side], processes: int, arguments: list[str],
    report_progress: Callable[..., None] = print,
) -> list[dict]:
    """Runs the suites of all sides in turn: one process of each side, then the next of each.

    The order of the sides is reversed every other time.

    Args:
      sides: The checkouts.
      processes: The number of processes of each.
      arguments: Further arguments for pytest.
      report_progress: Called like `print`, after each process.

    Returns:
      The merged document of each side; it is also written to `output`.
    """
    for side in sides:
        folder = _process_folder(side.output)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("process_*"):
            old.unlink()
    documents: dict[Path, list[dict]] = {side.output: [] for side in sides}
    for number in range(1, processes + 1):
        for side in sides if number % 2 else reversed(sides):
            start = time.monotonic()
            stem = _process_folder(side.output) / f"process_{number}"
            document = _record_process(side, stem, arguments)
            documents[side.output].append(document)
            name = "" if len(sides) == 1 else f" of {side.root.name}"
            report_progress(
                f"process {number} of {processes}{name}: {len(document['benchmarks'])} benchmarks, "
                f"{time.monotonic() - start:.0f} s", flush=True)  # fmt: skip
    merged = []
    for side in sides:
        merged.append(merge(documents[side.output]))
        write_document(side.output, merged[-1])
    return merged


def _process_folder(output: Path) -> Path:
    """Returns the folder for the recordings and outputs of the single processes."""
    return output.with_name(f"{output.stem}-processes")


def _record_process(side: Side, stem: Path, arguments: list[str]) -> dict:
    """Runs one process; writes its JSON and its output to files named after `stem`."""
    json_file, text_file = stem.with_suffix(".json"), stem.with_suffix(".txt")
    # Older revisions do not have the plug-in that the environment of the working tree names.
    command = [side.python, "-m", "pytest", "-p", "no:neumf", "--slow", "-rs",
               f"--benchmark-json={json_file}", "tests/benchmarks", *arguments]  # fmt: skip
    # pytest-benchmark measures nothing if it detects a pytest-xdist worker.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST_")}
    others = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p != str(ROOT)]
    path = os.pathsep.join(filter(None, [str(side.root), *others]))
    environment = {**inherited, "PYTHONPATH": path}
    with text_file.open("w") as text:
        code = subprocess.call(command, cwd=side.root, env=environment, stdin=subprocess.DEVNULL,
                               stdout=text, stderr=subprocess.STDOUT)  # fmt: skip
    if code:
        raise RecordingFailed(f"the benchmarks failed (pytest exit {code}); see {_relative_path(text_file)}")
    return read_document(json_file)


def _skipped_tests(text_file: Path) -> list[str]:
    lines = text_file.read_text(errors="replace").splitlines()
    return [line for line in lines if line.startswith("SKIPPED")]


def _relative_path(path: Path) -> str:
    """Returns the path relative to the project's folder, if it is inside."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def describe_calibrations(merged: dict) -> str:
    """Describes the noise of the machine: how much calibrations vary between processes."""
    medians: dict[str, list[float]] = {}
    for entry in merged["benchmarks"]:
        if entry["extra_info"].get("calibration") is True:
            medians.setdefault(entry["fullname"], []).append(entry["stats"]["median"])
    spreads = [log_spread(times, times) for times in medians.values() if len(times) > 1]
    if not spreads:
        return "no calibration ran in more than one process: the noise of the machine is unknown"
    word = "quiet" if max(spreads) <= QUIET_SPREAD else "not quiet: record no baseline on it"
    return (f"the calibrations vary by {', '.join(f'{spread:.1%}' for spread in spreads)} from process "
            f"to process (sd): the machine was {word}")


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


def check_out(revision: str) -> tuple[str, Path]:
    """Checks out a revision in its own work tree.

    Returns:
      (the commit, the folder).

    Raises:
      RecordingFailed: There is no such revision, or git fails.
    """
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["git failed"])[-1]
            raise RecordingFailed(f"--against {revision}: {reason}")
        return done.stdout.strip()

    commit = git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    folder = OUTPUT.parent / "against" / commit[:12]
    if not (folder / ".git").exists():
        git("worktree", "prune")
        git("worktree", "add", "--detach", str(folder), commit)
    return commit, folder


def choose_python(folder: Path) -> str:
    """Returns the Python for a checkout: this one, or that of a separate environment.

    Raises:
      RecordingFailed: The environment cannot be created.
    """
    files = ("pyproject.toml", "requirements/constraints.txt")
    if all(_dependencies(folder / name) == _dependencies(ROOT / name) for name in files):
        return sys.executable
    print(f"dependencies differ: creating an environment in {_relative_path(folder)}", flush=True)
    script = f'root="{folder}"; . "$root/scripts/environment.sh"; prepare_python test; echo "$python"'
    environment = {k: v for k, v in os.environ.items() if k not in ("NEUMF_PYTHON", "PYTHONPATH")}
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, text=True,
                          stdout=subprocess.PIPE)  # fmt: skip
    if done.returncode:
        raise RecordingFailed(f"no environment for {folder}")
    return done.stdout.strip().splitlines()[-1]


def _dependencies(path: Path) -> list[str]:
    """Returns the lines of a file that may name a dependency: those with a version."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if re.search(r"[<>=~]=\s*[\"\d]", line)]


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="tests.benchmarks.run", allow_abbrev=False, description=__doc__.split("\n")[0],
        epilog="Other arguments go to pytest.")  # fmt: skip
    parser.add_argument("--processes", type=int, default=PROCESSES, metavar="N")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE")
    parser.add_argument("--against", metavar="REV", help="measure this revision, too, and compare")
    parser.add_argument("--no-compare", action="store_true", help="only record")
    options, arguments = parser.parse_known_args(argv)
    arguments = [word for word in arguments if word != "--slow"]  # always passed
    if options.processes < 1 or options.output.suffix != ".json":
        print("tests.benchmarks.run: --processes must be at least 1, --output must end in .json",
              file=sys.stderr)  # fmt: skip
        return 1
    output = options.output.absolute()
    sides = [Side(ROOT, sys.executable, output)]
    try:
        if options.against is not None:
            commit, folder = check_out(options.against)
            against = output.with_name(f"{output.stem}-against.json")
            sides.insert(0, Side(folder, choose_python(folder), against))
            print(f"measuring {commit[:12]} and the working tree in turn", flush=True)
        merged = record_in_turn(sides, options.processes, arguments)[-1]
    except (RecordingFailed, OSError, ValueError) as error:
        print(f"tests.benchmarks.run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tests.benchmarks.run: interrupted", file=sys.stderr)
        return 1
    for line in _skipped_tests(_process_folder(output) / "process_1.txt"):
        print(line)
    print(f"wrote {' and '.join(_relative_path(side.output) for side in sides)}")
    print(describe_calibrations(merged), flush=True)
    if options.against is not None and not options.no_compare:
        return subprocess.call([sys.executable, "-m", "compliance", "regress",
                                str(sides[0].output), str(output)], cwd=ROOT)  # fmt: skip
    if arguments or options.no_compare:
        print("not compared" + (": pytest arguments change the suite" if arguments else ""))
        return 0
    return compare(output, merged)


if __name__ == "__main__":
    sys.exit(main())
