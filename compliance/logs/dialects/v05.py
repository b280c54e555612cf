"""MLPerf v0.5: `:::MLPv0.5.0 <benchmark> <unix seconds> (<file>:<line>) <tag>[: <json value>]`.

A record has no metadata. If its value is an object, that object is also the event's metadata.
"""

from __future__ import annotations

import re
from typing import Iterator

from compliance.base.text import format_value
from compliance.logs.dialects.event import Dialect, Event, Item, Problem
from compliance.logs.dialects.strictjson import StrictJson

TOKEN = ":::MLPv0.5.0 "
_JSON = StrictJson()
_PREFIX = re.compile(r"\s*(?P<benchmark>[A-Za-z0-9_]{1,64}) "
                   r"(?P<time>[0-9]{1,15}(?:\.[0-9]{1,30})?) \(")
_PLACE = re.compile(r"[^()\r\n]{1,4096}:[0-9]{1,15}")
_TAG = re.compile(r" (?P<tag>[A-Za-z0-9_]{1,128})(?P<value>:\s?)?\s*")
# The maximum length of file name, colon and line number.
_MAX_PLACE_LENGTH = 4112


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
        found = _match_heading(text, start)
        if found is None:
            broken = text[start:at if at >= 0 else None]
            yield Problem(line, "record", "record is not '<benchmark> <seconds> (<file>:<line>) "
                          f"<tag>[: <value>]': {format_value(broken, 50)}")
            continue
        head, tag = found
        value, end = None, tag.end()
        if tag["value"]:
            try:
                value, end, faults = _JSON.decode(text, end)
            except ValueError as error:
                yield Problem(line, "json", f"value of {tag['tag']} is {error}")
                continue
            at = text.find(TOKEN, end)  # the value itself may contain the token
            for code, message in faults:
                yield Problem(line, code, message)
        rest = text[end:at if at >= 0 else None]
        if rest.strip() and at < 0 and not rest.lstrip(" \t").startswith("\r"):
            yield Problem(line, "json", f"text after the value of {tag['tag']}: "
                          f"{format_value(rest.strip(), 40)}")
            continue
        yield Event(line, float(head["time"]), None, tag["tag"], value,
                    value if isinstance(value, dict) else {}, head["benchmark"])
    if count > 1:
        yield Problem(line, "line", f"{count} records on one line")


def _match_heading(text: str, start: int) -> tuple[re.Match[str], re.Match[str]] | None:
    """Matches the parts before the value: (benchmark and time, tag), or None.

    The parts are matched one by one, since a single pattern would backtrack on hostile lines.
    """
    head = _PREFIX.match(text, start)
    if head is None:
        return None
    close = text.find(")", head.end(), head.end() + _MAX_PLACE_LENGTH)
    if close < 0 or not _PLACE.fullmatch(text, head.end(), close):
        return None
    tag = _TAG.match(text, close + 1)
    return None if tag is None else (head, tag)


DIALECT = Dialect("v0.5", TOKEN.encode(), 1, read)
