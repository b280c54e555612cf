"""Checks of single records: how many, what type, which value."""

from __future__ import annotations

from bisect import bisect_left
from operator import le
from typing import Any, Sequence

from compliance.checking.checks.base import (
    ABSENT,
    NAMED_LISTS,
    TRACK_VALUES,
    TYPES,
    Context,
    Param,
    Report,
    choice,
    equal,
    field_param,
    flag,
    get_field,
    getter,
    name_of,
    number,
    word,
    words,
)
from compliance.logs.dialects.event import PROBLEM_CODES, Event, Item, is_integer, is_number, show
from compliance.logs.keys import TAGS

COUNTS = {"exactly_one": (1, 1), "at_least_one": (1, None), "at_most_one": (0, 1), "any": (0, None)}


class _Base:
    """Keeps what every check is made with."""

    PARAMS: dict[str, Param] = {}
    keys: tuple[str, ...] | None = None

    def __init__(self, params: dict[str, Any], context: Context, report: Report) -> None:
        self.params, self.context, self.report = params, context, report
        self.setup()

    def setup(self) -> None:
        """Reads the parameters."""

    def see(self, event: Event) -> None:
        """The next event."""

    def end(self) -> None:
        """The log has ended."""


class Reading(_Base):
    """Records must be readable: none of these problems may occur."""

    PARAMS = {"problems": Param("codes of problems", lambda v: isinstance(v, list) and bool(v)
                                and all(isinstance(x, str) and x in PROBLEM_CODES for x in v),
                                f"a list out of {', '.join(PROBLEM_CODES)}", True)}
    keys = ()


class Record(_Base):
    """The records of a key: how many there are and what (a field of) each holds."""

    PARAMS = {
        "key": word("the records' key"),
        "count": choice("how many records (default any)", COUNTS),
        "field": field_param(),
        "type": choice("type of the field", TYPES),
        "min": number("smallest value allowed"), "max": number("largest value allowed"),
        "above": number("the value must be greater"), "below": number("the value must be less"),
        "one_of": Param("the values allowed", lambda v: isinstance(v, list) and bool(v)
                        or isinstance(v, str) and v in NAMED_LISTS,
                        f"a list of values or one of {', '.join(NAMED_LISTS)}"),
        "equals": Param("the only value allowed", lambda v: True, "a value"),
        "track": choice("must equal this value of the log's track, where the track pins it",
                        TRACK_VALUES),
        "optional": flag("whether the field may be missing")}

    def setup(self) -> None:
        p = self.params
        self.key, self.field = p["key"], p.get("field", "value")
        self.keys = (self.key,)
        self.low, self.high = COUNTS[p.get("count", "any")]
        self.optional = p.get("optional", False)
        one_of = p.get("one_of")
        self.one_of = NAMED_LISTS[one_of]() if isinstance(one_of, str) else one_of
        track = self.context.track
        self.fixed = TRACK_VALUES[p["track"]](track) if "track" in p and track else None
        self.seen = 0
        self.first_line = 0
        self.judges = len(p) > 1 + ("count" in p)
        self.get = getter(self.field)
        self.right = TYPES[p["type"]][1] if "type" in p else None
        self.ranged = any(name in p for name in ("min", "max", "above", "below"))

    def see(self, event: Event) -> None:
        self.seen += 1
        if self.seen == 1:
            self.first_line = event.line
        elif self.high == 1:
            self.report(event.line, f"{self.key} stands again; it first stood in line "
                                    f"{self.first_line}")
        if not self.judges:
            return
        value = self.get(event)
        if value is ABSENT:
            if not self.optional:
                self.report(event.line, f"{name_of(self.key, self.field)} is missing")
            return
        problem = self._problem(value)
        if problem:
            self.report(event.line, f"{name_of(self.key, self.field)} is {show(value)}; {problem}")

    def _problem(self, value: Any) -> str | None:
        p = self.params
        if self.right is not None and not self.right(value):
            return f"it must be {TYPES[p['type']][0]}"
        if "equals" in p and not equal(value, p["equals"]):
            return f"it must be {show(p['equals'])}"
        if self.one_of is not None and not any(equal(value, x) for x in self.one_of):
            return f"it must be one of {', '.join(map(show, self.one_of))}"
        if self.ranged and is_number(value):
            if "min" in p and value < p["min"]:
                return f"it must be at least {p['min']}"
            if "max" in p and value > p["max"]:
                return f"it must be at most {p['max']}"
            if "above" in p and value <= p["above"]:
                return f"it must be greater than {p['above']}"
            if "below" in p and value >= p["below"]:
                return f"it must be less than {p['below']}"
        if self.fixed is not None and not equal(value, self.fixed):
            return f"track {self.context.track.name} fixes {show(self.fixed, 80)}"
        return None

    def end(self) -> None:
        if self.seen < self.low:
            self.report(None, f"there is no {self.key} record")


class Some(_Base):
    """At least one record of these keys has the field at one of these values."""

    PARAMS = {"keys": words("the records' keys"), "field": field_param(),
              "one_of": Param("the values", lambda v: isinstance(v, list) and bool(v),
                              "a list of values", True)}

    def setup(self) -> None:
        self.keys = tuple(self.params["keys"])
        self.found = False

    def see(self, event: Event) -> None:
        if not self.found:
            value = get_field(event, self.params.get("field", "value"))
            self.found = any(equal(value, x) for x in self.params["one_of"])

    def end(self) -> None:
        if not self.found:
            field, values = self.params.get("field", "value"), self.params["one_of"]
            self.report(None, f"no {' or '.join(self.keys)} record has {field} "
                              f"{' or '.join(map(show, values))}")


