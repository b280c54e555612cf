"""Checks of a set: compare the logs of one folder with each other."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Protocol, Sequence

from compliance.base.text import format_value
from compliance.chain.attempt_record import ATTEMPT_KEY
from compliance.checking.checks.base import (
    Param,
    aspect_param,
    json_equal,
    text_param,
    texts_param,
)
from compliance.logs.keys import NO_RUN_REASONS
from compliance.logs.run_summary import Measurements, RunSummary


@dataclass(frozen=True)
class SetMember:
    """One log of a set, with the data that checks of sets use.

    Attributes:
      name: The file's name.
      values: (first value, line, metadata) of each requested key in the log.
      sha256: Digest of the file; None if it could not be read.
      content_sha256: Digest of the log in a file that is compressed or otherwise wrapped.
      summary: The facts about its run; None if it could not be read.
      has_errors: Whether the log itself has errors.
    """

    name: str
    values: dict[str, tuple[Any, int, dict[str, Any]]]
    sha256: str | None = None
    content_sha256: str | None = None
    summary: RunSummary | None = None
    has_errors: bool = False


@dataclass
class LogSet:
    """The logs of one folder.

    Attributes:
      folder: The folder.
      members: Its logs, in natural order.
      attempt_chain: The chain of attempts, shared by the checks of attempts.
    """

    folder: Path
    members: list[SetMember]
    attempt_chain: Any = field(default=None, repr=False)


SetReport = Callable[[int, "int | None", str], None]  # (index of the log, line, message)


class SetCheck(Protocol):
    """The check of one rule on a set of logs."""

    PARAMS: dict[str, Param]

    @staticmethod
    def wanted_keys(params: dict[str, Any]) -> tuple[str, ...]:
        """Returns the keys whose first value is required from each log."""

    @staticmethod
    def judge(params: dict[str, Any], logs: LogSet, report: SetReport) -> None:
        """Reports each contradiction between the logs, at the log that differs."""


def _report_missing(key: str, logs: LogSet, report: SetReport) -> None:
    """Reports the logs without a key that another log of the set has.

    It skips logs with errors of their own, so that one fault is not reported for each key.
    """
    with_key = [member.name for member in logs.members if key in member.values]
    for index, member in enumerate(logs.members):
        if with_key and key not in member.values and not member.has_errors:
            report(index, None, f"the log has no {key}; {with_key[0]} has one")


def _report_missing_members(names: Sequence[str], key: str, logs: LogSet,
                            report: SetReport) -> None:
    """Reports the logs whose value has no member that another log's value has."""
    values = [(i, m, m.values[key][0]) for i, m in enumerate(logs.members) if key in m.values
              and isinstance(m.values[key][0], dict)]
    for name in names:
        with_name = [member.name for _, member, value in values if name in value]
        for index, member, value in values:
            if with_name and name not in value and not member.has_errors:
                report(index, member.values[key][1], f"{key} has no {name}; in {with_name[0]} it "
                                                     "has one")


class UniqueInSetCheck:
    """No two logs of a folder have the same value of the key.

    With `only_if`, only logs in which that record is true are compared. With `members`, the
    members of an object are compared one by one. Texts are compared without regard to case.
    """

    PARAMS = {"key": text_param("the records' key"),
              "members": texts_param("the members of the value to compare", required=False),
              "only_if": text_param("the key of a record whose value must be true", required=False)}

    @staticmethod
    def wanted_keys(params: dict[str, Any]) -> tuple[str, ...]:
        return (params["key"], *([params["only_if"]] if "only_if" in params else []))

    @staticmethod
    def judge(params: dict[str, Any], logs: LogSet, report: SetReport) -> None:
        key = params["key"]
        first_log: dict[tuple[str, str], str] = {}  # by (member, value as JSON)
        for index, member in enumerate(logs.members):
            if key not in member.values:
                continue
            if "only_if" in params and member.values.get(params["only_if"], (None,))[0] is not True:
                continue
            value, line = member.values[key][:2]
            parts = {"": value} if "members" not in params else {
                name: value[name] for name in params["members"]
                if isinstance(value, dict) and name in value}
            for name, part in parts.items():
                text = format_value(part.lower() if isinstance(part, str) else part, 10_000)
                what = f"{name} of {key}" if name else key
                if (name, text) in first_log:
                    report(index, line, f"{what} {format_value(part)} is also in "
                                        f"{first_log[name, text]}")
                else:
                    first_log[name, text] = member.name


