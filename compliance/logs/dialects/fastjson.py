"""MLLOG records in bulk: exactly what the strict reader says of them, or None.

A block of records is decoded by one call into typed structs.  Whatever is not
plainly right - a type, a spacing, a repeated key, a number out of range - makes the
answer None, and the strict reader speaks.

Why repeated keys do not slip through: a decoder keeps the last of them silently, so
that it returns fewer keys than the text has.  In valid JSON each key is followed by
`":`, unless white space stands before the colon; texts with white space before any
colon are refused.  A string may hold further `":`, never fewer.  So the text's count
equals the keys returned if and only if no key is repeated and no string confuses.
Why a record cannot reach over a line's end: each text begins with `{` and ends with
`}`; a comma between `}` and `{` is right only between elements of an array, no member
of the typed record holds an array of objects, and strings hold no raw newline.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Dict, List, Literal, Sequence, Union

import msgspec
from msgspec import Meta

from compliance.logs.dialects.event import Event, Item
from compliance.logs.dialects.strictjson import MAX_DEPTH, MAX_DIGITS

# Milliseconds since 1970 are from 0 up to this: the year 10000.
MAX_TIME = 253_402_300_800_000
_Int = Annotated[int, Meta(ge=-(2 ** 63), le=2 ** 63 - 1)]
_Scalar = Union[None, bool, _Int, float, str]
_MEMBERS = 6  # of a record as mllog writes it
_FAULTS = (msgspec.MsgspecError, ValueError, RecursionError)


class _Record(Event, gc=False, kw_only=True, forbid_unknown_fields=True,
              rename={"time": "time_ms", "kind": "event_type", "meta": "metadata",
                      "line": "-line-", "benchmark": "-benchmark-"}):
    """An event as it stands in the file; scalars only, but one level in value and metadata."""

    line: int = 0
    benchmark: None = None
    namespace: str
    time: Union[Annotated[int, Meta(ge=0, lt=MAX_TIME)],
                Annotated[float, Meta(ge=0.0, lt=float(MAX_TIME))]]
    kind: Literal["POINT_IN_TIME", "INTERVAL_START", "INTERVAL_END"]
    key: Annotated[str, Meta(min_length=1)]
    value: Union[None, bool, _Int, float, str, List[_Scalar], Dict[str, _Scalar]]
    meta: Dict[str, _Scalar]


_RECORDS = msgspec.json.Decoder(List[_Record])
_ANY = msgspec.json.Decoder(Any)
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (MAX_DIGITS - 1))


def bulk(lines: Sequence[int], texts: Sequence[bytes]) -> list[Item] | None:
    """The events of many records, `texts` without tokens and newlines; or None."""
    body = b",\n".join(texts)
    if not _joined(body, len(texts)):
        body = b",\n".join([text.lstrip(b" \t").rstrip(b" \t\r") for text in texts])
        if not _joined(body, len(texts)):
            return None
    if _spaced(body):
        return None
    try:
        events = _RECORDS.decode(b"[" + body + b"]")
    except _FAULTS:
        return None
    if len(events) != len(lines):
        return None
    keys = _MEMBERS * len(events)
    for event, line in zip(events, lines):
        event.line = line
        keys += len(event.meta)
        value = event.value
        if value.__class__ is dict:
            keys += len(value)
    return events if body.count(b'":') == keys else None  # type: ignore[return-value]


def _joined(body: bytes, count: int) -> bool:
    return body[:1] == b"{" and body[-1:] == b"}" and body.count(b"},\n{") == count - 1


def _spaced(body: bytes) -> bool:
    return b" :" in body or b"\t" in body and b"\t:" in body or b"\r" in body and b"\r:" in body


def record(text: bytes) -> Any:
    """The JSON value that a text is, or None where the strict reader must look at it."""
    text = text.lstrip(b" \t").rstrip(b" \t\r")
    if text[:1] != b"{" or _spaced(text) or text.count(b"[") + text.count(b"{") > MAX_DEPTH \
            or len(text) >= MAX_DIGITS and _LONG_NUMBER.search(text):
        return None
    try:
        value = _ANY.decode(text)
    except _FAULTS:
        return None
    return value if text.count(b'":') == _keys(value) else None


def _keys(value: Any) -> int:
    count, stack = 0, [value]
    while stack:
        value = stack.pop()
        if value.__class__ is dict:
            count += len(value)
            stack += value.values()
        elif value.__class__ is list:
            stack += value
    return count
