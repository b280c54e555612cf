"""Negatives drawn inside the compiled program: never a positive, exactly uniform."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

tf = pytest.importorskip("tensorflow")

from reference_model.base.errors import DataError
from reference_model.data.split import Split
from reference_model.device_sampling.negatives import SamplerSpec, draw_negatives
from reference_model.device_sampling.random_words import philox_words, random_words, uniform_below
from reference_model.sampling.negatives import make_sampler
from reference_model.sampling.random_streams import negatives_key
from tests.support.splits import positives_of, random_split, split_with_a_full_user

# The allowed number of table entries: all splits here use the table, or bisection.
ENTRIES = {"complement_table": 10**6, "bisection": 0}
STRATEGIES = list(ENTRIES)


class Drawer:
    """Draws negatives for users of a split by one strategy, eagerly or compiled."""

    def __init__(self, split: Split, strategy: str, jit_compile: bool = False):
        entries = ENTRIES[strategy]
        shape = SamplerSpec.of(split.num_users, split.num_items, split.num_positives, entries)
        assert shape.name == strategy
        arrays = shape.arrays(split, make_sampler(split, entries))
        assert shape.array_specs() == [(a.dtype.name, a.shape) for a in arrays]
        self._arrays = [tf.constant(a) for a in arrays]

        def run(user, key, step, place):
            return draw_negatives(shape, self._arrays, user, key, step, place)

        self._run = tf.function(run, jit_compile=True, autograph=False) if jit_compile else run

    def __call__(self, users, seed=0, epoch=1, step=0, place=0) -> np.ndarray:
        key, users = tf.constant(negatives_key(seed, epoch)), tf.constant(users, tf.int32)
        found = self._run(users, key, tf.constant(step), tf.constant(place)).numpy()
        assert found.dtype == np.int32
        return found


def complement_of(split: Split, user: int) -> list[int]:
    return sorted(set(range(split.num_items)) - positives_of(split, user))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.integers(3, 40),
    st.floats(0, 1),
    st.integers(0, 2**31 - 1),
)
def test_no_positive_is_drawn_and_both_strategies_agree(seed, users, items, density, step):
    split = random_split(seed % 1000, users, items, density)
    who = np.random.default_rng(seed).integers(0, users, 200)
    found = [Drawer(split, s)(who, seed, step=step) for s in STRATEGIES]
    np.testing.assert_array_equal(*found)
    assert ((0 <= found[0]) & (found[0] < items)).all()
    taken = {(u, i) for u, i in zip(split.train_user.tolist(), split.train_item.tolist())}
    assert not taken & set(zip(who.tolist(), found[0].tolist()))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_compiled_and_eager_draw_the_same(strategy):
    split = random_split(4, 20, 300, 0.4)
    who = np.random.default_rng(0).integers(0, 20, 3001)
    eager, compiled = (Drawer(split, strategy, jit)(who, 5, step=7) for jit in (False, True))
    np.testing.assert_array_equal(eager, compiled)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_complement_item_is_reached_uniformly(strategy):
    """Chi-square over each user's complement, with a fixed key."""
    split = random_split(5, 3, 37, 0.4)
    drawer = Drawer(split, strategy)
    for user in range(3):
        counts = np.bincount(drawer(np.full(40_000, user), 11), minlength=split.num_items)
        complement = complement_of(split, user)
        assert counts.sum() == counts[complement].sum()
        assert stats.chisquare(counts[complement]).pvalue > 1e-4


