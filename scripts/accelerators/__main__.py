"""Compiles the timed programs for accelerators that this machine lacks, and counts what they do.

    python -m scripts.accelerators TARGET... [--track TRACK] [--batch_size N] [--precision LIST]
        [--format table|json|markdown] [--compare OLD.json] [--hlo DIR]

TARGET is a chip, such as v5e or h200, or several: v5e:4x4, h200x8. The compilers come with the
extra `accelerators`. Exit code 0: all programs compile and fit; 2: one does not; 1: wrong usage,
or a compiler is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn, Sequence

from compliance.tracks import TrackError, load_track
from scripts.accelerators import tables
from scripts.accelerators.compile_child import assembler
from scripts.accelerators.estimate import estimate
from scripts.accelerators.settings import PROGRAMS, Settings, file_name
from scripts.accelerators.targets import Target, TargetError, parse_target

PROG = "python -m scripts.accelerators"
PRECISIONS = ("float32", "tf32", "bfloat16")
INSTALL = "install the extra: pip install '.[accelerators]', or ./run_tests.sh --accelerators"


class UsageError(Exception):
    """Wrong usage; the message is one line."""


class ChildError(Exception):
    """A child process failed; the message is one line.

    Attributes:
      is_crash: whether a signal ended it, as a failed assertion of a compiler does.
    """

    def __init__(self, message: str, is_crash: bool):
        super().__init__(message)
        self.is_crash = is_crash


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {PROG} --help")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; raises UsageError."""
    lines = __doc__.splitlines()
    parser = _Parser(prog=PROG, description=lines[0], allow_abbrev=False)
    parser.add_argument("targets", nargs="+", metavar="TARGET", help="such as v5e, h200, h200x8")
    parser.add_argument("--track", default="ml-20m", help="a track or a track file (ml-20m)")
    parser.add_argument("--batch_size", type=int, default=1_048_576,
                        help="global batch size in examples (1048576)")
    parser.add_argument("--precision", default="float32",
                        help=f"one or more of {','.join(PRECISIONS)} (float32)")
    parser.add_argument("--format", choices=("table", "json", "markdown"), default="table")
    parser.add_argument("--compare", metavar="OLD.json", type=Path,
                        help="an earlier report in JSON; prints what changed")
    parser.add_argument("--hlo", metavar="DIR",
                        help="keeps the lowered and the optimized programs in this folder")
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> tuple[list[Target], list[str], list[dict[str, Any]] | None]:
    """Checks the arguments and the installed compilers.

    Returns:
      (targets, precisions, the earlier report).

    Raises:
      UsageError: an argument is wrong, or a compiler is not installed.
    """
    try:
        targets = [parse_target(text) for text in dict.fromkeys(args.targets)]
        dataset = load_track(args.track).dataset
    except (TargetError, TrackError) as error:
        raise UsageError(str(error)) from None
    precisions = list(dict.fromkeys(args.precision.split(",")))
    for precision in precisions:
        if precision not in PRECISIONS:
            raise UsageError(f"--precision={precision}: use {', '.join(PRECISIONS)}")
        for target in targets:
            if precision not in target.chip.flops:
                raise UsageError(f"--precision={precision}: {target.name} does not support this "
                                 "precision")
    if not dataset.num_users or not dataset.num_items or not dataset.num_positives:
        raise UsageError(f"--track={args.track}: the track does not state its sizes")
    if not 1 <= args.batch_size <= 1 << 26:
        raise UsageError(f"--batch_size={args.batch_size}: use 1 to {1 << 26}")
    for target in targets:
        if args.batch_size % target.chips:
            raise UsageError(f"--batch_size={args.batch_size} is not a multiple of the "
                             f"{target.chips} chips of {target.name}")
    if args.hlo == "":
        raise UsageError("--hlo is empty; name a folder")
    if args.compare and args.format == "json":
        raise UsageError("--compare prints a table; use --format=table or --format=markdown")
    for target in targets:
        check_installed(target)
    return targets, precisions, read_old(args.compare) if args.compare else None


