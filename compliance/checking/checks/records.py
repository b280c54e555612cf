"""Checks of single records: number, types and values."""

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
from compliance.logs.dialects.event import PROBLEM_CODES, Event, Item, is_number
from compliance.logs.keys import LOG_KEYS

# The smallest and the largest number of records (None: no limit).
COUNTS = {"exactly_one": (1, 1), "at_least_one": (1, None), "at_most_one": (0, 1), "any": (0, None)}


class ReadingCheck(Check):
    """Records are readable: none of these problems occurs."""

    PARAMS = {"problems": Param("the problem codes", lambda v: isinstance(v, list) and bool(v)
                                and all(isinstance(x, str) and x in PROBLEM_CODES for x in v),
                                f"a list out of {', '.join(PROBLEM_CODES)}", True)}
    keys = ()  # problems are not events: the checker itself reports them


class RecordCheck(Check):
    """The number of records of a key, and the value of a field in each of them."""

    PARAMS = {
        "key": text_param("the records' key"),
        "count": choice_param("the number of records (default any)", COUNTS),
        "field": field_param(),
        "type": choice_param("the type of the field", TYPES),
        "min": number_param("the smallest allowed value"),
        "max": number_param("the largest allowed value"),
        "above": number_param("the value must be greater than this"),
        "below": number_param("the value must be less than this"),
        "one_of": Param("the allowed values", lambda v: isinstance(v, list) and bool(v)
                        or isinstance(v, str) and v in NAMED_LISTS,
                        f"a list of values or one of {', '.join(NAMED_LISTS)}"),
        "equals": Param("the only allowed value", lambda v: True, "a value"),
        "track": choice_param("the value must equal this track value, if the log's track fixes it",
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
        # None if the log has no known track, or the track does not fix the value.
        self.track_value = TRACK_VALUES[p["track"]](track) if "track" in p and track else None
        self.num_records = 0
        self.first_line = 0
        # A rule that has only a key and a count does not check values.
        self.judges_values = len(p) > 1 + ("count" in p)
        self.get = field_getter(self.field)
        self.has_type = TYPES[p["type"]][1] if "type" in p else None
        self.has_bounds = any(name in p for name in ("min", "max", "above", "below"))

    def observe(self, event: Event) -> None:
        self.num_records += 1
        if self.num_records == 1:
            self.first_line = event.line
        elif self.max_count == 1:
            self.report(event.line, f"{self.key} appears again; it first appeared in line "
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
        """Returns the requirement that the value does not meet; None if it is right."""
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
    """In at least one record of these keys the field has one of these values."""

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


class SaidAnywhereCheck(Check):
    """In all records, members with these names in value or metadata have one of these values.

    Null is ignored. A number is ignored if the allowed values are words: it is a count.
    """

    PARAMS = {"members": Param("for each name of a member, the allowed values",
                               lambda v: isinstance(v, dict) and bool(v) and all(
                                   isinstance(x, list) and x for x in v.values()),
                               "a mapping of names to lists of values", True)}

    def setup(self) -> None:
        self.keys = tuple(LOG_KEYS)
        self.allowed = tuple(self.params["members"].items())

    def observe(self, event: Event) -> None:
        for part, members in (("value", event.value), ("metadata", event.metadata)):
            if members.__class__ is not dict:
                continue
            for name, values in self.allowed:
                value = members.get(name)
                if value is None or any(json_equal(value, x) for x in values) \
                        or is_number(value) and isinstance(values[0], str):
                    continue
                self.report(event.line, f"{field_name(event.key, f'{part}.{name}')} is "
                                        f"{format_value(value)}; it must be "
                                        f"{' or '.join(map(format_value, values))}")


class PinnedCheck(Check):
    """The log's track fixes this value, so that other rules can compare the log with it."""

    PARAMS = {"track": choice_param("the track's value", TRACK_VALUES, True)}
    keys = ()

    def finish(self) -> None:
        track = self.context.track
        if track is not None and TRACK_VALUES[self.params["track"]](track) is None:
            self.report(None, f"track {track.name} does not fix {self.params['track']}: any data "
                              "with the right counts passes")


class AtMostCheck(Check):
    """The number of records of the key is at most a value of the log's track."""

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
        # Reported once, at the first record above the limit.
        if self.limit is not None and self.num_records == self.limit + 1:
            self.report(event.line, f"this is record {self.num_records} of {self.keys[0]}; "
                                    f"track {self.context.track.name} allows {self.limit}")


class EventTypesCheck(Check):
    """Every known key has the event type listed in docs/log-format.md."""

    def setup(self) -> None:
        self.keys = tuple(LOG_KEYS)
        self.types = {name: key.event_type for name, key in LOG_KEYS.items()}

    def observe(self, event: Event) -> None:
        wanted = self.types[event.key]
        if event.event_type != wanted:
            self.report(event.line, f"{event.key} has event_type {event.event_type or 'missing'}; "
                                    f"it must be {wanted}")


class TimeCheck(Check):
    """Time never goes backward from one record to the next."""

    def setup(self) -> None:
        self.last: tuple[float, int] | None = None  # (latest time, its first line)

    def observe_block(self, items: Sequence[Item]) -> None:
        """Processes the next items of the log, in order."""
        times = [item.time for item in items]
        # NaN (no time) compares false: `all` excludes it after the first item, and the last
        # condition excludes it at the first item.
        if all(map(le, times, times[1:])) and times and times[0] == times[0]:
            # The usual case: the times ascend, so only the first and the last are compared.
            self._compare(times[0], items[0])
            self._compare(times[-1], items[bisect_left(times, times[-1])])
            return
        for time, item in zip(times, items):
            if time == time:  # other rules report NaN
                self._compare(time, item)

    def _compare(self, time: float, item: Item) -> None:
        """Reports a time that is before the latest time so far."""
        if self.last is not None and time < self.last[0]:
            back = (self.last[0] - time) / self.context.summary.ticks_per_second
            self.report(item.line, f"the time of {format_value(item.key)} is {back:.3f} s before "
                                   f"that of line {self.last[1]}")
        # Keep the latest time, so that one early record does not make later ones wrong.
        if self.last is None or time > self.last[0]:
            self.last = (time, item.line)
