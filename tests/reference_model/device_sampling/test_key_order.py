"""The order made by sorted random keys: the same on a device and on the host, and a permutation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")

from reference_model.device_sampling import key_order  # noqa: E402
from reference_model.device_sampling.key_order import KeyOrder, batches_on_host
from reference_model.device_sampling.random_words import philox_words
from reference_model.sampling.philox import philox
from reference_model.sampling.random_streams import negatives_key, order_key


def on_device(examples: int, batch_size: int, key: np.ndarray, attempt: int = 0):
    order = KeyOrder(examples, batch_size)
    drawn = tf.function(order.draw, jit_compile=True)
    batches, has_equal = drawn(tf.constant(key), tf.constant(attempt))
    return batches.numpy(), bool(has_equal)


@pytest.mark.parametrize("examples, batch_size", [(1, 1), (7, 3), (12, 4), (1_000, 64), (5, 9)])
def test_device_and_host_make_the_same_order(examples, batch_size):
    for epoch in (1, 2):
        key = order_key(11, epoch)
        found, has_equal = on_device(examples, batch_size, key)
        assert not has_equal
        np.testing.assert_array_equal(found, batches_on_host(examples, batch_size, key))


def test_the_words_are_those_of_the_sampler():
    key = order_key(3, 4)
    expected = philox_words(tf.constant(key), tf.constant(0), 5, 9, 40).numpy().reshape(-1, 4)
    counter = [np.arange(9, 19, dtype=np.uint64), *(np.full(10, x, np.uint64) for x in (0, 5, 0))]
    blocks = philox(counter, (int(key[0]) & 0xFFFFFFFF, int(key[0]) >> 32))
    np.testing.assert_array_equal(np.stack(blocks, axis=1), expected)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 500), st.integers(1, 60), st.integers(0, 2**32))
def test_every_example_comes_once_and_batches_ascend(examples, batch_size, seed):
    batches = batches_on_host(examples, batch_size, order_key(seed, 1))
    assert batches.shape == (-(-examples // batch_size), batch_size)
    flat = batches.reshape(-1)
    assert sorted(flat[:examples]) == list(range(examples))
    padding = flat[examples:]
    assert (padding >= 0).all() and (padding < examples).all()
    whole = [*batches[:-1], batches[-1][: batch_size - len(padding)]]
    assert all((np.diff(batch) > 0).all() for batch in whole)


def test_each_assignment_to_batches_is_equally_likely():
    """3 of 5 examples in the first batch: 10 assignments; chi-squared with 9 degrees of freedom."""
    draws, counts = 4_000, {}
    for seed in range(draws):
        first = tuple(batches_on_host(5, 3, order_key(seed, 1))[0])
        counts[first] = counts.get(first, 0) + 1
    assert len(counts) == 10
    expected = draws / 10
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < 27.9  # exceeded by chance once in 1,000


def test_equal_keys_are_drawn_again(monkeypatch):
    key, attempts = order_key(1, 1), []
    real = key_order._host_keys

    def keys(examples, key, attempt):
        attempts.append(attempt)
        found = real(examples, key, attempt)
        if attempt == 0:
            found[7] = found[3]
        return found

    monkeypatch.setattr(key_order, "_host_keys", keys)
    found = batches_on_host(20, 6, key)
    assert attempts == [0, 1]
    monkeypatch.undo()
    np.testing.assert_array_equal(found, on_device(20, 6, key, attempt=1)[0])


def test_a_device_reports_equal_keys(monkeypatch):
    monkeypatch.setattr(
        KeyOrder, "_keys", lambda self, key, attempt, number: tf.cast(number // 2, tf.uint64)
    )
    assert on_device(10, 5, order_key(1, 1))[1]


def test_order_and_negatives_have_different_streams():
    assert order_key(1, 1) != negatives_key(1, 1)
    assert order_key(1, 1) != order_key(1, 2)
