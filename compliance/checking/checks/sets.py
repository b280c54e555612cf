"""Checks of a set: the logs of one folder, compared with each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Protocol

from compliance.base.text import format_value
from compliance.checking.checks.base import Param, json_equal, text_param, texts_param


@dataclass(frozen=True)
class SetMember:
    """One log of a set, as far as checks of sets know it.

    Attributes:
      name: The file's name.
      values: (first value, line) of each wanted key that the log has.
      sha256: Digest of the log; None where it could not be read.
      curve: Digest of its losses and hit rates; None where there are too few to compare.
      has_errors: Whether it fails by itself, or has no end.
    """

    name: str
    values: dict[str, tuple[Any, int]]
    sha256: str | None = None
    curve: str | None = None
    has_errors: bool = False


@dataclass
class LogSet:
    """The logs of one folder.

    Attributes:
      folder: The folder.
      members: Its logs, in natural order.
      attempt_chain: Where the checks of attempts keep the chain that they share.
    """

    folder: Path
    members: list[SetMember]
    attempt_chain: Any = field(default=None, repr=False)


SetReport = Callable[[int, "int | None", str], None]  # (index of the log, line, message)


class SetCheck(Protocol):
    """One rule at work on a set of logs."""

    PARAMS: dict[str, Param]

    @staticmethod
    def wanted_keys(params: dict[str, Any]) -> tuple[str, ...]:
        """Returns the keys whose first value it needs from each log."""

    @staticmethod
    def judge(params: dict[str, Any], logs: LogSet, report: SetReport) -> None:
        """Reports each contradiction between the logs, at the log that is wrong."""


def _report_missing(key: str, logs: LogSet, report: SetReport) -> None:
    """Reports the logs that lack a key which another log of the set has.

    A log that fails by itself is left out, so that one fault is not reported for each key.
    """
    with_key = [member.name for member in logs.members if key in member.values]
    for index, member in enumerate(logs.members):
        if with_key and key not in member.values and not member.has_errors:
            report(index, None, f"it has no {key}; {with_key[0]} has one")


class UniqueInSetCheck:
    """No two logs of a folder have the same value of the key, and all have it or none."""

    PARAMS = {"key": text_param("the records' key")}

    @staticmethod
    def wanted_keys(params: dict[str, Any]) -> tuple[str, ...]:
        return (params["key"],)

    @staticmethod
    def judge(params: dict[str, Any], logs: LogSet, report: SetReport) -> None:
        _report_missing(params["key"], logs, report)
        first_log: dict[str, str] = {}  # by the value, as JSON
        for index, member in enumerate(logs.members):
            if params["key"] not in member.values:
                continue
            value, line = member.values[params["key"]]
            text = format_value(value, 10_000)
            if text in first_log:
                report(index, line, f"{params['key']} {format_value(value)} is also that of "
                                    f"{first_log[text]}")
            else:
                first_log[text] = member.name


class UniqueCurveInSetCheck:
    """No two logs of a folder have the same losses and hit rates, epoch by epoch.

    Logs without losses are compared from three evaluations on: few hit rates may be equal by
    chance.
    """

    PARAMS: dict[str, Param] = {}

    @staticmethod
    def wanted_keys(params: dict[str, Any]) -> tuple[str, ...]:
        return ()

    @staticmethod
    def judge(params: dict[str, Any], logs: LogSet, report: SetReport) -> None:
        first_log: dict[str, str] = {}  # by the curve
        for index, member in enumerate(logs.members):
            if member.curve is None:
                continue
            if member.curve in first_log:
                report(index, None, "the losses and hit rates of all epochs are also those of "
                                    f"{first_log[member.curve]}")
            else:
                first_log[member.curve] = member.name


class EqualInSetCheck:
    """All logs of a folder have the same value of each key, or none has it."""

    PARAMS = {"keys": texts_param("the records' keys")}

    @staticmethod
    def wanted_keys(params: dict[str, Any]) -> tuple[str, ...]:
        return tuple(params["keys"])

    @staticmethod
    def judge(params: dict[str, Any], logs: LogSet, report: SetReport) -> None:
        for key in params["keys"]:
            _report_missing(key, logs, report)
            first: tuple[Any, str] | None = None  # (value, log)
            for index, member in enumerate(logs.members):
                if key not in member.values:
                    continue
                value, line = member.values[key]
                if first is None:
                    first = (value, member.name)
                elif not json_equal(value, first[0]):
                    report(index, line, f"{key} is {format_value(value)}; in {first[1]} it is "
                                        f"{format_value(first[0])}")
