"""Digests of what a run drew, for whoever was not there.

Each is SHA-256 (hex) over little-endian arrays, one whole array after the other:
  first_batch       user int32, item int32, label uint8 of the first batch of epoch 1
  first_epoch       the same of all examples of epoch 1, in their order, padding left out
  evaluation_lists  items int32 [users, negatives + 1] (the held-out item last), then
                    masked uint8 of the same shape

They are made from the seed once more after the clock has stopped, by the engine's
`epoch_batches(1)` and `evaluation_lists()`. An engine without these methods has no
such digests. An epoch of more than MOST_EXAMPLES would not fit memory: where the engine
can give its first steps alone (`epoch_batches(1, steps=1)`), only those are told.
"""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

import numpy as np

_CHUNK = 4_000_000
# 9 bytes each; ml-20m has 99 million.
MOST_EXAMPLES = 1 << 27


def digest(*arrays: tuple[np.ndarray, str]) -> str:
    """SHA-256 of (array, little-endian type) one after the other; flat, in chunks."""
    found = hashlib.sha256()
    for array, kind in arrays:
        update(found, array, kind)
    return found.hexdigest()


def update(found: Any, array: np.ndarray, kind: str) -> None:
    """Adds an array as little-endian type `kind` to a hash; flat, in chunks."""
    flat = np.asarray(array).reshape(-1)
    for low in range(0, len(flat), _CHUNK):
        found.update(np.ascontiguousarray(flat[low : low + _CHUNK], kind))


def of_batches(batches: Any) -> dict[str, str]:
    """Digests of `EpochBatches`: its first batch and all of it."""
    arrays = ((batches.user, "<i4"), (batches.item, "<i4"), (batches.label, "u1"))
    real = batches.examples
    first = min(real, np.asarray(batches.user[0]).size)
    flat = [(np.asarray(array).reshape(-1), kind) for array, kind in arrays]
    return {
        "first_batch": digest(*((array[:first], kind) for array, kind in flat)),
        "first_epoch": digest(*((array[:real], kind) for array, kind in flat)),
    }


def of_lists(lists: Any) -> dict[str, str]:
    """The digest of `EvaluationLists`, or of an iterable of them, user after user."""
    parts = [lists] if hasattr(lists, "items") else lists
    found = hashlib.sha256()
    for name, kind in (("items", "<i4"), ("masked", "u1")):
        for part in parts:
            update(found, getattr(part, name), kind)
    return {"evaluation_lists": found.hexdigest()}


def _tells_steps(engine: Any) -> bool:
    return "steps" in inspect.signature(engine.epoch_batches).parameters


def of_engine(engine: Any) -> dict[str, str]:
    """All digests that the engine can tell; it has loaded its data and may be closed."""
    found: dict[str, str] = {}
    if callable(getattr(engine, "epoch_batches", None)):
        if _tells_steps(engine) and engine.config.train_examples > MOST_EXAMPLES:
            found["first_batch"] = of_batches(engine.epoch_batches(1, steps=1))["first_batch"]
        else:
            found.update(of_batches(engine.epoch_batches(1)))
    lists = getattr(engine, "evaluation_lists_in_turn", None)
    lists = lists or getattr(engine, "evaluation_lists", None)
    if callable(lists):
        found.update(of_lists(lists()))
    return found
