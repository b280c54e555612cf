"""Checks of a set: the logs of one folder together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Protocol

from compliance.checking.checks.base import Param, equal, word, words
from compliance.logs.dialects.event import show


@dataclass(frozen=True)
class Member:
    """What a set check knows of a log: the first (value, line) of the wanted keys."""

    name: str
    values: dict[str, tuple[Any, int]]
    sha256: str | None = None


@dataclass
class LogSet:
    """The logs of one folder; `chain` is kept here by the checks of attempts."""

    folder: Path
    members: list[Member]
    chain: Any = field(default=None, repr=False)


SetReport = Callable[[int, "int | None", str], None]  # (index of the log, line, message)


class SetCheck(Protocol):
    """One rule at work on a set of logs."""

    PARAMS: dict[str, Param]

    @staticmethod
    def wants(params: dict[str, Any]) -> tuple[str, ...]:
        """The keys whose first value it needs from each log."""

    @staticmethod
    def judge(params: dict[str, Any], logs: LogSet, report: SetReport) -> None:
        """Reports what the logs contradict each other in."""


class UniqueInSet:
    """No two logs of a folder have the same value of the key."""

    PARAMS = {"key": word("the records' key")}

    @staticmethod
    def wants(params: dict[str, Any]) -> tuple[str, ...]:
        return (params["key"],)

    @staticmethod
    def judge(params: dict[str, Any], logs: LogSet, report: SetReport) -> None:
        seen: dict[str, str] = {}
        for index, member in enumerate(logs.members):
            if params["key"] not in member.values:
                continue
            value, line = member.values[params["key"]]
            text = show(value, 10_000)
            if text in seen:
                report(index, line, f"{params['key']} {show(value)} is also that of {seen[text]}")
            else:
                seen[text] = member.name


class EqualInSet:
    """All logs of a folder have the same value of each key."""

    PARAMS = {"keys": words("the records' keys")}

    @staticmethod
    def wants(params: dict[str, Any]) -> tuple[str, ...]:
        return tuple(params["keys"])

    @staticmethod
    def judge(params: dict[str, Any], logs: LogSet, report: SetReport) -> None:
        for key in params["keys"]:
            first: tuple[Any, str] | None = None
            for index, member in enumerate(logs.members):
                if key not in member.values:
                    continue
                value, line = member.values[key]
                if first is None:
                    first = (value, member.name)
                elif not equal(value, first[0]):
                    report(index, line, f"{key} is {show(value)}; in {first[1]} it is "
                                        f"{show(first[0])}")
