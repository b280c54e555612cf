"""What all checks share: parameters, context, fields of an event."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Callable, Protocol

from compliance.logs.dialects.event import Event, is_integer, is_number
from compliance.logs.run_summary import RunFacts
from compliance.tracks import BUILTIN_TRACKS, Track, load_track

Report = Callable[["int | None", str], None]  # (line of the file, message)
ABSENT = object()


class Bad(ValueError):
    """A parameter that the vocabulary does not allow; `key` names it."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Context:
    """What a check may know besides the events: the track (None if unknown),
    the facts gathered so far, and the dialect's ticks per second."""

    track: Track | None
    facts: RunFacts
    ticks: int


class Check(Protocol):
    """One rule at work on one log."""

    PARAMS: dict[str, Param]
    keys: tuple[str, ...] | None  # the keys it wants to see; None: everything, by `see_all`

    def __init__(self, params: dict[str, Any], context: Context, report: Report) -> None: ...

    def see(self, event: Event) -> None:
        """The next event."""

    def end(self) -> None:
        """The log has ended."""


class Param:
    """A parameter: whether it must be there, and which values it takes."""

    def __init__(self, meaning: str, test: Callable[[Any], bool], expected: str,
                 required: bool = False) -> None:
        self.meaning, self._test, self.expected, self.required = meaning, test, expected, required

    def problem(self, value: Any) -> str | None:
        """None, or what the value must be."""
        return None if self._test(value) else f"must be {self.expected}"


def words(meaning: str, required: bool = True) -> Param:
    """A parameter that is a list of texts."""
    return Param(meaning, lambda v: isinstance(v, list) and bool(v)
                 and all(isinstance(x, str) for x in v), "a list of texts", required)


def word(meaning: str, required: bool = True) -> Param:
    """A parameter that is one text."""
    return Param(meaning, lambda v: isinstance(v, str), "text", required)


def choice(meaning: str, options: tuple[str, ...] | dict[str, Any], required: bool = False) -> Param:
    """A parameter out of fixed words."""
    return Param(meaning, lambda v: isinstance(v, str) and v in options,
                 f"one of {', '.join(options)}", required)


def flag(meaning: str) -> Param:
    """A parameter that is true or false."""
    return Param(meaning, lambda v: isinstance(v, bool), "true or false")


def number(meaning: str) -> Param:
    """A parameter that is a number."""
    return Param(meaning, is_number, "a number")


def field_param() -> Param:
    """Which part of a record is meant."""
    return Param("value (default), value.NAME, metadata.NAME or benchmark",
                 lambda v: isinstance(v, str) and (v in ("value", "benchmark")
                                                   or v.split(".")[0] in ("value", "metadata")
                                                   and v.count(".") == 1),
                 "value, value.NAME, metadata.NAME or benchmark")


def get_field(event: Event, field: str) -> Any:
    """The part of the event that `field` names, or ABSENT."""
    return getter(field)(event)


def getter(field: str) -> Callable[[Event], Any]:
    """`get_field` for one field, made ready."""
    part, _, name = field.partition(".")
    if not name:
        return attrgetter(field)

    def get(event: Event) -> Any:
        holder = event.value if part == "value" else event.meta
        return holder.get(name, ABSENT) if holder.__class__ is dict else ABSENT
    return get


def name_of(key: str, field: str) -> str:
    """How a message calls a field of a record."""
    part, _, name = field.partition(".")
    if not name:
        return key
    return f"{name} of {key}" if part == "value" else f"metadata {name} of {key}"


def figure(value: float) -> str:
    """A measured figure as people read it: six digits or whole."""
    return f"{value:.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.6g}"


def equal(a: Any, b: Any) -> bool:
    """Equality of JSON values: 1 is 1.0, but true is not 1, and lists may be tuples."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b)


def epoch_of(event: Event) -> int | None:
    """The record's epoch number, if it is a whole number."""
    value = event.meta.get("epoch_num")
    return value if is_integer(value) else None


def _closed_tracks() -> tuple[str, ...]:
    return tuple(n for n in BUILTIN_TRACKS if load_track(n).division_default == "closed")


NAMED_LISTS: dict[str, Callable[[], tuple[str, ...]]] = {"closed_tracks": _closed_tracks}

# What a rule may compare with: values of the log's own track.
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
    "target": lambda t: t.target,
    "max_epochs": lambda t: t.max_epochs,
}

TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "integer": ("a whole number", is_integer),
    "number": ("a finite number", is_number),
    "number_or_null": ("a finite number or null", lambda v: v is None or is_number(v)),
    "string": ("text", lambda v: isinstance(v, str) and bool(v.strip())),
    "boolean": ("true or false", lambda v: isinstance(v, bool)),
    "object": ("an object", lambda v: isinstance(v, dict)),
    "integers": ("a list of whole numbers", lambda v: isinstance(v, list) and bool(v)
                 and all(map(is_integer, v))),
    "numbers": ("a list of numbers", lambda v: isinstance(v, list) and all(map(is_number, v))),
}
