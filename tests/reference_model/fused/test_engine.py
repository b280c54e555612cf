"""The fused engine: epochs, evaluation, reset, determinism, refusals.

Most engines here are not compiled by XLA, which takes seconds per engine. One is compiled and
compared with the uncompiled form.
"""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from harness.engine_conformance import distance  # noqa: E402
from reference_model.base.errors import NonFiniteLoss
from reference_model.data.split import Split
from reference_model.device_sampling import negatives as device_negatives
from reference_model.device_sampling.negatives import SamplerSpec
from reference_model.events import NullSink  # noqa: E402
from reference_model.fused import evaluation_loop, training_loop
from reference_model.fused.engine import FusedEngine
from reference_model.keras_engine.engine import ReferenceEngine
from reference_model.sampling.epoch_batches import EpochBatches, build_epoch
from reference_model.sampling.negatives import make_sampler
from tests.reference_model.keras_engine.test_engine import CONFIG, SPLIT
from tests.support.recording_sink import RecordingSink

POSITIVES = SPLIT.num_positives
EXAMPLES = 5 * POSITIVES


def engine_for(config=CONFIG, seed=1, sink=None, kind=FusedEngine, jit_compile=False):
    engine = kind(config, sink or NullSink(), "cpu", jit_compile=jit_compile)
    engine.prepare()
    engine.reset(seed)
    return engine


def run(engine, epochs=3, split=SPLIT):
    """Returns [(loss, HR, NDCG)] of a run that begins with `load`."""
    engine.load(split)
    found = []
    for epoch in range(1, epochs + 1):
        loss, result = engine.train_epoch(epoch).loss, engine.evaluate()
        found.append((loss, result.hr, result.ndcg))
    engine.close()
    return found


def assert_same_weights(found, expected, allowed):
    assert list(found) == list(expected)
    for name in expected:
        assert distance(found[name], expected[name]) <= allowed, name


@pytest.fixture(scope="module")
def compiled():
    return engine_for(jit_compile=True)


@pytest.fixture(scope="module")
def shared_plain():
    return engine_for()


@pytest.fixture
def plain(shared_plain):
    """An engine after reset(1) and load."""
    shared_plain.reset(1)
    shared_plain.load(SPLIT)
    yield shared_plain
    shared_plain.close()


@pytest.fixture(scope="module")
def reference():
    return engine_for(kind=ReferenceEngine)


# -- training -------------------------------------------------------------------


def test_it_learns_what_is_there_to_learn(compiled):
    """Random ranking hits 10 of about 45 competing items; the groups allow far more."""
    compiled.reset(1)
    found = run(compiled, epochs=6)
    assert found[-1][0] < found[0][0]
    assert found[-1][1] > 0.6