def test_steps_and_epochs_are_independent():
    """Counts over two epochs of five steps are binomial, as in `sampling.test_negatives`.

    Repeated steps or epochs would make the statistic several times too large.
    """
    split = random_split(3, 4, 50, 0.3)
    drawer, users = Drawer(split, "complement_table"), np.repeat(np.arange(4), 600)

    def statistic(times):
        counts = np.zeros((4, split.num_items))
        for epoch, step in times:
            np.add.at(counts, (users, drawer(users, 7, epoch, step=step)), 1)
        parts = [counts[u, complement_of(split, u)] for u in range(4)]
        freedom = sum(len(p) - 1 for p in parts)
        return sum(stats.chisquare(p).statistic for p in parts), freedom

    found, freedom = statistic(product((1, 2), range(5)))
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], freedom)
    assert low < found < high
    assert statistic([(1, 0)] * 5)[0] > high  # the test detects repetition


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_user_with_a_single_free_item(strategy):
    """User 0 has rated all items, so only the held-out item can be drawn."""
    assert set(Drawer(split_with_a_full_user(), strategy)([0] * 50).tolist()) == {2}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_user_with_every_item_is_rejected(strategy):
    full = Split(1, 2, np.zeros(2, np.int32), np.array([0, 1], np.int32), np.array([1], np.int32))
    shape = SamplerSpec.of(1, 2, 2, ENTRIES[strategy])
    with pytest.raises(DataError, match="user index 0 has all 2 items"):
        shape.arrays(full, None)


def test_the_strategy_follows_the_size():
    assert SamplerSpec.of(5, 10, 9, entries=50).name == "complement_table"
    assert SamplerSpec.of(5, 10, 9, entries=49).name == "bisection"


def test_item_numbers_beyond_16_bits():
    """Table entries are 16 bits wide only if all items fit."""
    items = 65_536 + 5
    train = np.arange(3, dtype=np.int32)
    split = Split(1, items, np.zeros(3, np.int32), train, np.array([9], np.int32))
    found = [Drawer(split, s)([0] * 60_000) for s in STRATEGIES]
    np.testing.assert_array_equal(*found)
    assert found[0].min() >= 3 and 65_536 <= found[0].max() < items


def test_as_many_items_as_int32_can_number():
    """No index and no size overflows up to 2^31 - 1 items."""
    items = 2**31 - 1
    last = items - 1
    split = Split(
        2,
        items,
        np.array([0, 0, 1, 1, 1], np.int32),
        np.array([0, last, 1, last - 1, last], np.int32),
        np.array([5, 5], np.int32),
    )
    found = Drawer(split, "bisection", jit_compile=True)(np.repeat([0, 1], 20_000))
    assert found.min() >= 0 and found.max() < items
    for user, part in enumerate(found.reshape(2, -1)):
        assert not positives_of(split, user) & set(part.tolist())
        assert stats.kstest(part / items, "uniform").pvalue > 1e-4


# -- exact integers -------------------------------------------------------------


compiled_uniform_below = tf.function(uniform_below, jit_compile=True, autograph=False)


def below(words, sizes, seed=0, step=0, draw=uniform_below) -> np.ndarray:
    return draw(
        tf.constant(negatives_key(seed, 1)),
        tf.constant(step),
        tf.constant(sizes, tf.uint32),
        tf.constant(words, tf.uint32),
    ).numpy()


# n, a word w that must be kept, its rank floor(w n / 2^32), computed by hand.
KEPT = [
    (1, 0, 0),
    (1, 2**32 - 1, 0),
    (2, 0, 0),  # 2^32 mod 2^k = 0: nothing is rejected
    (2, 2**31, 1),
    (4096, 0, 0),
    (3, 1, 0),  # 2^32 mod 3 = 1: low half 3
    (3, 1431655766, 1),  # 3 w = 2^32 + 2: low half 2, not below 1
    (3, 2**32 - 1, 2),
    (5, 858993460, 1),  # 5 w = 2^32 + 4: below n, but not below 2^32 mod 5 = 1
    (6, 1431655766, 2),  # 6 w = 2 * 2^32 + 4: just not below 2^32 mod 6 = 4
    (6, 715827882, 0),  # 6 w = 2^32 - 4
    (2**31 - 1, 1, 0),
    (2**31 - 1, 3, 1),  # n w = 2^32 + 2^31 - 3
    (2**31 - 1, 2**32 - 1, 2**31 - 2),  # the largest possible rank
]
# n, a word w that must be drawn again: the low half of w n is below 2^32 mod n.
REJECTED = [
    (3, 0),
    (5, 0),
    (6, 0),
    (6, 715827883),  # 6 w = 2^32 + 2, and 2 < 4
    (7, 0),  # 2^32 mod 7 = 4
    (7, 613566757),  # 7 w = 2^32 + 3, and 3 < 4
    (3706, 0),  # an item count of MovieLens 1M
    (2**31 - 1, 0),
]


