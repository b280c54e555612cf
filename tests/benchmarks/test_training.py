"""Training and evaluation with every engine, and a small time to train.

A step is an epoch of one batch, so it includes the fixed costs of an epoch. An epoch has two
batches of 98,304 or 97 of 2,048. Compilation is untimed. Sampling and epoch order are timed, as in
a run: the next epoch is prepared during training.
"""

from __future__ import annotations

from itertools import count

import pytest

from tests.benchmarks.engines import ENGINES, MODELS
from tests.benchmarks.inputs import (
    LEARNABLE,
    SEED,
    TWO_BATCHES,
    one_step,
    split_of,
    version_of,
)
from tests.benchmarks.measuring import measure

BATCHES = (2_048, 98_304)
TARGET, MAX_EPOCHS = 0.46, 12
every_engine = pytest.mark.parametrize("engine", [pytest.param(e, id=e) for e in ENGINES])
every_model = pytest.mark.parametrize("model", [pytest.param(m, id=m) for m in MODELS])
every_batch = pytest.mark.parametrize("batch", [pytest.param(b, id=str(b)) for b in BATCHES])


def _train(benchmark, engines, engine, model, batch, split, group, rounds):
    trained = engines.loaded(engine, split, batch_size=batch, **MODELS[model])
    epochs = count(1)
    result = measure(benchmark, lambda: trained.train_epoch(next(epochs)), group=group,
                     rounds=rounds, version=version_of(split, model, batch),
                     amounts={"examples": 5 * split.num_positives}, seed=SEED)  # fmt: skip
    assert result.examples == 5 * split.num_positives
    benchmark.extra_info["steps"] = result.steps


@every_batch
@every_model
@every_engine
def test_train_step(benchmark, engines, engine, model, batch):
    _train(benchmark, engines, engine, model, batch, one_step(batch), "train step", 5)


@every_batch
@every_model
@every_engine
def test_train_epoch(benchmark, engines, engine, model, batch):
    _train(benchmark, engines, engine, model, batch, split_of(TWO_BATCHES), "train epoch", 4)


@every_model
@every_engine
def test_evaluate(benchmark, engines, engine, model):
    split, batch = split_of(TWO_BATCHES), 98_304
    trained = engines.loaded(engine, split, batch_size=batch, **MODELS[model])
    trained.train_epoch(1)
    result = measure(benchmark, trained.evaluate, group="evaluation", rounds=3, seed=SEED,
                     version=version_of(split, model, 999),
                     amounts={"pairs": 1000 * split.num_users})  # fmt: skip
    benchmark.extra_info["hr"] = result.hr


@every_engine
def test_time_to_train(benchmark, engines, engine):
    """From loading the split to the first hit rate at the target."""
    split = split_of(LEARNABLE)
    settings = {"batch_size": 2_048, "eval_negatives": 199, "learning_rate": 0.005,
                "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, **MODELS["small"]}  # fmt: skip

    engines.loaded(engine, split, **settings)  # compiles, or skips

    def fresh():
        return (engines.loaded(engine, split, **settings),), {}

    def train(trained):
        trained.load(split)
        for epoch in range(1, MAX_EPOCHS + 1):
            trained.train_epoch(epoch)
            result = trained.evaluate()
            if result.hr >= TARGET:
                return result.hr, epoch
        raise AssertionError(f"HR@10 {result.hr:.3f} after {epoch} epochs is below {TARGET}")

    hr, epochs = measure(benchmark, train, group="time to train", setup=fresh, rounds=5,
                         version=version_of(split, "small", 2_048, TARGET), seed=SEED)  # fmt: skip
    benchmark.extra_info.update(hr=hr, epochs=epochs)
