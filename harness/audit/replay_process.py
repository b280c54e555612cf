"""The child process of an audit, `python -m harness.audit.replay_process`.

It reads its request as JSON from standard input, repeats the evaluation of a run from the
dataset and the seed, and sends the result as one JSON line on a pipe. It evaluates the
weights of the checkpoint or, for a replay, the weights after one epoch of training.
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
from harness.base.error_text import describe_exception
from harness.config.trial_spec import TrialSpec, dataset_spec, engine_config
from harness.logs import data_digests
from harness.processes.parent_pipe import ParentPipe
from harness.results import checkpoints
from reference_model.data.prepare import load_split
from reference_model.events import NullSink


def reproduce_run(spec: TrialSpec, checkpoint: str | None, replay: bool) -> dict[str, Any]:
    """Repeats the evaluation of a run, and with `replay` its first epoch.

    Args:
      spec: The run, with the settings of its log.
      checkpoint: Path of the run's final weights; None evaluates no checkpoint.
      replay: Whether to train the first epoch again and evaluate it.

    Returns:
      "split_digest", "digests" (see `harness.logs.data_digests`), "versions", "runtime" and
      "device" (see `harness.devices.setup.Device.identity`). With a replay, "replay": loss, steps
      and the fields of `EvalResult`. With a checkpoint, "checkpoint": the digest of the
      evaluation lists in it and the fields of `EvalResult`, or {"unreadable": reason}.
    """
    from harness.config import engine_loader
    from harness.devices import runtime, setup
    from harness.devices.engine_settings import with_device_settings

    device, exported = setup.set_up(spec.config), runtime.exported_programs(spec.config)
    settings = with_device_settings(
        engine_config(spec), device, exported, spec.config.engine, spec.order_method
    )
    engine: Any = engine_loader.make_engine(
        spec.config.engine, settings, NullSink(), device.kind, device.strategy,
        device.pjrt_client, exported,
    )  # fmt: skip
    engine.prepare()
    engine.reset(spec.seed)
    split = load_split(dataset_spec(spec.config.track), spec.config.data_dir)
    engine.load(split)
    result: dict[str, Any] = {
        "split_digest": split.digest,
        "versions": machine.versions(),
        "device": device.identity,
        "runtime": device.runtime,
    }
    try:
        if replay:
            trained = engine.train_epoch(1)
            result["replay"] = {"loss": trained.loss, "steps": trained.steps, **_evaluate(engine)}
        # After the replay, because loading the checkpoint replaces the weights.
        if checkpoint is not None:
            result["checkpoint"] = _evaluate_checkpoint(engine, Path(checkpoint))
    finally:
        engine.close()
    result["digests"] = data_digests.digest_engine_data(engine)
    return result


def _evaluate_checkpoint(engine: Any, path: Path) -> dict[str, Any]:
    """Evaluates the weights of a checkpoint; an unusable one is reported, not raised."""
    if not callable(getattr(engine, "set_weights", None)):
        return {"unreadable": "the engine cannot load weights (no set_weights)"}
    try:
        weights, lists = checkpoints.load(path, engine.get_weights())
    except checkpoints.CheckpointError as error:
        return {"unreadable": str(error)}
    except OSError as error:
        return {"unreadable": error.strerror or str(error)}
    engine.set_weights(weights)
    return {"lists": lists, **_evaluate(engine)}


def _evaluate(engine: Any) -> dict[str, Any]:
    """Returns the fields of `EvalResult`, rounded as `harness.trial` logs them."""
    values = dataclasses.asdict(engine.evaluate())
    return {**values, "hr": round(values["hr"], 15)}


def main() -> int:
    """Serves the request; does not return."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.audit.replay_process", description=__doc__
    )
    parser.add_argument("--pipe", type=int, required=True, help="file descriptor of the answer")
    parent = ParentPipe(parser.parse_args().pipe)
    request = json.loads(sys.stdin.read())
    try:
        spec = TrialSpec.from_json(request["spec"])
        parent.send("found", **reproduce_run(spec, request["checkpoint"], request["replay"]))
    except Exception as error:
        import traceback

        traceback.print_exc()
        parent.send("failed", message=describe_exception(error))
    sys.stdout.flush()
    sys.stderr.flush()
    # TensorFlow's threads must not keep the process alive.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
