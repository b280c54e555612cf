"""Checks of single records: their number, their types, their values."""

from __future__ import annotations

from bisect import bisect_left
from operator import le
from typing import Any, Sequence

from compliance.base.text import format_value
from compliance.checking.checks.base import (
    ABSENT,
    NAMED_LISTS,
    TRACK_VALUES,
    TYPES,
    Check,
    Need,
    Param,
    choice_param,
    field_getter,
    field_name,
    field_param,
    flag_param,
    json_equal,
    number_param,
    text_param,
    texts_param,
    track_need,
)
from compliance.logs.dialects.event import PROBLEM_CODES, Event, Item, is_integer, is_number
from compliance.logs.keys import LOG_KEYS

# The smallest and the largest number of records (None: no limit).
COUNTS = {"exactly_one": (1, 1), "at_least_one": (1, None), "at_most_one": (0, 1), "any": (0, None)}
# So many records that come before the record with which they are compared are kept.
MAX_WAITING = 100


class ReadingCheck(Check):
    """Records are readable: none of these problems occurs."""

    PARAMS = {"problems": Param("codes of problems", lambda v: isinstance(v, list) and bool(v)
                                and all(isinstance(x, str) and x in PROBLEM_CODES for x in v),
                                f"a list out of {', '.join(PROBLEM_CODES)}", True)}
    keys = ()  # problems are no events: the checker reports them by itself