class AllInSetCheck:
    """All logs of a folder have a record of the key, or none has; the same holds for members."""

    PARAMS = {"key": text_param("the records' key"),
              "members": texts_param("the members of the value", required=False)}

    @staticmethod
    def wanted_keys(params: dict[str, Any]) -> tuple[str, ...]:
        return (params["key"],)

    @staticmethod
    def judge(params: dict[str, Any], logs: LogSet, report: SetReport) -> None:
        _report_missing(params["key"], logs, report)
        _report_missing_members(params.get("members", ()), params["key"], logs, report)


class EqualInSetCheck:
    """All logs of a folder have the same value of each key, or none has the key.

    With `metadata`, the given metadata of a key's record is also the same.
    """

    PARAMS = {"keys": texts_param("the records' keys"),
              "metadata": Param("for a key, the names of metadata",
                                lambda v: isinstance(v, dict) and bool(v) and all(
                                    isinstance(x, list) and all(isinstance(y, str) for y in x)
                                    for x in v.values()), "a mapping of keys to lists of names")}

    @staticmethod
    def wanted_keys(params: dict[str, Any]) -> tuple[str, ...]:
        return (*params["keys"], *params.get("metadata", {}))

    @staticmethod
    def judge(params: dict[str, Any], logs: LogSet, report: SetReport) -> None:
        for key in params["keys"]:
            _report_missing(key, logs, report)
            _report_unequal(key, lambda values: values[0], logs, key, report)
        for key, names in params.get("metadata", {}).items():
            for name in names:
                _report_unequal(f"{name} of {key}", lambda values, name=name: values[2].get(name),
                                logs, key, report)


def _report_unequal(what: str, get: Callable[[tuple], Any], logs: LogSet, key: str,
                    report: SetReport) -> None:
    """Reports each log in which a value differs from the first log with the key."""
    first: tuple[Any, str] | None = None  # (value, log)
    for index, member in enumerate(logs.members):
        if key not in member.values:
            continue
        value = get(member.values[key])
        if first is None:
            first = (value, member.name)
        elif not json_equal(value, first[0]):
            report(index, member.values[key][1], _describe_difference(what, value, *first))


def _describe_difference(what: str, value: Any, other: Any, name: str) -> str:
    """Describes how a value differs from that of another log; for objects, the first member."""
    if isinstance(value, dict) and isinstance(other, dict):
        member = next(key for key in sorted({*value, *other})
                      if not json_equal(value.get(key), other.get(key)) or key not in value
                      or key not in other)
        what, value, other = f"{member} of {what}", value.get(member), other.get(member)
    return f"{what} is {format_value(value)}; in {name} it is {format_value(other)}"


SET_ASPECTS = {
    "different": "no two logs are of the same run: their losses, seconds and hit rates differ",
    "sequence": "the attempts of a chain do not overlap in time",
    "parallel": "no two runs overlap in time",
    "runs": "no log is of an interrupted attempt"}
# Values distinguish runs only if they are logged with enough digits. A loss or an NDCG with
# _EXACT_DIGITS significant digits is unique to one run. Losses and seconds with fewer digits may
# be equal by chance once, but not several times.
_EXACT_DIGITS, _LOSS_DIGITS, _SECONDS_DIGITS = 12, 7, 6
# Losses that differ by at most this share in (nearly) every epoch are from the same run.
_LOSS_SHARE, _MIN_NEAR_LOSSES = 1e-6, 3
# Values that are equal in this many epochs, or in one more in any order, are from the same run.
_MIN_EQUAL = 2
# Two equal values of shorter epochs do not identify a run: they have too few microseconds.
_MIN_EPOCH_S = 0.02
# Seconds with fewer digits, down to this number, identify a run together: at least this many must
# be equal, and three quarters of all. If the microseconds of two runs agree by chance in one of
# seven intervals, as in intervals of 2 ms that vary by 0.1%, five of six agree in one of 3,000
# pairs.
_FEW_SECONDS_DIGITS, _MIN_MANY_EQUAL, _MANY_SHARE = 4, 5, 0.75
# Hit rates have few possible values. It does not happen by chance that all but one of this many
# are equal, or all of this smaller number in logs without losses.
_MIN_HIT_RATES, _MIN_HIT_RATES_ALONE, _MIN_ALL_EQUAL_ALONE = 8, 5, 3
# It also does not happen by chance that this many hit rates, and three quarters of the shorter
# run's, are equal in the same order, in any epochs, or that this many, and nearly all, are equal in
# any order. Of the 1,770 pairs of ml-100k's reference runs up to their target, none has more than
# 4 of 7 in order, or 5 of 8 in any order (compliance/reference_points/ml-100k.json).
_MIN_IN_ORDER, _IN_ORDER_SHARE, _MIN_ALL_IN_ORDER = 6, 0.75, 5
_MIN_IN_ANY_ORDER, _IN_ANY_ORDER_SHARE = 7, 0.85
# Longer runs are not compared in this way; no real run takes as many epochs.
_MAX_COMPARED = 200


