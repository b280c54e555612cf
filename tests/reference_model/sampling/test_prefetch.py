"""The prefetcher: background builds, timeouts, errors, cancellation."""

from __future__ import annotations

import threading
import time

import pytest

from reference_model.base.errors import PreparationStalled
from reference_model.events import NullSink
from reference_model.sampling.epoch_batches import build_epoch
from reference_model.sampling.negatives import make_sampler
from reference_model.sampling.prefetch import EpochPrefetcher
from tests.support.recording_sink import RecordingSink
from tests.support.splits import random_split


def test_the_next_epoch_is_built_while_the_current_one_trains():
    started, release = threading.Event(), threading.Event()

    def build(epoch, is_cancelled):
        started.set()
        release.wait(10)
        return epoch

    sink = RecordingSink()
    prefetcher = EpochPrefetcher(build, sink)
    prefetcher.begin(1)
    assert started.wait(10), "the build must run before its result is requested"
    release.set()
    assert prefetcher.take(1) == 1
    prefetcher.close()
    assert [(k, m["epoch_num"]) for k, _, m in sink.said] == [
        ("train_neg_gen_start", 1),
        ("train_neg_gen_stop", 1),
    ]


def test_a_stalled_build_is_an_error_after_the_timeout():
    prefetcher = EpochPrefetcher(lambda e, c: time.sleep(30), NullSink(), timeout_s=0.2)
    prefetcher.begin(1)
    with pytest.raises(PreparationStalled, match="epoch 1 were not ready within 0.2 s"):
        prefetcher.take(1)
    prefetcher.close()


def test_a_failed_build_raises_where_its_batches_are_taken():
    def build(epoch, is_cancelled):
        raise MemoryError("no room")

    sink = RecordingSink()
    prefetcher = EpochPrefetcher(build, sink)
    prefetcher.begin(1)
    with pytest.raises(MemoryError, match="no room"):
        prefetcher.take(1)
    assert sink.said[-1][2]["status"] == "failed"


def test_closing_cancels_the_build_and_ends_its_interval():
    split = random_split(0, 9, 30)
    begun = threading.Event()

    def build(epoch, is_cancelled):
        begun.set()
        while not is_cancelled():
            time.sleep(0.001)
        return build_epoch(split, make_sampler(split), 4, 16, 1, epoch, is_cancelled)

    sink = RecordingSink()
    prefetcher = EpochPrefetcher(build, sink)
    prefetcher.begin(1)
    assert begun.wait(10)
    prefetcher.close()
    assert sink.said[-1][0] == "train_neg_gen_stop"
    assert sink.said[-1][2]["status"] == "cancelled"
