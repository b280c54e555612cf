"""An epoch's batches: everything once, padded, repeatable, prepared aside."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_model.base.errors import PreparationStalled
from reference_model.events import NullSink
from reference_model.sampling.epoch_batches import build_epoch
from reference_model.sampling.negatives import make_sampler
from reference_model.sampling.prefetch import EpochPrefetcher
from tests.support.splits import random_split


class RecordingSink:
    """Keeps what it is told, in order."""

    def __init__(self):
        self.said = []

    def point(self, key, value=None, **metadata):
        self.said.append((key, value, metadata))

    start = end = point


def epoch_of(split, batch_size=16, negatives=4, seed=1, epoch=1):
    return build_epoch(split, make_sampler(split), negatives, batch_size, seed, epoch)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(0, 5), st.integers(1, 64))
def test_every_positive_once_and_its_negatives(seed, users, negatives, batch_size):
    split = random_split(seed, users, 20)
    batches = epoch_of(split, batch_size, negatives, seed)
    examples = split.num_positives * (1 + negatives)
    assert batches.examples == examples
    assert batches.user.shape == batches.item.shape == batches.label.shape
    assert batches.user.shape == (-(-examples // batch_size), batch_size)
    user, item = batches.user.ravel()[:examples], batches.item.ravel()[:examples]
    label = batches.label.ravel()
    positives = sorted(zip(user[label[:examples]], item[label[:examples]]))
    assert positives == list(zip(split.train_user, split.train_item))
    known = set(positives)
    wrong = [p for p in zip(user[~label[:examples]], item[~label[:examples]]) if p in known]
    assert not wrong
    drawn = np.bincount(user[~label[:examples]], minlength=users)
    np.testing.assert_array_equal(drawn, np.diff(split.row_starts) * negatives)


def test_padding_is_spread_out_and_never_a_positive():
    split = random_split(0, 7, 20)
    batches = epoch_of(split, batch_size=1000)
    padding = slice(batches.examples, None)
    assert not batches.label.ravel()[padding].any()
    assert np.bincount(batches.user.ravel()[padding]).max() <= 1 + 1000 // 7
    assert len(set(batches.item.ravel()[padding])) == split.num_items


def test_same_seed_same_bits_and_every_epoch_fresh():
    split = random_split(0, 9, 30)
    one, again, next_epoch = epoch_of(split), epoch_of(split), epoch_of(split, epoch=2)
    for name in ("user", "item", "label"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
    assert (one.item != next_epoch.item).any() and (one.label != next_epoch.label).any()


def test_the_order_is_a_uniform_permutation():
    """Where one given positive lands, over 600 epochs, is uniform (chi-square)."""
    from scipy import stats

    split = random_split(2, 2, 6, 0.3)
    places = []
    for epoch in range(600):
        batches = epoch_of(split, batch_size=4096, negatives=1, epoch=epoch)
        flat = batches.label.ravel()[: batches.examples]
        hit = (
            (batches.user.ravel()[: batches.examples] == split.train_user[0])
            & (batches.item.ravel()[: batches.examples] == split.train_item[0])
            & flat
        )
        places.append(int(np.flatnonzero(hit)[0]))
    counts = np.bincount(places, minlength=2 * split.num_positives)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_next_epoch_is_built_while_the_current_one_trains():
    started, release = threading.Event(), threading.Event()

    def build(epoch, cancelled):
        started.set()
        release.wait(10)
        return epoch

    sink = RecordingSink()
    prefetcher = EpochPrefetcher(build, sink)
    prefetcher.begin(1)
    assert started.wait(10), "the build runs before anybody asks for its result"
    release.set()
    assert prefetcher.take(1) == 1
    prefetcher.close()
    assert [(k, m["epoch_num"]) for k, _, m in sink.said] == [
        ("train_neg_gen_start", 1),
        ("train_neg_gen_stop", 1),
    ]


def test_a_preparation_that_stalls_ends_within_the_stated_time():
    prefetcher = EpochPrefetcher(lambda e, c: time.sleep(30), NullSink(), timeout_s=0.2)
    prefetcher.begin(1)
    with pytest.raises(PreparationStalled, match="epoch 1 did not arrive within 0.2 s"):
        prefetcher.take(1)
    prefetcher.close()


def test_a_preparation_that_fails_raises_where_its_batches_are_taken():
    def build(epoch, cancelled):
        raise MemoryError("no room")

    sink = RecordingSink()
    prefetcher = EpochPrefetcher(build, sink)
    prefetcher.begin(1)
    with pytest.raises(MemoryError, match="no room"):
        prefetcher.take(1)
    assert sink.said[-1][2]["status"] == "failed"


def test_closing_cancels_what_is_being_built_and_closes_its_interval():
    split = random_split(0, 9, 30)
    begun = threading.Event()

    def build(epoch, cancelled):
        begun.set()
        while not cancelled():
            time.sleep(0.001)
        return build_epoch(split, make_sampler(split), 4, 16, 1, epoch, cancelled)

    sink = RecordingSink()
    prefetcher = EpochPrefetcher(build, sink)
    prefetcher.begin(1)
    assert begun.wait(10)
    prefetcher.close()
    assert sink.said[-1][0] == "train_neg_gen_stop"
    assert sink.said[-1][2]["status"] == "cancelled"
