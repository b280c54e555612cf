"""MLLOG: `:::MLLOG {"namespace", "time_ms", "event_type", "key", "value", "metadata"}`.

The record may follow other text on its line. Its JSON is read strictly. A fault that
leaves the record readable (a duplicate key, a NaN) is reported in addition to the event, so
the rules about the event still apply.
"""

from __future__ import annotations

import math
from typing import Any, Iterator

from compliance.base.text import format_value
from compliance.logs.dialects import fastjson
from compliance.logs.dialects.event import Dialect, Event, Item, Problem
from compliance.logs.dialects.strictjson import StrictJson

TOKEN = ":::MLLOG "
EVENT_TYPES = ("POINT_IN_TIME", "INTERVAL_START", "INTERVAL_END")
_JSON = StrictJson()


def read(line: int, text: str) -> Iterator[Item]:
    """Reads the records of one line strictly.

    Args:
      line: The line's number.
      text: The line from its first token, without the line ending.

    Yields:
      The events, each preceded by its problems.
    """
    at, count = 0, 0
    while at >= 0:
        count += 1
        begin = at + len(TOKEN)
        while begin < len(text) and text[begin] in " \t":
            begin += 1
        try:
            record, end, faults = _JSON.decode(text, begin)
        except ValueError as error:
            # The end of the record is unknown: continue at the next token.
            yield Problem(line, "json", f"record is {error}")
            at = text.find(TOKEN, begin)
            continue
        for code, message in faults:
            yield Problem(line, code, message)
        yield from _event(line, record)
        at = text.find(TOKEN, end)  # the value itself may contain the token
        rest = text[end:] if at < 0 else ""
        # A progress bar redraws after a carriage return; other text is part of a damaged record.
        if rest.strip() and not rest.lstrip(" \t").startswith("\r"):
            yield Problem(line, "json", f"text after the record: {format_value(rest.strip(), 40)}")
    if count > 1:
        yield Problem(line, "line", f"{count} records on one line")


def read_record(line: int, text: bytes) -> list[Item] | None:
    """Reads one record quickly.

    Args:
      line: The line's number.
      text: The record without its token.

    Returns:
      Its items; None if `read` must read it.
    """
    record = fastjson.decode_record(text)
    return None if record is None else list(_event(line, record))


def _event(line: int, record: Any) -> Iterator[Item]:
    """Yields the problems and the event of a decoded record; no event if it has no key."""
    if not isinstance(record, dict):
        yield Problem(line, "record",
                      f"record must be a JSON object, not {format_value(record, 40)}")
        return
    missing = [name for name in ("time_ms", "key", "value", "metadata") if name not in record]
    if missing:
        yield Problem(line, "record", f"record lacks {', '.join(missing)}")
    key = record.get("key")
    if not isinstance(key, str) or not key:
        if "key" in record:
            yield Problem(line, "record", f"key must be text, not {format_value(key, 40)}")
        return
    metadata = record.get("metadata", {})
    if not isinstance(metadata, dict):
        yield Problem(line, "record", f"metadata of {format_value(key)} must be an object, "
                      f"not {format_value(metadata, 40)}")
        metadata = {}
    event_type = record.get("event_type")
    if "event_type" in record and event_type not in EVENT_TYPES:
        yield Problem(line, "record", f"event_type of {format_value(key)} must be one of "
                      f"{', '.join(EVENT_TYPES)}, not {format_value(event_type, 40)}")
        event_type = None
    time = record.get("time_ms")
    if not _is_time(time):
        if "time_ms" in record:
            yield Problem(line, "time", f"time_ms of {format_value(key)} must be a finite number "
                          f"of milliseconds since 1970, not {format_value(time, 40)}")
        time = math.nan
    yield Event(line, time, event_type, key, record.get("value"), metadata)


def _is_time(value: Any) -> bool:
    """Whether a JSON value can be milliseconds since 1970."""
    return type(value) in (int, float) and 0 <= value < fastjson.MAX_TIME


DIALECT = Dialect("mllog", TOKEN.encode(), 1000, read, fastjson.decode_block, read_record)
