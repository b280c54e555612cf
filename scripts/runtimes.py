"""Compares the runtimes of the fused engine: TensorFlow and PJRT, in turn, each in a new process.

    python -m scripts.runtimes TRACK [--rounds N] [--epochs N] [--precisions]

With --precisions it compares float32 and bfloat16 in TensorFlow instead. The dataset must be
prepared (--prepare_only). The first epoch of a process is not counted. Needs TensorFlow and JAX,
and a machine on which nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from compliance.tracks import load_track
from harness.config.run_config import default_data_dir
from harness.config.trial_spec import dataset_spec, track_engine_settings
from harness.devices.bfloat16_probe import with_native_bfloat16
from harness.devices.runtime import PJRT, TENSORFLOW
from harness.devices.setup import Device
from reference_model.base.config import EngineConfig
from reference_model.base.usage_parser import UsageParser
from reference_model.data.prepare import load_split
from reference_model.events import NullSink

SEED = 7


def measure(track_name: str, runtime: str, epochs: int, precision: str) -> dict[str, float]:
    """Trains and evaluates some epochs in this process.

    Args:
      track_name: A built-in track.
      runtime: "tensorflow" or "pjrt".
      epochs: Epochs that count.
      precision: "float32" or "bfloat16".

    Returns:
      "prepare_s", and the medians of "examples_per_s" and "evaluation_s".
    """
    from reference_model.fused import FusedEngine

    track = load_track(track_name)
    split = load_split(dataset_spec(track), Path(default_data_dir()))
    hyper = track.hyperparameters
    config = EngineConfig(
        split.num_users, split.num_items, split.num_positives, **track_engine_settings(track),
        batch_size=hyper.batch_size, learning_rate=hyper.learning_rate, beta1=hyper.beta1,
        beta2=hyper.beta2, epsilon=hyper.epsilon, precision=precision,
    )  # fmt: skip
    config = with_native_bfloat16(config, Device("cpu", "", 1), None)
    began = time.perf_counter()
    executor = None
    if runtime == PJRT:
        from reference_model.pjrt.client import PjrtClient
        from reference_model.pjrt.executor import PjrtExecutor
        from reference_model.pjrt.lowering import lower

        executor = PjrtExecutor(config, PjrtClient("cpu"), lower)
    engine = FusedEngine(config, NullSink(), executor=executor)
    engine.prepare()
    prepared = time.perf_counter()
    engine.reset(SEED)
    engine.load(split)
    rates, seconds = [], []
    for epoch in range(1, epochs + 2):
        start = time.perf_counter()
        examples = engine.train_epoch(epoch).examples
        trained = time.perf_counter()
        engine.evaluate()
        rates.append(examples / (trained - start))
        seconds.append(time.perf_counter() - trained)
    engine.close()
    return {"prepare_s": prepared - began, "examples_per_s": statistics.median(rates[1:]),
            "evaluation_s": statistics.median(seconds[1:])}


def measure_in_process(track: str, side: str, epochs: int) -> dict[str, float]:
    """Runs `measure` in a new process; `side` is a runtime or a precision."""
    runtime, precision = (side, "float32") if side in (TENSORFLOW, PJRT) else (TENSORFLOW, side)
    command = [sys.executable, "-m", "scripts.runtimes", track, "--epochs", str(epochs),
               "--runtime", runtime, "--precision", precision]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        raise RuntimeError(answer.stderr.strip().splitlines()[-1])
    return json.loads(answer.stdout.splitlines()[-1])


def spread(values: list[float]) -> str:
    """Formats the median and the range."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main(argv: list[str] | None = None) -> int:
    parser = UsageParser(
        prog="python -m scripts.runtimes", description=__doc__.splitlines()[0])
    parser.add_argument("track", help="a built-in track")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--precisions", action="store_true", help="compare float32 and bfloat16")
    parser.add_argument("--runtime", choices=(TENSORFLOW, PJRT), help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.runtime:
        print(json.dumps(measure(args.track, args.runtime, args.epochs, args.precision)))
        return 0
    base, other = ("float32", "bfloat16") if args.precisions else (TENSORFLOW, PJRT)
    found: dict[str, list[dict[str, float]]] = {base: [], other: []}
    for _ in range(args.rounds):
        for side, results in found.items():
            results.append(measure_in_process(args.track, side, args.epochs))
    for side, results in found.items():
        print(f"{side}: " + ", ".join(
            f"{name} {spread([r[name] for r in results])}" for name in results[0]))
    pairs = list(zip(found[other], found[base]))
    print(f"{other} / {base}: training speed "
          + spread([a["examples_per_s"] / b["examples_per_s"] for a, b in pairs])
          + ", evaluation speed " + spread([b["evaluation_s"] / a["evaluation_s"] for a, b in pairs]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