def test_compiled_and_plain_programs_agree(compiled, plain):
    """All examples are equal; losses agree within float rounding."""
    compiled.reset(1)
    compiled.load(SPLIT)
    for mine, its in zip(batch_arrays(compiled, 1), batch_arrays(plain, 1)):
        np.testing.assert_array_equal(mine, its)
    losses = [engine.train_epoch(1).loss for engine in (compiled, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    compiled.set_weights(plain.get_weights())
    assert abs(compiled.evaluate().hits - plain.evaluate().hits) <= 1
    compiled.close()


def batch_arrays(engine, epoch):
    batches = engine.epoch_batches(epoch)
    return batches.user, batches.item, batches.label


def test_epoch_batches_are_what_an_epoch_trains_on(plain):
    trained = [plain.train_epoch(epoch) for epoch in (1, 2)]
    weights = plain.get_weights()
    plain.reset(1)
    injected = [plain.train_batches(plain.epoch_batches(epoch)) for epoch in (1, 2)]
    for mine, its in zip(injected, trained):
        assert mine.loss == pytest.approx(its.loss, rel=1e-5)
        assert (mine.examples, mine.steps) == (its.examples, its.steps) == (EXAMPLES, 35)
    assert_same_weights(plain.get_weights(), weights, 1e-5)


def test_the_compiled_epoch_trains_on_its_batches_too(compiled):
    compiled.reset(2)
    compiled.load(SPLIT)
    loss = compiled.train_epoch(1).loss
    weights = compiled.get_weights()
    compiled.reset(2)
    assert compiled.train_batches(compiled.epoch_batches(1)).loss == pytest.approx(loss, rel=1e-5)
    assert_same_weights(compiled.get_weights(), weights, 1e-3)
    compiled.close()


def assert_is_an_epoch(batches: EpochBatches, split: Split, size: int):
    """Checks each positive once, with 4 negatives that are not positives of its user."""
    examples = 5 * split.num_positives
    assert batches.examples == examples and batches.steps == -(-examples // size)
    assert batches.user.shape == batches.item.shape == batches.label.shape
    assert batches.user.shape == (batches.steps, size)
    kinds = [x.dtype for x in (batches.user, batches.item, batches.label)]
    assert kinds == [np.int32, np.int32, bool]
    user, item, label = (x.ravel()[:examples] for x in (batches.user, batches.item, batches.label))
    pairs = user.astype(np.int64) * split.num_items + item
    positives = split.train_user.astype(np.int64) * split.num_items + split.train_item
    np.testing.assert_array_equal(np.sort(pairs[label]), positives)
    assert not np.isin(pairs[~label], positives).any()
    drawn = np.bincount(user[~label], minlength=split.num_users)
    np.testing.assert_array_equal(drawn, 4 * np.diff(split.row_starts))
    for ids, rows in ((batches.user, split.num_users), (batches.item, split.num_items)):
        assert ids.min() >= 0 and ids.max() < rows


@pytest.mark.parametrize("epoch", [1, 2, 17])
def test_every_positive_once_and_four_negatives_each(plain, epoch):
    assert_is_an_epoch(plain.epoch_batches(epoch), SPLIT, 512)


def test_epochs_and_seeds_draw_anew(plain):
    """Order and negatives differ between epochs and between seeds."""

    def parts():
        for epoch in (1, 2):
            found = plain.epoch_batches(epoch)
            user, item = found.user.ravel()[:EXAMPLES], found.item.ravel()[:EXAMPLES]
            label = found.label.ravel()[:EXAMPLES]
            pairs = user.astype(np.int64) * SPLIT.num_items + item
            batch = dict(zip(pairs[label].tolist(), np.flatnonzero(label) // 512))
            yield np.array([batch[p] for p in sorted(batch)]), np.sort(pairs[~label])

    found = list(parts())
    plain.reset(2)
    found += parts()
    for k, (batch, negatives) in enumerate(found):
        for other_batch, other_negatives in found[:k]:
            assert (batch == other_batch).mean() < 0.06  # 1 in 35 is equal by chance
            assert (negatives == other_negatives).mean() < 0.5


def test_bisection_trains_on_the_same_examples(plain, monkeypatch):
    """If the table would be too large, the same words give the same items."""
    real = SamplerSpec.of
    monkeypatch.setattr(SamplerSpec, "of", lambda *sizes: real(*sizes[:3], 0))
    sink = RecordingSink()
    other = engine_for(sink=sink)
    other.load(SPLIT)
    assert {k: v for k, v, _ in sink.said}["train_sampler"] == "bisection"
    for mine, its in zip(batch_arrays(other, 1), batch_arrays(plain, 1)):
        np.testing.assert_array_equal(mine, its)
    assert other.train_epoch(1).loss == pytest.approx(plain.train_epoch(1).loss, rel=1e-6)
    other.close()


def test_several_calls_an_epoch_change_nothing(plain, monkeypatch):
    """35 steps in 12 calls, the last with 2 steps, on the same weights and moments."""
    monkeypatch.setattr(training_loop, "_EXAMPLES_PER_CALL", 3 * 512)
    other = engine_for()
    other.load(SPLIT)
    for mine, its in zip(batch_arrays(other, 2), batch_arrays(plain, 2)):
        np.testing.assert_array_equal(mine, its)
    for epoch in (1, 2):
        mine, its = other.train_epoch(epoch), plain.train_epoch(epoch)
        assert (mine.examples, mine.steps) == (its.examples, its.steps) == (EXAMPLES, 35)
        assert mine.loss == pytest.approx(its.loss, rel=1e-6)
    assert_same_weights(other.get_weights(), plain.get_weights(), 1e-5)
    other.close()


# Batches of one tile; of two tiles with a spare row; larger than the epoch; with L2; and much
# smaller than each table. A large epsilon prevents Adam from amplifying rounding errors to whole
# steps.
TRAININGS = {
    "one tile": {},
    "two tiles": {"batch_size": 12_301},
    "one batch": {"batch_size": 20_000, "mlp_layers": (6,)},
    "l2": {"l2_mf": 1e-3, "l2_mlp": (1e-3, 1e-4, 0.0)},
    "lazy": {"optimizer": "lazy_adam", "batch_size": 128, "mlp_layers": (16, 96, 8)},
    "small": {"batch_size": 16},
    "small, lazy": {"batch_size": 16, "optimizer": "lazy_adam"},
    "small, Keras' betas": {"batch_size": 16, "beta1": 0.9, "beta2": 0.999},
    "small, no momentum": {"batch_size": 16, "beta1": 0.0},
}
SLOW = ("small, Keras' betas", "small, no momentum")


@pytest.mark.parametrize(
    "training", [pytest.param(t, marks=pytest.mark.slow if t in SLOW else ()) for t in TRAININGS]
)
def test_training_is_the_references(training, monkeypatch):
    """Loss and weights agree after the same steps, in two calls, each padded at its end.

    It uses few steps: after about forty, even the compiled reference differs from its uncompiled
    form, because an activation near zero has changed its sign.
    """
    for kind in (FusedEngine, ReferenceEngine):  # unnecessary here, and slow
        monkeypatch.setattr(kind, "_warm_up", lambda self: None, raising=False)
    config = replace(CONFIG, epsilon=1e-3, **TRAININGS[training])
    batches = build_epoch(SPLIT, make_sampler(SPLIT), 4, config.batch_size, 5, 1)
    some = slice(0, 20 if config.batch_size == 16 else 8)
    cut = [x[some] for x in (batches.user, batches.item, batches.label)]
    cut = EpochBatches(*cut, min(batches.examples, cut[0].size) - 5)
    mine, its = engine_for(config), engine_for(config, kind=ReferenceEngine)
    mine.set_weights(its.get_weights())
    for _ in range(2):
        found, expected = mine.train_batches(cut), its.train_batches(cut)
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert_same_weights(mine.get_weights(), its.get_weights(), 1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_hits_after_an_epoch_are_the_references(plain, reference, seed):
    for engine in (plain, reference):
        engine.reset(seed)
        engine.load(SPLIT)
    batches = reference.epoch_batches(1)
    plain.set_weights(reference.get_weights())
    hits = []
    for engine in (plain, reference):
        engine.train_batches(batches)
        hits.append(engine.evaluate().hits)
    reference.close()
    assert abs(hits[0] - hits[1]) <= max(2, SPLIT.num_users // 1000)
    assert hits[1] > SPLIT.num_users * 10 / 45


# -- state ----------------------------------------------------------------------


def test_reset_forgets_everything(shared_plain):
    shared_plain.reset(1)
    weights = shared_plain.get_weights()
    first = run(shared_plain)
    shared_plain.reset(1)
    assert_same_weights(shared_plain.get_weights(), weights, 0.0)
    again = run(shared_plain)
    shared_plain.reset(2)
    assert again == first and run(shared_plain) != first


def test_a_second_load_ends_the_preparation_of_the_first(shared_plain):
    """Two preparations would share the buffers, and all later orders would be wrong."""
    shared_plain.reset(1)
    shared_plain.load(SPLIT)
    first = shared_plain._orders._prefetcher
    shared_plain.load(SPLIT)
    assert not first._thread.is_alive()
    shared_plain.close()


def test_the_compiled_engine_forgets_too(compiled):
    results = []
    for seed in (1, 1, 2):
        compiled.reset(seed)
        results.append(run(compiled, epochs=2))
    assert results[0] == results[1] != results[2]


def test_same_seed_same_bits():
    """Uses a new engine for each run, with op determinism."""
    config = replace(CONFIG, deterministic=True)
    first, again, other = (engine_for(config, seed) for seed in (1, 1, 2))
    results = [run(engine, 2) for engine in (first, again, other)]
    assert results[0] == results[1] != results[2]
    assert_same_weights(again.get_weights(), first.get_weights(), 0.0)


def test_weights_go_to_the_reference_and_back(plain, reference):
    plain.train_epoch(1)
    weights = plain.get_weights()
    assert {w.dtype for w in weights.values()} == {np.dtype(np.float32)}
    reference.set_weights(weights)
    rng = np.random.default_rng(0)
    pairs = [rng.integers(0, n, 500).astype(np.int32) for n in (SPLIT.num_users, SPLIT.num_items)]
    scores = plain.score(*pairs)
    np.testing.assert_allclose(scores, reference.score(*pairs), rtol=1e-5, atol=1e-5)
    plain.reset(9)
    assert distance(plain.score(*pairs), scores) > 0.1
    plain.set_weights(reference.get_weights())
    assert_same_weights(plain.get_weights(), weights, 0.0)
    np.testing.assert_array_equal(plain.score(*pairs), scores)


def test_prepare_knows_no_data_and_leaves_nothing_to_compile(monkeypatch):
    """It uses only sizes; after it, no training or evaluation program is traced."""
    sink = RecordingSink()
    engine = FusedEngine(CONFIG, sink, "cpu", jit_compile=False)
    engine.prepare()
    engine.reset(1)
    before = [key for key, *_ in sink.said]
    assert {"global_batch_size", "opt_name", "opt_adam_epsilon", "model_mf_dim"} <= set(before)
    assert not [key for key in before if key.startswith(("train_", "eval_num", "eval_neg"))]

    def traced(*args, **kwargs):
        raise AssertionError("traced after prepare")

    for module, name in (
        (training_loop, "loss_and_gradients"),
        (evaluation_loop, "scoring_tables"),
        (evaluation_loop, "list_scores"),
        (device_negatives, "draw_negatives"),
        (training_loop, "draw_negatives"),
        (training_loop, "examples"),
    ):
        monkeypatch.setattr(module, name, traced)
    assert run(engine, epochs=2)[1][1] > 0.2
    said = {key: value for key, value, _ in sink.said}
    assert said["train_samples"] == EXAMPLES and said["train_sampler"] == "complement_table"
    assert said["eval_samples"] == SPLIT.num_users * 51
    keys = [key for key, *_ in sink.said]
    assert keys.index("eval_neg_gen_start") < keys.index("eval_neg_gen_stop")


def test_warming_up_leaves_no_mark(plain):
    """A new engine and a trained engine after a reset give the same results."""
    plain.train_epoch(1)
    plain.close()
    plain.reset(4)
    assert run(plain, 1) == run(engine_for(seed=4), 1)


def test_close_leaves_no_thread_behind():
    before = set(threading.enumerate())
    engine = engine_for()
    engine.close()  # before load
    run(engine, epochs=1)
    assert not [t for t in threading.enumerate() if t not in before and t.name.startswith("epoch")]


# -- failures -------------------------------------------------------------------


def test_a_loss_that_is_nan_ends_the_epoch():
    engine = engine_for(replace(CONFIG, learning_rate=1e30))
    engine.load(SPLIT)
    with pytest.raises(NonFiniteLoss, match="epoch"):
        for epoch in range(1, 4):
            engine.train_epoch(epoch)
    engine.close()


def test_nan_weights_end_the_epoch_and_are_never_a_hit(plain):
    weights = plain.get_weights()
    plain.set_weights({k: np.full_like(v, np.nan) for k, v in weights.items()})
    with pytest.raises(NonFiniteLoss):
        plain.evaluate()
    with pytest.raises(NonFiniteLoss, match="epoch 1"):
        plain.train_epoch(1)


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"precision": "float8"}, "float8"),
        ({"optimizer": "sgd"}, "not one of adam, lazy_adam"),
        ({"mlp_layers": (7, 4)}, "even"),
        ({"mlp_layers": ()}, "mlp_layers"),
        ({"mf_dim": 0}, "mf_dim 0"),
        ({"l2_mlp": (0.1,)}, "l2_mlp"),
        ({"embedding_init": "zeros"}, "zeros"),
        ({"num_positives": 2**31}, "2\\^31"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(changes, word):
    with pytest.raises(ValueError, match=word) as refusal:
        FusedEngine(replace(CONFIG, **changes), NullSink(), "cpu")
    assert "\n" not in str(refusal.value)
