"""Digests of the batches and evaluation lists of a run, for comparison by a third party.

Each digest is the SHA-256 (hex) of little-endian arrays, one whole array after the other:
  first_batch       user int32, item int32, label uint8 of the first batch of epoch 1
  first_epoch       the same arrays for all examples of epoch 1, in epoch order, without
                    padding
  evaluation_lists  items int32 [users, negatives + 1] (the held-out item last), then
                    masked uint8 of the same shape

After the clock has stopped, the engine's `epoch_batches(1)` and `evaluation_lists()`
draw the same arrays again from the seed. Without these methods, no digests are recorded.
An epoch of more than MAX_EXAMPLES examples may not fit into memory: if the engine can draw
the first steps alone (`epoch_batches(1, steps=1)`), only `first_batch` is recorded.
"""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

import numpy as np

# Elements converted at a time, to avoid a second copy of a whole array.
_CHUNK = 4_000_000
# An example takes 9 bytes; an epoch of ml-20m has 99 million.
MAX_EXAMPLES = 1 << 27


def _digest_arrays(*arrays: tuple[np.ndarray, str]) -> str:
    """Returns the SHA-256 (hex) of arrays, each converted to its little-endian type."""
    digest = hashlib.sha256()
    for array, dtype in arrays:
        _update_digest(digest, array, dtype)
    return digest.hexdigest()


def _update_digest(digest: Any, array: np.ndarray, dtype: str) -> None:
    """Adds an array to a hash, converted to the little-endian type `dtype`."""
    flat = np.asarray(array).reshape(-1)
    for low in range(0, len(flat), _CHUNK):
        digest.update(np.ascontiguousarray(flat[low : low + _CHUNK], dtype))


def digest_batches(batches: Any) -> dict[str, str]:
    """Computes the digests of an epoch's first batch and of the whole epoch.

    Args:
      batches: `EpochBatches` with `user`, `item` and `label` of shape [steps, batch size];
        the first `examples` examples are real, the rest is padding.

    Returns:
      {"first_batch": hex, "first_epoch": hex}.
    """
    arrays = ((batches.user, "<i4"), (batches.item, "<i4"), (batches.label, "u1"))
    num_real = batches.examples
    num_first = min(num_real, np.asarray(batches.user[0]).size)
    flat = [(np.asarray(array).reshape(-1), dtype) for array, dtype in arrays]
    return {
        "first_batch": _digest_arrays(*((array[:num_first], dtype) for array, dtype in flat)),
        "first_epoch": _digest_arrays(*((array[:num_real], dtype) for array, dtype in flat)),
    }


def digest_evaluation_lists(lists: Any) -> dict[str, str]:
    """Computes the digest of the evaluation lists.

    Args:
      lists: `EvaluationLists`, or an iterable of `EvaluationLists` in the order of users that
        can be iterated twice.

    Returns:
      {"evaluation_lists": hex}.
    """
    parts = [lists] if hasattr(lists, "items") else lists
    digest = hashlib.sha256()
    # All items precede all masks, so this iterates over the parts twice.
    for name, dtype in (("items", "<i4"), ("masked", "u1")):
        for part in parts:
            _update_digest(digest, getattr(part, name), dtype)
    return {"evaluation_lists": digest.hexdigest()}


def _accepts_steps(engine: Any) -> bool:
    """Returns whether the engine can draw the first steps of an epoch alone."""
    return "steps" in inspect.signature(engine.epoch_batches).parameters


def digest_engine_data(engine: Any) -> dict[str, str]:
    """Computes all digests that the methods of an engine allow.

    Args:
      engine: An engine that has loaded its data; it may be closed.

    Returns:
      Digests (hex) by name; empty if the engine has none of the optional methods.
    """
    digests: dict[str, str] = {}
    if callable(getattr(engine, "epoch_batches", None)):
        if _accepts_steps(engine) and engine.config.train_examples > MAX_EXAMPLES:
            first_step = engine.epoch_batches(1, steps=1)
            digests["first_batch"] = digest_batches(first_step)["first_batch"]
        else:
            digests.update(digest_batches(engine.epoch_batches(1)))
    # Prefer the streamed form, which needs less memory.
    draw_lists = getattr(engine, "streamed_evaluation_lists", None)
    draw_lists = draw_lists or getattr(engine, "evaluation_lists", None)
    if callable(draw_lists):
        digests.update(digest_evaluation_lists(draw_lists()))
    return digests
