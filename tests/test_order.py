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
    seed=st.integers(0, 2**32 - 1),
)
def test_every_example_once_in_batches_of_the_exact_size(examples, size, values, seed):
    """With few key values each of them straddles many borders, or all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "_KEY_VALUES", values)
        assert_is_an_order(shuffled_batches(examples, size, stream(seed, 3)), examples, size)


@pytest.mark.parametrize(
    "examples, size",
    [
        (1, 1),
        (1, 9),
        (500, 500),
        (500, 1000),
        (70_000, 1),  # more batches than key values; packed into 64 bits
        (200_001, 2),
        (65_536 * 2, 2),
        (1_200_000, 64),  # 64 bits by the number of examples
        (1_200_000, 98_304),
    ],
)
def test_sizes_at_the_edges(examples, size):
    assert_is_an_order(shuffled_batches(examples, size, stream(1, STREAM_ORDER)), examples, size)


def test_batch_numbers_just_beyond_16_bits():
    """65,537 batches: the last key value may begin before batch 65,536 and end in it."""
    examples = 2 * 65_536 + 1
    for seed in range(12):
        ids = shuffled_batches(examples, 2, stream(seed, STREAM_ORDER))
        assert_is_an_order(ids, examples, 2)


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

# Small key ranges make values straddle borders, share batches, or be missing.
KEY_VALUES = [1, 2, 3, 5, 1 << 16]


@pytest.mark.parametrize("values", KEY_VALUES)
@pytest.mark.parametrize("examples, size", [(4, 1), (5, 2), (6, 3)])
def test_all_assignments_to_batches_are_equally_likely(examples, size, values, monkeypatch):
    """Every way to cut `examples` into batches, counted; chi-square, fixed key."""
    monkeypatch.setattr(order, "_KEY_VALUES", values)
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


@pytest.mark.parametrize(
    "examples, size, wide", [(3000, 300, False), (70_000, 7_000, False), (70_000, 1, True)]
)
def test_each_example_is_equally_likely_in_each_tenth(examples, size, wide):
    """Both ways of packing: the tenth of the epoch in which an example stands.

    Five neighbours at the start, the middle and the end, over many orders; and
    the examples that were together once are together again only by chance.
    """
    packed = (-(-examples // size) - 1).bit_length() + (examples - 1).bit_length()
    assert (packed > 32) == wide
    rounds = 2000 if examples < 10_000 else 300
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
