"""The `attempt` record of a log: its place in the chain of attempts of its set.

Every start of a run is an attempt with a number, whether it becomes a result or is
interrupted. The digest of an attempt is the SHA-256 of its complete, closed log. Each log has an
`attempt` record: its own number, and the number, reason and digest of every attempt since the last
result, including that result's attempt. The ledger is a file next to the results: the start of
each attempt, and its end with the digest, are appended to it. Each line of the ledger contains the
SHA-256 of the line before (`compliance.chain.ledger`). A log that was removed, edited, swapped or
taken from another set therefore contradicts the records of later logs or the ledger. Nothing is
signed: a person who recreates all logs and the ledger can still leave out attempts, and only the
ledger protects the last log.

The value of the record is an object:
  set, attempt, run   name of the set, number of the attempt in the set (from 1), number of the
                      run that it is for (N of result_N.txt)
  launcher            the launcher that started the attempt. A launcher is one invocation of
                      the harness; it is identified by a random name that it chooses
  joins               the launcher of the attempt before, if that is another launcher, else
                      null. The ledger's member of the same name differs: there it is the
                      launcher declared last, even if it started no attempt
  previous            the attempts since the last result, beginning with that result's attempt
                      (all attempts if there is no result yet): objects with attempt, run,
                      launcher, reason, sha256
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from compliance.base.text import format_value
from compliance.chain import ledger
from compliance.logs.keys import NO_RUN_REASONS, REASONS

ATTEMPT_KEY = "attempt"
MAX_PREVIOUS = 10_000
# Types of members of the record, and of the entries of `previous`.
_RECORD_TYPES = {"set": str, "attempt": int, "run": int, "launcher": str}
_PRIOR_TYPES = {"attempt": int, "run": int, "launcher": str, "reason": str}


@dataclass(frozen=True)
class PriorAttempt:
    """The entry of a log about an earlier attempt.

    Attributes:
      attempt: Its number in the set, from 1.
      run: The run that it was for.
      launcher: The random name of the harness process that started it.
      reason: The reason why it ended; one of REASONS.
      sha256: Digest of its complete log.
    """

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
class AttemptRecord:
    """A log's place in its chain: the value of its `attempt` record.

    Attributes:
      set: The set's name.
      attempt: The attempt's number in the set, from 1.
      run: The run that it is for.
      launcher: The random name of the harness process that started it.
      joins: The launcher of the attempt before, if that is another launcher, else None.
      previous: The attempts since the last result, beginning with that result's attempt.
    """

    set: str
    attempt: int
    run: int
    launcher: str
    joins: str | None
    previous: tuple[PriorAttempt, ...]

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> "AttemptRecord":
        """Returns the record for a value made by `as_value`; the value is trusted."""
        return cls(**{**value, "previous": tuple(PriorAttempt(**p) for p in value["previous"])})

    def as_value(self) -> dict[str, Any]:
        """Returns the JSON object that is logged."""
        return {**asdict(self), "previous": [asdict(prior) for prior in self.previous]}


class InvalidAttemptRecord(ValueError):
    """The value of an `attempt` record is malformed; the message is for the user."""


def _check_members(value: Any, types: dict[str, type], others: set[str], what: str) -> None:
    """Refuses an object with missing, unknown or wrongly typed members."""
    if not isinstance(value, dict) or set(value) != {*types, *others}:
        raise InvalidAttemptRecord(
            f"{what} must be an object with the members "
            f"{', '.join([*types, *sorted(others)])}")
    for name, kind in types.items():
        # Attempts count from 1, runs from 0; texts are not empty.
        if type(value[name]) is not kind or kind is int and value[name] < (name == "attempt") \
                or kind is str and not value[name]:
            raise InvalidAttemptRecord(f"invalid {name} of {what}: {format_value(value[name])}")


def read_attempt_record(value: Any) -> AttemptRecord:
    """Reads the value of a log's `attempt` record.

    Args:
      value: The value as logged; it is untrusted.

    Raises:
      InvalidAttemptRecord: A member is missing, unknown or of the wrong type, or `previous`
        does not lead from the last result to the attempt before this one.
    """
    _check_members(value, _RECORD_TYPES, {"joins", "previous"}, ATTEMPT_KEY)
    if value["joins"] is not None and not isinstance(value["joins"], str):
        raise InvalidAttemptRecord(
            f"joins is {format_value(value['joins'])}; it must be the name of a launcher or null")
    entries = value["previous"]
    if not isinstance(entries, list) or len(entries) > MAX_PREVIOUS:
        raise InvalidAttemptRecord(
            "previous must be the list of the attempts since the last result")
    priors = []
    for entry in entries:
        _check_members(entry, _PRIOR_TYPES, {"sha256"}, "previous")
        if not ledger.is_digest(entry["sha256"]):
            raise InvalidAttemptRecord(
                f"sha256 of attempt {entry['attempt']} is {format_value(entry['sha256'])}; "
                "it must be 64 hexadecimal digits in lower case")
        if entry["reason"] not in REASONS:
            raise InvalidAttemptRecord(
                f"reason of attempt {entry['attempt']} is {format_value(entry['reason'])}; "
                f"it must be one of {', '.join(REASONS)}")
        priors.append(PriorAttempt(**entry))
    record = AttemptRecord(**{**value, "previous": tuple(priors)})
    _check_previous(record)
    return record


def _check_previous(record: AttemptRecord) -> None:
    """Refuses a `previous` that does not lead from the last result to the attempt before.

    If there is no result yet, it must begin with attempt 1.
    """
    first = record.attempt - len(record.previous)
    if [p.attempt for p in record.previous] != list(range(first, record.attempt)):
        raise InvalidAttemptRecord(
            f"previous of attempt {record.attempt} must end with attempt "
            f"{record.attempt - 1} and must not skip an attempt")
    if record.attempt > 1 and (not record.previous or first < 1):
        raise InvalidAttemptRecord(f"attempt {record.attempt} lists no earlier attempt")
    if any(p.is_result for p in record.previous[1:]):
        raise InvalidAttemptRecord("previous must begin with the last result")
    if first > 1 and not record.previous[0].is_result:
        raise InvalidAttemptRecord(f"previous begins with attempt {first}, which is not a result")
