"""The independent random streams of a run, all derived from the run's seed.

Each stream has a key (purpose, epoch, index). NumPy's `SeedSequence` hashes the key together with
the seed, so streams with different keys or seeds are independent.
"""

from __future__ import annotations

import numpy as np

# The purposes of streams. Results depend on these numbers: never change or reuse one.
STREAM_WEIGHTS = 0  # initial weights
STREAM_EVALUATION = 1  # evaluation negatives
STREAM_NEGATIVES = 2  # training negatives, drawn on the host
STREAM_ORDER = 3  # epoch order, drawn on the host
STREAM_DEVICE_NEGATIVES = 4  # training negatives, drawn on the device
STREAM_ORDER_PARTS = 5  # assignment of examples to the parts of the epoch order
STREAM_DEVICE_ORDER = 6  # epoch order, drawn on the device


def stream(seed: int, purpose: int, epoch: int = 0, index: int = 0) -> np.random.Generator:
    """Creates the random generator for one purpose and epoch.

    Args:
      seed: the run's seed.
      purpose: one of the STREAM constants.
      epoch: the epoch number, from 1; 0 for a stream of the whole run.
      index: distinguishes several streams of the same purpose and epoch.
    """
    return np.random.Generator(np.random.PCG64(_seed_sequence(seed, purpose, epoch, index)))


def weights_seed(seed: int) -> int:
    """Derives the seed of the initial weights from the run's seed."""
    return int(stream(seed, STREAM_WEIGHTS).integers(2**63))


def negatives_key(seed: int, epoch: int) -> np.ndarray:
    """Derives the Philox key for the negatives that the device draws in one epoch.

    Returns:
      uint64 [1].
    """
    return _seed_sequence(seed, STREAM_DEVICE_NEGATIVES, epoch, 0).generate_state(1, np.uint64)


def order_key(seed: int, epoch: int) -> np.ndarray:
    """Derives the Philox key for the order of one epoch that the device draws.

    Returns:
      uint64 [1].
    """
    return _seed_sequence(seed, STREAM_DEVICE_ORDER, epoch, 0).generate_state(1, np.uint64)


def _seed_sequence(seed: int, purpose: int, epoch: int, index: int) -> np.random.SeedSequence:
    """Creates the seed sequence of a stream from the run's seed and the stream's key."""
    return np.random.SeedSequence(seed, spawn_key=(purpose, epoch, index))
