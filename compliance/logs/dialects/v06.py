"""MLPerf v0.6: `:::MLL <unix seconds> <key>: {"value": ..., "metadata": {...}}`.

Logs of many hosts repeat lines, and some write 0.0 for a time they do not know:
such a record has no time here.
"""

from __future__ import annotations

import math
import re
from typing import Any, Iterator

from compliance.logs.dialects.event import Dialect, Event, Item, Problem, show
from compliance.logs.dialects.strictjson import StrictJson

TOKEN = ":::MLL "
_JSON = StrictJson()
_HEAD = re.compile(r"[ \t]*(?P<time>[0-9]{1,15}(?:\.[0-9]{0,30})?) "
                   r"(?P<key>[A-Za-z0-9_]{1,128}) ?:[ \t]*")


def read(line: int, text: str) -> Iterator[Item]:
    """The records of one line, `text` beginning with the first one's token."""
    at, count = 0, 0
    while at >= 0:
        count += 1
        start, at = at + len(TOKEN), text.find(TOKEN, at + len(TOKEN))
        head = _HEAD.match(text, start)
        if head is None:
            yield Problem(line, "record", "record is not '<seconds> <key>: {\"value\", \"metadata\"}'"
                          f": {show(text[start:at if at >= 0 else None], 50)}")
            continue
        try:
            record, end, faults = _JSON.decode(text, head.end())
        except ValueError as error:
            yield Problem(line, "json", f"record of {head['key']} is {error}")
            continue
        at = text.find(TOKEN, end)
        for code, message in faults:
            yield Problem(line, code, message)
        yield from _event(line, float(head["time"]) or math.nan, head["key"], record)
        rest = text[end:] if at < 0 else ""
        if rest.strip() and not rest.lstrip(" \t").startswith("\r"):
            yield Problem(line, "json", f"text after the record: {show(rest.strip(), 40)}")
    if count > 1:
        yield Problem(line, "line", f"{count} records stand on one line")


def _event(line: int, time: float, key: str, record: Any) -> Iterator[Item]:
    if not isinstance(record, dict):
        yield Problem(line, "record", f"record of {key} must be a JSON object, not {show(record, 40)}")
        return
    missing = [name for name in ("value", "metadata") if name not in record]
    if missing:
        yield Problem(line, "record", f"record of {key} lacks {', '.join(missing)}")
    meta = record.get("metadata")
    if meta is not None and not isinstance(meta, dict):
        yield Problem(line, "record", f"metadata of {key} must be an object, not {show(meta, 40)}")
    yield Event(line, time, None, key, record.get("value"), meta if isinstance(meta, dict) else {})


DIALECT = Dialect("v0.6", TOKEN.encode(), 1, read)
