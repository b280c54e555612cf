"""Philox 4x32-10 in NumPy.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". `device_sampling.random_words` has
the form for compiled programs.
"""

from __future__ import annotations

import numpy as np

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
# What is added to the two words of the key after each round.
KEY_STEPS = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
_LOW_WORD = np.uint64(0xFFFFFFFF)
_WORD_BITS = np.uint64(32)


def philox(counter: list[np.ndarray], key: tuple[int, int]) -> list[np.ndarray]:
    """Applies Philox 4x32-10 to counters.

    Args:
      counter: four uint64 [n], each with the values of one 32-bit word.
      key: the two words of the key.

    Returns:
      Four uint64 [n] with 32-bit values.
    """
    a, b, c, d = counter
    for number in range(ROUNDS):
        keys = (np.uint64((k + number * step) & 0xFFFFFFFF) for k, step in zip(key, KEY_STEPS))
        first, second = a * np.uint64(MULTIPLIERS[0]), c * np.uint64(MULTIPLIERS[1])
        a = (second >> _WORD_BITS) ^ b ^ next(keys)
        b = second & _LOW_WORD
        c = (first >> _WORD_BITS) ^ d ^ next(keys)
        d = first & _LOW_WORD
    return [a, b, c, d]