class RunsInSetCheck:
    """Compares the runs in the logs of a folder with each other.

    Runs with different seeds have different losses and NDCG in every epoch, and no two runs take
    the same microseconds in two epochs. Values that are logged with few digits may be equal by
    chance. Hit rates are compared from three evaluations on in logs without losses, and from eight
    evaluations on in other logs.
    """

    PARAMS = {"aspect": aspect_param(SET_ASPECTS)}

    @staticmethod
    def wanted_keys(params: dict[str, Any]) -> tuple[str, ...]:
        return (ATTEMPT_KEY,)

    @staticmethod
    def judge(params: dict[str, Any], logs: LogSet, report: SetReport) -> None:
        _SET_ASPECT_CHECKS[params["aspect"]](logs, report)


def _check_different(logs: LogSet, report: SetReport) -> None:
    members = [(i, m) for i, m in enumerate(logs.members) if m.summary is not None]
    for place, (index, member) in enumerate(members):
        for _, other in members[:place]:
            what = equal_measurements(member.summary.measurements, other.summary.measurements)
            if what is not None:
                report(index, None, f"same {what} as in {other.name}: the logs are of one run")
                break


def equal_measurements(a: Measurements, b: Measurements) -> str | None:
    """Returns the measurement that shows that two logs are of the same run; None if none does."""
    losses_a, losses_b = (_precise(m.losses, _LOSS_DIGITS) for m in (a, b))
    if set(_precise(a.losses, _EXACT_DIGITS)) & set(b.losses) \
            or len(set(losses_a) & set(losses_b)) >= _MIN_EQUAL:
        return "losses"
    num_far = sum(abs(x - y) > _LOSS_SHARE * abs(x) for x, y in zip(losses_a, losses_b))
    count = len(losses_a)
    if count == len(losses_b) >= _MIN_NEAR_LOSSES and num_far <= (count > _MIN_NEAR_LOSSES):
        return "losses"
    seconds_a, seconds_b = ([s if s >= _MIN_EPOCH_S and _num_digits(s) >= _SECONDS_DIGITS else None
                             for s in m.train_seconds] for m in (a, b))
    if _has_equal(seconds_a, seconds_b) or _has_many_equal_seconds(a, b):
        return "seconds of training"
    ndcgs_a, ndcgs_b = ([x if _num_digits(x) >= _EXACT_DIGITS else None for x in m.ndcgs]
                        for m in (a, b))
    if _has_equal(ndcgs_a, ndcgs_b):
        return "NDCG"
    return "hit rates" if equal_hit_rates(a, b) else None


def _has_equal(a: list[float | None], b: list[float | None]) -> bool:
    """Whether values are equal in several epochs, or in one more epoch in any order."""
    in_place = sum(x is not None and x == y for x, y in zip(a, b))
    return in_place >= _MIN_EQUAL or len((set(a) & set(b)) - {None}) > _MIN_EQUAL


def _has_many_equal_seconds(a: Measurements, b: Measurements) -> bool:
    """Whether most training and evaluation seconds are equal, epoch by epoch."""
    pairs = [(x, y) for of_a, of_b in ((a.train_seconds, b.train_seconds),
                                       (a.eval_seconds, b.eval_seconds))
             for x, y in zip(of_a, of_b)
             if min(_num_digits(x), _num_digits(y)) >= _FEW_SECONDS_DIGITS]
    num_equal = sum(x == y for x, y in pairs)
    return num_equal >= max(_MIN_MANY_EQUAL, _MANY_SHARE * len(pairs))


