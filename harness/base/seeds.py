"""Seeds of trials: from the operating system, or derived from a base."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Set

_RANGE = 2**31 - 1  # what every library takes as a seed


def trial_seed(base: int | None, run: int, used: Set[int]) -> int:
    """A seed from 1 to 2^31 - 1 that is not in `used`.

    With a base, run N of two sets with the same base has the same seed, and so
    has a second attempt at it.
    """
    if base is None:
        while True:
            seed = 1 + secrets.randbelow(_RANGE)
            if seed not in used:
                return seed
    count = 0
    while True:
        digest = hashlib.sha256(f"{base}:{run}:{count}".encode()).digest()
        seed = 1 + int.from_bytes(digest[:8], "big") % _RANGE
        if seed not in used:
            return seed
        count += 1
