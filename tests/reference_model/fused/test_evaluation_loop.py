"""The fused engine's evaluation equals the pure metrics of its own scores exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tensorflow")

from reference_model.base import metrics
from reference_model.base.errors import NonFiniteLoss
from reference_model.data.split import Split
from reference_model.fused import evaluation_loop
from reference_model.fused.evaluation_loop import NO_CANDIDATE, EvaluationSpec
from reference_model.keras_engine.engine import ReferenceEngine
from reference_model.sampling.evaluation_lists import EvaluationLists
from tests.reference_model.fused.test_engine import engine_for
from tests.reference_model.keras_engine.test_engine import CONFIG, SPLIT
from tests.support.recording_sink import RecordingSink


@pytest.fixture(scope="module")
def engine():
    return engine_for()


@pytest.fixture
def plain(engine):
    """An engine after reset(1) and load."""
    engine.reset(1)
    engine.load(SPLIT)
    yield engine
    engine.close()


def assert_evaluates_purely(engine, split: Split, negatives: int):
    lists = engine.evaluation_lists()
    users = np.repeat(np.arange(split.num_users, dtype=np.int32), negatives + 1)
    scores = engine.score(users, lists.items.ravel()).reshape(-1, negatives + 1)
    rank = metrics.ranks(scores, lists.masked)
    found = engine.evaluate()
    assert found.hits == metrics.hits_at(rank, 10)
    assert found.hr == found.hits / split.num_users
    assert found.ndcg == pytest.approx(metrics.ndcg_at(rank, 10), rel=1e-12)
    assert (found.users, found.scored) == (split.num_users, len(users))
    return found


# The number of users ranked together: 64, so that the last group has 8 and is padded; one; a
# prime; all users.
@pytest.mark.parametrize("together", [64, 1, 7, 10_000])
def test_evaluation_agrees_with_the_pure_metrics(together):
    engine = engine_for(replace(CONFIG, eval_batch_size=51 * together))
    engine.load(SPLIT)
    engine.train_epoch(1)
    first = assert_evaluates_purely(engine, SPLIT, 50)
    assert engine.evaluate() == first  # evaluation changes no state
    engine.close()


# -- lists in chunks --------------------------------------------------------------


def numpy_ranks(shape, batches, scores) -> tuple[dict, int]:
    """Returns {user: rank, or top_k or more} and the number of scored pairs.

    It scores every user chunk by chunk, by the contract of the program.
    """
    rank, scored = {}, 0
    for call in batches:
        for user, chunks in zip(call.users[: call.real], call.rows):
            ahead, held_out = 0, chunks[0, -1]
            for chunk in chunks[: call.lengths[user - call.users[0]]]:
                rivals = chunk[:-1][chunk[:-1] >= 0]
                ahead += np.count_nonzero(scores[user, rivals] >= scores[user, held_out])
                scored += len(rivals)
                if ahead >= shape.config.top_k:
                    break
            rank[int(user)], scored = ahead, scored + 1
    return rank, scored


def shape_for(config, **changes) -> EvaluationSpec:
    return replace(EvaluationSpec.of(config, "cpu"), **changes)


@given(
    items=st.integers(1, 12),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 30)),
    chunk=st.integers(1, 40),
    users_per_batch=st.integers(1, 8),
    seed=st.integers(0, 2**32 - 1),
)
def test_chunks_are_what_competes(items, shape, chunk, users_per_batch, seed):
    rng = np.random.default_rng(seed)
    lists = EvaluationLists.from_negatives(rng.integers(0, items, shape), rng.integers(0, items, shape[0]))
    kept = lists.items.copy()
    config = replace(CONFIG, num_items=items, eval_negatives=shape[1])
    cut = shape_for(config, chunks=-(-shape[1] // chunk), width=chunk + 1,
                    users_per_batch=users_per_batch)  # fmt: skip
    drawn = np.bincount(lists.items[:, :-1].ravel(), minlength=items)
    seen = []
    for call in cut.batches(lists, first_user=100):
        assert call.rows.shape == (users_per_batch, cut.chunks, chunk + 1)
        assert (call.rows.dtype, call.lengths.dtype) == (np.int32, np.int32)
        for user, length, rows in zip(call.users[: call.real], call.lengths, call.rows):
            listed = user - 100
            candidates = rows[:, :-1].ravel()
            rivals = lists.items[listed, :-1][~lists.masked[listed, :-1]]
            mine, rest = np.split(candidates, [len(rivals)])
            assert sorted(mine) == sorted(rivals) and (rest == NO_CANDIDATE).all()
            assert (np.diff(drawn[mine]) >= 0).all()  # rarely drawn items come first
            assert length == max(1, -(-len(rivals) // chunk))
            assert (rows[:, -1] == lists.items[listed, -1]).all()
            seen.append(int(listed))
    assert seen == list(range(shape[0]))
    np.testing.assert_array_equal(lists.items, kept)


@pytest.mark.parametrize("top_k", [1, 10])
@pytest.mark.parametrize(
    "chunk, pairs, users_per_slot",
    [(63, 2_048, 8), (7, 64, 1), (7, 2_048, 1), (3, 1, 1), (400, 4_000, 2)],
)
def test_users_are_ranked_until_they_are_decided(monkeypatch, top_k, chunk, pairs, users_per_slot):
    """Hits and NDCG equal those of whole lists, without a single unnecessary score.

    The cases have from two lanes to more lanes than users, and chunks from three candidates to
    whole lists.
    """
    monkeypatch.setattr(evaluation_loop, "_CHUNK_CANDIDATES", chunk)
    monkeypatch.setattr(evaluation_loop, "_GROUP_PAIRS", {"wide": pairs, "narrow": pairs})
    monkeypatch.setattr(evaluation_loop, "_USERS_PER_SLOT", users_per_slot)
    config = replace(CONFIG, eval_negatives=400, eval_batch_size=401 * 16, top_k=top_k)
    engine = engine_for(config)
    engine.load(SPLIT)
    engine.train_epoch(1)
    lists, shape = engine.evaluation_lists(), engine._evaluation
    everybody, everything = np.arange(SPLIT.num_users), np.arange(SPLIT.num_items)
    grid = np.meshgrid(everybody, everything, indexing="ij")
    scores = engine.score(*(x.ravel().astype(np.int32) for x in grid)).reshape(grid[0].shape)
    whole = metrics.ranks(np.take_along_axis(scores, lists.items, axis=1), lists.masked)
    rank, scored = numpy_ranks(shape, shape.batches(lists), scores)
    assert [min(rank[u], top_k) for u in everybody] == np.minimum(whole, top_k).tolist()
    found = engine.evaluate()
    assert found.hits == metrics.hits_at(whole, top_k) > 0
    assert found.ndcg == pytest.approx(metrics.ndcg_at(whole, top_k), rel=1e-12)
    assert found.computed == scored <= (~lists.masked).sum() < found.scored
    if chunk < 10:
        assert found.computed < 0.9 * (~lists.masked).sum()
    engine.close()


def test_without_rivals_everybody_is_hit(plain):
    """All candidates equal the held-out item, so all are masked."""
    lists = plain.evaluation_lists()
    items = np.repeat(lists.items[:, -1:], lists.items.shape[1], axis=1)
    plain.load_lists(EvaluationLists(items, everything_masked(items)))
    found = plain.evaluate()
    assert (found.hr, found.ndcg, found.computed) == (1.0, 1.0, SPLIT.num_users)


def everything_masked(items: np.ndarray) -> np.ndarray:
    masked = np.ones(items.shape, bool)
    masked[:, -1] = False
    return masked


def test_sizes_of_chunks_and_lanes():
    def sizes(device="cpu", **changes):
        config = replace(CONFIG, eval_batch_size=160_000, **changes)
        shape = EvaluationSpec.of(config, device)
        return shape.width, shape.chunks, shape.slots * shape.groups_per_iteration

    large = dict(num_users=6_040, num_items=3_706, eval_negatives=999, mlp_layers=(256, 256, 128, 64))
    assert sizes(**large) == (64, 16, 32)
    assert sizes(num_users=6_040, eval_negatives=999) == (64, 16, 256)
    assert sizes(num_users=6_040, eval_negatives=99) == (51, 2, 320)  # halves of a list
    assert sizes(num_users=6_040, eval_negatives=5) == (6, 1, 754)
    assert sizes(num_users=943, eval_negatives=999) == (64, 16, 116)  # eight users per lane
    assert sizes(num_users=3, eval_negatives=999) == (64, 16, 2)
    assert sizes("gpu", **{**large, "num_users": 138_493}) == (64, 16, 2_500)


# -- the lists ----------------------------------------------------------------


def test_evaluation_lists_are_the_references(plain):
    reference = engine_for(kind=ReferenceEngine)
    reference.load(SPLIT)
    mine, its = plain.evaluation_lists(), reference.evaluation_lists()
    reference.close()
    np.testing.assert_array_equal(mine.items, its.items)
    np.testing.assert_array_equal(mine.masked, its.masked)


def test_given_negatives_are_ranked_as_they_are():
    """They may contain repetitions, the held-out item and positives."""
    rng = np.random.default_rng(0)
    published = rng.integers(0, SPLIT.num_items, (SPLIT.num_users, 20)).astype(np.int32)
    kept = published.copy()
    split = replace(SPLIT, eval_negatives=published)
    sink = RecordingSink()
    engine = engine_for(replace(CONFIG, eval_negatives=20, eval_given=True), sink=sink)
    engine.load(split)
    engine.train_epoch(1)
    lists, expected = engine.evaluation_lists(), EvaluationLists.from_negatives(kept, SPLIT.test_item)
    np.testing.assert_array_equal(lists.items, expected.items)
    np.testing.assert_array_equal(lists.masked, expected.masked)
    assert lists.masked.any()
    assert_evaluates_purely(engine, split, 20)
    engine.close()
    np.testing.assert_array_equal(published, kept)
    assert {k: v for k, v, _ in sink.said}["eval_negatives_with_replacement"] is False


def test_ties_count_against_the_held_out_item(plain):
    """A model with equal scores for all items hits only if few candidates compete."""
    plain.set_weights({k: np.zeros_like(v) for k, v in plain.get_weights().items()})
    rivals = (~plain.evaluation_lists().masked).sum(axis=1) - 1
    assert plain.evaluate().hits == np.count_nonzero(rivals < 10)


def test_one_nan_score_that_competes_is_enough(plain):
    """Uses the row of a competing item; if an item does not compete, no score becomes NaN."""
    lists, weights = plain.evaluation_lists(), plain.get_weights()
    competing = np.bincount(lists.items[~lists.masked], minlength=SPLIT.num_items)
    item = int(np.flatnonzero(competing)[0])
    weights["item_embedding"] = weights["item_embedding"].copy()
    weights["item_embedding"][item] = np.nan
    plain.set_weights(weights)
    with pytest.raises(NonFiniteLoss):
        plain.evaluate()


@pytest.mark.parametrize("name", ["user_embedding", "item_embedding", "mlp_1_bias"])
def test_no_nan_hides_where_no_score_was_needed(plain, name):
    """A held-out item with the lowest score is decided early; the last row's NaN is found."""
    weights = {k: v.copy() for k, v in plain.get_weights().items()}
    weights[name][-1] = np.nan
    plain.set_weights(weights)
    with pytest.raises(NonFiniteLoss):
        plain.evaluate()
