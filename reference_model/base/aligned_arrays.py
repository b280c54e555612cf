"""Arrays that TensorFlow can use without a copy."""

from __future__ import annotations

from typing import Callable

import numpy as np

# In bytes. TensorFlow uses host memory without a copy only if its address is a multiple of this.
ALIGNMENT = 64


def aligned_empty(shape: int | tuple[int, ...], dtype: type) -> np.ndarray:
    """Like `np.empty`, with the data aligned to ALIGNMENT bytes."""
    return _allocate_aligned(np.empty, shape, dtype)


def aligned_zeros(shape: int | tuple[int, ...], dtype: type) -> np.ndarray:
    """Like `np.zeros`, with the data aligned to ALIGNMENT bytes."""
    return _allocate_aligned(np.zeros, shape, dtype)


def _allocate_aligned(
    allocate: Callable, shape: int | tuple[int, ...], dtype: type
) -> np.ndarray:
    """Allocates ALIGNMENT extra bytes and returns the aligned part of the buffer."""
    num_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    buffer = allocate(num_bytes + ALIGNMENT, np.uint8)
    # Bytes from the start of the buffer to the next multiple of ALIGNMENT.
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + num_bytes].view(dtype).reshape(shape)
