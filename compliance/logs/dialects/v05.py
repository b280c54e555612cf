"""MLPerf v0.5: `:::MLPv0.5.0 <benchmark> <unix seconds> (<file>:<line>) <tag>[: <json value>]`."""

from __future__ import annotations

import re
from typing import Iterator

from compliance.logs.dialects.event import Dialect, Event, Item, Problem, show
from compliance.logs.dialects.strictjson import StrictJson

TOKEN = ":::MLPv0.5.0 "
_JSON = StrictJson()
_HEAD = re.compile(r"\s*(?P<benchmark>[A-Za-z0-9_]{1,64}) "
                   r"(?P<time>[0-9]{1,15}(?:\.[0-9]{1,30})?) \(")
_PLACE = re.compile(r"[^()\r\n]{1,4096}:[0-9]{1,15}")
_TAG = re.compile(r" (?P<tag>[A-Za-z0-9_]{1,128})(?P<value>:\s?)?\s*")
# Characters of a file name and line number at most.
_MAX_PLACE = 4112


def read(line: int, text: str) -> Iterator[Item]:
    """The records of one line, `text` beginning with the first one's token."""
    at, count = 0, 0
    while at >= 0:
        count += 1
        start, at = at + len(TOKEN), text.find(TOKEN, at + len(TOKEN))
        found = _heading(text, start)
        if found is None:
            yield Problem(line, "record", "record is not '<benchmark> <seconds> (<file>:<line>) "
                          f"<tag>[: <value>]': {show(text[start:at if at >= 0 else None], 50)}")
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
                          f"{show(rest.strip(), 40)}")
            continue
        yield Event(line, float(head["time"]), None, tag["tag"], value,
                    value if isinstance(value, dict) else {}, head["benchmark"])
    if count > 1:
        yield Problem(line, "line", f"{count} records stand on one line")


def _heading(text: str, start: int) -> tuple[re.Match[str], re.Match[str]] | None:
    """What stands before the value, in parts: one pattern over all would backtrack."""
    head = _HEAD.match(text, start)
    if head is None:
        return None
    close = text.find(")", head.end(), head.end() + _MAX_PLACE)
    if close < 0 or not _PLACE.fullmatch(text, head.end(), close):
        return None
    tag = _TAG.match(text, close + 1)
    return None if tag is None else (head, tag)


DIALECT = Dialect("v0.5", TOKEN.encode(), 1, read)