def equal_hit_rates(a: Measurements, b: Measurements) -> bool:
    """Whether the hit rates show that two logs are of the same run."""
    count = len(a.hit_rates)
    if _has_common_hit_rates(a.hit_rates, b.hit_rates):
        return True
    if count != len(b.hit_rates):
        return False
    has_losses = bool(a.losses and b.losses)
    num_different = sum(x != y for x, y in zip(a.hit_rates, b.hit_rates))
    if count >= (_MIN_HIT_RATES if has_losses else _MIN_HIT_RATES_ALONE):
        return num_different <= 1
    return not has_losses and count >= _MIN_ALL_EQUAL_ALONE and num_different == 0


def _has_common_hit_rates(a: list[float], b: list[float]) -> bool:
    """Whether nearly all hit rates of the shorter run also occur in the other run."""
    shorter = min(len(a), len(b))
    if shorter < _MIN_ALL_IN_ORDER or max(len(a), len(b)) > _MAX_COMPARED:
        return False
    in_any_order = (Counter(a) & Counter(b)).total()
    if in_any_order < _MIN_ALL_IN_ORDER:
        return False
    if in_any_order >= max(_MIN_IN_ANY_ORDER, _IN_ANY_ORDER_SHARE * shorter):
        return True
    in_order = _longest_common_subsequence(a, b)
    return in_order >= max(_MIN_IN_ORDER, _IN_ORDER_SHARE * shorter) or in_order == shorter


def _longest_common_subsequence(a: list[float], b: list[float]) -> int:
    """The length of the longest common subsequence of two lists."""
    lengths = [0] * (len(b) + 1)
    for x in a:
        row = [0]
        for j, y in enumerate(b):
            row.append(lengths[j] + 1 if x == y else max(lengths[j + 1], row[j]))
        lengths = row
    return lengths[-1]


def _precise(values: list[float], digits: int) -> list[float]:
    """The values with at least this many significant digits."""
    return [value for value in values if _num_digits(value) >= digits]


def _num_digits(value: float) -> int:
    """The number of significant digits of a logged value."""
    mantissa = repr(float(value)).partition("e")[0]
    return len(mantissa.lstrip("-0.").replace(".", ""))


def _check_sequence(logs: LogSet, report: SetReport) -> None:
    chained = [(m.summary.attempt, i) for i, m in enumerate(logs.members)
               if m.summary is not None and m.summary.attempt is not None]
    for ((set_before, before), first), ((set_after, after), second) in zip(
            sorted(chained), sorted(chained)[1:]):
        before_it = logs.members[first].summary
        # data_digests and checkpoint come after run_stop, and the digest is of the closed log.
        stop = max((t for t in map(before_it.time, ("run_stop", "data_digests", "checkpoint"))
                    if t is not None), default=None)
        summary = logs.members[second].summary
        # The attempt record is at the beginning of the log.
        start = min((t for t in map(summary.time, (ATTEMPT_KEY, "run_start")) if t is not None),
                    default=None)
        if set_before == set_after and before < after and stop is not None \
                and start is not None and start < stop:
            report(second, None, f"attempt {after} starts {stop - start:.3f} s before the end of "
                                 f"attempt {before} ({logs.members[first].name}), but records its "
                                 "digest")


def _check_parallel(logs: LogSet, report: SetReport) -> None:
    spans = sorted((m.summary.time("run_start"), m.summary.time("run_stop"), i)
                   for i, m in enumerate(logs.members) if m.summary is not None
                   and m.summary.time("run_start") is not None
                   and m.summary.time("run_stop") is not None)
    for (_, stop, first), (start, _, second) in zip(spans, spans[1:]):
        if start < stop:
            report(second, None, f"the run starts {stop - start:.3f} s before the end of that in "
                                 f"{logs.members[first].name}")


def _check_runs(logs: LogSet, report: SetReport) -> None:
    for index, member in enumerate(logs.members):
        if member.summary is not None and member.summary.reason in NO_RUN_REASONS:
            line = member.summary.first_events["run_stop"].line
            report(index, line, f"the log is of an interrupted attempt ({member.summary.reason}), "
                                "which does not count and has no time")


_SET_ASPECT_CHECKS = {"different": _check_different, "sequence": _check_sequence,
                      "parallel": _check_parallel, "runs": _check_runs}