class RecordCheck(Check):
    """The number of records of a key, and the value of a field of each."""

    PARAMS = {
        "key": text_param("the records' key"),
        "count": choice_param("how many records (default any)", COUNTS),
        "field": field_param(),
        "type": choice_param("type of the field", TYPES),
        "min": number_param("smallest value allowed"),
        "max": number_param("largest value allowed"),
        "above": number_param("the value must be greater"),
        "below": number_param("the value must be less"),
        "one_of": Param("the values allowed", lambda v: isinstance(v, list) and bool(v)
                        or isinstance(v, str) and v in NAMED_LISTS,
                        f"a list of values or one of {', '.join(NAMED_LISTS)}"),
        "equals": Param("the only value allowed", lambda v: True, "a value"),
        "track": choice_param("must equal this value of the log's track, where the track pins it",
                              TRACK_VALUES),
        "optional": flag_param("whether the field may be missing")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return (track_need(params["track"]),) if "track" in params else ()

    def setup(self) -> None:
        p = self.params
        self.key, self.field = p["key"], p.get("field", "value")
        self.keys = (self.key,)
        self.min_count, self.max_count = COUNTS[p.get("count", "any")]
        self.optional = p.get("optional", False)
        one_of = p.get("one_of")
        self.one_of = NAMED_LISTS[one_of]() if isinstance(one_of, str) else one_of
        track = self.context.track
        # None where the log has no known track, or the track leaves the value open.
        self.track_value = TRACK_VALUES[p["track"]](track) if "track" in p and track else None
        self.num_records = 0
        self.first_line = 0
        # A rule with no parameters but the key and the count does not look at values.
        self.judges_values = len(p) > 1 + ("count" in p)
        self.get = field_getter(self.field)
        self.has_type = TYPES[p["type"]][1] if "type" in p else None
        self.has_bounds = any(name in p for name in ("min", "max", "above", "below"))

    def observe(self, event: Event) -> None:
        self.num_records += 1
        if self.num_records == 1:
            self.first_line = event.line
        elif self.max_count == 1:
            self.report(event.line, f"{self.key} stands again; it first stood in line "
                                    f"{self.first_line}")
        if not self.judges_values:
            return
        value = self.get(event)
        if value is ABSENT:
            if not self.optional:
                self.report(event.line, f"{field_name(self.key, self.field)} is missing")
            return
        problem = self._problem(value)
        if problem:
            self.report(event.line, f"{field_name(self.key, self.field)} is "
                                    f"{format_value(value)}; {problem}")

    def _problem(self, value: Any) -> str | None:
        """What the value must be and is not; None if it is right."""
        p = self.params
        if self.has_type is not None and not self.has_type(value):
            return f"it must be {TYPES[p['type']][0]}"
        if "equals" in p and not json_equal(value, p["equals"]):
            return f"it must be {format_value(p['equals'])}"
        if self.one_of is not None and not any(json_equal(value, x) for x in self.one_of):
            return f"it must be one of {', '.join(map(format_value, self.one_of))}"
        if self.has_bounds and is_number(value):
            if "min" in p and value < p["min"]:
                return f"it must be at least {p['min']}"
            if "max" in p and value > p["max"]:
                return f"it must be at most {p['max']}"
            if "above" in p and value <= p["above"]:
                return f"it must be greater than {p['above']}"
            if "below" in p and value >= p["below"]:
                return f"it must be less than {p['below']}"
        if self.track_value is not None and not json_equal(value, self.track_value):
            return f"track {self.context.track.name} fixes {format_value(self.track_value, 80)}"
        return None

    def finish(self) -> None:
        if self.num_records < self.min_count:
            self.report(None, f"there is no {self.key} record")


class SomeCheck(Check):
    """At least one record of these keys has the field at one of these values."""

    PARAMS = {"keys": texts_param("the records' keys"), "field": field_param(),
              "one_of": Param("the values", lambda v: isinstance(v, list) and bool(v),
                              "a list of values", True)}

    def setup(self) -> None:
        self.keys = tuple(self.params["keys"])
        self.get = field_getter(self.params.get("field", "value"))
        self.found = False

    def observe(self, event: Event) -> None:
        if not self.found:
            value = self.get(event)
            self.found = any(json_equal(value, x) for x in self.params["one_of"])

    def finish(self) -> None:
        if not self.found:
            field, values = self.params.get("field", "value"), self.params["one_of"]
            self.report(None, f"no {' or '.join(self.keys)} record has {field} "
                              f"{' or '.join(map(format_value, values))}")


class PinnedCheck(Check):
    """The log's track fixes this value, so that other rules could compare the log with it."""

    PARAMS = {"track": choice_param("the track's value", TRACK_VALUES, True)}
    keys = ()

    def finish(self) -> None:
        track = self.context.track
        if track is not None and TRACK_VALUES[self.params["track"]](track) is None:
            self.report(None, f"track {track.name} does not fix {self.params['track']}: any data "
                              "of the right counts passes")


class AtMostCheck(Check):
    """No more records of the key than a value of the log's track."""

    PARAMS = {"key": text_param("the records' key"),
              "track": choice_param("the track's value", TRACK_VALUES, True)}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return (track_need(params["track"]),)

    def setup(self) -> None:
        self.keys = (self.params["key"],)
        track = self.context.track
        self.limit = TRACK_VALUES[self.params["track"]](track) if track else None
        self.num_records = 0

    def observe(self, event: Event) -> None:
        self.num_records += 1
        # Reported once, at the first record too many.
        if self.limit is not None and self.num_records == self.limit + 1:
            self.report(event.line, f"{self.keys[0]} stands for the {self.num_records}th time; "
                                    f"track {self.context.track.name} allows {self.limit}")


class SameCheck(Check):
    """A field of every record of a key equals the value of another, single record."""

    PARAMS = {"key": text_param("the records' key"), "field": field_param(),
              "as": text_param("key of the single record"),
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
        # (line, value) of records that come before the single one, each value once.  Of more
        # than MAX_WAITING values all but one are wrong, so that the log fails without the rest.
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
                              f"{self.other} says {format_value(self.expected)}")


class AgreesCheck(Check):
    """Fields of the records of one key equal the values of other, single records.

    A field that is missing or null says nothing.  It is ignored, unless the rule says `complete`.
    """

    PARAMS = {"key": text_param("the records' key"),
              "fields": Param("the key of the other record by the field's name in the value",
                              lambda v: isinstance(v, dict) and bool(v) and all(
                                  isinstance(x, str) for pair in v.items() for x in pair),
                              "a mapping of names to keys", True),
              "complete": flag_param("whether every field must be there and not be null")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return tuple(Need(other, when=params["key"]) for other in params["fields"].values())

    def setup(self) -> None:
        self.key, self.key_of_field = self.params["key"], self.params["fields"]
        self.keys = (self.key, *self.key_of_field.values())
        # (field, value, line) of what the records say, each different value once.
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
            self.report(event.line, f"{self.key} does not say {', '.join(missing)}")
        for field in self.key_of_field:
            value = event.value.get(field)
            if value is not None and len(self.stated) < MAX_WAITING * len(self.key_of_field):
                self.stated.append((field, value, event.line))

    def finish(self) -> None:
        for field, value, line in self.stated:
            other = self.first_events.get(self.key_of_field[field])
            if other is not None and not json_equal(value, other.value):
                self.report(line, f"{self.key}'s {field} is {format_value(value)}; {other.key} "
                                  f"(line {other.line}) says {format_value(other.value)}")


class ProductCheck(Check):
    """A single record's value equals another's times (1 + a third's)."""

    PARAMS = {"key": text_param("the product's key"), "of": text_param("key of the first factor"),
              "one_plus": text_param("key of the value to which 1 is added")}

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
            return  # the rule lacks what it needs
        (value, line), (factor, _), (plus, _) = (self.values[k] for k in self.keys)
        if value != factor * (1 + plus):
            self.report(line, f"{self.keys[0]} is {format_value(value)}; {self.keys[1]} "
                              f"{format_value(factor)} x (1 + {self.keys[2]} {format_value(plus)}) "
                              f"is {format_value(factor * (1 + plus))}")


class BatchesCheck(Check):
    """A field of every record of a key is one value over another, rounded up.

    Both single records may stand before or after.  A record without the field is ignored,
    since not every program logs it.
    """

    PARAMS = {"key": text_param("the records' key"), "field": field_param(),
              "of": text_param("key of how many there are in all"),
              "size": text_param("key of how many fit into one")}

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        return tuple(Need(params[name], type="positive", when=params["key"])
                     for name in ("of", "size"))

    def setup(self) -> None:
        p = self.params
        self.keys = (p["key"], p["of"], p["size"])
        self.get = field_getter(p.get("field", "value"))
        self.single: dict[str, int] = {}  # the values of both single records, by key
        self.first_lines: dict[Any, int] = {}  # of each value of the field

    def observe(self, event: Event) -> None:
        if event.key == self.params["key"]:
            value = self.get(event)
            if value is not ABSENT and len(self.first_lines) < MAX_WAITING:
                # Values of other types cannot be right; as text they can be keys of the dict.
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
                                  f"{format_value(total)} in batches of {format_value(size)} are "
                                  f"{format_value(expected)}")


class EventTypesCheck(Check):
    """Every known key has the event type that docs/log-format.md gives it."""

    def setup(self) -> None:
        self.keys = tuple(LOG_KEYS)
        self.types = {name: key.event_type for name, key in LOG_KEYS.items()}

    def observe(self, event: Event) -> None:
        wanted = self.types[event.key]
        if event.event_type != wanted:
            self.report(event.line, f"{event.key} has event_type {event.event_type or 'missing'}; "
                                    f"it must be {wanted}")


class TimeCheck(Check):
    """Time never goes backward from record to record."""

    def setup(self) -> None:
        self.last: tuple[float, int] | None = None  # (latest time, its first line)

    def observe_block(self, items: Sequence[Item]) -> None:
        """Takes the next items of the log, in order."""
        times = [item.time for item in items]
        # NaN (no time) compares false: `all` excludes it behind the first item, the last
        # condition at the first item.
        if all(map(le, times, times[1:])) and times and times[0] == times[0]:
            # The usual case: the times ascend, and only the first and the last one matter.
            self._compare(times[0], items[0])
            self._compare(times[-1], items[bisect_left(times, times[-1])])
            return
        for time, item in zip(times, items):
            if time == time:  # NaN breaks other rules
                self._compare(time, item)

    def _compare(self, time: float, item: Item) -> None:
        """Reports a time before the latest one so far."""
        if self.last is not None and time < self.last[0]:
            back = (self.last[0] - time) / self.context.summary.ticks_per_second
            self.report(item.line, f"time of {format_value(item.key)} is {back:.3f} s before that "
                                   f"of line {self.last[1]}")
        # A single early record must not make all later ones wrong: the latest time stays.
        if self.last is None or time > self.last[0]:
            self.last = (time, item.line)
