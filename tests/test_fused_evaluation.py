"""The fused engine's evaluation: exactly the pure metrics of its own scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tensorflow")

from reference_model import fused_evaluation, metrics  # noqa: E402
from reference_model.engine import NonFiniteLoss  # noqa: E402
from reference_model.fused_evaluation import NOBODY, EvaluationShape, packed  # noqa: E402
from reference_model.sampling import EvaluationLists  # noqa: E402
from reference_model.split import Split  # noqa: E402
from reference_model.training import ReferenceEngine  # noqa: E402
from tests.test_batches import RecordingSink  # noqa: E402
from tests.test_fused import engine_for  # noqa: E402
from tests.test_training import CONFIG, SPLIT  # noqa: E402


@pytest.fixture(scope="module")
def engine():
    return engine_for()


@pytest.fixture
def plain(engine):
    """An engine as it is after reset(1) and load."""
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


# Users ranked together: 64, so that the last group has 8 and is padded; one; a
# prime; all of them at once.
@pytest.mark.parametrize("together", [64, 1, 7, 10_000])
def test_evaluation_agrees_with_the_pure_metrics(together):
    engine = engine_for(replace(CONFIG, eval_batch_size=51 * together))
    engine.load(SPLIT)
    engine.train_epoch(1)
    first = assert_evaluates_purely(engine, SPLIT, 50)
    assert engine.evaluate() == first  # nothing is used up
    engine.close()


# -- packed lists -----------------------------------------------------------------


@given(
    items=st.integers(1, 12),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 30)),
    width=st.integers(2, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_packed_rows_are_what_competes(items, shape, width, seed):
    rng = np.random.default_rng(seed)
    lists = EvaluationLists.of(rng.integers(0, items, shape), rng.integers(0, items, shape[0]))
    of, rows = packed(lists, width)
    assert rows.shape == (len(of), width) and rows.dtype == np.int32
    np.testing.assert_array_equal(rows[:, -1], lists.items[of, -1])
    for user in range(shape[0]):
        mine = rows[of == user, :-1]
        rivals = lists.items[user, :-1][~lists.masked[user, :-1]]
        assert mine[mine >= 0].tolist() == rivals.tolist()
        assert (mine[mine < 0] == NOBODY).all()
        assert len(mine) == max(1, -(-len(rivals) // (width - 1)))  # not one row too many


@pytest.mark.parametrize("width, several", [(None, False), (17, True)])
def test_ranks_of_packed_lists(monkeypatch, width, several):
    """400 draws of 80 items; as wide as the engine makes rows, then much too narrow, so
    that there are several rows to a user and several calls."""
    if width:
        monkeypatch.setattr(fused_evaluation, "_row_width", lambda config: width)
    config = replace(CONFIG, eval_negatives=400, eval_batch_size=401 * 16)
    engine = engine_for(config)
    assert engine._evaluation.width < 401
    engine.load(SPLIT)
    rows = sum(len(call.users) for call in engine._lists)
    assert (rows > 3 * SPLIT.num_users) == (len(engine._lists) > 3) == several
    engine.train_epoch(1)
    assert_evaluates_purely(engine, SPLIT, 400)
    rivals = (~engine.evaluation_lists().masked).sum(axis=1) - 1
    engine.set_weights({k: np.zeros_like(v) for k, v in engine.get_weights().items()})
    assert engine.evaluate().hits == np.count_nonzero(rivals < 10)  # ties
    engine.close()


def test_rows_are_narrower_only_where_draws_repeat_often():
    def width(items, negatives, **changes):
        config = replace(CONFIG, num_items=items, eval_negatives=negatives, **changes)
        return EvaluationShape.of(config, "cpu").width

    # 3,706 items, 999 draws: 876 distinct with deviation 9, so 895 and a place, by eights.
    assert width(3_706, 999) == 896
    assert width(26_744, 999) == 1_000  # ml-20m: 2 in 100 repeat
    assert width(3_706, 99) == 100
    assert width(3_706, 999, eval_given=True) == 1_000  # published ones need not repeat
    assert width(1, 3) == 4 and width(2, 50) == 8


# -- what they are ----------------------------------------------------------------


def test_evaluation_lists_are_the_references(plain):
    reference = engine_for(kind=ReferenceEngine)
    reference.load(SPLIT)
    mine, its = plain.evaluation_lists(), reference.evaluation_lists()
    reference.close()
    np.testing.assert_array_equal(mine.items, its.items)
    np.testing.assert_array_equal(mine.masked, its.masked)


def test_given_negatives_are_ranked_as_they_are():
    """They may repeat each other and the held-out item, and need not be negatives."""
    rng = np.random.default_rng(0)
    published = rng.integers(0, SPLIT.num_items, (SPLIT.num_users, 20)).astype(np.int32)
    kept = published.copy()
    split = replace(SPLIT, eval_negatives=published)
    sink = RecordingSink()
    engine = engine_for(replace(CONFIG, eval_negatives=20, eval_given=True), sink=sink)
    engine.load(split)
    engine.train_epoch(1)
    lists, expected = engine.evaluation_lists(), EvaluationLists.of(kept, SPLIT.test_item)
    np.testing.assert_array_equal(lists.items, expected.items)
    np.testing.assert_array_equal(lists.masked, expected.masked)
    assert lists.masked.any()
    assert_evaluates_purely(engine, split, 20)
    engine.close()
    np.testing.assert_array_equal(published, kept)
    assert {k: v for k, v, _ in sink.said}["eval_negatives_with_replacement"] is False


def test_ties_count_against_the_held_out_item(plain):
    """A model that scores all items alike hits only where few of them compete."""
    plain.set_weights({k: np.zeros_like(v) for k, v in plain.get_weights().items()})
    rivals = (~plain.evaluation_lists().masked).sum(axis=1) - 1
    assert plain.evaluate().hits == np.count_nonzero(rivals < 10)


def test_one_nan_score_that_competes_is_enough(plain):
    """One item's row; and where it competes with nobody, no score is NaN."""
    lists, weights = plain.evaluation_lists(), plain.get_weights()
    competing = np.bincount(lists.items[~lists.masked], minlength=SPLIT.num_items)
    item = int(np.flatnonzero(competing)[0])
    weights["item_embedding"] = weights["item_embedding"].copy()
    weights["item_embedding"][item] = np.nan
    plain.set_weights(weights)
    with pytest.raises(NonFiniteLoss):
        plain.evaluate()
