"""Compares the runtimes of the fused engine: TensorFlow and PJRT, in turn, each in a new process.

    python -m scripts.runtimes TRACK [--rounds N] [--epochs N]

The dataset must be prepared (--prepare_only). The first epoch of a process is not counted. Needs
TensorFlow and JAX, and a machine on which nothing else runs.
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
from harness.devices.runtime import PJRT, TENSORFLOW
from reference_model.base.config import EngineConfig
from reference_model.data.prepare import load_split
from reference_model.events import NullSink

SEED = 7


def measure(track_name: str, runtime: str, epochs: int) -> dict[str, float]:
    """Trains and evaluates some epochs in this process.

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
        beta2=hyper.beta2, epsilon=hyper.epsilon,
    )  # fmt: skip
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


def measure_in_process(track: str, runtime: str, epochs: int) -> dict[str, float]:
    """Runs `measure` in a new process."""
    command = [sys.executable, "-m", "scripts.runtimes", track, "--epochs", str(epochs),
               "--runtime", runtime]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        raise RuntimeError(answer.stderr.strip().splitlines()[-1])
    return json.loads(answer.stdout.splitlines()[-1])


def spread(values: list[float]) -> str:
    """Formats the median and the range."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.runtimes", description=__doc__.splitlines()[0])
    parser.add_argument("track", help="a built-in track")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--runtime", choices=(TENSORFLOW, PJRT), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.runtime:
        print(json.dumps(measure(args.track, args.runtime, args.epochs)))
        return 0
    found: dict[str, list[dict[str, float]]] = {TENSORFLOW: [], PJRT: []}
    for _ in range(args.rounds):
        for runtime, results in found.items():
            results.append(measure_in_process(args.track, runtime, args.epochs))
    for runtime, results in found.items():
        print(f"{runtime}: " + ", ".join(
            f"{name} {spread([r[name] for r in results])}" for name in results[0]))
    pairs = list(zip(found[PJRT], found[TENSORFLOW]))
    print("pjrt / tensorflow: training speed "
          + spread([a["examples_per_s"] / b["examples_per_s"] for a, b in pairs])
          + ", evaluation speed " + spread([b["evaluation_s"] / a["evaluation_s"] for a, b in pairs]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
