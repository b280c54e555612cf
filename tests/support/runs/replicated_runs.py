"""Prints the results of an engine on one device and on several replicas.

    python -m tests.support.runs.replicated_runs fused|reference xla|plain COUNT [1]

Logical devices must be created before TensorFlow starts, and a process has one group of replicas.
The tests of replicas therefore run this module in a separate process and read the JSON object that
it prints, keyed by the number of replicas (1: no strategy).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import numpy as np
import tensorflow as tf

from harness.logs.data_digests import digest_engine_data
from reference_model.distributed.fused_engine import ReplicatedFusedEngine
from reference_model.distributed.keras_engine import ReplicatedReferenceEngine
from reference_model.events import NullSink
from reference_model.fused.engine import FusedEngine
from reference_model.keras_engine.engine import ReferenceEngine
from reference_model.sampling.epoch_batches import EpochBatches, build_epoch
from reference_model.sampling.evaluation_lists import EvaluationLists
from reference_model.sampling.negatives import make_sampler
from tests.reference_model.keras_engine.test_engine import CONFIG as BASE
from tests.reference_model.keras_engine.test_engine import SPLIT

ENGINES = {
    "fused": (FusedEngine, ReplicatedFusedEngine),
    "reference": (ReferenceEngine, ReplicatedReferenceEngine),
}
# With L2, whose loss and gradient must be added once, not once per replica.
CONFIG = dataclasses.replace(BASE, l2_mf=1e-4, l2_mlp=(1e-4, 1e-4, 0.0))
SEED = 11
# So few users that one replica evaluates them all and the others evaluate none.
FEW = 3


def engine_for(name: str, replicas: int, xla: bool) -> Any:
    """Returns the prepared engine on `replicas` logical CPUs, with or without XLA."""
    single, replicated = ENGINES[name]
    if replicas == 1:
        engine = single(CONFIG, NullSink(), "cpu", jit_compile=xla)
    else:
        devices = [f"/CPU:{k}" for k in range(replicas)]
        strategy = tf.distribute.MirroredStrategy(devices)
        engine = replicated(CONFIG, NullSink(), "cpu", jit_compile=xla, strategy=strategy)
    engine.prepare()
    return engine


def injected_losses(engine: Any, batches: EpochBatches) -> list[float]:
    """Returns the loss of every step of the given batches; the last is partly padding."""
    size, losses = CONFIG.batch_size, []
    for k in range(batches.steps):
        one = slice(k, k + 1)
        real = min(size, batches.examples - k * size)
        step = EpochBatches(batches.user[one], batches.item[one], batches.label[one], real)
        losses.append(engine.train_batches(step).loss)
    return losses


def figures(name: str, replicas: int, xla: bool, batches: EpochBatches) -> dict[str, Any]:
    engine = engine_for(name, replicas, xla)
    engine.reset(SEED)
    losses = injected_losses(engine, batches)
    weights = {k: v.astype(float).ravel().tolist() for k, v in engine.get_weights().items()}
    engine.reset(SEED)
    engine.load(SPLIT)
    epochs = []
    for epoch in (1, 2):
        trained = engine.train_epoch(epoch)
        epochs.append({**dataclasses.asdict(trained), **dataclasses.asdict(engine.evaluate())})
    found = {
        "losses": losses, "weights": weights, "epochs": epochs, "digests": digest_engine_data(engine),
    }  # fmt: skip
    if name == "fused" and replicas > 1:
        lists = engine.evaluation_lists()
        engine.load_lists(EvaluationLists(lists.items[:FEW], lists.masked[:FEW]))
        found["few"] = dataclasses.asdict(engine.evaluate())
        engine.load_lists(lists)
    engine.set_weights({k: np.full_like(v, np.nan) for k, v in engine.get_weights().items()})
    try:
        engine.evaluate()
        found["nan"] = "not noticed"
    except ArithmeticError as error:
        found["nan"] = type(error).__name__
    engine.close()
    return found


def main(name: str, xla: bool, counts: list[int]) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * max(counts)
    tf.config.set_logical_device_configuration(cpu, logical)
    sampler = make_sampler(SPLIT)
    batches = build_epoch(SPLIT, sampler, CONFIG.train_negatives, CONFIG.batch_size, 5, 1)
    print(json.dumps({count: figures(name, count, xla, batches) for count in counts}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "xla", [int(word) for word in sys.argv[3:]])
