"""The fused engine on a PJRT device, compared with the same engine in TensorFlow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("jax", reason="JAX is not installed: pip install '.[pjrt]'")

from reference_model.base.errors import NonFiniteLoss
from reference_model.events import NullSink
from reference_model.fused.engine import FusedEngine
from reference_model.pjrt.client import PjrtClient, PjrtError
from reference_model.pjrt.executor import PjrtExecutor
from reference_model.pjrt.lowering import lower
from tests.reference_model.keras_engine.test_engine import CONFIG, SPLIT

SEED = 5


def pjrt_engine(config=CONFIG) -> FusedEngine:
    executor = PjrtExecutor(config, PjrtClient("cpu"), lower)
    return started(FusedEngine(config, NullSink(), "cpu", executor=executor))


def started(engine: FusedEngine) -> FusedEngine:
    engine.prepare()
    engine.reset(SEED)
    return engine


def run(engine: FusedEngine, epochs: int = 3) -> list[tuple]:
    """Returns (loss, hits) of each epoch."""
    engine.load(SPLIT)
    found = [(engine.train_epoch(e).loss, engine.evaluate().hits) for e in range(1, epochs + 1)]
    engine.close()
    return found


@pytest.fixture(scope="module")
def engines() -> dict[str, FusedEngine]:
    """One trained engine per runtime."""
    made = {"pjrt": pjrt_engine(), "tensorflow": started(FusedEngine(CONFIG, NullSink()))}
    for engine in made.values():
        engine.figures = run(engine)
    return made


def test_both_runtimes_draw_the_same_batches_and_lists(engines):
    one, other = (engine.epoch_batches(2) for engine in engines.values())
    for name in ("user", "item", "label"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)
    one, other = (engine.evaluation_lists() for engine in engines.values())
    np.testing.assert_array_equal(one.items, other.items, strict=True)


def test_both_runtimes_start_from_the_same_weights(engines):
    for engine in engines.values():
        engine.reset(SEED)
    one, other = (engine.get_weights() for engine in engines.values())
    for name, weight in one.items():
        np.testing.assert_array_equal(weight, other[name], name, strict=True)


def test_losses_agree_within_1e_5_and_hits_within_2_users(engines):
    for (loss, hits), (wanted_loss, wanted_hits) in zip(
        engines["pjrt"].figures, engines["tensorflow"].figures
    ):
        assert loss == pytest.approx(wanted_loss, rel=1e-5)
        assert abs(hits - wanted_hits) <= 2


def test_equal_weights_have_equal_hits(engines):
    one, other = engines["pjrt"], engines["tensorflow"]
    before = one.get_weights()
    one.set_weights(other.get_weights())
    assert abs(one.evaluate().hits - other.evaluate().hits) <= 2
    one.set_weights(before)


def test_a_run_repeats_bit_for_bit(engines):
    assert run(started(engines["pjrt"])) == engines["pjrt"].figures


@pytest.mark.parametrize("change", [
    {"optimizer": "lazy_adam", "precision": "bfloat16"},
    {"l2_mf": 1e-4, "l2_mlp": (1e-4,) * 3, "batch_size": 100},
], ids=str)  # fmt: skip
def test_other_settings_agree_with_tensorflow(change):
    config = replace(CONFIG, **change)
    found = run(pjrt_engine(config), 1)
    wanted = run(started(FusedEngine(config, NullSink(), jit_compile=False)), 1)
    assert found[0][0] == pytest.approx(wanted[0][0], rel=1e-5)


def test_precomputed_batches_train_as_in_tensorflow(engines):
    batches = engines["tensorflow"].epoch_batches(1)
    losses = []
    for engine in engines.values():
        engine.reset(SEED)
        losses.append(engine.train_batches(batches).loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_synthetic_batches_train_as_in_tensorflow():
    config = replace(CONFIG, synthetic=True)
    losses = []
    for engine in (pjrt_engine(config), started(FusedEngine(config, NullSink(), jit_compile=False))):
        engine.load(None)
        losses.append(engine.train_epoch(1).loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_nan_weights_are_an_error(engines):
    engine = engines["pjrt"]
    before = engine.get_weights()
    engine.set_weights({name: np.full_like(w, np.nan) for name, w in before.items()})
    with pytest.raises(NonFiniteLoss):
        engine.evaluate()
    engine.set_weights(before)


def test_an_epoch_without_training_draws_all_examples(engines):
    engine = started(engines["pjrt"])
    engine.load(SPLIT)
    assert engine.sample_epoch(1) == CONFIG.train_examples
    engine.close()


def test_a_device_that_does_not_exist_is_one_line():
    with pytest.raises(PjrtError) as caught:
        PjrtClient("tpu")
    message = str(caught.value)
    assert message.startswith("--device=tpu: PJRT has no such device") and "\n" not in message
