"""Epoch order: a uniform permutation, cut into sorted batches."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reference_model.device_sampling import epoch_order
from reference_model.device_sampling.epoch_order import (
    EpochOrders,
    pack_example_ids,
    shuffled_batches,
)
from reference_model.sampling.random_streams import STREAM_ORDER, STREAM_ORDER_PARTS, stream


def assert_is_an_order(ids: np.ndarray, examples: int, size: int) -> None:
    """Checks that each number occurs once, ascending in each batch; the rest is padding."""
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
    max_bins=st.sampled_from([2, 3, 256]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_example_once_in_batches_of_the_exact_size(
    examples, size, values, max_bins, seed
):
    """With few values in the first draw, nearly all examples must be reassigned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epoch_order, "_DRAW_VALUES", values)
        patch.setattr(epoch_order, "_PIECE_EXAMPLES", 1000)
        patch.setattr(epoch_order, "_MAX_BINS", max_bins)
        assert_is_an_order(shuffled_batches(examples, size, stream(seed, 3)), examples, size)


@pytest.mark.parametrize(
    "examples, size",
    [
        (1, 1),
        (1, 9),
        (500, 500),
        (500, 1000),
        (2_000, 1),
        (300_000, 64),  # with groups of batches
        (2_000_000, 98_304),  # in two pieces
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
        assert same_batch < 4 * 64  # about 64 of 4,992 are equal by chance


# -- uniformity -----------------------------------------------------------------

@pytest.mark.parametrize("values", [1, 2, 3, 5, 1 << 16])
@pytest.mark.parametrize("examples, size, max_bins", [(4, 1, 2), (4, 1, 9), (5, 2, 2), (6, 3, 9)])
def test_all_assignments_to_batches_are_equally_likely(
    examples, size, max_bins, values, monkeypatch
):
    """Counts every way to cut `examples` into batches; chi-square, fixed key.

    This holds even if the first draw is biased: with a single value it puts all into batch 0.
    """
    monkeypatch.setattr(epoch_order, "_DRAW_VALUES", values)
    monkeypatch.setattr(epoch_order, "_PIECE_EXAMPLES", 3)
    monkeypatch.setattr(epoch_order, "_MAX_BINS", max_bins)
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
    """Returns the batch of each example, as one hashable value."""
    batch = np.empty(len(ids), int)
    batch[np.asarray(ids)] = np.arange(len(ids)) // size
    return tuple(batch.tolist())


@pytest.mark.parametrize(
    "examples, size",
    [(3000, 300), (70_000, 7_000), pytest.param(3000, 10, marks=pytest.mark.slow)],
)
def test_each_example_is_equally_likely_in_each_tenth(examples, size):
    """Tests the tenth of the epoch that contains an example.

    It uses five neighbors at the start, the middle and the end, over many orders. Examples that
    share a tenth once share it again only by chance.
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
    # 12 pairs of neighbors per round, each in one tenth with probability 1/10.
    assert stats.binomtest(int(pairs), 12 * rounds, 0.1).pvalue > 1e-4


# -- in parts ---------------------------------------------------------------------


def in_parts(patch, parts: int, bounds: list[float] | None = None, piece: int = 40) -> None:
    """Makes EpochOrders in about `parts` parts; a part is drawn up to its share in `bounds`."""
    patch.setattr(epoch_order, "PART_EXAMPLES", 1)
    patch.setattr(epoch_order, "_MAX_PARTS", parts)
    patch.setattr(epoch_order, "_PIECE_EXAMPLES", piece)
    if bounds:
        def drawn_by(sizes):
            values, parts = epoch_order._DRAW_VALUES, np.arange(len(sizes))
            ends = np.append(0, np.sort(np.resize(bounds, len(sizes) - 1)) * values).astype(int)
            return np.append(np.minimum(ends + parts, values - len(sizes) + parts), values)

        patch.setattr(epoch_order, "_part_bounds", drawn_by)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(1, 400),
    group=st.integers(1, 6),
    size=st.integers(1, 300),
    parts=st.integers(2, 9),
    bounds=st.one_of(st.none(), st.lists(st.floats(0, 1), min_size=1, max_size=8)),
    seed=st.integers(0, 2**32 - 1),
)
def test_parts_hold_every_example_once(rows, group, size, parts, bounds, seed):
    """Even if parts must give up or take over nearly all examples."""
    with pytest.MonkeyPatch.context() as patch:
        in_parts(patch, parts, bounds)
        orders = EpochOrders(rows * group, size, group)
        made = [part.copy() for part in orders.of(seed, 1)]
    assert len(made) == orders.parts and {part.dtype for part in made} == {orders.dtype}
    if orders.parts > 1:
        ids = np.concatenate(made)
        steps, last = -(-rows * group // size), rows * group - (len(ids) - 1) * size
        assert ids.shape == (steps, size)
        real = ids.ravel()[: rows * group]
        expected = pack_example_ids(np.arange(rows * group), group)
        np.testing.assert_array_equal(np.sort(real), np.sort(expected))
        assert (np.diff(ids[:-1].astype(int), axis=1) >= 0).all()
        assert (np.diff(ids[-1, :last].astype(int)) >= 0).all()
        assert (ids[-1, last:] < 2 * rows).all()


@pytest.mark.parametrize("bounds", [None, [0.02, 0.05], [0.9, 0.95], [0.5]])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 3), (2, 1, 1)])
def test_all_memberships_of_parts_are_equally_likely(sizes, bounds, monkeypatch):
    """Even if the draws prefer one part, so that parts must give up or take over examples."""
    monkeypatch.setattr(epoch_order, "_DRAW_VALUES", 64)
    in_parts(monkeypatch, len(sizes), bounds, piece=3)
    ways = set(permutations(np.repeat(np.arange(len(sizes)), sizes).tolist()))
    counts, sizes = Counter(), np.array(sizes)
    for seed in range(100 * len(ways)):
        members = epoch_order.PartAssignment(
            sizes, 1, lambda k: stream(seed, STREAM_ORDER_PARTS, 1, k)
        )
        part_of = np.empty(sizes.sum(), int)
        for part in range(len(sizes)):
            part_of[members.members_of(part) // 2] = part
        counts[tuple(part_of.tolist())] += 1
    assert set(counts) <= ways
    assert stats.chisquare([counts[way] for way in ways]).pvalue > 1e-4


def test_all_assignments_in_parts_are_equally_likely(monkeypatch):
    """Tests the complete order: parts, and batches within them."""
    monkeypatch.setattr(epoch_order, "_DRAW_VALUES", 64)
    in_parts(monkeypatch, 2, [0.5], piece=3)
    ways = {assignment(p, 1) for p in permutations(range(4))}
    orders, counts = EpochOrders(4, 1, 1), Counter()
    assert orders.parts == 2
    for seed in range(50 * len(ways)):
        ids = np.concatenate([part.copy() for part in orders.of(seed, 1)]).ravel()
        counts[assignment(ids // 2, 1)] += 1
    assert set(counts) <= ways
    assert stats.chisquare([counts[way] for way in ways]).pvalue > 1e-4


def test_a_part_stays_until_the_next_but_one(monkeypatch):
    """The last returned part is not overwritten during the next, even across epochs."""
    in_parts(monkeypatch, 3)
    orders, before = EpochOrders(3000, 100, 5), None
    for epoch in (1, 2):
        for part in orders.of(7, epoch):
            if before is not None:
                np.testing.assert_array_equal(*before)
            before = part, part.copy()


def test_codes_beyond_32_bits_of_examples():
    """The numbers of 1.2 billion positives' examples need 33 bits, their codes 32."""
    numbers = np.arange(6_000_000_000 - 10, 6_000_000_000)
    rows = np.repeat([1_199_999_998, 1_199_999_999], 5)
    is_negative = np.tile([0, 1, 1, 1, 1], 2)
    found = pack_example_ids(numbers, 5)
    assert found.dtype == np.uint32
    np.testing.assert_array_equal(found, 2 * rows + is_negative)
    assert EpochOrders(6_000_000_000, 1_048_576, 5).parts > 1
    with pytest.raises(ValueError, match="2147483648 positives"):
        EpochOrders(2**31 * 5, 1_048_576, 5)


def test_an_epoch_is_whole_or_in_parts_by_its_size():
    assert EpochOrders(epoch_order.PART_EXAMPLES, 1000, 5).parts == 1
    larger = EpochOrders(4 * epoch_order.PART_EXAMPLES, 1000, 5)
    assert (larger.parts, larger.dtype) == (4, np.uint32)


def test_members_follow_their_draws(monkeypatch):
    """If all parts fit, a part consists of the examples that drew it, in ascending order."""
    in_parts(monkeypatch, 4)
    drawn = epoch_order._draw_values(stream(3, STREAM_ORDER_PARTS, 1, 0), 4000)
    bounds = np.array([0, 1 << 14, 1 << 15, 3 << 14, 1 << 16])
    monkeypatch.setattr(epoch_order, "_PIECE_EXAMPLES", 4000)
    monkeypatch.setattr(epoch_order, "_part_bounds", lambda sizes: bounds)
    part_of = np.searchsorted(bounds, drawn, side="right") - 1
    sizes = np.bincount(part_of)
    members = epoch_order.PartAssignment(sizes, 5, lambda k: stream(3, STREAM_ORDER_PARTS, 1, k))
    for part in range(4):
        expected = pack_example_ids(np.flatnonzero(part_of == part), 5)
        np.testing.assert_array_equal(members.members_of(part), expected)
