"""TODO."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

_PHILOX = 1


_BLOCK = 4  # words of 32 bits that one value of the counter gives


def pairs(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """uint64 [n]: two numbers of 32 bits in one, so that one look-up finds both."""
    found = high.astype(np.uint64)
    found <<= np.uint64(32)
    found |= low.astype(np.uint32, copy=False)
    return found


def halves(pair: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(low, high), uint32 and int32, of `pairs`."""
    return tf.cast(pair, tf.uint32), _high(pair)


def _high(wide: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.bitwise.right_shift(wide, tf.constant(32, tf.uint64)), tf.int32)


def random_words(key: tf.Tensor, step: tf.Tensor, count: int, place=None) -> tf.Tensor:
    """uint32 [count]: the words of one step's batch from `place` on (None: from its
    beginning); key uint64 [1], step and place int32."""
    if place is None:
        return _words(key, step, 0, 0, count)
    # A block of the counter gives four words, so the first ones may be those before.
    words = _words(key, step, 0, place // _BLOCK, count + _BLOCK)
    return tf.slice(words, [place % _BLOCK], [count])


def _words(key: tf.Tensor, step: tf.Tensor, attempt, block, count: int) -> tf.Tensor:
    """uint32 [count] from the given block on of one step's attempt."""
    high = tf.cast(step, tf.uint64) * tf.constant(1 << 32, tf.uint64) + tf.cast(attempt, tf.uint64)
    counter = tf.stack([tf.cast(block, tf.uint64), high])
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[count], key=key, counter=counter, alg=_PHILOX, dtype=tf.uint32
    )


def _wide(words: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    return tf.cast(words, tf.uint64) * tf.cast(sizes, tf.uint64)


def scaled(words: tf.Tensor, size: int) -> tf.Tensor:
    """int32 [n] in [0, size): uniform up to a bias of size / 2^32; uint32 [n]."""
    return _high(_wide(words, tf.constant(size, tf.uint32)))


def uniform_below(
    key, step, sizes: tf.Tensor, words: tf.Tensor | None = None, place=None
) -> tf.Tensor:
    """int32 [count]: exactly uniform integers in [0, sizes); sizes uint32 [count] > 0.

    They are those of the batch's places from `place` on. `words` (uint32 [count])
    stand in for the first attempt in tests.
    """
    if words is None:
        words = random_words(key, step, sizes.shape[0], place)
    base = tf.constant(0) if place is None else place
    count = int(sizes.shape[0])
    places = tf.range(count)

    def examine_one(_, first, attempts, words):
        """Looks at the first word from place `first` on that may be bad, and replaces a bad
        one; `attempts` of its place have been replaced before.

        2^32 mod n < n: only where the low half is below n can a word be bad, which is rare,
        so the remainder, a division, is taken of one size and not of all.
        """
        suspect = (tf.cast(_wide(words, sizes), tf.uint32) < sizes) & (places >= first)
        here = tf.reduce_min(tf.where(suspect, places, count))
        found = here < count
        here = tf.minimum(here, count - 1)
        word, size = (tf.gather(x, here)[None] for x in (words, sizes))
        bad = found & (tf.cast(_wide(word, size), tf.uint32) < _excess(size))[0]
        # Attempts are counted by place, so that a part of a batch draws as the whole does.
        attempts = tf.where(bad, tf.where(tf.equal(here, first), attempts, 0) + 1, 0)
        fresh = _words(key, step, attempts, base + here, _BLOCK)[:1]
        words = tf.tensor_scatter_nd_update(words, [[here]], tf.where(bad, fresh, word))
        return found, tf.where(bad, here, here + 1), attempts, words

    # The words go into the loop and nowhere else: XLA would make them once for each use.
    start = (tf.constant(True), tf.constant(0), tf.constant(0), words)
    *_, words = tf.while_loop(lambda more, *_: more, examine_one, start)
    return _high(_wide(words, sizes))


def _excess(sizes: tf.Tensor) -> tf.Tensor:
    """2^32 mod n, as (2^32 - n) mod n in unsigned arithmetic."""
    return tf.math.floormod(tf.zeros_like(sizes) - sizes, sizes)
