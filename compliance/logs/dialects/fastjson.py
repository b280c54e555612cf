"""Decodes MLLOG records quickly: returns exactly the strict reader's result, or None.

One call decodes a block of records into typed structs. If anything is doubtful (a type, the
spacing, a repeated key, a number out of range), the result is None and the caller uses the
strict reader.

Repeated keys are detected by counting. The decoder silently keeps the last of them, so it
returns fewer keys than the text has. In valid JSON each key is followed by `":`, unless there
is white space before the colon; texts with white space before any colon are rejected.
Strings may contain further `":`. So the number of `":` in the text equals the number of
returned keys only if no key is repeated and no string contains that sequence.

A record cannot extend beyond the end of its line. Each text begins with `{` and ends with `}`;
a comma between `}` and `{` is valid only between the elements of an array; no member of the
typed record may be an array of objects; and a string contains no raw newline.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Dict, List, Literal, Sequence, Union

import msgspec
from msgspec import Meta

from compliance.logs.dialects.event import Event, Item
from compliance.logs.dialects.strictjson import MAX_DEPTH, MAX_DIGITS

# Upper limit of milliseconds since 1970: the year 10000.
MAX_TIME = 253_402_300_800_000
_Int = Annotated[int, Meta(ge=-(2 ** 63), le=2 ** 63 - 1)]
_Scalar = Union[None, bool, _Int, float, str]
_MEMBERS = 6  # of a record as mllog writes it
_DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)


class _Record(Event, gc=False, kw_only=True, forbid_unknown_fields=True,
              rename={"time": "time_ms", "line": "-line-", "benchmark": "-benchmark-"}):
    """An event as written in the file; value and metadata contain scalars, one level deep.

    `line` and `benchmark` are not members of a record, so their JSON names are ones that no
    log uses.
    """

    line: int = 0
    benchmark: None = None
    namespace: str
    time: Union[Annotated[int, Meta(ge=0, lt=MAX_TIME)],
                Annotated[float, Meta(ge=0.0, lt=float(MAX_TIME))]]
    event_type: Literal["POINT_IN_TIME", "INTERVAL_START", "INTERVAL_END"]
    key: Annotated[str, Meta(min_length=1)]
    value: Union[None, bool, _Int, float, str, List[_Scalar], Dict[str, _Scalar]]
    metadata: Dict[str, _Scalar]


_RECORDS_DECODER = msgspec.json.Decoder(List[_Record])
_ANY_DECODER = msgspec.json.Decoder(Any)
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (MAX_DIGITS - 1))


def decode_block(lines: Sequence[int], texts: Sequence[bytes]) -> list[Item] | None:
    """Decodes many records in one call.

    Args:
      lines: The line number of each record.
      texts: Each record without its token and without the newline.

    Returns:
      The events, or None if the records must be read one by one.
    """
    body = b",\n".join(texts)
    if not _is_array_body(body, len(texts)):
        body = b",\n".join([text.lstrip(b" \t").rstrip(b" \t\r") for text in texts])
        if not _is_array_body(body, len(texts)):
            return None
    if _has_space_before_colon(body):
        return None
    try:
        events = _RECORDS_DECODER.decode(b"[" + body + b"]")
    except _DECODE_ERRORS:
        return None
    if len(events) != len(lines):
        return None
    # Set the line numbers, and count the keys to find repeated ones.
    keys = _MEMBERS * len(events)
    for event, line in zip(events, lines):
        event.line = line
        keys += len(event.metadata)
        value = event.value
        if value.__class__ is dict:
            keys += len(value)
    return events if body.count(b'":') == keys else None  # type: ignore[return-value]


def _is_array_body(body: bytes, count: int) -> bool:
    """Whether the joined texts each begin with `{` and end with `}`."""
    return body[:1] == b"{" and body[-1:] == b"}" and body.count(b"},\n{") == count - 1


def _has_space_before_colon(body: bytes) -> bool:
    """Whether there is white space before a colon, so that `":` does not count the keys."""
    return b" :" in body or b"\t" in body and b"\t:" in body or b"\r" in body and b"\r:" in body


def decode_record(text: bytes) -> Any:
    """Decodes one record with members of any type.

    Args:
      text: The record without its token.

    Returns:
      The JSON value, or None if the strict reader must read the record.
    """
    text = text.lstrip(b" \t").rstrip(b" \t\r")
    if text[:1] != b"{" or _has_space_before_colon(text) \
            or text.count(b"[") + text.count(b"{") > MAX_DEPTH \
            or len(text) >= MAX_DIGITS and _LONG_NUMBER.search(text):
        return None
    try:
        value = _ANY_DECODER.decode(text)
    except _DECODE_ERRORS:
        return None
    return value if text.count(b'":') == _count_keys(value) else None


def _count_keys(value: Any) -> int:
    """The number of keys of all objects in a JSON value."""
    count, stack = 0, [value]
    while stack:
        value = stack.pop()
        if value.__class__ is dict:
            count += len(value)
            stack += value.values()
        elif value.__class__ is list:
            stack += value
    return count
