"""Large arrays that an engine may use where they lie, without a copy."""

from __future__ import annotations

import numpy as np

# TensorFlow reads memory in place where it begins at a multiple of so many bytes.
ALIGNMENT = 64


def aligned_empty(shape: int | tuple[int, ...], dtype: type) -> np.ndarray:
    """As np.empty, beginning at a multiple of ALIGNMENT bytes."""
    return _aligned(np.empty, shape, dtype)


def aligned_zeros(shape: int | tuple[int, ...], dtype: type) -> np.ndarray:
    """As np.zeros, beginning at a multiple of ALIGNMENT bytes."""
    return _aligned(np.zeros, shape, dtype)


def _aligned(make, shape: int | tuple[int, ...], dtype: type) -> np.ndarray:
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    raw = make(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
