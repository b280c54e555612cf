"""Adam on plain tensors equals Keras' Adam, and its lazy form equals `LazyAdam`."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
import keras  # noqa: E402

from harness.engine_conformance import distance  # noqa: E402
from reference_model.base.config import EngineConfig
from reference_model.keras_engine.optimizers import make_optimizer
from reference_model.model import adam

STEPS = 25
USERS, ITEMS, WIDTH = 6, 9, 5
SHAPES = [(USERS, WIDTH), (ITEMS, WIDTH), (4, 3), (3,), (5, 1), (1,)]
HYPER = {
    "track": {},
    "keras": {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7},
    "large epsilon": {"learning_rate": 0.1, "beta1": 0.5, "beta2": 0.99, "epsilon": 0.3},
}


def config_of(optimizer="adam", **hyper) -> EngineConfig:
    return EngineConfig(USERS, ITEMS, 1, 1, (8, 3), optimizer=optimizer, **hyper)


def start(seed=0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(np.float32) for s in SHAPES]


def gradients_of(step: int, unread=()) -> list[np.ndarray]:
    """Returns gradients of many magnitudes; the rows `unread` of both tables have none."""
    rng = np.random.default_rng((7, step))
    found = [
        (rng.normal(size=s) * 10 ** rng.uniform(-4, 1, s)).astype(np.float32) for s in SHAPES
    ]
    for table in found[:2]:
        table[list(unread)] = 0
    return found


def ours(config, all_gradients, jit_compile=False) -> list[np.ndarray]:
    """Returns the weights after one dense step for each of the gradients."""

    def one_step(step, weights, first, second, gradients):
        everything = range(len(SHAPES))
        moments = adam.Moments(tuple(first), tuple(second))
        return adam.apply_step(config, step, everything, weights, moments, gradients)

    run = tf.function(one_step, jit_compile=jit_compile, autograph=False)
    weights = [tf.constant(w) for w in start()]
    first = second = [tf.zeros_like(w) for w in weights]
    for step, gradients in enumerate(all_gradients, start=1):
        given = [tf.constant(g) for g in gradients]
        moved = run(tf.constant(step), weights, first, second, given)
        weights, first, second = (list(x) for x in moved)
    assert all(x.dtype == tf.float32 for x in (*weights, *first, *second))
    return [w.numpy() for w in weights]


def theirs(config, all_gradients) -> list[np.ndarray]:
    names = ["embeddings", "embeddings", "kernel", "bias", "kernel", "bias"]
    weights = [keras.Variable(w, name=n) for w, n in zip(start(), names)]
    optimizer = make_optimizer(config)
    optimizer.build(weights)
    for gradients in all_gradients:
        optimizer.apply([tf.constant(g) for g in gradients], weights)
    return [w.numpy() for w in weights]


def assert_near(found, expected):
    """Compares each array norm-wise, and its change, which is the stricter test."""
    for mine, its, began in zip(found, expected, start(), strict=True):
        assert distance(mine, its) <= 1e-6
        assert distance(mine - began, its - began) <= 1e-5


@pytest.mark.parametrize("hyper", HYPER)
def test_adam_is_keras_adam(hyper):
    config = config_of(**HYPER[hyper])
    gradients = [gradients_of(k) for k in range(STEPS)]
    assert type(make_optimizer(config)) is keras.optimizers.Adam
    assert_near(ours(config, gradients), theirs(config, gradients))


def test_adam_moves_rows_that_no_longer_have_a_gradient():
    """The momentum of dense Adam continues for rows that are not read, as in Keras."""
    config = config_of()
    gradients = [gradients_of(0)] + [gradients_of(k, range(6)) for k in range(1, STEPS)]
    found = ours(config, gradients)
    assert_near(found, theirs(config, gradients))
    once = ours(config, gradients[:1])
    assert (found[0] != once[0]).all()


@pytest.mark.parametrize("hyper", HYPER)
def test_lazy_update_equals_the_keras_lazy_adam(hyper):
    """Each step reads different rows; row 5 is never read."""
    config = config_of("lazy_adam", **HYPER[hyper])
    gradients = [gradients_of(k, {5, k % 5, (k // 2) % 5}) for k in range(STEPS)]
    found = ours(config, gradients)
    assert_near(found, theirs(config, gradients))
    for mine, began in zip(found[:2], start()):
        np.testing.assert_array_equal(mine[5], began[5])
        assert (mine[:5] != began[:5]).all()


def test_lazy_adam_reads_a_row_by_its_whole_gradient():
    """One nonzero entry moves the row; its zero entries continue with their momentum."""
    config, one = config_of("lazy_adam"), gradients_of(1)
    one[0][:] = 0
    one[0][2, 3] = 1e-3
    gradients = [gradients_of(0), one]
    before, after = ours(config, gradients[:1]), ours(config, gradients)
    assert (after[0][2] != before[0][2]).all()
    np.testing.assert_array_equal(np.delete(after[0], 2, 0), np.delete(before[0], 2, 0))
    assert_near(after, theirs(config, gradients))


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
def test_the_compiled_step_equals_the_plain_one(optimizer):
    config = config_of(optimizer)
    gradients = [gradients_of(k, {k % 4}) for k in range(STEPS)]
    for mine, its in zip(ours(config, gradients, True), ours(config, gradients), strict=True):
        assert distance(mine, its) <= 1e-6


def test_one_step_equals_hand_computed_values():
    """One step from zero moments is lr sqrt(1 - b2) / (1 - b1) * m / (sqrt(v) + eps)."""
    config = config_of(learning_rate=0.1, beta1=0.8, beta2=0.9, epsilon=0.5)
    gradients = [np.full_like(w, 2.0) for w in start()]
    moved = 0.1 * np.sqrt(1 - 0.9) / (1 - 0.8) * (0.2 * 2) / (np.sqrt(0.1 * 4) + 0.5)
    for mine, began in zip(ours(config, [gradients]), start(), strict=True):
        np.testing.assert_allclose(began - mine, moved, rtol=1e-5)


def test_weights_outside_which_stay_unchanged():
    """Another rule may update the tables; `apply` then does not change them."""
    values = [tf.constant(w) for w in start()]
    zeros = tuple(tf.zeros_like(w) for w in values)
    given = [tf.constant(g) for g in gradients_of(0)]
    moved = adam.apply_step(
        config_of(), tf.constant(1), (1, 4), values, adam.Moments(zeros, zeros), given
    )
    for kind, before in zip(moved, (values, zeros, zeros), strict=True):
        changed = [(a.numpy() != b.numpy()).any() for a, b in zip(kind, before, strict=True)]
        assert changed == [False, True, False, False, True, False]
