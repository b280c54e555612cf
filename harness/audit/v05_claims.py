"""Translates a v0.5 log that the harness wrote back to the original MLLOG records.

This is the inverse of `harness.logs.v05_translator`, limited to the records that an audit
needs. A value that has a v0.5 tag is read from that tag, because the v0.5 checker reads it,
even if the log contains the complete MLLOG event, too.
"""

from __future__ import annotations

from typing import Any

from compliance.logs.dialects import Event
from compliance.logs.dialects.event import is_integer
from harness.logs.v05_translator import MLLOG_TAG, OPTIMIZER_NAMES, RENAMED_TAGS

# MLLOG keys by v0.5 tag, and our optimizer names by v0.5 name.
_KEYS = {tag: key for key, tag in RENAMED_TAGS.items()}
_OPTIMIZERS = {v05_name: name for name, v05_name in OPTIMIZER_NAMES.items()}


def to_mllog_event(event: Event) -> Event | None:
    """Returns the MLLOG record of a v0.5 record; None if an audit does not need it."""
    value = event.value
    if event.key == MLLOG_TAG:
        return _embedded_event(event, value) if isinstance(value, dict) else None
    if event.key in ("eval_accuracy", "eval_size", "eval_hp_num_users"):
        return _evaluation_event(event, value)
    if event.key == "run_stop":
        reason = "target" if event.metadata.get("success") is True else event.metadata.get("reason")
        return _with_key(event, "run_stop", None, {"reason": reason})
    if event.key == "opt_name":
        name = _OPTIMIZERS.get(value, value) if isinstance(value, str) else value
        return _with_key(event, "opt_name", name)
    key = _KEYS.get(event.key)
    return None if key is None else _with_key(event, key, value)


def _embedded_event(event: Event, value: dict[str, Any]) -> Event | None:
    """Returns the event under the tag `mllog`; None if its value has another form."""
    key, meta = value.get("key"), value.get("metadata")
    if not isinstance(key, str) or not isinstance(meta, dict):
        return None
    return _with_key(event, key, value.get("value"), meta)


def _evaluation_event(event: Event, value: Any) -> Event:
    """Returns the event of a tag that v0.5 writes at each evaluation."""
    if event.key == "eval_hp_num_users":  # v0.5 repeats it with every evaluation
        return _with_key(event, "eval_num_users", value)
    epoch = event.metadata.get("epoch")
    # v0.5 counts epochs from 0, MLLOG from 1.
    meta = {"epoch_num": epoch + 1} if is_integer(epoch) else {}
    return _with_key(event, event.key, event.metadata.get("value"), meta)


def _with_key(event: Event, key: str, value: Any, meta: dict[str, Any] | None = None) -> Event:
    """Returns an event with the same line and time but another key and value."""
    return Event(event.line, event.time, None, key, value, meta or {})
