"""The programs for accelerators compute what those for CPUs do; run here on a CPU.

They take the weights in parts, add up rows by sorted segments or in tiles, draw without an inner
loop, and store bfloat16 values.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("jax", reason="JAX is not installed: pip install '.[pjrt]'")

from reference_model.device_sampling.negatives import SamplerSpec, draw_negatives  # noqa: E402
from reference_model.device_sampling.random_words import uniform_below
from reference_model.events import NullSink
from reference_model.fused_math import plan
from reference_model.fused_math.accelerator_gradients import pack_signs, unpack_signs
from reference_model.fused.engine import FusedEngine
from reference_model.fused_math.gradients import loss_and_gradients
from reference_model.fused_math.plan import make_plan
from reference_model.fused_math.split_weights import join_list, split_list
from reference_model.model.initial_weights import weight_names, weight_shapes
from reference_model.pjrt.client import PjrtClient
from reference_model.pjrt.executor import PjrtExecutor
from reference_model.pjrt.lowering import lower
from reference_model.sampling.negatives import make_sampler
from reference_model.sampling.random_streams import negatives_key
from tests.reference_model.fused.test_bfloat16 import LAYERS, ROUNDED
from tests.reference_model.fused.test_gradients import random_rows, random_weights
from tests.reference_model.keras_engine.test_engine import CONFIG, SPLIT

EPOCHS = 2
# More examples than users and items, so that both tables are folded; the last batch is padded.
FOLDED = replace(CONFIG, batch_size=320)
CASES = {
    "folded, with a penalty": replace(
        FOLDED, l2_mf=1e-3, l2_mlp=(1e-3,) * len(CONFIG.mlp_layers)),
    "sparse updates": replace(FOLDED, optimizer="lazy_adam"),
    "unfolded": replace(CONFIG, batch_size=60),
}


def trained(config, device: str) -> tuple[list[tuple[float, int]], dict[str, np.ndarray]]:
    """Returns (loss and hits of each epoch, weights) by the programs for a device type."""
    executor = PjrtExecutor(config, PjrtClient("cpu"), lower)
    engine = FusedEngine(config, NullSink(), device, executor=executor)
    engine.prepare()
    engine.reset(7)
    engine.load(SPLIT)
    found = [(engine.train_epoch(e).loss, engine.evaluate().hits) for e in range(1, EPOCHS + 1)]
    weights = dict(engine.get_weights())
    engine.close()
    return found, weights


@pytest.mark.parametrize("device", ["gpu", "tpu"])
@pytest.mark.parametrize("name", CASES)
def test_all_programs_train_alike(name, device, monkeypatch):
    monkeypatch.setattr(plan, "_TPU_TILE_ROWS", 45)  # several tiles, with padding
    config = CASES[name]
    assert config.train_examples % config.batch_size, "the last batch should be padded"
    (figures, weights), (expected, expected_weights) = (trained(config, d) for d in (device, "cpu"))
    for (loss, hits), (expected_loss, expected_hits) in zip(figures, expected):
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        assert abs(hits - expected_hits) <= 1
    for key, value in expected_weights.items():
        np.testing.assert_allclose(weights[key], value, rtol=1e-3, atol=1e-4, err_msg=key)


def test_the_unrolled_bisection_draws_the_same_items():
    spec = SamplerSpec.of(SPLIT.num_users, SPLIT.num_items, SPLIT.num_positives, entries=0)
    assert not spec.by_table
    arrays = [tf.constant(x) for x in spec.arrays(SPLIT, make_sampler(SPLIT, 0))]
    user = tf.constant(np.random.default_rng(1).integers(0, SPLIT.num_users, 5_000), tf.int32)
    key, step = negatives_key(1, 2), tf.constant(3)

    @tf.function(jit_compile=True)
    def drawn():
        return [
            draw_negatives(spec, arrays, user, key, step, None, device)
            for device in ("cpu", "gpu", "tpu")
        ]

    on_cpu, *on_accelerators = (x.numpy() for x in drawn())
    for items in on_accelerators:
        np.testing.assert_array_equal(items, on_cpu)


def test_words_drawn_at_once_are_those_drawn_one_after_another():
    """Half of the words are rejected where the bound is just above 2^31."""
    rng = np.random.default_rng(3)
    key, step = tf.constant([0x0123456789ABCDEF], tf.uint64), tf.constant(77)

    @tf.function(jit_compile=True)
    def drawn(sizes, offset):
        return [uniform_below(key, step, sizes, None, offset, on_gpu) for on_gpu in (False, True)]

    for bound in (5, 2**31 + 10_000, 2**32 - 1):
        sizes = tf.constant(rng.integers(max(1, bound - 9_999), bound, 1_001), tf.uint32)
        for offset in (0, 4_001):  # not a multiple of a block's words
            expected, found = drawn(sizes, tf.constant(offset))
            np.testing.assert_array_equal(found.numpy(), expected.numpy())


@pytest.mark.parametrize("width", [8, 32, 100])
def test_signs_survive_packing(width):
    is_active = np.random.default_rng(width).random((50, width)) < 0.5
    words = pack_signs(tf.constant(is_active))
    assert words.shape == (50, -(-width // 32)) and words.dtype == tf.uint32
    np.testing.assert_array_equal(unpack_signs(words, width).numpy(), is_active)


@pytest.mark.parametrize("layers", [(16, 24, 8), (16, 12), (16,)])
def test_weights_survive_splitting(layers):
    rng, rows = np.random.default_rng(4), (7, 300)
    shapes = weight_shapes(replace(
        CONFIG, num_users=rows[0], num_items=rows[1], mlp_layers=layers, l2_mlp=())).values()
    weights = [tf.constant(rng.normal(size=shape)) for shape in shapes]
    parts = split_list(weights, CONFIG.mf_dim)
    assert [x.shape[0] for x in parts[:4]] == [256, 256, 512, 512]
    for found, expected in zip(join_list(parts, rows), weights, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


# More and fewer rows than each table.
@pytest.mark.parametrize("size", [30, 50, 200])
def test_stored_bfloat16_values_change_gradients_little(size, monkeypatch):
    """The difference is that of rounding. CPUs lack these products: they are done in float32."""

    def multiply(x, y, Tout):
        return tf.cast(tf.matmul(tf.cast(x, tf.float32), tf.cast(y, tf.float32)), Tout)

    monkeypatch.setattr(tf.raw_ops, "BatchMatMulV3", multiply)
    rng = np.random.default_rng(size)
    weights = [tf.constant(w, tf.float32) for w in random_weights(ROUNDED, rng)]
    batch = random_rows(ROUNDED, size, rng)
    rows = (tf.constant(batch.user, tf.int32), tf.constant(batch.item, tf.int32),
            tf.constant(batch.label, tf.float32), tf.constant(batch.weight, tf.float32))
    found = {}
    for device in ("gpu", "cpu"):
        config = ROUNDED if device == "gpu" else replace(ROUNDED, precision="float32")
        of_device = make_plan(config, size, device)
        more = [[0, of_device.padded_rows - size]]
        padded = [tf.pad(row, more) for row in rows]
        compiled = tf.function(
            lambda: loss_and_gradients(of_device, weights, *padded), jit_compile=True
        )
        found[device] = compiled()
    assert float(found["gpu"][0]) == pytest.approx(float(found["cpu"][0]), rel=2e-2)
    for name, a, b in zip(weight_names(LAYERS), found["gpu"][1], found["cpu"][1]):
        a, b = a.numpy(), b.numpy()
        assert a.dtype == np.float32
        # Rounding also flips some units between on and off.
        assert np.linalg.norm(a - b) <= 0.12 * np.linalg.norm(b), name
