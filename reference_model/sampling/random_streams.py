"""The independent random streams of a run, all derived from the run's seed.

Each stream has a key (purpose, epoch, index), which NumPy's `SeedSequence` hashes together
with the seed, so streams with different keys or different seeds are independent.
"""

from __future__ import annotations

import numpy as np

# The purposes of streams. The results of a seed depend on these numbers: never change a number,
# and never use it for another purpose.
STREAM_WEIGHTS = 0  # initial weights
STREAM_EVALUATION = 1  # evaluation negatives
STREAM_NEGATIVES = 2  # training negatives that the host draws
STREAM_ORDER = 3  # the order of an epoch's examples, drawn by the host
STREAM_DEVICE_NEGATIVES = 4  # training negatives that the device draws
STREAM_ORDER_PARTS = 5  # the order of an epoch's examples, drawn part by part


def stream(seed: int, purpose: int, epoch: int = 0, index: int = 0) -> np.random.Generator:
    """Makes the random generator of one purpose in one epoch.

    Args:
      seed: the run's seed.
      purpose: one of the STREAM constants.
      epoch: 0 for a stream that serves the whole run.
      index: distinguishes several streams of one purpose in one epoch.
    """
    return np.random.Generator(np.random.PCG64(_seed_sequence(seed, purpose, epoch, index)))


def weights_seed(seed: int) -> int:
    """Derives the seed of the initial weights from the run's seed."""
    return int(stream(seed, STREAM_WEIGHTS).integers(2**63))


def negatives_key(seed: int, epoch: int) -> np.ndarray:
    """Derives the Philox key with which the device draws one epoch's negatives.

    Returns:
      uint64 [1].
    """
    return _seed_sequence(seed, STREAM_DEVICE_NEGATIVES, epoch, 0).generate_state(1, np.uint64)


def _seed_sequence(seed: int, purpose: int, epoch: int, index: int) -> np.random.SeedSequence:
    """Makes the seed sequence of a stream from the run's seed and the stream's key."""
    return np.random.SeedSequence(seed, spawn_key=(purpose, epoch, index))
