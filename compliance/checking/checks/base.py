"""The base class of the checks of single logs, their parameters, and the fields of events."""

from __future__ import annotations

import re
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Callable, Sequence

from compliance.logs.dialects.event import Event, Item, is_integer, is_number
from compliance.logs.run_summary import RunSummary
from compliance.tracks import BUILTIN_TRACKS, Track, load_track

Report = Callable[["int | None", str], None]  # (line of the file, message)
_DIGEST = re.compile(r"[0-9a-f]{64}")
# The value of a missing field; null is a present value.
ABSENT = object()


class InvalidParameter(ValueError):
    """A parameter that the vocabulary does not allow.

    Attributes:
      key: The parameter's name; "" if the message is about a missing parameter.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Context:
    """The input of a check besides the events.

    Attributes:
      track: The log's track; None if the log has no track or an unknown one.
      summary: The facts gathered so far; complete when `Check.finish` is called.
    """

    track: Track | None
    summary: RunSummary


TRACK_KEY = "track"


@dataclass(frozen=True)
class Need:
    """A part of a log that is required to check a rule.

    Attributes:
      key: The key of a record.
      field: The field of that record.
      type: The field's type, a name in TYPES; None if any value is allowed.
      when: The part is required only if the log has a record of this key; None: always.
      track_value: A name in TRACK_VALUES: the log's track must fix this value; None if the need
        is about the record itself.
    """

    key: str
    field: str = "value"
    type: str | None = None
    when: str | None = None
    track_value: str | None = None


def track_need(name: str) -> Need:
    """Returns the need for a built-in track that fixes the value `name`, of TRACK_VALUES."""
    return Need(TRACK_KEY, track_value=name)


class Param:
    """A parameter of a check: its meaning and its allowed values.

    Attributes:
      meaning: A one-line description.
      expected: The allowed values in words, to follow "must be".
      required: Whether every rule must have it.
    """

    def __init__(self, meaning: str, test: Callable[[Any], bool], expected: str,
                 required: bool = False) -> None:
        self.meaning, self._test, self.expected, self.required = meaning, test, expected, required

    def problem(self, value: Any) -> str | None:
        """Returns the requirement that the value does not meet; None if it is allowed."""
        return None if self._test(value) else f"must be {self.expected}"


class Check:
    """The check of one rule on one log: the base class of the words of the vocabulary.

    The checker calls `observe` for each event with a key in `keys`, and `finish` at the end.
    If `keys` is None, it calls `observe_block` with all items of the log instead.

    Attributes:
      PARAMS: The parameters that a rule may have.
      keys: The keys of the events to observe; None for all items.
      params: The parameters of the rule.
      context: The track and the facts about the run.
      report: Reports a violation: (line or None, message).
    """

    PARAMS: dict[str, Param] = {}
    keys: tuple[str, ...] | None = None

    @classmethod
    def needs(cls, params: dict[str, Any]) -> tuple[Need, ...]:
        """Returns the parts of a log that are required to check a rule with these parameters.

        The check itself reports parts that are missing in single records.
        """
        return ()

    def __init__(self, params: dict[str, Any], context: Context, report: Report) -> None:
        self.params, self.context, self.report = params, context, report
        self.setup()

    def setup(self) -> None:
        """Initializes the check's state from its parameters."""

    def observe(self, event: Event) -> None:
        """Processes the next event of one of the keys."""

    def observe_block(self, items: Sequence[Item]) -> None:
        """Processes the next items of the log, in order; called only if `keys` is None."""

    def finish(self) -> None:
        """Reports the violations that are known only at the end of the log."""


def texts_param(meaning: str, required: bool = True) -> Param:
    """Returns a parameter that is a list of texts."""
    return Param(meaning, lambda v: isinstance(v, list) and bool(v)
                 and all(isinstance(x, str) for x in v), "a list of texts", required)


def text_param(meaning: str, required: bool = True) -> Param:
    """Returns a parameter that is one text."""
    return Param(meaning, lambda v: isinstance(v, str), "text", required)


def choice_param(meaning: str, options: tuple[str, ...] | dict[str, Any],
                 required: bool = False) -> Param:
    """Returns a parameter that is one of several fixed words."""
    return Param(meaning, lambda v: isinstance(v, str) and v in options,
                 f"one of {', '.join(options)}", required)


def aspect_param(aspects: dict[str, str]) -> Param:
    """Returns the parameter that selects one of the aspects of a check."""
    meanings = ", ".join(f"{name} ({meaning})" for name, meaning in aspects.items())
    return choice_param(f"the requirement: {meanings}", aspects, required=True)


def flag_param(meaning: str) -> Param:
    """Returns a parameter that is true or false."""
    return Param(meaning, lambda v: isinstance(v, bool), "true or false")


