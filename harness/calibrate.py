"""Trains a track many times to its last epoch and keeps every HR curve.

    python -m harness.calibrate --track=ml-1m --runs=20 --epochs=12 --output=FILE

The file feeds `compliance.rcp.calibration`: target, epochs to target, bound on
the share that converges. Runs are not timed and may share a process, since the
engine is reset between them; a second call with the same output adds the seeds
that are missing.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from compliance.rcp import calibration
from compliance.tracks import Track, load_track
from harness.base.machine import write_text
from harness.config.trial_spec import dataset_spec, fixed_settings

_NUMBERS = {
    "batch_size": int,
    "learning_rate": float,
    "beta1": float,
    "beta2": float,
    "epsilon": float,
}
_TEXT_SETTINGS = ("embedding_init", "precision")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.calibrate", description=__doc__)
    parser.add_argument("--track", required=True)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--first_seed", type=int, default=1, help="seeds count up from it")
    parser.add_argument("--epochs", type=int, help="default: the track's cap")
    parser.add_argument("--engine", default="fused", help="fused, reference or module:Class")
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--summary", action="store_true", help="train nothing, only judge")
    for name, kind in (*_NUMBERS.items(), *((name, str) for name in _TEXT_SETTINGS)):
        parser.add_argument(f"--{name}", type=kind, default=None)
    return parser


def engine_settings(track: Track, args: argparse.Namespace, split) -> dict:
    """The engine's configuration as a dict: the track's, and what the flags change."""
    settings = {
        "num_users": split.num_users,
        "num_items": split.num_items,
        "num_positives": split.num_positives,
        **fixed_settings(track),
        **asdict(track.hyperparameters),
    }
    for name in (*_NUMBERS, *_TEXT_SETTINGS):
        if getattr(args, name) is not None:
            settings[name] = getattr(args, name)
    return settings


def train_curve(engine, split, seed: int, epochs: int) -> dict:
    """One run to its last epoch: {"seed", "hit_rate", "ndcg", "loss"} by epoch."""
    curve: dict = {"seed": seed, "hit_rate": [], "ndcg": [], "loss": []}
    engine.reset(seed)
    engine.load(split)
    for epoch in range(1, epochs + 1):
        trained, found = engine.train_epoch(epoch), engine.evaluate()
        curve["hit_rate"].append(found.hr)
        curve["ndcg"].append(round(found.ndcg, 6))
        curve["loss"].append(round(trained.loss, 6))
        print(
            f"seed {seed} epoch {epoch}: HR@10 {found.hr:.4f} "
            f"NDCG@10 {found.ndcg:.4f} loss {trained.loss:.4f}",
            flush=True,
        )
    engine.close()
    return curve


def _write(path: Path, data: dict) -> None:
    """Replaces the file as a whole; one line a run keeps its history readable."""
    runs = ",\n    ".join(json.dumps(run) for run in data["runs"])
    head = json.dumps({**data, "runs": []}, indent=2)
    text = head.replace('"runs": []', f'"runs": [\n    {runs}\n  ]') + "\n"
    write_text(path, text)


def summarize(path: Path) -> str:
    """Target, epochs to target and the bound, as text."""
    found = calibration.Calibration.read(path)
    target = calibration.target_of(found)
    epochs = [calibration.epochs_to(c, target) for c in found.hit_rates]
    reached = [e for e in epochs if e is not None]
    low, high = calibration.clopper_pearson(len(reached), len(epochs))
    best = sorted(max(c) for c in found.hit_rates)
    return (
        f"{found.track}: {len(epochs)} runs of {found.epochs} epochs\n"
        f"best HR@10 {best[0]:.4f} to {best[-1]:.4f}; first epoch at most "
        f"{max(c[0] for c in found.hit_rates):.4f}\n"
        f"target {target:.3f}; epochs to it {sorted(reached)}\n"
        f"{len(reached)} of {len(epochs)} reach it "
        f"(95% Clopper-Pearson {low:.3f} to {high:.3f})"
    )


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if args.summary:
        print(summarize(args.output))
        return 0
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
        "command": "python -m harness.calibrate " + shlex.join(argv or sys.argv[1:]),
        "engine": args.engine,
        "split_digest": split.digest,
        "users": split.num_users,
        "epochs": epochs,
        "settings": settings,
        "versions": {p: metadata.version(p) for p in ("keras", "numpy")},
        "runs": [],
    }
    if args.output.exists():
        before = json.loads(args.output.read_text(encoding="utf-8"))
        same = ("track", "engine", "split_digest", "epochs", "settings")
        now = json.loads(json.dumps(data))  # tuples become lists, as in the file
        if any(before[k] != now[k] for k in same):
            print(f"{args.output} holds another calibration; name another file")
            return 1
        data["runs"] = before["runs"]
    engine.prepare()
    done = {run["seed"] for run in data["runs"]}
    for seed in range(args.first_seed, args.first_seed + args.runs):
        if seed not in done:
            data["runs"].append(train_curve(engine, split, seed, epochs))
            _write(args.output, data)
    print(summarize(args.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
