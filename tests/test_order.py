"""The order of an epoch: a uniform permutation, cut into sorted batches."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reference_model import order
from reference_model.order import shuffled_batches
from reference_model.sampling import STREAM_ORDER, stream


def assert_is_an_order(ids: np.ndarray, examples: int, size: int) -> None:
    """Each number once, ascending in each batch; what is left over is padding."""
    steps = -(-examples // size)
    assert ids.dtype == np.int32 and ids.shape == (steps, size)
    real = ids.ravel()[:examples]
    np.testing.assert_array_equal(np.sort(real), np.arange(examples))
    last = examples - (steps - 1) * size
    assert (np.diff(ids[:-1], axis=1) > 0).all() and (np.diff(ids[-1, :last]) > 0).all()
    padding = ids[-1, last:]
    assert ((0 <= padding) & (padding < examples)).all()


@settings(max_examples=150, deadline=None)
@given(
    examples=st.integers(1, 3000),
    size=st.integers(1, 700),
    values=st.sampled_from([1, 2, 3, 7, 64, 1 << 16]),
    most_parts=st.sampled_from([2, 3, 256]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_example_once_in_batches_of_the_exact_size(
    examples, size, values, most_parts, seed
):
    """With few values in the first draw nearly everything must be dealt out again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "_DRAW_VALUES", values)
        patch.setattr(order, "_PIECE", 1000)
        patch.setattr(order, "_MOST_PARTS", most_parts)
        assert_is_an_order(shuffled_batches(examples, size, stream(seed, 3)), examples, size)


@pytest.mark.parametrize(
    "examples, size",
    [
        (1, 1),
        (1, 9),
        (500, 500),
        (500, 1000),
        (2_000, 1),
        (300_000, 64),  # groups of batches first
        (2_000_000, 98_304),  # two pieces
    ],
)
def test_sizes_at_the_edges(examples, size):
    assert_is_an_order(shuffled_batches(examples, size, stream(1, STREAM_ORDER)), examples, size)


def test_too_many_examples_are_refused():
    with pytest.raises(ValueError, match="2\\^31"):
        shuffled_batches(2**31, 2**20, stream(0, 3))


def test_same_stream_same_order_other_stream_another():
    def of(seed, epoch):
        return shuffled_batches(5000, 64, stream(seed, STREAM_ORDER, epoch))

    np.testing.assert_array_equal(of(1, 1), of(1, 1))
    first = of(1, 1)
    for other in (of(2, 1), of(1, 2)):
        same_batch = sum(len(np.intersect1d(a, b)) for a, b in zip(first[:-1], other[:-1]))
        assert same_batch < 4 * 64  # about 64 of 4,992 by chance


# -- uniformity -----------------------------------------------------------------

@pytest.mark.parametrize("values", [1, 2, 3, 5, 1 << 16])
@pytest.mark.parametrize("examples, size, most_parts", [(4, 1, 2), (4, 1, 9), (5, 2, 2), (6, 3, 9)])
def test_all_assignments_to_batches_are_equally_likely(
    examples, size, most_parts, values, monkeypatch
):
    """Every way to cut `examples` into batches, counted; chi-square, fixed key.

    Whatever the first draw prefers: with a single value it puts all into batch 0.
    """
    monkeypatch.setattr(order, "_DRAW_VALUES", values)
    monkeypatch.setattr(order, "_PIECE", 3)
    monkeypatch.setattr(order, "_MOST_PARTS", most_parts)
    ways = {assignment(p, size) for p in permutations(range(examples))}
    rng, draws = stream(17, STREAM_ORDER, values), 100 * len(ways)
    counts = Counter()
    for _ in range(draws):
        ids = shuffled_batches(examples, size, rng).ravel()[:examples]
        counts[assignment(ids, size)] += 1
    assert set(counts) <= ways
    observed = [counts[way] for way in ways]
    assert stats.chisquare(observed).pvalue > 1e-4


def assignment(ids, size) -> tuple:
    """The batch of each example, as one hashable value."""
    batch = np.empty(len(ids), int)
    batch[np.asarray(ids)] = np.arange(len(ids)) // size
    return tuple(batch.tolist())


@pytest.mark.parametrize("examples, size", [(3000, 300), (70_000, 7_000), (3000, 10)])
def test_each_example_is_equally_likely_in_each_tenth(examples, size):
    """The tenth of the epoch in which an example stands.

    Five neighbours at the start, the middle and the end, over many orders; and
    the examples that were together once are together again only by chance.
    """
    rounds = 2000 if (examples, size) == (3000, 300) else 300
    watched = np.add.outer([0, examples // 2, examples - 5], np.arange(5)).ravel()
    counts, pairs = np.zeros((3, 10)), 0
    for k in range(rounds):
        ids = shuffled_batches(examples, size, stream(k, STREAM_ORDER)).ravel()
        place = np.empty(examples, np.int64)
        place[ids[:examples]] = np.arange(examples)
        tenth = (place[watched] // size * size * 10 // examples).reshape(3, 5)
        for row, found in zip(counts, tenth):
            row += np.bincount(found, minlength=10)
        pairs += (tenth[:, :-1] == tenth[:, 1:]).sum()
    for row in counts:
        assert stats.chisquare(row).pvalue > 1e-4
    # 12 pairs of neighbours a round, each together with probability 1/10.
    assert stats.binomtest(int(pairs), 12 * rounds, 0.1).pvalue > 1e-4
