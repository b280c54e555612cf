"""Seeds of trials: from the operating system, or derived from `--seed`."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Set

# Seeds are 1 to 2^31 - 1: every library accepts a positive 32-bit signed integer.
_NUM_SEEDS = 2**31 - 1


def choose_trial_seed(base: int | None, run: int, used: Set[int]) -> int:
    """Chooses the seed of a run.

    With a base seed, run N has the same seed in every set with that base, and in every
    attempt at the run.

    Args:
      base: The value of `--seed`; None draws from the operating system's generator.
      run: Number of the run in its set, from 0.
      used: Seeds that must not be chosen.

    Returns:
      A seed from 1 to 2^31 - 1 that is not in `used`.
    """
    if base is None:
        while True:
            seed = 1 + secrets.randbelow(_NUM_SEEDS)
            if seed not in used:
                return seed
    # SHA-256 spreads adjacent bases and runs over the whole range. The counter yields
    # another seed if one is already used.
    count = 0
    while True:
        digest = hashlib.sha256(f"{base}:{run}:{count}".encode()).digest()
        seed = 1 + int.from_bytes(digest[:8], "big") % _NUM_SEEDS
        if seed not in used:
            return seed
        count += 1
