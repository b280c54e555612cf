"""Random words and integers drawn inside a compiled program.

The words come from Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
3"). The key depends on the run and the epoch, the counter on the step, the attempt and the
position in the global batch. So no word is used twice, no state is carried between steps, and
replicas that share a batch draw the same words as one device.
"""

from __future__ import annotations

import numpy as np

from reference_model.base.lazy_modules import tf
from reference_model.sampling.philox import KEY_STEPS, MULTIPLIERS, ROUNDS

# TensorFlow's id of the Philox algorithm.
_PHILOX = 1
# Number of 32-bit words per Philox counter value.
_WORDS_PER_BLOCK = 4


def pack_u32(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Packs two 32-bit integers into each uint64 [n], so that one gather reads both."""
    packed = high.astype(np.uint64)
    packed <<= np.uint64(32)
    packed |= low.astype(np.uint32, copy=False)
    return packed


def unpack_u32(packed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Inverts `pack_u32`: (low as uint32, high as int32)."""
    return tf.cast(packed, tf.uint32), _high_half(packed)


def _high_half(wide: tf.Tensor) -> tf.Tensor:
    """Returns the upper 32 bits of uint64, as int32."""
    return tf.cast(tf.bitwise.right_shift(wide, tf.constant(32, tf.uint64)), tf.int32)


def _product_64(words: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    """Returns words * sizes in 64 bits."""
    return tf.cast(words, tf.uint64) * tf.cast(sizes, tf.uint64)


def random_words(key: tf.Tensor, step: tf.Tensor, count: int, offset=None) -> tf.Tensor:
    """Draws the words of a part of one step's batch.

    Args:
      key: uint64 [1], from `random_streams.negatives_key`.
      step: int32 scalar, the step number within the epoch.
      count: number of words.
      offset: int32 scalar, the position of the first word in the global batch; None means 0.

    Returns:
      uint32 [count].
    """
    if offset is None:
        return philox_words(key, step, 0, 0, count)
    # Words are drawn in blocks of four, so up to three words before `offset` must be skipped.
    words = philox_words(key, step, 0, offset // _WORDS_PER_BLOCK, count + _WORDS_PER_BLOCK)
    return tf.slice(words, [offset % _WORDS_PER_BLOCK], [count])


def philox_words(key: tf.Tensor, step: tf.Tensor, attempt, first_block, count: int) -> tf.Tensor:
    """Draws consecutive words, starting at a given block.

    Args:
      key: uint64 [1].
      step: int32 scalar, the step number within the epoch.
      attempt: int32 scalar, the number of earlier draws for these positions.
      first_block: int32 scalar, the low part of the counter: the number of the first block.
      count: number of words.

    Returns:
      uint32 [count].
    """
    high = tf.cast(step, tf.uint64) * tf.constant(1 << 32, tf.uint64) + tf.cast(attempt, tf.uint64)
    counter = tf.stack([tf.cast(first_block, tf.uint64), high])
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[count], key=key, counter=counter, alg=_PHILOX, dtype=tf.uint32
    )


def philox_word_at(key: tf.Tensor, step: tf.Tensor, attempt, block, lane) -> tf.Tensor:
    """Computes single words of `philox_words`, each from its own counter.

    One GPU kernel computes them together with what uses them. Four threads compute the same block,
    which costs less than a pass through memory.

    Args:
      key: uint64 [1].
      step: int32 scalar, the step number within the epoch.
      attempt: int32 scalar.
      block: uint32 [n], the number of the block of each word.
      lane: uint32 [n], the position of each word in its block, 0 to 3.

    Returns:
      uint32 [n].
    """
    low, high = unpack_u32(key[0])
    keys = [low, tf.cast(high, tf.uint32)]
    words = [block, tf.zeros_like(block)]
    words += [tf.zeros_like(block) + tf.cast(x, tf.uint32) for x in (attempt, step)]
    for _ in range(ROUNDS):
        (high_0, low_0), (high_1, low_1) = (
            _wide_halves(_product_64(words[2 * i], tf.constant(MULTIPLIERS[i], tf.uint32)))
            for i in (0, 1)
        )
        words = [high_1 ^ words[1] ^ keys[0], low_1, high_0 ^ words[3] ^ keys[1], low_0]
        keys = [k + tf.constant(c, tf.uint32) for k, c in zip(keys, KEY_STEPS)]
    pairs = [tf.where(tf.equal(lane & 1, 0), words[i], words[i + 1]) for i in (0, 2)]
    return tf.where(lane < 2, *pairs)


def _wide_halves(wide: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits uint64 into its upper and its lower 32 bits."""
    low, high = unpack_u32(wide)
    return tf.cast(high, tf.uint32), low


def scale_words(words: tf.Tensor, size: int) -> tf.Tensor:
    """Scales words uint32 [n] to int32 [n] in [0, size), with a bias of at most size / 2^32."""
    return _high_half(_product_64(words, tf.constant(size, tf.uint32)))


def uniform_below(
    key, step, sizes: tf.Tensor, words: tf.Tensor | None = None, offset=None, on_gpu: bool = False
) -> tf.Tensor:
    """Draws exactly uniform integers, each below its own bound.

    For a word w and a size n, the result is floor(w n / 2^32). If the low half of w n is below
    2^32 mod n, the word is rejected and another one is drawn (Lemire 2019, "Fast random integer
    generation in an interval", algorithm 5).

    Args:
      key: uint64 [1], from `random_streams.negatives_key`.
      step: int32 scalar, the step number within the epoch.
      sizes: uint32 [count], the bounds n; all positive.
      words: uint32 [count], replaces the first words drawn; for tests.
      offset: int32 scalar, the position of the first integer in the global batch; None means 0.
      on_gpu: whether all words are tested at once, with few kernels. The result is the same.

    Returns:
      int32 [count] in [0, sizes).
    """
    if on_gpu:
        return _uniform_below_at_once(key, step, sizes, words, offset)
    if words is None:
        words = random_words(key, step, sizes.shape[0], offset)
    base = tf.constant(0) if offset is None else offset
    count = int(sizes.shape[0])
    positions = tf.range(count)

    def check_one(_, first, attempts, words):
        """Tests the next candidate for rejection from position `first` on; replaces it if rejected.

        2^32 mod n is below n. So only words whose low half is below n can be rejected. These are
        rare, so the remainder, a division, is computed for one size at a time. `attempts` is
        the number of words already rejected at position `first`.
        """
        is_suspect = (tf.cast(_product_64(words, sizes), tf.uint32) < sizes) & (positions >= first)
        position = tf.reduce_min(tf.where(is_suspect, positions, count))
        found = position < count
        position = tf.minimum(position, count - 1)
        word, size = (tf.gather(x, position)[None] for x in (words, sizes))
        low_half = tf.cast(_product_64(word, size), tf.uint32)
        is_rejected = found & (low_half < _rejection_threshold(size))[0]
        # Attempts are counted per position, so that a part of a batch draws the same words as
        # the whole batch.
        attempts = tf.where(
            is_rejected, tf.where(tf.equal(position, first), attempts, 0) + 1, 0
        )
        fresh = philox_words(key, step, attempts, base + position, _WORDS_PER_BLOCK)[:1]
        words = tf.tensor_scatter_nd_update(
            words, [[position]], tf.where(is_rejected, fresh, word)
        )
        # A fresh word is tested in the next iteration.
        return found, tf.where(is_rejected, position, position + 1), attempts, words

    # The words must have no other use than the loop: XLA would redraw them for each use.
    start = (tf.constant(True), tf.constant(0), tf.constant(0), words)
    *_, words = tf.while_loop(lambda more, *_: more, check_one, start)
    return _high_half(_product_64(words, sizes))


def _uniform_below_at_once(key, step, sizes, words, offset) -> tf.Tensor:
    """Tests all words in each iteration; see `uniform_below`.

    Hardly more than one iteration is ever needed: of a million words, about five are rejected.
    """
    count = int(sizes.shape[0])
    position = tf.cast(tf.range(count) + (0 if offset is None else offset), tf.uint32)
    if words is None:
        block = position // _WORDS_PER_BLOCK
        words = philox_word_at(key, step, 0, block, position % _WORDS_PER_BLOCK)

    def is_rejected(words):
        low_half = tf.cast(_product_64(words, sizes), tf.uint32)
        return low_half < _rejection_threshold(sizes)

    def draw_again(attempts, words, _):
        # A word that replaces another is the first of the block with the number of its position.
        lane = tf.zeros_like(position)
        fresh = philox_word_at(key, step, attempts, position, lane)
        words = tf.where(is_rejected(words), fresh, words)
        return attempts + 1, words, tf.reduce_any(is_rejected(words))

    start = (tf.constant(1), words, tf.reduce_any(is_rejected(words)))
    _, words, _ = tf.while_loop(lambda attempts, words, more: more, draw_again, start)
    return _high_half(_product_64(words, sizes))


def _rejection_threshold(sizes: tf.Tensor) -> tf.Tensor:
    """Returns 2^32 mod n, computed as (2^32 - n) mod n in unsigned 32-bit arithmetic."""
    return tf.math.floormod(tf.zeros_like(sizes) - sizes, sizes)
