"""The batches of an epoch: every example once, padded, reproducible."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_model.sampling.epoch_batches import build_epoch
from reference_model.sampling.negatives import make_sampler
from tests.support.splits import random_split


def epoch_of(split, batch_size=16, negatives=4, seed=1, epoch=1):
    return build_epoch(split, make_sampler(split), negatives, batch_size, seed, epoch)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(0, 5), st.integers(1, 64))
def test_an_epoch_has_every_positive_once_and_its_negatives(seed, users, negatives, batch_size):
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


def test_a_seed_gives_the_same_bits_and_epochs_differ():
    split = random_split(0, 9, 30)
    one, again, next_epoch = epoch_of(split), epoch_of(split), epoch_of(split, epoch=2)
    for name in ("user", "item", "label"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
    assert (one.item != next_epoch.item).any() and (one.label != next_epoch.label).any()


def test_the_order_is_a_uniform_permutation():
    """The position of one positive over 600 epochs is uniform (chi-square)."""
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
