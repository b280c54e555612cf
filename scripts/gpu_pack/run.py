"""Runs the pack on this machine: python run.py [--platform gpu] [--minutes 8] [--out DIR].

Needs Python 3.11 or newer, NumPy and JAX with a device. Writes results.json and results.md after
each measurement, so an early end loses nothing. Exit code 0: all was measured and the results
agree with a CPU's; 2: something differs, failed or was left out; 1: wrong usage, there is no such
device, or a file of the pack or the results cannot be used.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any, Callable

import numpy as np

from reference_model.base.usage_parser import UsageParser
from reference_model.data.split import Split
from reference_model.data.split_file import read_split_file
from reference_model.data.synthetic import SyntheticShape, generate_split
from reference_model.pjrt.client import PjrtClient, PjrtError
from reference_model.sampling.evaluation_lists import draw_evaluation_lists
from reference_model.sampling.negatives import make_sampler
from reference_model.sampling.random_streams import STREAM_EVALUATION, stream
from scripts.gpu_pack import measures
from scripts.gpu_pack.cases import SEED, Case, read_cases
from scripts.gpu_pack.program_run import ProgramRun
from scripts.gpu_pack.record import Record

PACK = Path(__file__).resolve().parents[2]
# Seconds that a case needs at most on a GPU; a case that would end too late is left out.
_CASE_SECONDS = {"check": 25, "speed": 30, "target": 30}


def environment(client: PjrtClient) -> dict[str, Any]:
    """Describes the machine."""
    import jax

    driver = ""
    try:
        driver = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        pass
    return {
        "device": client.device_kind,
        "driver": driver or "none",
        "client": client.version[:120],
        "jax": jax.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cpus": len(os.sched_getaffinity(0)),
        "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    }


@cache
def generated(shape: SyntheticShape) -> Split:
    """Generates a dataset."""
    return generate_split(shape)


@cache
def data_of(shape: SyntheticShape | None, file: str | None, negatives: int) -> tuple:
    """Returns (split, sampler, evaluation lists) of a generated or a packed dataset."""
    split = generated(shape) if shape else read_split_file(PACK / "data" / file)[1]
    host = make_sampler(split)
    rng = stream(SEED, STREAM_EVALUATION)
    return split, host, draw_evaluation_lists(split, negatives, host, rng)


def start(case: Case, client: PjrtClient) -> ProgramRun:
    """Compiles a case's programs and loads its data."""
    run = ProgramRun(case, client, PACK / "programs" / case.name)
    run.load(*data_of(case.shape, case.data, case.config.eval_negatives))
    run.warm_up()
    return run


def measure_case(
    case: Case, client: PjrtClient, record: Record, expected: dict, deadline: float, least: float
) -> bool:
    """Measures a case; returns whether all went as it should.

    Args:
      case: the case.
      client: the device.
      record: receives the figures.
      expected: the results of a CPU.
      deadline: when to stop, as time.monotonic.
      least: how long each rate is measured, seconds.
    """
    is_good = True

    def note(measure: str, function: Callable[[], dict[str, Any]]) -> None:
        nonlocal is_good
        began = time.monotonic()
        try:
            figures = function()
        except Exception as error:  # a failure of one measurement must not cost the others
            figures = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        is_good &= "error" not in figures and figures.get("is_within_tolerance", True)
        is_good &= figures.get("reached", True)
        record.add(case.name, measure, figures)
        _say(f"{case.name}: {measure}, {time.monotonic() - began:.1f} s")

    began = time.monotonic()
    try:
        run = start(case, client)
    except Exception as error:  # such as: out of memory
        record.add(case.name, "start", {"error": " ".join(str(error).split())[:300]})
        return False
    _say(f"{case.name}: compiled and loaded, {time.monotonic() - began:.1f} s")
    if case.kind == "check":
        note("check", lambda: measures.compare_values(
            measures.check_values(run), expected, case.config.precision))
    elif case.kind == "target":
        note("target", lambda: measures.train_to_target(run, case, deadline))
    else:
        note("training", lambda: measures.training_speed(run, least))
        note("evaluation", lambda: measures.evaluation_speed(run, least))
        note("epoch", lambda: measures.epoch_seconds(run))
        note("profile", lambda: measures.profile(run))
        note("memory", lambda: measures.memory(client))
    return is_good


def _say(text: str) -> None:
    print(text, flush=True)


def positive(text: str) -> float:
    """Reads a positive, finite number."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def main(argv: list[str] | None = None) -> int:
    """Runs all cases; returns the exit code."""
    try:
        return measure_all(argv)
    except (OSError, ValueError, KeyError) as error:
        # The advice of a message about storage is for the harness.
        text = " ".join(str(error).split()).partition("; set --data_dir")[0]
        print(f"run.py: {text.partition(', or set --data_dir')[0]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("run.py: interrupted; the results so far are kept", file=sys.stderr)
        return 2


def measure_all(argv: list[str] | None) -> int:
    """Reads the command line and runs all cases.

    Raises:
      OSError: a file cannot be read or written.
      ValueError: a file of the pack was changed.
      KeyError: the same.
    """
    lines = __doc__.splitlines()
    parser = UsageParser(prog="run.py", description=lines[0])
    parser.add_argument("--platform", default="gpu", help="a PJRT platform: gpu, tpu, cpu (gpu)")
    parser.add_argument("--minutes", type=positive, default=8,
                        help="stop after this many minutes (8)")
    parser.add_argument("--seconds", type=positive, default=2, help="seconds per rate (2)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="a folder (results)")
    args = parser.parse_args(argv)
    deadline = time.monotonic() + 60 * args.minutes
    if (args.out / "results.json").exists():
        raise ValueError(f"{args.out} has results already; name another folder with --out")
    cases, expected = read_cases(PACK), json.loads((PACK / "expected.json").read_text())
    # JAX reports plug-ins without a device with a traceback.
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.CRITICAL)
    try:
        client = PjrtClient(args.platform)
    except PjrtError as error:
        raise ValueError(f"--platform={args.platform}: {str(error).partition(': ')[2]}") from None
    record = Record(args.out, environment(client))
    is_good = True
    for case in cases:
        if time.monotonic() + _CASE_SECONDS[case.kind] > deadline:
            record.add(case.name, case.kind, {"skipped": "too little time was left"})
            is_good = False
            continue
        is_good &= measure_case(case, client, record, expected, deadline, args.seconds)
    record.finish()
    _say(f"{args.out / 'results.md'}, {args.out / 'results.json'}")
    return 0 if is_good else 2


if __name__ == "__main__":
    sys.exit(main())
