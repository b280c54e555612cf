"""Checks that compare records with other records of the same log."""

from __future__ import annotations

from typing import Any

from compliance.base.text import format_value
from compliance.checking.checks.base import (
    ABSENT,
    Check,
    Need,
    Param,
    epoch_of,
    field_getter,
    field_name,
    field_param,
    flag_param,
    json_equal,
    text_param,
)
from compliance.checking.checks.intervals import MAX_WAITING_EPOCHS
from compliance.logs.dialects.event import Event, is_integer

# At most this many records that come before the record they are compared with are kept.
MAX_WAITING = 100


class SameCheck(Check):
    """A field of every record of a key equals the value of a single record of another key."""

    PARAMS = {"key": text_param("the records' key"), "field": field_param(),
              "as": text_param("the key of the single record"),
              "optional": flag_param("whether the field may be missing")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return (Need(params["as"], when=params["key"]),)

    def setup(self) -> None:
        self.key, self.other = self.params["key"], self.params["as"]
        self.keys = (self.key, self.other)
        self.field = self.params.get("field", "value")
        self.get = field_getter(self.field)
        self.expected: Any = ABSENT
        # (line, value) of records that come before the single record, each value once. Of more
        # than MAX_WAITING values all but one are wrong, so the log fails without the rest.
        self.waiting: list[tuple[int, Any]] = []

    def observe(self, event: Event) -> None:
        if event.key == self.other:
            if self.expected is ABSENT:
                self.expected = event.value
                for line, value in self.waiting:
                    self._compare(line, value)
            return
        value = self.get(event)
        if value is ABSENT:
            if not self.params.get("optional", False):
                self.report(event.line, f"{field_name(self.key, self.field)} is missing")
        elif self.expected is not ABSENT:
            self._compare(event.line, value)
        elif len(self.waiting) < MAX_WAITING \
                and not any(json_equal(value, other) for _, other in self.waiting):
            self.waiting.append((event.line, value))

    def _compare(self, line: int, value: Any) -> None:
        if not json_equal(value, self.expected):
            self.report(line, f"{field_name(self.key, self.field)} is {format_value(value)}; "
                              f"{self.other} is {format_value(self.expected)}")


class AgreesCheck(Check):
    """Fields of the records of one key equal the values of single records of other keys.

    A field that is missing or null is ignored, unless the rule has `complete`.
    """

    PARAMS = {"key": text_param("the records' key"),
              "fields": Param("for each field of the value, the key of the other record",
                              lambda v: isinstance(v, dict) and bool(v) and all(
                                  isinstance(x, str) for pair in v.items() for x in pair),
                              "a mapping of names to keys", True),
              "complete": flag_param("whether every field is required and must not be null"),
              "says_nothing": Param("values to ignore, like null",
                                    lambda v: isinstance(v, list), "a list of values")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return tuple(Need(other, when=params["key"]) for other in params["fields"].values())

    def setup(self) -> None:
        self.key, self.key_of_field = self.params["key"], self.params["fields"]
        self.keys = (self.key, *self.key_of_field.values())
        # (field, value, line) of the records.
        self.stated: list[tuple[str, Any, int]] = []
        self.first_events: dict[str, Event] = {}  # of the other keys

    def observe(self, event: Event) -> None:
        if event.key != self.key:
            self.first_events.setdefault(event.key, event)
            return
        if not isinstance(event.value, dict):
            return  # another rule reports it
        missing = [field for field in self.key_of_field if event.value.get(field) is None]
        if missing and self.params.get("complete", False):
            self.report(event.line, f"{self.key} has no {', '.join(missing)}")
        for field in self.key_of_field:
            value = event.value.get(field)
            if any(json_equal(value, other) for other in self.params.get("says_nothing", ())):
                continue
            if value is not None and len(self.stated) < MAX_WAITING * len(self.key_of_field):
                self.stated.append((field, value, event.line))

    def finish(self) -> None:
        for field, value, line in self.stated:
            other = self.first_events.get(self.key_of_field[field])
            if other is not None and not json_equal(value, other.value):
                self.report(line, f"{field} of {self.key} is {format_value(value)}; {other.key} "
                                  f"(line {other.line}) is {format_value(other.value)}")


class ProductCheck(Check):
    """The value of one single record equals that of a second x (1 + that of a third)."""

    PARAMS = {"key": text_param("the product's key"), "of": text_param("the first factor's key"),
              "one_plus": text_param("the key of the value to which 1 is added")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return tuple(Need(params[name], type="integer") for name in ("key", "of", "one_plus"))

    def setup(self) -> None:
        p = self.params
        self.keys = (p["key"], p["of"], p["one_plus"])
        self.values: dict[str, tuple[int, int]] = {}  # (first whole number, line) by key

    def observe(self, event: Event) -> None:
        if is_integer(event.value):
            self.values.setdefault(event.key, (event.value, event.line))

    def finish(self) -> None:
        if len(self.values) < 3:
            return  # `needs` reports the missing record
        (value, line), (factor, _), (plus, _) = (self.values[k] for k in self.keys)
        if value != factor * (1 + plus):
            self.report(line, f"{self.keys[0]} is {format_value(value)}; {self.keys[1]} "
                              f"{format_value(factor)} x (1 + {self.keys[2]} {format_value(plus)}) "
                              f"is {format_value(factor * (1 + plus))}")


class BatchesCheck(Check):
    """A field of every record of a key is the quotient of two single records, rounded up.

    The single records may come before or after it. A record without the field is ignored,
    since not every program logs it.
    """

    PARAMS = {"key": text_param("the records' key"), "field": field_param(),
              "of": text_param("the key of the total number"),
              "size": text_param("the key of the batch size")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return tuple(Need(params[name], type="positive", when=params["key"])
                     for name in ("of", "size"))

    def setup(self) -> None:
        p = self.params
        self.keys = (p["key"], p["of"], p["size"])
        self.get = field_getter(p.get("field", "value"))
        self.single: dict[str, int] = {}  # the values of both single records, by key
        self.first_lines: dict[Any, int] = {}  # by value of the field

    def observe(self, event: Event) -> None:
        if event.key == self.params["key"]:
            value = self.get(event)
            if value is not ABSENT and len(self.first_lines) < MAX_WAITING:
                # Values of other types are wrong; they are converted to text to be dict keys.
                self.first_lines.setdefault(
                    value if value.__class__ is int else format_value(value), event.line)
        elif is_integer(event.value) and event.value > 0:
            self.single.setdefault(event.key, event.value)

    def finish(self) -> None:
        p = self.params
        total, size = (self.single.get(p[k]) for k in ("of", "size"))
        if total is None or size is None:
            return
        expected = -(-total // size)  # rounded up
        for value, line in self.first_lines.items():
            if value != expected:
                self.report(line, f"{field_name(p['key'], p['field'])} is {value}; {p['of']} "
                                  f"{format_value(total)} in batches of {format_value(size)} makes "
                                  f"{format_value(expected)}")


class EqualInEpochCheck(Check):
    """A field of one record of an epoch equals a field of another, if both have it."""

    PARAMS = {"key": text_param("the key of the one record"), "field": field_param(),
              "as": text_param("the key of the other record"), "as_field": field_param()}

    def setup(self) -> None:
        p = self.params
        self.keys = (p["key"], p["as"])
        self.getters = {p["key"]: field_getter(p.get("field", "value")),
                        p["as"]: field_getter(p.get("as_field", "value"))}
        # By epoch, the record that waits for the other one: (key, value, line).
        self.waiting: dict[int, tuple[str, Any, int]] = {}

    def observe(self, event: Event) -> None:
        epoch, value = epoch_of(event), self.getters[event.key](event)
        if epoch is None or value is ABSENT:
            return
        other = self.waiting.pop(epoch, None)
        if other is None or other[0] == event.key:
            if len(self.waiting) < MAX_WAITING_EPOCHS:
                self.waiting[epoch] = (event.key, value, event.line)
            return
        if not json_equal(value, other[1]):
            self.report(event.line, f"{event.key} of epoch {epoch} has {format_value(value)}; "
                                    f"{other[0]} (line {other[2]}) has {format_value(other[1])}")
