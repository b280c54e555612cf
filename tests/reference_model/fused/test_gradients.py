"""The fused loss, gradients and scores are those of the plain Keras model."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")
import keras  # noqa: E402

from harness.engine_conformance import TOLERANCE, distance, random_problem  # noqa: E402
from reference_model.base.config import EngineConfig
from reference_model.engine import Batch
from reference_model.events import NullSink  # noqa: E402
from reference_model.fused_math import scoring
from reference_model.fused.engine import FusedEngine
from reference_model.fused_math.gradients import loss_and_gradients
from reference_model.fused_math.plan import make_plan, round_to_bfloat16
from reference_model.keras_engine.engine import ReferenceEngine
from reference_model.model.l2_penalty import l2_penalty
from reference_model.model.initial_weights import weight_names
from reference_model.model.neumf import build_neumf, masked_bce

# Norm-wise, ||a - b|| / ||b||.
FLOAT64 = 1e-9
# Operands of products are rounded to 8 bits. The error of the loss is below 1e-3 (worst of 400
# batches: 3e-4). The error of the whole gradient is below 1e-2 for the median batch (measured:
# 5e-3). A single small batch may differ more, if an activation near zero changes its sign.
BFLOAT16_LOSS, BFLOAT16_GRADIENT = 1e-3, 1e-2


@contextmanager
def keras_in_float64():
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def config_of(users, items, mf, layers, **more) -> EngineConfig:
    return EngineConfig(users, items, 1, mf, tuple(layers), **more)


def random_weights(config: EngineConfig, rng, scale=1.0) -> list[np.ndarray]:
    """Returns float64 weights and biases that give logits of order `scale`."""
    mf, layers = config.mf_dim, config.mlp_layers
    shapes = [(config.num_users, mf + layers[0] // 2), (config.num_items, mf + layers[0] // 2)]
    for below, width in zip(layers, layers[1:]):
        shapes += [(below, width), (width,)]
    shapes += [(mf + layers[-1], 1), (1,)]
    fan = [1, 1] + [max(1, s[0]) for s in shapes[2:]]
    return [scale * rng.normal(0, n**-0.5, s) for n, s in zip(fan, shapes)]


def random_rows(config: EngineConfig, size: int, rng, real=None) -> Batch:
    """Returns a batch of random ids and labels, with a random mask."""
    share = rng.choice([0.5, 0.9, 1.0]) if real is None else real
    return Batch(
        rng.integers(0, config.num_users, size).astype(np.int32),
        rng.integers(0, config.num_items, size).astype(np.int32),
        (rng.random(size) < 0.3).astype(np.float64),
        (rng.random(size) < share).astype(np.float64),
    )


class Oracle:
    """The plain model in float64, with given weights."""

    def __init__(self, config: EngineConfig, weights):
        with keras_in_float64():
            self.model = build_neumf(config, seed=0)
        self.variables = self.model.trainable_variables
        for variable, value in zip(self.variables, weights):
            variable.assign(value)

    def logits(self, user, item) -> np.ndarray:
        return self.model([tf.constant(user), tf.constant(item)])[:, 0].numpy()

    def loss_and_gradients(self, batch: Batch):
        with tf.GradientTape() as tape:
            logits = self.model([tf.constant(batch.user), tf.constant(batch.item)])[:, 0]
            assert logits.dtype == tf.float64
            loss = masked_bce(logits, tf.constant(batch.label), tf.constant(batch.weight))
            if self.model.losses:
                loss += tf.add_n(self.model.losses)
        gradients = tape.gradient(loss, self.variables)
        return float(loss), [tf.convert_to_tensor(g).numpy() for g in gradients]


def fused(config, weights, batch: Batch, tile_rows=0, dtype=tf.float64, run=None):
    """Returns (mean loss with penalty, gradients), combined as in an engine.

    Padding up to the plan's length repeats ids of the batch, with weight 0.
    """
    size = len(batch.user)
    plan = make_plan(config, size, "cpu", tile_rows)
    assert plan.padded_rows >= size
    more = plan.padded_rows - size
    values = [tf.constant(w, dtype) for w in weights]
    rows = [
        tf.constant(np.pad(batch.user, (0, more), "wrap"), tf.int32),
        tf.constant(np.pad(batch.item, (0, more), "wrap"), tf.int32),
        tf.constant(np.pad(batch.label, (0, more), "wrap"), dtype),
        tf.constant(np.pad(batch.weight, (0, more)), dtype),
    ]

    def compute(values, *rows):
        total, gradients = loss_and_gradients(plan, values, *rows)
        penalty, added = l2_penalty(config, values)
        if added is not None:
            gradients = [a + b for a, b in zip(gradients, added)]
        return total / size + penalty, list(gradients)

    loss, gradients = (run or (lambda f: f))(compute)(values, *rows)
    return float(loss), [g.numpy() for g in gradients]


def compiled(function):
    return tf.function(function, jit_compile=True, autograph=False)


def assert_same(found, expected, layers, allowed):
    (loss, gradients), (true_loss, true_gradients) = found, expected
    assert distance(loss, true_loss) <= allowed
    names = weight_names(layers)
    assert len(gradients) == len(true_gradients) == len(names)
    for name, mine, its in zip(names, gradients, true_gradients):
        assert distance(mine, its) <= allowed, name


# Whether a batch has more rows than the table of users, and than the table of items.
SIDES = {"both": (1, 1), "users": (1, 0), "items": (0, 1), "neither": (0, 0)}


@pytest.mark.parametrize("folded", SIDES)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
def test_loss_and_gradients_in_float64(folded, data):
    size = data.draw(st.integers(3, 40), "batch")
    rows = [
        data.draw(st.integers(1, size - 1) if less else st.integers(size, 50), "table")
        for less in SIDES[folded]
    ]
    first = 2 * data.draw(st.integers(1, 6), "half of the first layer")
    width = st.integers(1, 9) | st.just(96)  # wide layers use another algorithm
    others = data.draw(st.lists(width, min_size=0, max_size=4), "layers")
    power = st.sampled_from([0.0, 2.0**-10, 2.0**-4])  # Keras' L2 stores a float32
    factors = data.draw(st.lists(power, min_size=1 + len(others), max_size=1 + len(others)), "l2")
    config = config_of(
        *rows,
        data.draw(st.integers(1, 9), "mf"),
        (first, *others),
        l2_mf=data.draw(power, "l2_mf"),
        l2_mlp=tuple(factors),
    )
    tile_rows = data.draw(st.integers(0, size + 5), "rows per tile")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    weights, batch = random_weights(config, rng), random_rows(config, size, rng)
    expected = Oracle(config, weights).loss_and_gradients(batch)
    found = fused(config, weights, batch, tile_rows)
    assert_same(found, expected, config.mlp_layers, FLOAT64)
    assert keras.config.floatx() == "float32"


@pytest.mark.parametrize("size, tile_rows", [(50, 13), (10, 4), (10, 2)])
@pytest.mark.parametrize("width", [5, 96])
def test_the_compiled_program_is_the_same_function(size, tile_rows, width):
    """Both sides folded, then neither; tiles that do not divide the batch; L2."""
    layers, l2 = (6, width, 4), (0.0, 2.0**-6, 2.0**-7)
    config = config_of(20, 30, 3, layers, l2_mf=2.0**-6, l2_mlp=l2)
    rng = np.random.default_rng(size)
    weights, batch = random_weights(config, rng), random_rows(config, size, rng)
    expected = Oracle(config, weights).loss_and_gradients(batch)
    found = fused(config, weights, batch, tile_rows, run=compiled)
    assert_same(found, expected, config.mlp_layers, FLOAT64)


@pytest.mark.parametrize(
    "mf, layers", [(3, (4,)), (3, (6, 5)), (3, (8, 6, 5, 4, 3)), (32, (8, 6, 32)), (32, (8, 33))]
)
def test_scores_in_float64(mf, layers):
    """Uses lists of several users; the training batch size does not matter."""
    config = config_of(7, 9, mf, layers)
    rng = np.random.default_rng(1)
    weights = random_weights(config, rng)
    user, items = rng.integers(0, 7, 12), rng.integers(0, 9, (12, 5))
    expected = Oracle(config, weights).logits(np.repeat(user, 5), items.ravel())
    values = [tf.constant(w) for w in weights]
    for size in (5, 100):
        plan = make_plan(config, size, "cpu")
        tables = scoring.scoring_tables(plan, values)
        lists = tf.constant(items, tf.int32)
        found = scoring.list_scores(plan, values, tables, tf.constant(user, tf.int32), lists)
        assert found.shape == (12, 5)
        assert distance(found.numpy().ravel(), expected) <= FLOAT64


def test_padding_and_the_order_of_rows_change_nothing():
    config = config_of(8, 40, 2, (6, 5, 3))
    rng = np.random.default_rng(2)
    weights, batch = random_weights(config, rng), random_rows(config, 30, rng, real=0.7)
    loss, gradients = fused(config, weights, batch, 7)
    mixed = rng.permutation(30)
    other = Batch(*(x[mixed].copy() for x in (batch.user, batch.item, batch.label, batch.weight)))
    masked = other.weight == 0
    other.user[masked], other.item[masked], other.label[masked] = 0, 39, 1
    assert_same(fused(config, weights, other, 7), (loss, gradients), config.mlp_layers, 1e-12)


def test_a_batch_of_padding_alone_gives_nothing():
    config = config_of(5, 6, 2, (4, 3))
    rng = np.random.default_rng(3)
    batch = random_rows(config, 9, rng, real=0.0)
    loss, gradients = fused(config, random_weights(config, rng), batch, 4)
    assert loss == 0 and not any(g.any() for g in gradients)


@pytest.mark.parametrize("scale", [30.0, 1e5])
@pytest.mark.parametrize("size", [4, 40])
def test_extreme_logits_stay_finite(scale, size):
    """Both labels with logits up to 1e30, in float32."""
    config = config_of(6, 8, 4, (8, 6, 4))
    rng = np.random.default_rng(4)
    weights = random_weights(config, rng, scale)
    batch = random_rows(config, size, rng, real=1.0)
    batch.label[:] = np.arange(size) % 2
    expected = Oracle(config, weights).loss_and_gradients(batch)
    assert np.abs(Oracle(config, weights).logits(batch.user, batch.item)).max() > 1e3
    found = fused(config, weights, batch, 9, tf.float32)
    assert np.isfinite(found[0]) and all(np.isfinite(g).all() for g in found[1])
    assert_same(found, expected, config.mlp_layers, TOLERANCE)


def test_logits_at_the_edge_by_hand():
    """-log sigmoid(x) at x = +-800, where exp overflows in float64 as well."""
    config = config_of(1, 1, 1, (2,))
    weights = [np.ones((1, 2)), np.ones((1, 2)), np.array([[800.0], [0], [0]]), np.zeros(1)]
    ids = np.zeros(2, np.int32)
    batch = Batch(ids, ids, np.array([1.0, 0.0]), np.ones(2))
    loss, gradients = fused(config, weights, batch)
    assert loss == pytest.approx(400) and gradients[-1] == pytest.approx(0.5)
    weights[2] *= -1
    loss, gradients = fused(config, weights, batch)
    assert loss == pytest.approx(400) and gradients[-1] == pytest.approx(-0.5)


# -- through the engines, float32 and bfloat16 --------------------------------


def engine_of(kind, **changes):
    """Returns an engine of one problem with L2; its weights are set later."""
    config, _ = random_problem(3)
    factors = (1e-3,) * len(config.mlp_layers)
    config = replace(config, l2_mf=1e-3, l2_mlp=factors, **changes)
    engine = kind(config, NullSink(), "cpu", jit_compile=False)
    engine.prepare()
    engine.reset(1)
    return engine


@pytest.fixture(scope="module")
def reference():
    return engine_of(ReferenceEngine)


@pytest.fixture(scope="module")
def fused_engine():
    return engine_of(FusedEngine)


@pytest.fixture(scope="module")
def bfloat16_engine():
    return engine_of(FusedEngine, precision="bfloat16")


# Batches smaller and larger than each table (users and items of random_problem(3)).
SIZES = (12, 33, 250, 999)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("size", SIZES)
def test_engines_agree_in_float32(reference, fused_engine, size, seed):
    expected, found = both(reference, fused_engine, size, seed)
    names = weight_names(reference.config.mlp_layers)
    assert set(found[1]) == set(names)
    assert {g.dtype for g in found[1].values()} == {np.dtype(np.float32)}
    ordered = [(loss, [g[n] for n in names]) for loss, g in (found, expected)]
    assert_same(*ordered, reference.config.mlp_layers, TOLERANCE)


@pytest.mark.parametrize("size", SIZES)
def test_bfloat16_is_near(reference, bfloat16_engine, size):
    gaps = []
    for seed in range(15):
        (true_loss, true_gradients), (loss, gradients) = both(
            reference, bfloat16_engine, size, seed
        )
        assert distance(loss, true_loss) <= BFLOAT16_LOSS
        gaps.append(distance(joined(gradients), joined(true_gradients)))
    assert np.median(gaps) <= BFLOAT16_GRADIENT


def both(reference, engine, size, seed):
    """Returns (loss, gradients) of each engine, with the same random weights and batch."""
    rng = np.random.default_rng(seed)
    names = weight_names(reference.config.mlp_layers)
    weights = dict(zip(names, random_weights(reference.config, rng)))
    batch = random_rows(reference.config, size, rng)
    for one in (reference, engine):
        one.set_weights({n: w.astype(np.float32) for n, w in weights.items()})
    return [one.loss_and_gradients(batch) for one in (reference, engine)]


def joined(gradients) -> np.ndarray:
    return np.concatenate([gradients[n].ravel() for n in sorted(gradients)])


def test_bfloat16_rounds_the_operands_of_products(reference, fused_engine, bfloat16_engine):
    """Shows that the computation differs from float32."""
    batch = random_rows(reference.config, 250, np.random.default_rng(0))
    engines = (reference, fused_engine, bfloat16_engine)
    for engine in engines[1:]:
        engine.set_weights(reference.get_weights())
    true_loss, loss, low_loss = (e.loss_and_gradients(batch)[0] for e in engines)
    assert abs(low_loss - true_loss) > 10 * abs(loss - true_loss)


def test_rounding_to_bfloat16_is_the_cast():
    """Rounds to nearest, ties to even, for all exponents, even if XLA might drop a cast."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 20_000, np.uint32)
    bits[:4_000] &= np.uint32(0xFFFF8000)  # ties and exact values
    values = bits.view(np.float32)
    edges = [0.0, -0.0, np.inf, -np.inf, np.nan, np.finfo(np.float32).max, 1 + 2**-8, 1 + 3 * 2**-8]
    values = np.concatenate([values[np.isfinite(values)], np.float32(edges)])
    expected = tf.cast(tf.cast(values, tf.bfloat16), tf.float32).numpy()
    for function in (round_to_bfloat16, compiled(round_to_bfloat16)):
        found = function(tf.constant(values)).numpy()
        normal = ~(np.abs(values) < np.finfo(np.float32).tiny)  # XLA may flush subnormals
        np.testing.assert_array_equal(found[normal], expected[normal])
