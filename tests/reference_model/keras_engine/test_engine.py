"""The reference engine: one epoch, evaluation, reset, determinism, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from reference_model.base import metrics
from reference_model.base.config import EngineConfig
from reference_model.base.errors import NonFiniteLoss
from reference_model.engine import Batch
from reference_model.events import NullSink  # noqa: E402
from reference_model.keras_engine.engine import ReferenceEngine, count_ranks
from reference_model.keras_engine.optimizers import make_optimizer
from reference_model.sampling.evaluation_lists import draw_evaluation_lists
from reference_model.sampling.negatives import make_sampler
from reference_model.sampling.random_streams import STREAM_EVALUATION, stream
from tests.support.recording_sink import RecordingSink
from tests.support.splits import clustered_split

SPLIT = clustered_split()
CONFIG = EngineConfig(
    num_users=SPLIT.num_users,
    num_items=SPLIT.num_items,
    num_positives=SPLIT.num_positives,
    mf_dim=8,
    mlp_layers=(32, 16, 8),
    eval_negatives=50,
    eval_batch_size=51 * 64,
    batch_size=512,
    learning_rate=0.01,
)


def engine_for(config=CONFIG, seed=1, sink=None, **kwargs):
    engine = ReferenceEngine(config, sink or NullSink(), "cpu", **kwargs)
    engine.prepare()
    engine.reset(seed)
    return engine


def run(engine, epochs=3, split=SPLIT):
    engine.load(split)
    rates = []
    for epoch in range(1, epochs + 1):
        result = engine.train_epoch(epoch)
        rates.append((result.loss, engine.evaluate().hr))
    engine.close()
    return rates


def test_the_engine_learns_planted_groups():
    """Random ranking hits 10 of about 45 competing items; the groups allow far more."""
    rates = run(engine_for(), epochs=6)
    assert rates[-1][0] < rates[0][0]
    assert rates[-1][1] > 0.6


def test_evaluation_agrees_with_the_numpy_metrics():
    engine = engine_for()
    engine.load(SPLIT)
    engine.train_epoch(1)
    found = engine.evaluate()
    engine.close()
    lists = draw_evaluation_lists(SPLIT, 50, make_sampler(SPLIT), stream(1, STREAM_EVALUATION))
    users = np.repeat(np.arange(SPLIT.num_users, dtype=np.int32), 51)
    scores = engine.score(users, lists.items.ravel()).reshape(-1, 51)
    rank = metrics.ranks(scores, lists.masked)
    assert found.hits == metrics.hits_at(rank, 10)
    assert found.hr == found.hits / SPLIT.num_users
    assert found.ndcg == pytest.approx(metrics.ndcg_at(rank, 10), rel=1e-12)
    assert (found.users, found.scored) == (SPLIT.num_users, SPLIT.num_users * 51)


def test_compiled_ranks_equal_the_numpy_ranks():
    items = np.array([[2, 2, 3, 1], [2, 3, 4, 1], [2, 3, 2, 1], [3, 2, 1, 4]])
    scores = np.array([[2, 2, 3, 1], [1, 0, 2, 3], [2, 3, 2, 0], [2, 4, 2, 3]], np.float32)
    from reference_model.sampling.evaluation_lists import duplicate_mask

    rank, finite = tf.function(count_ranks, jit_compile=True)(scores, duplicate_mask(items))
    assert (rank.numpy() + 1).tolist() == [3, 1, 3, 2] and bool(finite)


def test_xla_and_plain_steps_agree():
    (loss, _), *_ = run(engine_for(), epochs=1)
    (plain, _), *_ = run(engine_for(jit_compile=False), epochs=1)
    assert loss == pytest.approx(plain, rel=1e-4)


def test_after_a_reset_a_run_repeats_exactly():
    engine = engine_for()
    first = run(engine)
    engine.reset(1)
    again = run(engine)
    engine.reset(2)
    assert first == again and run(engine) != first


def test_deterministic_runs_with_one_seed_give_the_same_bits():
    """Uses a new engine for each run, with op determinism."""
    config = replace(CONFIG, deterministic=True)
    assert run(engine_for(config)) == run(engine_for(config))


def test_padding_does_not_change_gradients():
    """A batch of 300 and the same batch padded to 512 give the same gradient sums."""
    engine = engine_for()
    rng = np.random.default_rng(0)
    size, real = 512, 300
    batch = Batch(
        rng.integers(0, SPLIT.num_users, size).astype(np.int32),
        rng.integers(0, SPLIT.num_items, size).astype(np.int32),
        (rng.random(size) < 0.2).astype(np.float32),
        (np.arange(size) < real).astype(np.float32),
    )
    cut = Batch(*(getattr(batch, n)[:real] for n in ("user", "item", "label", "weight")))
    loss, gradients = engine.loss_and_gradients(batch)
    cut_loss, cut_gradients = engine.loss_and_gradients(cut)
    assert loss * size == pytest.approx(cut_loss * real, rel=1e-5)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient * size, cut_gradients[name] * real, atol=1e-4)


def test_one_adam_step_equals_hand_computed_values():
    """One step from zero moments: lr * sqrt(1-b2)/(1-b1) * m / (sqrt(v) + eps)."""
    config = replace(CONFIG, learning_rate=0.1, beta1=0.8, beta2=0.9, epsilon=0.5)
    optimizer, w = make_optimizer(config), tf.Variable([1.0])
    optimizer.build([w])
    optimizer.apply([tf.constant([2.0])], [w])
    m, v = 0.2 * 2.0, 0.1 * 4.0
    expected = 1 - 0.1 * np.sqrt(1 - 0.9) / (1 - 0.8) * m / (np.sqrt(v) + 0.5)
    assert float(w[0]) == pytest.approx(expected, rel=1e-6)


def test_a_row_that_a_batch_reads_often_gets_one_adam_step():
    """The squared gradient is the square of the row's sum, not a sum of squares.

    512 examples read two user rows; plain Adam from zero moments moves a weight
    by lr * sqrt(1-b2)/(1-b1) * (1-b1) g / (sqrt(1-b2) |g|) = lr * sign(g).
    """
    engine = engine_for(replace(CONFIG, epsilon=1e-12))
    user = (np.arange(512) % 2).astype(np.int32)
    item = (np.arange(512) % SPLIT.num_items).astype(np.int32)
    before = engine.get_weights()["user_embedding"][:2].copy()
    engine._train_on_steps(_one_step(user, item, item % 3 == 0))
    moved = engine.get_weights()["user_embedding"][:2] - before
    np.testing.assert_allclose(np.abs(moved), CONFIG.learning_rate, rtol=1e-2)


def test_lazy_adam_moves_only_rows_that_were_read():
    engine = engine_for(replace(CONFIG, optimizer="lazy_adam"))
    before = engine.get_weights()["user_embedding"].copy()
    user = np.zeros(512, np.int32)
    user[0] = 1
    item = np.arange(512, dtype=np.int32) % SPLIT.num_items
    label = (item % 2).astype(bool)
    from reference_model.sampling.epoch_batches import EpochBatches

    rows = EpochBatches(user[None], item[None], label[None], 511)
    for _ in range(3):
        engine._train_on_steps(rows)
    moved = (engine.get_weights()["user_embedding"] != before).any(axis=1)
    assert moved[:2].all() and not moved[2:].any()


def test_lazy_adam_is_adam_where_every_row_is_read():
    rng = np.random.default_rng(0)
    user = (np.arange(512) % SPLIT.num_users).astype(np.int32)
    item = (np.arange(512) % SPLIT.num_items).astype(np.int32)
    batches = _one_step(user, item, rng.random(512) < 0.3)
    weights = []
    for name in ("adam", "lazy_adam"):
        engine = engine_for(replace(CONFIG, optimizer=name))
        for _ in range(3):
            engine._train_on_steps(batches)
        weights.append(engine.get_weights())
    for name in weights[0]:
        np.testing.assert_allclose(weights[0][name], weights[1][name], rtol=1e-4, atol=1e-6)


def _one_step(user, item, label):
    from reference_model.sampling.epoch_batches import EpochBatches

    return EpochBatches(user[None], item[None], label[None], user.size)


def test_a_loss_that_is_nan_ends_the_epoch():
    engine = engine_for(replace(CONFIG, learning_rate=1e30))
    engine.load(SPLIT)
    with pytest.raises(NonFiniteLoss, match="epoch"):
        for epoch in range(1, 4):
            engine.train_epoch(epoch)
    engine.close()


def test_nan_scores_are_an_error_and_never_a_hit():
    engine = engine_for()
    engine.load(SPLIT)
    engine.set_weights({k: np.full_like(v, np.nan) for k, v in engine.get_weights().items()})
    with pytest.raises(NonFiniteLoss):
        engine.evaluate()
    engine.close()


def test_the_engine_logs_its_facts_in_order():
    sink = RecordingSink()
    engine = engine_for(sink=sink)
    before = [key for key, *_ in sink.said]
    assert {"global_batch_size", "opt_name", "opt_adam_epsilon", "model_mf_dim"} <= set(before)
    run(engine, epochs=1)
    said = {key: value for key, value, _ in sink.said}
    assert said["train_samples"] == SPLIT.num_positives * 5
    assert said["eval_samples"] == SPLIT.num_users * 51
    assert said["eval_batch_size"] == 64 * 51
    assert said["train_sampler"] == "complement_table"
    keys = [key for key, *_ in sink.said]
    assert keys.index("eval_neg_gen_start") < keys.index("eval_neg_gen_stop")


def test_a_precision_other_than_float32_is_refused():
    with pytest.raises(ValueError, match="float32"):
        ReferenceEngine(replace(CONFIG, precision="bfloat16"), NullSink())


def test_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="not one of adam, lazy_adam"):
        make_optimizer(replace(CONFIG, optimizer="sgd"))


def test_neumf_beats_popularity_on_generated_data():
    """The planted groups allow an HR@10 of at least twice that of popularity."""
    from reference_model.data.synthetic import SyntheticShape, generate_split

    split = generate_split(SyntheticShape(1_500, 800, 75_000, seed=1))
    config = replace(
        CONFIG,
        num_users=split.num_users,
        num_items=split.num_items,
        num_positives=split.num_positives,
        mlp_layers=(64, 32, 16, 8),
        eval_negatives=999,
        eval_batch_size=500_000,
        batch_size=2048,
        learning_rate=0.004,
    )
    popularity = np.bincount(split.train_item, minlength=split.num_items).astype(float)
    lists = draw_evaluation_lists(split, 999, make_sampler(split), stream(1, STREAM_EVALUATION))
    baseline = metrics.hit_rate_at(metrics.ranks(popularity[lists.items], lists.masked), 10)
    best = max(hr for _, hr in run(engine_for(config), epochs=8, split=split))
    assert 0.05 < baseline and best > 2 * baseline
