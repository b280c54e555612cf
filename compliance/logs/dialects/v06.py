"""MLPerf v0.6: `:::MLL <unix seconds> <key>: {"value": ..., "metadata": {...}}`.

Logs of several hosts repeat lines, and some hosts write 0.0 for an unknown time. Such a
record has no time here.
"""

from __future__ import annotations

import math
import re
from typing import Any, Iterator

from compliance.base.text import format_value
from compliance.logs.dialects.event import Dialect, Event, Item, Problem
from compliance.logs.dialects.strictjson import StrictJson

TOKEN = ":::MLL "
_JSON = StrictJson()
_PREFIX = re.compile(r"[ \t]*(?P<time>[0-9]{1,15}(?:\.[0-9]{0,30})?) "
                   r"(?P<key>[A-Za-z0-9_]{1,128}) ?:[ \t]*")


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
        start, at = at + len(TOKEN), text.find(TOKEN, at + len(TOKEN))
        head = _PREFIX.match(text, start)
        if head is None:
            broken = text[start:at if at >= 0 else None]
            yield Problem(line, "record",
                          "record is not '<seconds> <key>: {\"value\", \"metadata\"}'"
                          f": {format_value(broken, 50)}")
            continue
        try:
            record, end, faults = _JSON.decode(text, head.end())
        except ValueError as error:
            yield Problem(line, "json", f"record of {head['key']} is {error}")
            continue
        at = text.find(TOKEN, end)  # the value itself may contain the token
        for code, message in faults:
            yield Problem(line, code, message)
        yield from _event(line, float(head["time"]) or math.nan, head["key"], record)
        rest = text[end:] if at < 0 else ""
        if rest.strip() and not rest.lstrip(" \t").startswith("\r"):
            yield Problem(line, "json", f"text after the record: {format_value(rest.strip(), 40)}")
    if count > 1:
        yield Problem(line, "line", f"{count} records on one line")


def _event(line: int, time: float, key: str, record: Any) -> Iterator[Item]:
    """Yields the problems and the event of a decoded record."""
    if not isinstance(record, dict):
        yield Problem(line, "record",
                      f"record of {key} must be a JSON object, not {format_value(record, 40)}")
        return
    missing = [name for name in ("value", "metadata") if name not in record]
    if missing:
        yield Problem(line, "record", f"record of {key} lacks {', '.join(missing)}")
    metadata = record.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        yield Problem(line, "record",
                      f"metadata of {key} must be an object, not {format_value(metadata, 40)}")
    yield Event(line, time, None, key, record.get("value"),
                metadata if isinstance(metadata, dict) else {})


DIALECT = Dialect("v0.6", TOKEN.encode(), 1, read)