def check_installed(target: Target) -> None:
    """Checks that the compiler of a target can be used; raises UsageError."""
    needed = {"tpu": ["libtpu"], "gpu": ["jax_cuda12_plugin"]}[target.chip.kind]
    for module in ["tensorflow", "jax", *needed]:
        if importlib.util.find_spec(module) is None:
            raise UsageError(f"{target.name}: {module} is not installed; {INSTALL}")
    path = assembler() if target.chip.kind == "gpu" else None
    if target.chip.kind == "gpu" and (path is None or not path.is_file()):
        raise UsageError(f"{target.name}: the CUDA assembler ptxas is not installed; {INSTALL}")


def read_old(path: Path) -> list[dict[str, Any]]:
    """Reads an earlier report; raises UsageError."""
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(old, list):
            raise ValueError("not a list")
        for entry in old:
            for key in ("target", "program", "track", "precision"):
                if not isinstance(entry[key], str):
                    raise ValueError(key)
            for key in ("batch_size", *tables.COMPARED):
                if not isinstance(entry.get(key, 0), (int, float, type(None))):
                    raise ValueError(key)
            entry["batch_size"]
    except OSError as error:
        raise UsageError(f"--compare={path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UsageError(f"--compare={path} is not a report written by --format=json") from None
    return old


def run_child(module: str, request: dict[str, Any]) -> None:
    """Runs a child process; raises ChildError with its last line if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", f"scripts.accelerators.{module}"],
        input=json.dumps(request), text=True, capture_output=True,
    )  # fmt: skip
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise ChildError(f"{module} ended with {done.returncode}: {lines[-1][:300]}",
                         is_crash=done.returncode < 0)


def compile_all(
    targets: list[Target], precisions: list[str], args: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    """Lowers all programs, then compiles each for its targets; one process at a time.

    Returns:
      The estimates, in the order of the targets.
    """
    jobs = [
        (target, Settings(args.track, args.batch_size, precision, target.chip.kind), name)
        for target in targets for precision in precisions for name in PROGRAMS
    ]  # fmt: skip
    _say("lowering the programs")
    unique = dict.fromkeys(settings.to_json() for _, settings, _ in jobs)
    run_child("lower_child", {"folder": str(folder), "settings": list(unique)})
    estimates = []
    for number, (target, settings, name) in enumerate(jobs, 1):
        _say(f"compiling {number} of {len(jobs)}: {target.name}, {name}, {settings.precision}")
        base = folder / file_name(settings, name)
        hlo = folder / f"{base.name}-{target.name.replace(':', '-')}.hlo"
        answer = hlo.with_suffix(".json")
        request = {
            "settings": settings.to_json(), "program": name, "target": target.name,
            "code": f"{base}.stablehlo", "hlo": str(hlo), "answer": str(answer),
        }  # fmt: skip
        try:
            run_child("compile_child", request)
            found = json.loads(answer.read_text())
        except ChildError as error:
            if not error.is_crash:
                raise
            found = {"error": str(error)}
        if "no_target" in found:
            raise UsageError(f"{target.name}: the compiler has no such target: "
                             f"{found['no_target']}")
        sources = Path(f"{base}.sources.json")
        estimates.append(estimate(target, settings, name, found, hlo, sources))
    return estimates


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(estimates: list[dict[str, Any]], old: list[dict[str, Any]] | None, form: str) -> str:
    """Returns the report as text."""
    if form == "json":
        return json.dumps(estimates, indent=1)
    is_markdown = form == "markdown"
    parts = [tables.summary(estimates, is_markdown)]
    parts += [tables.details(e, is_markdown) for e in estimates]
    if old is not None:
        parts.append(tables.comparison(old, estimates, is_markdown))
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    try:
        args = parse_arguments(argv)
        targets, precisions, old = check(args)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(args.hlo or scratch)
            folder.mkdir(parents=True, exist_ok=True)
            estimates = compile_all(targets, precisions, args, folder)
        print(show(estimates, old, args.format), flush=True)
    except (UsageError, ChildError, OSError) as error:
        # Nothing can be printed when the reader of the output has gone.
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        else:
            print(f"{PROG}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{PROG}: interrupted", file=sys.stderr)
        return 1
    return 0 if all(e["fits"] for e in estimates) else 2


if __name__ == "__main__":
    # SIGTERM, too, ends the child process and removes the scratch folder.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
