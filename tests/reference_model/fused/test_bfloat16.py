"""Products of bfloat16 operands on CPUs: both forms compute the same, and the plan selects one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from reference_model.base.config import EngineConfig  # noqa: E402
from reference_model.events import NullSink
from reference_model.fused.engine import FusedEngine
from reference_model.fused_math.plan import make_plan, operand, product, round_to_bfloat16
from reference_model.fused_math.scoring import list_scores, scoring_tables
from tests.reference_model.fused.test_gradients import (
    assert_same,
    compiled,
    fused,
    random_rows,
    random_weights,
)
from tests.support.recording_sink import RecordingSink

LAYERS = (32, 96, 96, 32)
ROUNDED = EngineConfig(40, 60, 1, 8, LAYERS, precision="bfloat16")
NATIVE = replace(ROUNDED, native_bfloat16=True)
# The forms add in different orders. A sum near the middle of two bfloat16 values may be rounded
# to either when it becomes an operand of the next layer; such a difference is 2^-8 of one value.
SAME = 2e-3


def test_the_plan_takes_native_operands_only_if_asked_and_in_wide_layers():
    assert make_plan(NATIVE, 64, "cpu").operands == "plain bfloat16"
    assert make_plan(ROUNDED, 64, "cpu").operands == "rounded"
    assert make_plan(replace(NATIVE, mlp_layers=(64, 32, 16)), 64, "cpu").operands == "rounded"
    assert make_plan(replace(NATIVE, precision="float32"), 64, "cpu").operands == "float32"
    for device in ("gpu", "tpu"):
        assert make_plan(ROUNDED, 64, device).operands == "bfloat16"


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True)])
def test_a_product_is_that_of_rounded_operands_in_float32(transposed):
    """Of small integers, all sums are exact, so both forms are equal to the last bit."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (96, 128)), rng.integers(-9, 9, (128, 112))
    expected = a @ b
    left, right = (x.T if is_t else x for x, is_t in zip((a, b), transposed))
    for config in (NATIVE, ROUNDED):
        plan = make_plan(config, 64, "cpu")

        def multiply(x, y):
            return product(plan, operand(plan, x), operand(plan, y), *transposed)

        found = compiled(multiply)(
            tf.constant(left.astype(np.float32)), tf.constant(right.astype(np.float32)))
        assert found.dtype == tf.float32
        np.testing.assert_array_equal(found.numpy(), expected)


def test_operands_are_rounded_to_the_nearest_bfloat16():
    values = tf.constant(np.random.default_rng(1).normal(size=1000), tf.float32)
    plan = make_plan(NATIVE, 64, "cpu")
    np.testing.assert_array_equal(
        tf.cast(operand(plan, values), tf.float32).numpy(), round_to_bfloat16(values).numpy())


# Batches of one tile and of several; more and fewer rows than each table.
@pytest.mark.parametrize("size, tile_rows", [(30, 0), (50, 0), (200, 0), (200, 50), (600, 50)])
def test_both_forms_have_the_same_loss_and_gradients(size, tile_rows):
    rng = np.random.default_rng(size)
    weights, batch = random_weights(ROUNDED, rng), random_rows(ROUNDED, size, rng)
    found, expected = (
        fused(config, weights, batch, tile_rows, tf.float32, compiled)
        for config in (NATIVE, ROUNDED)
    )
    assert_same(found, expected, LAYERS, SAME)


def test_both_forms_have_the_same_scores():
    rng = np.random.default_rng(3)
    weights = [tf.constant(w, tf.float32) for w in random_weights(ROUNDED, rng)]
    user = tf.constant(rng.integers(0, 40, 9), tf.int32)
    items = tf.constant(rng.integers(0, 60, (9, 20)), tf.int32)
    scores = []
    for config in (NATIVE, ROUNDED):
        plan = make_plan(config, 180, "cpu")
        scores.append(compiled(lambda user, items: list_scores(
            plan, weights, scoring_tables(plan, weights), user, items))(user, items).numpy())
    np.testing.assert_allclose(*scores, rtol=SAME, atol=SAME)


@pytest.mark.parametrize("config, operands", [
    (ROUNDED, "rounded float32"), (NATIVE, "bfloat16"), (replace(NATIVE, precision="float32"), None)])
def test_the_log_tells_the_form(config, operands):
    sink = RecordingSink()
    config = replace(config, num_positives=100, batch_size=64, eval_negatives=19, synthetic=True)
    FusedEngine(config, sink, jit_compile=operands == "bfloat16").prepare()
    (found,) = [(value, metadata) for key, value, metadata in sink.said if key == "precision"]
    assert found == (config.precision, {"operands": operands} if operands else {})


def test_an_epoch_of_native_products_trains():
    config = replace(NATIVE, num_positives=1000, batch_size=256, eval_negatives=19, synthetic=True)
    engine = FusedEngine(config, NullSink())
    engine.prepare()
    engine.reset(1)
    engine.load(None)
    assert 0 < engine.train_epoch(1).loss < 1 and engine.evaluate().users == 40
    engine.close()
