"""Negatives by each strategy, evaluation lists, epoch order and batches."""

from __future__ import annotations

import numpy as np
import pytest

from reference_model.sampling.epoch_batches import build_epoch
from reference_model.sampling.evaluation_lists import draw_evaluation_lists
from reference_model.sampling.negatives import (
    BisectionSampler,
    ComplementTableSampler,
    make_sampler,
)
from reference_model.sampling.random_streams import STREAM_NEGATIVES, STREAM_ORDER, stream
from tests.benchmarks.inputs import ML_1M, SEED, TWO_BATCHES, split_of, version_of
from tests.benchmarks.measuring import measure

STRATEGIES = [
    pytest.param(ComplementTableSampler, id="complement_table"),
    pytest.param(BisectionSampler, id="bisection"),
]
BATCH, NEGATIVES = 98_304, 999


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_build_sampler(benchmark, strategy):
    split = split_of(ML_1M)
    measure(benchmark, lambda: strategy(split), group="sampling", version=version_of(split))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_draw_negatives(benchmark, strategy):
    split = split_of(ML_1M)
    sampler, draw = strategy(split), stream(SEED, STREAM_NEGATIVES)
    measure(benchmark, lambda: sampler.draw(split.train_user, draw), group="sampling",
            version=version_of(split), amounts={"examples": split.num_positives},
            seed=SEED)  # fmt: skip


def test_evaluation_lists(benchmark):
    split = split_of(TWO_BATCHES)
    sampler = make_sampler(split)
    measure(benchmark,
            lambda: draw_evaluation_lists(split, NEGATIVES, sampler, np.random.default_rng(SEED)),
            group="sampling", version=version_of(split, NEGATIVES), seed=SEED,
            amounts={"pairs": split.num_users * (NEGATIVES + 1)})  # fmt: skip


def test_order(benchmark):
    """A true permutation of all examples of an epoch."""
    examples = 5 * split_of(ML_1M).num_positives
    order, draw = np.arange(examples, dtype=np.int32), stream(SEED, STREAM_ORDER)
    measure(benchmark, lambda: draw.shuffle(order), group="order", rounds=7,
            version=str(examples), amounts={"examples": examples}, seed=SEED)  # fmt: skip


def test_build_epoch(benchmark):
    """Negatives, order and batches together, as for the reference engine."""
    split = split_of(ML_1M)
    sampler = make_sampler(split)
    found = measure(benchmark, lambda: build_epoch(split, sampler, 4, BATCH, SEED, 1), group="order",
                    rounds=4, version=version_of(split, BATCH), seed=SEED,
                    amounts={"examples": 5 * split.num_positives})  # fmt: skip
    assert found.examples == 5 * split.num_positives
