"""Trains a track's model many times, always to the last epoch, and saves every HR curve.

    python -m harness.calibrate --track=ml-1m --runs=20 --epochs=12 --output=FILE

From this file, `compliance.rcp.calibration` computes the target, the epochs to
target and a bound on the share of runs that converge. Runs are not timed and
share a process; the engine is reset before each run. A second call with the
same output adds the missing seeds.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compliance.rcp import calibration
from compliance.tracks import Track, load_track
from harness.base.output_files import write_text
from harness.config.trial_spec import dataset_spec, track_engine_settings
from harness.tune.curves import train_epochs
from reference_model.base.usage_parser import UsageParser

if TYPE_CHECKING:
    from reference_model.data.split import Split
    from reference_model.engine import Engine

# Flags that change a numeric field of the engine's configuration, and their types.
_NUMBER_SETTINGS = {
    "batch_size": int,
    "learning_rate": float,
    "beta1": float,
    "beta2": float,
    "epsilon": float,
}
# Flags that change a text field of the engine's configuration.
_TEXT_SETTINGS = ("embedding_init", "precision")


def build_parser() -> argparse.ArgumentParser:
    """Makes the command-line parser."""
    parser = UsageParser(prog="python -m harness.calibrate", description=__doc__)
    parser.add_argument("--track", required=True)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--first_seed", type=int, default=1, help="seed of the first run")
    parser.add_argument("--epochs", type=int, help="default: the track's epoch cap")
    parser.add_argument("--engine", default="fused", help="fused, reference or module:Class")
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--summary", action="store_true", help="only describe --output")
    for name, kind in (*_NUMBER_SETTINGS.items(), *((name, str) for name in _TEXT_SETTINGS)):
        parser.add_argument(f"--{name}", type=kind, default=None)
    return parser


def engine_settings(track: Track, args: argparse.Namespace, split: Split) -> dict[str, Any]:
    """Makes the engine's configuration from the track and the flags that override it.

    Args:
      track: The track.
      args: The parsed command line.
      split: The dataset, for its sizes.

    Returns:
      Values by field of `EngineConfig`.
    """
    settings = {
        "num_users": split.num_users,
        "num_items": split.num_items,
        "num_positives": split.num_positives,
        **track_engine_settings(track),
        **asdict(track.hyperparameters),
    }
    for name in (*_NUMBER_SETTINGS, *_TEXT_SETTINGS):
        if getattr(args, name) is not None:
            settings[name] = getattr(args, name)
    return settings


def train_curve(engine: Engine, split: Split, seed: int, epochs: int) -> dict[str, Any]:
    """Trains one run to its last epoch and prints a line per epoch.

    Args:
      engine: A prepared engine; it is reset first and closed at the end.
      split: The dataset.
      seed: The run's seed.
      epochs: Number of epochs to train, regardless of the HR.

    Returns:
      {"seed", "hit_rate", "ndcg", "loss"}; the last three are lists with a value per epoch.
    """
    curve: dict[str, Any] = {"seed": seed, "hit_rate": [], "ndcg": [], "loss": []}
    for epoch in train_epochs(engine, split, seed, epochs):
        trained, evaluated = epoch.trained, epoch.evaluated
        curve["hit_rate"].append(evaluated.hr)
        curve["ndcg"].append(round(evaluated.ndcg, 6))
        curve["loss"].append(round(trained.loss, 6))
        print(
            f"seed {seed} epoch {epoch.number}: HR@10 {evaluated.hr:.4f} "
            f"NDCG@10 {evaluated.ndcg:.4f} loss {trained.loss:.4f}",
            flush=True,
        )
    return curve


def _write_curves(path: Path, data: dict[str, Any]) -> None:
    """Replaces the whole file; each run is one line, so that diffs stay readable."""
    # The rest of the file is indented; the runs replace the empty list.
    runs = ",\n    ".join(json.dumps(run) for run in data["runs"])
    head = json.dumps({**data, "runs": []}, indent=2)
    text = head.replace('"runs": []', f'"runs": [\n    {runs}\n  ]') + "\n"
    write_text(path, text)


def summarize(path: Path) -> str:
    """Describes a calibration file: target, epochs to target, share of runs that reach it.

    Args:
      path: A file that this program wrote.

    Returns:
      Four lines; the share has a 95% Clopper-Pearson interval.
    """
    curves = calibration.Calibration.read(path)
    target = calibration.target_from_curves(curves)
    # One entry per run; None if the run does not reach the target.
    epochs = [calibration.epochs_to_target(curve, target) for curve in curves.hit_rates]
    epochs_to_target = [count for count in epochs if count is not None]
    low, high = calibration.clopper_pearson(len(epochs_to_target), len(epochs))
    best = sorted(max(curve) for curve in curves.hit_rates)
    runs = "1 run" if len(epochs) == 1 else f"{len(epochs)} runs"
    return (
        f"{curves.track}: {runs} of {curves.epochs} epochs\n"
        f"best HR@10 {best[0]:.4f} to {best[-1]:.4f}; first epoch at most "
        f"{max(curve[0] for curve in curves.hit_rates):.4f}\n"
        f"target {target:.3f}; epochs to target {sorted(epochs_to_target)}\n"
        f"runs that reach the target: {len(epochs_to_target)} of {len(epochs)} "
        f"(95% Clopper-Pearson {low:.3f} to {high:.3f})"
    )


def main(argv: list[str] | None = None) -> int:
    """Trains the missing seeds, or only describes the file; returns the exit code.

    Args:
      argv: Arguments after the program's name; those of this process if None.

    Returns:
      0, or 1 if the track, the data, the engine or the file cannot be used.
    """
    args = build_parser().parse_args(argv)
    try:
        if args.summary:
            print(summarize(args.output))
        else:
            train_curves(args, shlex.join(argv or sys.argv[1:]))
    except (ValueError, OSError) as error:  # TrackError, DataError, EngineError and others
        print(f"python -m harness.calibrate: {error}", file=sys.stderr)
        return 1
    return 0


def previous_runs(path: Path, data: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the runs of an existing file, to which runs with the same settings may be added.

    Raises:
      ValueError: The file is not a calibration, or it has different settings.
    """
    fixed_keys = ("track", "engine", "split_digest", "epochs", "settings")
    now = json.loads(json.dumps(data))  # tuples become lists, as in the file
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        is_same = all(before[key] == now[key] for key in fixed_keys)
        runs = list(before["runs"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a calibration file: {error!r}") from None
    if not is_same:
        raise ValueError(f"{path} contains a calibration with other settings; use another --output")
    return runs


def train_curves(args: argparse.Namespace, command_line: str) -> None:
    """Trains the missing seeds and writes each curve; prints the summary.

    Args:
      args: The arguments.
      command_line: The arguments as text, for the file.

    Raises:
      ValueError: The track, the data, the engine or the existing file cannot be used.
      OSError: A file cannot be read or written.
    """
    # Imported late, so that --summary starts at once.
    from harness.config.engine_loader import load_engine_class
    from harness.config.run_config import default_data_dir
    from reference_model.base.config import EngineConfig
    from reference_model.data.prepare import load_split
    from reference_model.events import NullSink

    track = load_track(args.track)
    split = load_split(dataset_spec(track), args.data_dir or default_data_dir())
    settings = engine_settings(track, args, split)
    engine = load_engine_class(args.engine)(EngineConfig(**settings), NullSink(), "cpu")
    epochs = args.epochs or track.max_epochs
    data = {
        "schema_version": 1,
        "track": track.name,
        "command": "python -m harness.calibrate " + command_line,
        "engine": args.engine,
        "split_digest": split.digest,
        "users": split.num_users,
        "epochs": epochs,
        "settings": settings,
        "versions": {name: metadata.version(name) for name in ("keras", "numpy")},
        "runs": [],
    }
    if args.output.exists():
        data["runs"] = previous_runs(args.output, data)
    engine.prepare()
    done = {run["seed"] for run in data["runs"]}
    for seed in range(args.first_seed, args.first_seed + args.runs):
        if seed not in done:
            data["runs"].append(train_curve(engine, split, seed, epochs))
            # Written after each run, so that an interrupted calibration keeps its finished runs.
            _write_curves(args.output, data)
    print(summarize(args.output))


if __name__ == "__main__":
    sys.exit(main())
