"""All single edits of a log: moves, copies, deletions and changed values.

`edits_of` makes them from the records of an MLLOG log, `v05_edits_of` from the lines of a log in
the v0.5 dialect.
"""

from __future__ import annotations

import copy
import json
import math
import re
from dataclasses import dataclass
from typing import Any, Iterator

from tests.support.logs.log_builder import Record, line_of


@dataclass(frozen=True)
class Edit:
    """One edit of a log.

    Attributes:
      kind: "move" (the record keeps its time), "move in time" (it takes the time of its new
        place), "double", "delete", "replace" or "drop" (of a member).
      key: The key of the record that is edited.
      index: The index of that record in the log, from 0.
      field: The replaced or dropped field: time_ms, event_type, value, value.NAME or
        metadata.NAME.
      new: The new value, or the index of the new place.
    """

    kind: str
    key: str
    index: int
    field: str = ""
    new: Any = None


def replacements(value: Any, others: list[Any]) -> list[Any]:
    """Returns replacements for a value, each different from it.

    Args:
      value: A JSON value.
      others: The values of the same field in other records of that key.
    """
    found: list[Any] = [None, True, False, 0, 1, -1, 0.5, 1.5, 1e300, -1e300, 10**20, "", "x",
                        [], [1], {}, {"a": 1}, *others]
    if isinstance(value, bool):
        found.append(not value)
    elif isinstance(value, int):
        found += [value + 1, value - 1, 2 * value, value // 2, -value, float(value), str(value),
                  value + 0.5, 1000 * value]
    elif isinstance(value, float):
        found += [math.nextafter(value, math.inf), math.nextafter(value, -math.inf), 2 * value,
                  value / 2, -value, 10 * value, 1.001 * value, 0.999 * value, str(value)]
    elif isinstance(value, str):
        found += [value + "x", value[:-1], value.upper(), value + " ", [value]]
    elif isinstance(value, list):
        found += [value[:-1], value + value[-1:], value[::-1]]
        found += [[*value[:i], 2 * x if x and isinstance(x, (int, float)) else 1, *value[i + 1:]]
                  for i, x in enumerate(value)]
    return [other for i, other in enumerate(found)
            if not _same(other, value) and not any(_same(other, x) for x in found[:i])]


def _same(a: Any, b: Any) -> bool:
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def _fields(record: Record) -> list[str]:
    """The fields that can be replaced: the time, the value and its members, the metadata."""
    value = record["value"]
    members = [f"value.{name}" for name in value] if isinstance(value, dict) else []
    # The source line is not a property of the run.
    names = [name for name in record["metadata"] if name not in ("file", "lineno")]
    return ["time_ms", "event_type", "value", *members, *(f"metadata.{name}" for name in names)]


def get_field(record: Record, field: str) -> Any:
    """Returns a field of a record, or None if it is absent."""
    part, _, name = field.partition(".")
    holder = record.get(part)
    return holder if not name else holder.get(name) if isinstance(holder, dict) else None


def _with_field(record: Record, field: str, new: Any) -> Record:
    """A copy of a record with another value in a field."""
    part, _, name = field.partition(".")
    return {**record, part: {**record[part], name: new} if name else new}


def _without_field(record: Record, field: str) -> Record:
    part, _, name = field.partition(".")
    if not name:
        return {k: v for k, v in record.items() if k != part}
    return {**record, part: {k: v for k, v in record[part].items() if k != name}}


def edits_of(records: list[Record], other: list[Record]) -> Iterator[tuple[Edit, list[str]]]:
    """Yields every edit of a log with the lines of the edited log.

    Args:
      records: The log.
      other: The log of another run, whose values are used as replacements.
    """
    lines = [line_of(record) for record in records]
    for index, record in enumerate(records):
        key, rest = record["key"], lines[:index] + lines[index + 1:]
        yield Edit("delete", key, index), rest
        yield Edit("double", key, index), [*lines[:index], *lines[index:index + 1], *lines[index:]]
        for place in range(len(records)):
            if place == index:
                continue
            yield Edit("move", key, index, new=place), \
                [*rest[:place], lines[index], *rest[place:]]
            # With the time of the record at the new place.
            time = records[place]["time_ms"]
            moved = line_of({**record, "time_ms": time})
            yield Edit("move in time", key, index, "time_ms", place), \
                [*rest[:place], moved, *rest[place:]]
        yield from _field_edits(records, other, index, lines)


