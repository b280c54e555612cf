"""TODO."""

from __future__ import annotations

import numpy as np

# Streams of one run; epochs, replicas and runs never share one.
STREAM_WEIGHTS = 0


STREAM_EVALUATION = 1


STREAM_NEGATIVES = 2


STREAM_ORDER = 3


STREAM_FUSED_NEGATIVES = 4


STREAM_PARTS = 5


def stream(seed: int, purpose: int, epoch: int = 0, replica: int = 0) -> np.random.Generator:
    """The random stream of one purpose in one epoch on one replica of one run."""
    key = np.random.SeedSequence(seed, spawn_key=(purpose, epoch, replica))
    return np.random.Generator(np.random.PCG64(key))


def weights_seed(seed: int) -> int:
    """The seed of a run's initial weights."""
    return int(stream(seed, STREAM_WEIGHTS).integers(2**63))


def key64(seed: int, purpose: int, epoch: int = 0, replica: int = 0) -> int:
    """A 64-bit key for a counter-based generator, by the same rule as `stream`."""
    key = np.random.SeedSequence(seed, spawn_key=(purpose, epoch, replica))
    return int(key.generate_state(1, np.uint64)[0])


def negatives_key(seed: int, epoch: int) -> np.ndarray:
    """uint64 [1]: the Philox key of one epoch of one run."""
    return np.array([key64(seed, STREAM_FUSED_NEGATIVES, epoch, 0)], np.uint64)
