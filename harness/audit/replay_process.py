"""The process of an audit: `python -m harness.audit.replay_process`.

Reads what to do as JSON from standard input, makes the evaluation again from the
dataset and the seed, and writes what it found as one JSON line to a pipe. The
weights are the checkpoint's, or, for a replay, those of one epoch of training.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from harness.base import machine
from harness.config.trial_spec import TrialSpec, dataset_spec, engine_config
from harness.logs import data_digests
from harness.processes.parent_pipe import Parent, one_line
from harness.results import checkpoints
from reference_model.data.prepare import load_split
from reference_model.events import NullSink


def audit(spec: TrialSpec, checkpoint: str | None, replay: bool) -> dict[str, Any]:
    """What one finds who does the same again: {"split_digest", "digests", "versions",
    "device", "replay": figures, "checkpoint": figures or {"unreadable": why}}."""
    from harness.config import engine_loader
    from harness.devices import setup

    device = setup.set_up(spec.config)
    engine: Any = engine_loader.make_engine(
        spec.config.engine, engine_config(spec), NullSink(), device.kind, device.strategy
    )
    engine.prepare()
    engine.reset(spec.seed)
    split = load_split(dataset_spec(spec.config.track), spec.config.data_dir)
    engine.load(split)
    found: dict[str, Any] = {
        "split_digest": split.digest,
        "versions": machine.versions(),
        "device": device.identity,
    }
    try:
        if replay:
            trained = engine.train_epoch(1)
            found["replay"] = {"loss": trained.loss, "steps": trained.steps, **_evaluate(engine)}
        if checkpoint is not None:
            found["checkpoint"] = _from_checkpoint(engine, Path(checkpoint))
    finally:
        engine.close()
    found["digests"] = data_digests.of_engine(engine)
    return found


def _from_checkpoint(engine: Any, path: Path) -> dict[str, Any]:
    if not callable(getattr(engine, "set_weights", None)):
        return {"unreadable": "the engine cannot take weights"}
    try:
        weights, lists = checkpoints.load(path, engine.get_weights())
    except checkpoints.CheckpointError as error:
        return {"unreadable": str(error)}
    except OSError as error:
        return {"unreadable": error.strerror or str(error)}
    engine.set_weights(weights)
    return {"lists": lists, **_evaluate(engine)}


def _evaluate(engine: Any) -> dict[str, Any]:
    """The figures of an evaluation, as `harness.trial` logs them."""
    found = dataclasses.asdict(engine.evaluate())
    return {**found, "hr": round(found["hr"], 15)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.audit.replay_process", description=__doc__)
    parser.add_argument("--pipe", type=int, required=True, help="file descriptor of the answer")
    parent = Parent(parser.parse_args().pipe)
    order = json.loads(sys.stdin.read())
    try:
        spec = TrialSpec.from_json(order["spec"])
        parent.tell("found", **audit(spec, order["checkpoint"], order["replay"]))
    except Exception as error:
        import traceback

        traceback.print_exc()
        parent.tell("failed", message=one_line(error))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
