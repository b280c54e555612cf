"""Measures how long the runs of a set wait before and after their timed part.

    python -m scripts.start_up [--track TRACK] [--rounds N]

For each runtime, it runs a set of five runs with an empty program cache, then sets with a filled
cache. A process that only imports TensorFlow runs before the first set and after each later one. It
prints the seconds per run outside `run_start` to `run_stop`, and their ratio to the import time. The dataset must be prepared
(--prepare_only). Needs TensorFlow and JAX, and a machine on which nothing else runs.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.devices.runtime import PJRT, TENSORFLOW
from reference_model.base.usage_parser import UsageParser
from scripts.runtimes import spread

RUNS = 5


def timed(command: list[str]) -> float:
    """Returns the seconds of a command; raises RuntimeError if it fails."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout).strip().splitlines()[-1])
    return time.perf_counter() - began


def waiting_seconds(track: str, runtime: str, folder: Path, name: str) -> float:
    """Runs a set; returns the seconds per run outside the timed part."""
    total = timed([
        sys.executable, "-m", "harness", f"--track={track}", f"--num_runs={RUNS}",
        f"--runtime={runtime}", f"--program_cache={folder / runtime}", f"--name={name}",
        f"--results_dir={folder / 'results'}", "--system=sys", "--clear_caches=skip",
    ])  # fmt: skip
    (report,) = (folder / "results" / "sys" / "experiments").glob(f"*/*-{name}/report.json")
    runs = json.loads(report.read_text())["check"]["files"]
    return (total - sum(run["run"]["seconds"] for run in runs)) / RUNS


def main(argv: list[str] | None = None) -> int:
    parser = UsageParser(
        prog="python -m scripts.start_up", description=__doc__.splitlines()[0])
    parser.add_argument("--track", default="ml-100k", help="a built-in track (ml-100k)")
    parser.add_argument("--rounds", type=int, default=3, help="sets with a filled cache (3)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for runtime in (TENSORFLOW, PJRT):
            imports = [timed([sys.executable, "-c", "import tensorflow"])]
            first = waiting_seconds(args.track, runtime, folder, f"{runtime}-first")
            later = []
            for number in range(args.rounds):
                later.append(waiting_seconds(args.track, runtime, folder, f"{runtime}-{number}"))
                imports.append(timed([sys.executable, "-c", "import tensorflow"]))
            ratios = [seconds / statistics.median(imports) for seconds in later]
            print(f"{runtime}: import tensorflow {spread(imports)} s; first set {first:.2f} s a "
                  f"run; later sets {spread(later)} s a run, {spread(ratios)} imports", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