def number_param(meaning: str) -> Param:
    """Returns a parameter that is a number."""
    return Param(meaning, is_number, "a number")


def non_negative_param(meaning: str) -> Param:
    """Returns a required parameter that is a number from 0 up."""
    return Param(meaning, lambda v: is_number(v) and v >= 0, "a number from 0 up", True)


def field_param() -> Param:
    """Returns a parameter that selects a field of a record."""
    return Param("the field to check (default: value)",
                 lambda v: isinstance(v, str) and (v in ("value", "benchmark")
                                                   or v.split(".")[0] in ("value", "metadata")
                                                   and v.count(".") == 1),
                 "value, value.NAME, metadata.NAME or benchmark")


def field_getter(field: str) -> Callable[[Event], Any]:
    """Makes a function that reads one field of an event.

    Args:
      field: The name of the field, as allowed by `field_param`.

    Returns:
      A function that returns the field's value, or ABSENT, for an event.
    """
    part, _, name = field.partition(".")
    if not name:
        return attrgetter(field)

    def get(event: Event) -> Any:
        holder = event.value if part == "value" else event.metadata
        return holder.get(name, ABSENT) if holder.__class__ is dict else ABSENT
    return get


def field_name(key: str, field: str) -> str:
    """Returns the name of a field of a key's record, for messages."""
    part, _, name = field.partition(".")
    if not name:
        return key
    return f"{name} of {key}" if part == "value" else f"metadata {name} of {key}"


def format_measurement(value: float) -> str:
    """Formats a measured value for messages: six significant digits, or a whole number."""
    return f"{value:.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.6g}"


def json_equal(a: Any, b: Any) -> bool:
    """Returns whether two JSON values are equal: 1 equals 1.0, but true does not equal 1.

    A list and a tuple with the same elements are equal.
    """
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(json_equal, a, b))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b)


def epoch_of(event: Event) -> int | None:
    """Returns the event's epoch number, if it is a whole number."""
    value = event.metadata.get("epoch_num")
    return value if is_integer(value) else None


def _closed_tracks() -> tuple[str, ...]:
    return tuple(n for n in BUILTIN_TRACKS if load_track(n).division_default == "closed")


# Named lists of values; a rule may use the name in place of the list.
NAMED_LISTS: dict[str, Callable[[], tuple[str, ...]]] = {"closed_tracks": _closed_tracks}

# Values of the log's track that a rule may compare with.
TRACK_VALUES: dict[str, Callable[[Track], Any]] = {
    "dataset.name": lambda t: t.dataset.name,
    "dataset.min_ratings": lambda t: t.dataset.min_ratings,
    "dataset.split_digest": lambda t: t.dataset.split_digest,
    "dataset.num_users": lambda t: t.dataset.num_users,
    "dataset.num_items": lambda t: t.dataset.num_items,
    "dataset.num_positives": lambda t: t.dataset.num_positives,
    "train_samples": lambda t: t.train_samples,
    "eval_samples": lambda t: t.eval_samples,
    "model.mf_dim": lambda t: t.model.mf_dim,
    "model.mlp_layers": lambda t: t.model.mlp_layers,
    "model.l2_mf": lambda t: t.model.l2_mf,
    "model.l2_mlp": lambda t: t.model.l2_mlp,
    "sampling.train_negatives": lambda t: t.sampling.train_negatives,
    "evaluation.negatives": lambda t: t.evaluation.negatives,
    "evaluation.with_replacement": lambda t: not t.evaluation.given,
    "evaluation.top_k": lambda t: t.evaluation.top_k,
    "benchmark": lambda t: t.benchmark,
    "target": lambda t: t.target,
    "max_epochs": lambda t: t.max_epochs,
}

# Types that a rule may require: (words for messages, test).
TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "integer": ("a whole number", is_integer),
    "positive": ("a whole number above 0", lambda v: is_integer(v) and v > 0),
    "number": ("a finite number", is_number),
    "number_or_null": ("a finite number or null", lambda v: v is None or is_number(v)),
    "string": ("text", lambda v: isinstance(v, str) and bool(v.strip())),
    "boolean": ("true or false", lambda v: isinstance(v, bool)),
    "digest": ("64 hexadecimal digits in lower case",
               lambda v: isinstance(v, str) and bool(_DIGEST.fullmatch(v))),
    "object": ("an object", lambda v: isinstance(v, dict)),
    "integers": ("a list of whole numbers", lambda v: isinstance(v, list) and bool(v)
                 and all(map(is_integer, v))),
    "numbers": ("a list of numbers", lambda v: isinstance(v, list) and all(map(is_number, v))),
}
