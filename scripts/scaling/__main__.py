"""Measures load, split, sampling and evaluation lists for increasing dataset sizes.

Each stage of each size runs in a fresh process. Each measurement is appended to --output
as one JSON line. A table and the regression lines of memory against positives are printed
to standard output. The data is generated in --folder and removed unless --keep is given.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from reference_model.base.usage_parser import UsageParser
from scripts.scaling.stages import SIZES, STAGES
from scripts.scaling.summary import markdown_summary


def main() -> int:
    """Measures or reads measurements, and prints the table; returns the exit code."""
    args = parse_arguments()
    lines = read_measurements(args.summarize) if args.summarize else measure_all(args)
    print(markdown_summary(lines))
    return 0


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = UsageParser(
        "scripts.scaling", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sizes", default="ml-100k,ml-1m,ml-20m,ml-20m-x10",
                        help=f"from {', '.join(SIZES)} (default: %(default)s)")  # fmt: skip
    parser.add_argument("--stages", default=",".join(STAGES), help="(default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="data folder (default: a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="do not remove the data")
    parser.add_argument("--output", type=Path, help="file to which JSON lines are appended")
    parser.add_argument("--summarize", type=Path, metavar="FILE",
                        help="print the table of FILE, measure nothing")  # fmt: skip
    args = parser.parse_args()
    for name, known in (("sizes", SIZES), ("stages", STAGES)):
        unknown = set(getattr(args, name).split(",")) - known.keys()
        if unknown:
            parser.error(f"--{name}: {', '.join(sorted(unknown))}: not one of {', '.join(known)}")
    return args


def read_measurements(path: Path) -> list[dict]:
    """Reads a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def measure_all(args: argparse.Namespace) -> list[dict]:
    """Measures each stage at each size; returns the measurements."""
    lines = []
    folder = args.folder or Path(tempfile.mkdtemp(prefix="neumf-scaling-"))
    try:
        for size in args.sizes.split(","):
            run_stage("make", size, folder)
            for stage in args.stages.split(","):
                line = run_stage(stage, size, folder)
                lines.append(line)
                print(json.dumps(line), file=sys.stderr)
                if args.output:
                    with args.output.open("a") as file:
                        file.write(json.dumps(line) + "\n")
            if not args.keep:
                shutil.rmtree(folder / size)
    finally:
        if not args.keep and not args.folder:
            shutil.rmtree(folder, ignore_errors=True)
    return lines


def run_stage(stage: str, size: str, folder: Path) -> dict:
    """Measures one stage in a fresh process. Exits if the process fails."""
    command = [sys.executable, "-m", "scripts.scaling.stages", stage, size, str(folder / size)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"scripts.scaling: {stage} of {size} ended with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
