"""The `attempt` record: a log's place in the chain of attempts of its set.

Its value is an object:
  set, attempt, run      the set's name, the attempt's number in it (from 1), the run
                         that it is for (N of result_N.txt)
  launcher, joins        the invocation of the harness that made it; where another one
                         made the attempt before, `joins` is that one, else null
  previous               the attempts since the last result, that one first (all of them
                         where none has become a result): objects with attempt, run,
                         launcher, reason and the sha256 of the whole log

So results and the attempts between them hang together without any file beside them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from compliance.chain import ledger
from compliance.logs.dialects.event import show
from compliance.logs.keys import NO_RUN_REASONS, REASONS

KEY = "attempt"
MAX_PREVIOUS = 10_000
_MEMBERS = {"set": str, "attempt": int, "run": int, "launcher": str}
_PRIOR = {"attempt": int, "run": int, "launcher": str, "reason": str}


@dataclass(frozen=True)
class Prior:
    """What a log says of an attempt before its own."""

    attempt: int
    run: int
    launcher: str
    reason: str
    sha256: str

    @property
    def is_result(self) -> bool:
        """Whether it became a result of the set."""
        return self.reason not in NO_RUN_REASONS


@dataclass(frozen=True)
class Link:
    """A log's place in its chain."""

    set: str
    attempt: int
    run: int
    launcher: str
    joins: str | None
    previous: tuple[Prior, ...]

    @classmethod
    def of(cls, value: dict[str, Any]) -> "Link":
        """The link whose `as_value` this is."""
        return cls(**{**value, "previous": tuple(Prior(**p) for p in value["previous"])})

    def as_value(self) -> dict[str, Any]:
        """The record's value."""
        return {**asdict(self), "previous": [asdict(prior) for prior in self.previous]}


class BadLink(ValueError):
    """An `attempt` record that cannot be one; the message is for the user."""


def _members(value: Any, kinds: dict[str, type], others: set[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != {*kinds, *others}:
        raise BadLink(f"{what} must be an object of {', '.join([*kinds, *sorted(others)])}")
    for name, kind in kinds.items():
        if type(value[name]) is not kind or kind is int and value[name] < (name == "attempt") \
                or kind is str and not value[name]:
            raise BadLink(f"{name} of {what} is {show(value[name])}")
    return value


def read_link(value: Any) -> Link:
    """The link in an `attempt` record's value.  Raises BadLink."""
    _members(value, _MEMBERS, {"joins", "previous"}, KEY)
    if value["joins"] is not None and not isinstance(value["joins"], str):
        raise BadLink(f"joins is {show(value['joins'])}; it must be a launcher or null")
    entries = value["previous"]
    if not isinstance(entries, list) or len(entries) > MAX_PREVIOUS:
        raise BadLink("previous must be the list of the attempts since the last result")
    priors = []
    for entry in entries:
        _members(entry, _PRIOR, {"sha256"}, "previous")
        if not ledger.is_digest(entry["sha256"]):
            raise BadLink(f"sha256 of attempt {entry['attempt']} is {show(entry['sha256'])}")
        if entry["reason"] not in REASONS:
            raise BadLink(f"reason of attempt {entry['attempt']} is {show(entry['reason'])}")
        priors.append(Prior(**entry))
    link = Link(**{**value, "previous": tuple(priors)})
    _consecutive(link)
    return link


def _consecutive(link: Link) -> None:
    """`previous` leads from the last result (or from attempt 1) to the one before."""
    first = link.attempt - len(link.previous)
    if [p.attempt for p in link.previous] != list(range(first, link.attempt)):
        raise BadLink(f"previous of attempt {link.attempt} must end with attempt "
                      f"{link.attempt - 1} and skip none")
    if link.attempt > 1 and (not link.previous or first < 1):
        raise BadLink(f"attempt {link.attempt} names none before it")
    if any(p.is_result for p in link.previous[1:]):
        raise BadLink("previous must begin with the last result")
    if first > 1 and not link.previous[0].is_result:
        raise BadLink(f"previous begins with attempt {first}, which was no result")