def test_words_that_are_kept_by_hand():
    n, words, ranks = zip(*KEPT)
    assert below(words, n).tolist() == list(ranks)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_words_around_the_border_of_each_rank(data):
    """Only the first word of a rank can be rejected; all others are kept in any position.

    The first word of rank r is w = ceil(2^32 r / n). It is rejected if w n mod 2^32 is below
    2^32 mod n.
    """
    n = data.draw(st.one_of(st.integers(1, 50), st.integers(1, 2**31 - 1)))
    ranks = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=8))
    words, expected = [], []
    for rank in ranks:
        first = -(-(rank << 32) // n)
        last = -(-((rank + 1) << 32) // n) - 1
        for word in {first, min(first + 1, last), last}:
            words.append(word)
            kept = (word * n) % 2**32 >= 2**32 % n
            assert kept or word == first
            expected.append(rank if kept else None)
    found = below(words, [n] * len(words), seed=data.draw(st.integers(0, 99)))
    for mine, rank in zip(found.tolist(), expected):
        assert 0 <= mine < n
        assert rank is None or mine == rank


@pytest.mark.parametrize("n, word", REJECTED)
def test_words_that_are_rejected_are_drawn_anew(n, word):
    """If the word were kept, all ranks would be floor(w n / 2^32)."""
    assert (n * word) % 2**32 < 2**32 % n
    found = np.concatenate([below([word] * 30, [n] * 30, seed, seed + 1) for seed in range(3)])
    assert found.min() >= 0 and found.max() < n
    kept = (n * word) >> 32
    assert np.count_nonzero(found == kept) < 70  # of 90: at most a third are equal by chance
    if n <= 7:
        assert set(found.tolist()) == set(range(n))
    else:
        assert len(set(found.tolist())) > 80


def test_replacements_are_uniform_and_the_kept_beside_them_stay():
    words = np.tile([0, 715827882, 1431655766, 715827883], 150)  # n = 6
    found = np.stack([
        below(words, [6] * 600, seed, draw=compiled_uniform_below) for seed in range(4)])
    found = found.reshape(-1, 4)
    assert set(found[:, 1]) == {0} and set(found[:, 2]) == {2}
    for column in (0, 3):
        counts = np.bincount(found[:, column], minlength=6)
        assert stats.chisquare(counts).pvalue > 1e-4
    both = np.zeros((6, 6))
    np.add.at(both, (found[:, 0], found[:, 3]), 1)
    assert stats.chi2_contingency(both).pvalue > 1e-4


@pytest.mark.parametrize("n", [3 * 2**29, 2**31 - 3, 1_431_655_766])
def test_uniform_where_rejections_are_frequent(n):
    """The cases reject a quarter, few and nearly half of all words; tests tenths of the range."""
    sizes = tf.fill([3_000], tf.constant(n, tf.uint32))
    found = compiled_uniform_below(
        tf.constant(negatives_key(3, 1)), tf.constant(0), sizes).numpy()
    counts = np.bincount(found.astype(np.int64) * 10 // n, minlength=10)
    assert stats.chisquare(counts).pvalue > 1e-4
    assert stats.kstest(found / n, "uniform").pvalue > 1e-4


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(
        st.sampled_from([1, 2, 3, 3000, 3 * 2**29, 2**31 - 3, 1_431_655_766]), min_size=1, max_size=40
    ),
    step=st.integers(0, 5),
)
def test_a_rejected_word_is_followed_by_its_own_places_next(sizes, step):
    """Compares word by word; low halves of w n below 2^32 mod n are rejected."""

    def one(word, size, place):
        attempt = 0
        while (int(word) * size) % 2**32 < 2**32 % size:
            attempt += 1
            word = words_of(2, 1, step, attempt, 4, place)[0]
        return (int(word) * size) >> 32

    first = words_of(2, 1, step, count=len(sizes))
    expected = [one(w, n, k) for k, (w, n) in enumerate(zip(first, sizes))]
    key, wide = tf.constant(negatives_key(2, 1)), tf.constant(sizes, tf.uint32)
    assert uniform_below(key, tf.constant(step), wide).numpy().tolist() == expected


# -- streams ---------------------------------------------------------------------


def words_of(seed, epoch, step, attempt=0, count=64, block=0) -> np.ndarray:
    key = tf.constant(negatives_key(seed, epoch))
    return philox_words(key, tf.constant(step), attempt, block, count).numpy()


def test_no_two_streams_share_words():
    """Every window of four words, at any position of any stream, is unique.

    Four words are 128 bits, so a repetition by chance is practically impossible.
    """
    last = 2**31 - 1
    named = list(product((0, 1, 2**63), (1, 2, 50), (0, 1, 2, 5000, last), (0, 1, 2)))
    rows = np.stack([words_of(*name) for name in named])
    windows = np.lib.stride_tricks.sliding_window_view(rows, 4, axis=1).reshape(-1, 4)
    assert len(np.unique(windows, axis=0)) == len(windows)


def test_a_stream_is_a_function_of_its_name():
    np.testing.assert_array_equal(words_of(3, 2, 4), words_of(3, 2, 4))
    longer = words_of(3, 2, 4, count=1000)
    windows = np.lib.stride_tricks.sliding_window_view(longer, 2)
    assert len(np.unique(windows, axis=0)) == len(windows)


def test_words_use_all_bits_evenly():
    bits = np.unpackbits(words_of(1, 1, 0, count=50_000).view(np.uint8)).reshape(-1, 32)
    share = bits.mean(axis=0)
    assert (np.abs(share - 0.5) < 5 * 0.5 / np.sqrt(50_000)).all()


@pytest.mark.parametrize("changed", [{"seed": 2}, {"epoch": 2}, {"step": 1}, {"place": 2000}])
def test_another_seed_epoch_step_or_place_draws_others(changed):
    split = random_split(1, 5, 200, 0.2)
    drawer, users = Drawer(split, "complement_table"), np.repeat(np.arange(5), 400)
    first = drawer(users, **{"seed": 1, "epoch": 1, "step": 0})
    other = drawer(users, **{"seed": 1, "epoch": 1, "step": 0, **changed})
    assert (first == other).mean() < 0.03  # about 1 in 160 is equal by chance


# -- parts of a batch --------------------------------------------------------------


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("place", [0, 1, 2, 3, 4, 30, 63])
def test_words_of_a_part_are_those_of_the_whole(jit_compile, place):
    def words(count, place):
        return random_words(tf.constant(negatives_key(5, 2)), tf.constant(7), count, place)

    run = tf.function(words, jit_compile=True, autograph=False) if jit_compile else words
    part = tf.function(lambda p: words(36, p), jit_compile=jit_compile, autograph=False)(
        tf.constant(place))
    np.testing.assert_array_equal(part.numpy(), run(100, None).numpy()[place : place + 36])


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_parts_of_a_batch_draw_what_the_whole_draws(parts):
    """Even if words are rejected, here nearly every second word."""
    key, step = tf.constant(negatives_key(3, 1)), tf.constant(2)
    sizes = tf.fill([60], tf.constant(2**31 + 1, tf.uint32))
    sizes = tf.where(tf.range(60) % 3 == 0, tf.constant(1_431_655_766, tf.uint32), sizes)
    whole = uniform_below(key, step, sizes, offset=tf.constant(0)).numpy()
    length = 60 // parts
    found = [
        uniform_below(key, step, sizes[low : low + length], offset=tf.constant(low)).numpy()
        for low in range(0, 60, length)
    ]
    np.testing.assert_array_equal(np.concatenate(found), whole)
    np.testing.assert_array_equal(uniform_below(key, step, sizes).numpy(), whole)
