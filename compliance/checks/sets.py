"""Checks of a set: the logs of one folder together."""

from __future__ import annotations

from typing import Any, Callable, Dict, Protocol, Tuple

from compliance.checks.base import Param, equal, word, words
from compliance.dialects.event import show

# What a set check knows of each log: (name, {key: (value, line)} of wanted keys).
Member = Tuple[str, Dict[str, Tuple[Any, int]]]
SetReport = Callable[[int, int, str], None]  # (index of the log, line, message)


class SetCheck(Protocol):
    """One rule at work on a set of logs."""

    PARAMS: dict[str, Param]

    @staticmethod
    def wants(params: dict[str, Any]) -> tuple[str, ...]:
        """The keys whose first value it needs from each log."""

    @staticmethod
    def judge(params: dict[str, Any], members: list[Member], report: SetReport) -> None:
        """Reports what the logs contradict each other in."""


class UniqueInSet:
    """No two logs of a folder have the same value of the key."""

    PARAMS = {"key": word("the records' key")}

    @staticmethod
    def wants(params: dict[str, Any]) -> tuple[str, ...]:
        return (params["key"],)

    @staticmethod
    def judge(params: dict[str, Any], members: list[Member], report: SetReport) -> None:
        seen: dict[str, str] = {}
        for index, (name, values) in enumerate(members):
            if params["key"] not in values:
                continue
            value, line = values[params["key"]]
            text = show(value, 10_000)
            if text in seen:
                report(index, line, f"{params['key']} {show(value)} is also that of {seen[text]}")
            else:
                seen[text] = name


class EqualInSet:
    """All logs of a folder have the same value of each key."""

    PARAMS = {"keys": words("the records' keys")}

    @staticmethod
    def wants(params: dict[str, Any]) -> tuple[str, ...]:
        return tuple(params["keys"])

    @staticmethod
    def judge(params: dict[str, Any], members: list[Member], report: SetReport) -> None:
        for key in params["keys"]:
            first: tuple[Any, str] | None = None
            for index, (name, values) in enumerate(members):
                if key not in values:
                    continue
                value, line = values[key]
                if first is None:
                    first = (value, name)
                elif not equal(value, first[0]):
                    report(index, line, f"{key} is {show(value)}; in {first[1]} it is "
                                        f"{show(first[0])}")