def _field_edits(records: list[Record], other: list[Record], index: int, lines: list[str]
                 ) -> Iterator[tuple[Edit, list[str]]]:
    """The edits of one record's fields."""
    record = records[index]

    def edited(new_record: Record) -> list[str]:
        return [*lines[:index], line_of(new_record), *lines[index + 1:]]

    same_key = [r for r in [*records, *other] if r["key"] == record["key"]]
    for field in _fields(record):
        value = get_field(record, field)
        if field == "time_ms":
            near = records[max(index - 1, 0):index + 2]
            others = [r["time_ms"] + step for r in near for step in (-1, 0, 1)]
            others += [value + step for step in (-60_000, -1000, -100, 100, 1000, 60_000)]
        elif field == "event_type":
            others = ["POINT_IN_TIME", "INTERVAL_START", "INTERVAL_END"]
        else:
            others = [get_field(r, field) for r in same_key]
        for new in replacements(value, others):
            yield Edit("replace", record["key"], index, field, new), \
                edited(_with_field(record, field, new))
        if field not in ("time_ms", "event_type", "value"):
            yield Edit("drop", record["key"], index, field), edited(_without_field(record, field))


# -- the dialect of v0.5 -------------------------------------------------------------

_V05_LINE = re.compile(r"(?P<head>.*:::MLPv0\.5\.0 \S+ )(?P<time>[0-9.]+)(?P<place> \([^)]*\) )"
                       r"(?P<tag>\w+)(?:: (?P<value>.*))?")


def v05_edits_of(lines: list[str]) -> Iterator[tuple[Edit, list[str]]]:
    """Yields every edit of a log in the v0.5 dialect, with the lines of the edited log."""
    for index, line in enumerate(lines):
        match = _V05_LINE.fullmatch(line)
        if match is None:
            continue
        tag, rest = match["tag"], lines[:index] + lines[index + 1:]
        yield Edit("delete", tag, index), rest
        yield Edit("double", tag, index), [*lines[:index], line, *lines[index:]]
        for place in range(len(lines)):
            if place != index:
                yield Edit("move", tag, index, new=place), [*rest[:place], line, *rest[place:]]
        time = float(match["time"])
        for new in (time - 60, time - 1, time + 1, time + 60, 0, -1, "x"):
            text = f"{match['head']}{new}{match['place']}{tag}" \
                + ("" if match["value"] is None else f": {match['value']}")
            yield Edit("replace", tag, index, "time_ms", new), \
                [*lines[:index], text, *lines[index + 1:]]
        yield from _v05_value_edits(lines, index, match)


def _v05_value_edits(lines: list[str], index: int, match: re.Match
                     ) -> Iterator[tuple[Edit, list[str]]]:
    """The edits of one record's value and of its members."""
    start = f"{match['head']}{match['time']}{match['place']}{match['tag']}"
    try:
        value = None if match["value"] is None else json.loads(match["value"])
    except ValueError:
        value = match["value"]

    def edited(new: Any) -> list[str]:
        return [*lines[:index], f"{start}: {json.dumps(new)}", *lines[index + 1:]]

    for new in replacements(value, []):
        yield Edit("replace", match["tag"], index, "value", new), edited(new)
    for name in value if isinstance(value, dict) else ():
        for new in replacements(value[name], []):
            yield Edit("replace", match["tag"], index, f"value.{name}", new), \
                edited({**value, name: new})
        cut = copy.deepcopy(value)
        del cut[name]
        yield Edit("drop", match["tag"], index, f"value.{name}"), edited(cut)
