"""MLLOG: `:::MLLOG {"namespace", "time_ms", "event_type", "key", "value", "metadata"}`.

The record may follow other text on its line.  Its JSON is read strictly; a fault
that leaves the record readable (a duplicate key, a NaN) is reported beside the
event, so that later rules still see it.
"""

from __future__ import annotations

import math
from typing import Any, Iterator

from compliance.logs.dialects import fastjson
from compliance.logs.dialects.event import Dialect, Event, Item, Problem, show
from compliance.logs.dialects.strictjson import StrictJson

TOKEN = ":::MLLOG "
KINDS = ("POINT_IN_TIME", "INTERVAL_START", "INTERVAL_END")
_JSON = StrictJson()


def read(line: int, text: str) -> Iterator[Item]:
    """The records of one line, `text` beginning with the first one's token."""
    at, count = 0, 0
    while at >= 0:
        count += 1
        begin = at + len(TOKEN)
        while begin < len(text) and text[begin] in " \t":
            begin += 1
        try:
            record, end, faults = _JSON.decode(text, begin)
        except ValueError as error:
            yield Problem(line, "json", f"record is {error}")
            at = text.find(TOKEN, begin)
            continue
        for code, message in faults:
            yield Problem(line, code, message)
        yield from _event(line, record)
        at = text.find(TOKEN, end)
        rest = text[end:] if at < 0 else ""
        # A progress bar redraws after a carriage return; anything else is part of a broken record.
        if rest.strip() and not rest.lstrip(" \t").startswith("\r"):
            yield Problem(line, "json", f"text after the record: {show(rest.strip(), 40)}")
    if count > 1:
        yield Problem(line, "line", f"{count} records stand on one line")


def quick(line: int, text: bytes) -> list[Item] | None:
    """The items of one record, without its token; None where `read` must look at it."""
    record = fastjson.record(text)
    return None if record is None else list(_event(line, record))


def _event(line: int, record: Any) -> Iterator[Item]:
    if not isinstance(record, dict):
        yield Problem(line, "record", f"record must be a JSON object, not {show(record, 40)}")
        return
    missing = [name for name in ("time_ms", "key", "value", "metadata") if name not in record]
    if missing:
        yield Problem(line, "record", f"record lacks {', '.join(missing)}")
    key = record.get("key")
    if not isinstance(key, str) or not key:
        if "key" in record:
            yield Problem(line, "record", f"key must be text, not {show(key, 40)}")
        return
    meta = record.get("metadata", {})
    if not isinstance(meta, dict):
        yield Problem(line, "record", f"metadata of {show(key)} must be an object, not {show(meta, 40)}")
        meta = {}
    kind = record.get("event_type")
    if "event_type" in record and kind not in KINDS:
        yield Problem(line, "record", f"event_type of {show(key)} must be one of "
                      f"{', '.join(KINDS)}, not {show(kind, 40)}")
        kind = None
    time = record.get("time_ms")
    if not _is_time(time):
        if "time_ms" in record:
            yield Problem(line, "time", f"time_ms of {show(key)} must be a finite number of "
                          f"milliseconds since 1970, not {show(time, 40)}")
        time = math.nan
    yield Event(line, time, kind, key, record.get("value"), meta)


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < fastjson.MAX_TIME


DIALECT = Dialect("mllog", TOKEN.encode(), 1000, read, fastjson.bulk, quick)
