"""A log of ours in the dialect of v0.5, read back as the MLLOG records that it was made of.

The inverse of `harness.logs.v05_translator`, as far as an audit needs it. What v0.5 has a tag for
is taken from that tag, since that is what its checker and its readers see.
"""

from __future__ import annotations

from typing import Any

from compliance.logs.dialects import Event
from compliance.logs.dialects.event import is_integer
from harness.logs.v05_translator import OPTIMIZER_NAMES, OURS, RENAMED

_KEYS = {tag: key for key, tag in RENAMED.items()}
_OPTIMIZERS = {theirs: ours for ours, theirs in OPTIMIZER_NAMES.items()}


def as_mllog(event: Event) -> Event | None:
    """The MLLOG record behind one of v0.5; None where an audit does not need it."""
    value = event.value
    if event.key == OURS:
        return _ours(event, value) if isinstance(value, dict) else None
    if event.key in ("eval_accuracy", "eval_size", "eval_hp_num_users"):
        return _of_evaluation(event, value)
    if event.key == "run_stop":
        reason = "target" if event.meta.get("success") is True else event.meta.get("reason")
        return _event(event, "run_stop", None, {"reason": reason})
    if event.key == "opt_name":
        known = _OPTIMIZERS.get(value, value) if isinstance(value, str) else value
        return _event(event, "opt_name", known)
    key = _KEYS.get(event.key)
    return None if key is None else _event(event, key, value)


def _ours(event: Event, value: dict[str, Any]) -> Event | None:
    key, meta = value.get("key"), value.get("metadata")
    if not isinstance(key, str) or not isinstance(meta, dict):
        return None
    return _event(event, key, value.get("value"), meta)


def _of_evaluation(event: Event, value: Any) -> Event:
    if event.key == "eval_hp_num_users":  # v0.5 repeats it with every evaluation
        return _event(event, "eval_num_users", value)
    epoch = event.meta.get("epoch")
    meta = {"epoch_num": epoch + 1} if is_integer(epoch) else {}
    return _event(event, event.key, event.meta.get("value"), meta)


def _event(event: Event, key: str, value: Any, meta: dict[str, Any] | None = None) -> Event:
    return Event(event.line, event.time, None, key, value, meta or {})