class AtMost(_Base):
    """No more records of the key than a value of the log's track."""

    PARAMS = {"key": word("the records' key"),
              "track": choice("the track's value", TRACK_VALUES, True)}

    def setup(self) -> None:
        self.keys = (self.params["key"],)
        track = self.context.track
        self.limit = TRACK_VALUES[self.params["track"]](track) if track else None
        self.seen = 0

    def see(self, event: Event) -> None:
        self.seen += 1
        if self.limit is not None and self.seen == self.limit + 1:
            self.report(event.line, f"{self.keys[0]} stands for the {self.seen}th time; track "
                                    f"{self.context.track.name} allows {self.limit}")


class Same(_Base):
    """A field of every record of a key equals the value of another, single record."""

    PARAMS = {"key": word("the records' key"), "field": field_param(),
              "as": word("key of the single record"),
              "optional": flag("whether the field may be missing")}

    def setup(self) -> None:
        self.key, self.other = self.params["key"], self.params["as"]
        self.keys = (self.key, self.other)
        self.field = self.params.get("field", "value")
        self.get = getter(self.field)
        self.expected: Any = ABSENT
        self.waiting: list[tuple[int, Any]] = []  # seen before the other; a few are enough

    def see(self, event: Event) -> None:
        if event.key == self.other:
            if self.expected is ABSENT:
                self.expected = event.value
                for line, value in self.waiting:
                    self._compare(line, value)
            return
        value = self.get(event)
        if value is ABSENT:
            if not self.params.get("optional", False):
                self.report(event.line, f"{name_of(self.key, self.field)} is missing")
        elif self.expected is not ABSENT:
            self._compare(event.line, value)
        elif len(self.waiting) < 100:
            self.waiting.append((event.line, value))

    def _compare(self, line: int, value: Any) -> None:
        if not equal(value, self.expected):
            self.report(line, f"{name_of(self.key, self.field)} is {show(value)}; "
                              f"{self.other} says {show(self.expected)}")


class Product(_Base):
    """A single record's value equals another's times (1 + a third's)."""

    PARAMS = {"key": word("the product's key"), "of": word("key of the first factor"),
              "one_plus": word("key of the value to which 1 is added")}

    def setup(self) -> None:
        p = self.params
        self.keys = (p["key"], p["of"], p["one_plus"])
        self.values: dict[str, tuple[int, int]] = {}

    def see(self, event: Event) -> None:
        if is_integer(event.value):
            self.values.setdefault(event.key, (event.value, event.line))

    def end(self) -> None:
        if len(self.values) < 3:
            return
        (value, line), (factor, _), (plus, _) = (self.values[k] for k in self.keys)
        if value != factor * (1 + plus):
            self.report(line, f"{self.keys[0]} is {show(value)}; {self.keys[1]} {show(factor)} x "
                              f"(1 + {self.keys[2]} {show(plus)}) is {show(factor * (1 + plus))}")


class Batches(_Base):
    """A field of every record of a key is one value over another, rounded up.

    Both single records may stand before or after; a record without the field is
    passed over, since not every writer says it.
    """

    PARAMS = {"key": word("the records' key"), "field": field_param(),
              "of": word("key of how many there are in all"),
              "size": word("key of how many fit into one")}

    def setup(self) -> None:
        p = self.params
        self.keys = (p["key"], p["of"], p["size"])
        self.get = getter(p.get("field", "value"))
        self.single: dict[str, int] = {}
        self.counts: dict[Any, int] = {}  # a value and the line where it first stood

    def see(self, event: Event) -> None:
        if event.key == self.params["key"]:
            value = self.get(event)
            if value is not ABSENT and len(self.counts) < 100:
                self.counts.setdefault(value if value.__class__ is int else show(value), event.line)
        elif is_integer(event.value) and event.value > 0:
            self.single.setdefault(event.key, event.value)

    def end(self) -> None:
        of, size = (self.single.get(self.params[k]) for k in ("of", "size"))
        if of is None or size is None:
            return
        expected = -(-of // size)
        for value, line in self.counts.items():
            if value != expected:
                self.report(line, f"{name_of(self.params['key'], self.params['field'])} is {value}; "
                                  f"{self.params['of']} {show(of)} in batches of {show(size)} are "
                                  f"{show(expected)}")


class EventTypes(_Base):
    """Every known key has the event type that the list of tags gives it."""

    def setup(self) -> None:
        self.keys = tuple(TAGS)
        self.types = {key: tag.event_type for key, tag in TAGS.items()}

    def see(self, event: Event) -> None:
        wanted = self.types[event.key]
        if event.kind != wanted:
            self.report(event.line, f"{event.key} has event_type {event.kind or 'missing'}; "
                                    f"it must be {wanted}")


class Time(_Base):
    """Time never goes backward from record to record."""

    def setup(self) -> None:
        self.last: tuple[float, int] | None = None

    def see_all(self, items: Sequence[Item]) -> None:
        """Every item in the order of the log, many at a time."""
        times = [item.time for item in items]
        if all(map(le, times, times[1:])) and times and times[0] == times[0]:
            # The usual case: only the first and the last matter.
            self._step(times[0], items[0])
            self._step(times[-1], items[bisect_left(times, times[-1])])
            return
        for time, item in zip(times, items):
            if time == time:  # not a number: the reading rules say so
                self._step(time, item)

    def _step(self, time: float, item: Item) -> None:
        if self.last is not None and time < self.last[0]:
            back = (self.last[0] - time) / self.context.ticks
            self.report(item.line, f"time of {show(item.key)} is {back:.3f} s before that of "
                                   f"line {self.last[1]}")
        if self.last is None or time > self.last[0]:
            self.last = (time, item.line)
