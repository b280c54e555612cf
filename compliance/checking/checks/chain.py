"""Checks of the chain of attempts, which `compliance.chain.attempt_record` explains.

Each log records its attempt and those before it. If the results tree is available, the logs are
also compared with its ledger and the logs of interrupted attempts. No content of a log or a
ledger chooses a file to open. Sets in which no log has an `attempt` record are checked only for
contradictions with the ledger next to them.
"""

from __future__ import annotations

import re
from typing import Any

from compliance.base.text import format_value
from compliance.chain.attempt_record import (
    ATTEMPT_KEY,
    InvalidAttemptRecord,
    read_attempt_record,
)
from compliance.chain.ledger import LedgerAttempt
from compliance.checking.checks.attempt_chain import AttemptChain, ChainedLog
from compliance.checking.checks.base import Check, aspect_param
from compliance.checking.checks.sets import LogSet, SetReport
from compliance.logs.dialects.event import Event
from compliance.logs.run_summary import RunSummary

_RESULT_NAME = re.compile(r"result_(0|[1-9][0-9]*)\.txt")
# At most this many attempts or sets are listed in a message.
_MAX_LISTED = 10

RECORD_ASPECTS = {
    "link": "there is at most one record, it is valid, and it lists the attempts back to the "
            "last result",
    "launcher": "a launcher that continues another launcher's set records that launcher"}


class AttemptCheck(Check):
    """The `attempt` record of a log contains its attempt and those before it."""

    PARAMS = {"aspect": aspect_param(RECORD_ASPECTS)}
    keys = (ATTEMPT_KEY,)

    def setup(self) -> None:
        self.first_line: int | None = None

    def observe(self, event: Event) -> None:
        record = None
        try:
            record = read_attempt_record(event.value)
        except InvalidAttemptRecord as error:
            self._report_aspect("link", event.line, str(error))
        if self.first_line is not None:
            self._report_aspect("link", event.line, f"attempt appears again; it first appeared in "
                                                    f"line {self.first_line}")
        self.first_line = self.first_line or event.line
        before = record.previous[-1].launcher if record and record.previous else None
        # `joins` must be the launcher of the attempt before, or null if that is the same one.
        if record is None or record.joins == (None if before == record.launcher else before):
            return
        joins = "null" if record.joins is None else format_value(record.joins)
        self._report_aspect("launcher", event.line, f"joins of launcher "
                            f"{format_value(record.launcher)} is {joins}, but attempt "
                            f"{record.attempt - 1} has launcher {format_value(before)}")

    def _report_aspect(self, aspect: str, line: int, message: str) -> None:
        """Reports a violation if this rule is about that aspect."""
        if aspect == self.params["aspect"]:
            self.report(line, message)


ASPECTS = {
    "all": "all logs of a set have an attempt record, or none has one and the ledger next to the "
           "set does not contradict that",
    "one_set": "all logs record the same set",
    "order": "each file name has the number of its run, and no two logs are the same attempt",
    "complete": "no attempt is missing",
    "unchanged": "every log has the digest that later logs and the ledger contain",
    "ledger": "the ledger next to the set is intact and agrees with the logs",
    "attempts": "the logs of attempts that are not runs are next to the ledger, unchanged",
    "attempt_ends": "no such attempt reached its target or used all its epochs",
    "no_runs": "no attempt ended without a result",
    "first_set": "the ledger next to the set contains no set before this one",
    "last_set": "the ledger next to the set contains no set after this one"}


class AttemptChainCheck:
    """The attempts of a set form an unbroken chain: none was removed, edited or reordered."""

    PARAMS = {"aspect": aspect_param(ASPECTS)}

    @staticmethod
    def wanted_keys(params: dict[str, Any]) -> tuple[str, ...]:
        return (ATTEMPT_KEY,)

    @staticmethod
    def judge(params: dict[str, Any], logs: LogSet, report: SetReport) -> None:
        if logs.attempt_chain is None:
            logs.attempt_chain = AttemptChain(logs)
        _ASPECT_CHECKS[params["aspect"]](logs.attempt_chain, report)


def _check_all_have_record(chain: AttemptChain, report: SetReport) -> None:
    # If no log has a record, the ledger next to the set must not contain any set: otherwise the
    # records were removed from all logs. A set that was set aside may be older than the ledger
    # in the folder above.
    folder, place = chain.logs.folder.resolve(), chain.ledger_path and chain.ledger_path.parent
    is_current = place and (place.name == folder.name or place.parent == folder
                            or folder.name == "current")
    whole = chain.ledger[0] if is_current and not chain.with_record else None
    if is_current and not chain.with_record and chain.ledger[1] is not None:
        report(0, None, "no log of the set has an attempt record, and the ledger next to it is "
                        f"invalid: {chain.ledger[1]}")
    for index, member in enumerate(chain.logs.members):
        if index in chain.with_record:
            continue
        if chain.with_record:
            other = chain.logs.members[chain.with_record[0]].name
            report(index, None, f"the log has no attempt record; {other} of the same set has one")
        elif whole and whole.sets:
            report(index, None, "the log has no attempt record, but there is a ledger next to the "
                                "set")


def _check_one_set(chain: AttemptChain, report: SetReport) -> None:
    for member in chain.members[1:]:
        first = chain.members[0]
        if member.record.set != first.record.set:
            report(member.index, member.line, "the log is of set "
                   f"{format_value(member.record.set)}; {first.name} "
                   f"is of set {format_value(first.record.set)}")


def _check_order(chain: AttemptChain, report: SetReport) -> None:
    before: ChainedLog | None = None
    for member in chain.members:
        record = member.record
        match = _RESULT_NAME.fullmatch(member.name)
        if match is None or int(match.group(1)) != record.run:
            report(member.index, member.line, f"the log is of run {record.run}, which belongs in "
                                              f"result_{record.run}.txt")
        if before is not None and before.record.attempt == record.attempt:
            report(member.index, member.line, f"attempt {record.attempt} is also in "
                                              f"{before.name}")
        before = member


def _check_complete(chain: AttemptChain, report: SetReport) -> None:
    mentions, before = chain.first_mentions, 0
    for number in sorted({*chain.by_number, *mentions}):
        # A gap in the numbers: no log is of these attempts, and no log mentions them.
        later = chain.by_number.get(number) or mentions[number][1]
        if number > before + 1:
            which = f"attempt {number - 1} is" if number == before + 2 else \
                f"attempts {before + 1} to {number - 1} are"
            report(later.index, later.line, f"{which} missing: there is no log and no mention "
                                            "in another log")
        before = number
        # A result that a later log mentions must be in the set.
        if number not in chain.by_number and mentions[number][0].is_result:
            prior, mentioning = mentions[number]
            report(mentioning.index, mentioning.line, f"attempt {number} is missing: it was run "
                   f"{prior.run} and ended ({prior.reason}), but its log is not in this set")
    # Results after the last log are recorded only in the ledger.
    for known in (chain.ledger_set.attempts if chain.ledger_set and chain.last else []):
        if known.number > chain.last.record.attempt and known.is_result:
            report(chain.last.index, None, f"attempt {known.number} is missing: in the ledger it "
                                           f"is run {known.run}, but its log is not in this set")


def _check_unchanged(chain: AttemptChain, report: SetReport) -> None:
    known = {a.number: a for a in chain.ledger_set.attempts} if chain.ledger_set else {}
    for member in chain.members:
        record, number = member.record, member.record.attempt
        for prior, mentioning in chain.mentions.get(number, ()):
            reason = member.summary.reason if member.summary is not None else None
            if reason is not None and prior.reason != reason:
                report(mentioning.index, mentioning.line, f"the reason of attempt {number} is "
                       f"{prior.reason}; in {member.name} it is {reason}")
            if prior.sha256 not in member.digests or (prior.run, prior.launcher) != (
                    record.run, record.launcher):
                report(member.index, member.line, "the digest, run or launcher of the log differs "
                       f"from the entry about attempt {number} in {mentioning.name} (line "
                       f"{mentioning.line})")
                break
        else:
            # No later log contradicts it; no log mentions the last one.
            entry = known.get(number)
            if entry and entry.sha256 and entry.sha256 not in member.digests:
                report(member.index, member.line, "the digest of the log differs from that of "
                                                  f"attempt {number} in the ledger")
    # All logs that mention an attempt must have the same entry about it.
    for number, mentions in chain.mentions.items():
        prior, first = mentions[0]
        for again, mentioning in mentions[1:]:
            if again != prior:
                report(mentioning.index, mentioning.line, f"its entry about attempt {number} "
                                                          f"differs from that in {first.name}")


def _check_ledger(chain: AttemptChain, report: SetReport) -> None:
    if chain.last is None:
        return
    problem = chain.ledger[1]
    if problem is not None:
        report(chain.last.index, None, f"the ledger next to the set is invalid: {problem}")
    elif chain.ledger[0] is not None and chain.ledger_set is None:
        report(chain.last.index, chain.last.line, "the ledger next to the set does not contain "
                                                  f"set {format_value(chain.last.record.set)}")
    if chain.ledger_set is None:
        return
    known = {a.number: a for a in chain.ledger_set.attempts}
    for member in chain.members:
        record, entry = member.record, known.get(member.record.attempt)
        if entry is None:
            report(member.index, member.line, f"the ledger next to the set has no attempt "
                                              f"{record.attempt}")
            continue
        if (entry.run, entry.launcher) != (record.run, record.launcher):
            report(member.index, member.line, f"attempt {record.attempt} is run {record.run} of "
                   f"launcher {format_value(record.launcher)}; in the ledger it is run {entry.run} "
                   f"of launcher {format_value(entry.launcher)}")
        if entry.end is None:
            report(member.index, member.line, f"the ledger next to the set has no end of attempt "
                                              f"{record.attempt}, whose log is a result")
        _check_ledger_end(entry, member, report)
        for prior in record.previous:
            old = known.get(prior.attempt)
            if old is None or (old.run, old.launcher, old.sha256, old.is_result) != (
                    prior.run, prior.launcher, prior.sha256, prior.is_result):
                report(member.index, member.line, f"its entry about attempt {prior.attempt} "
                                                  "differs from that in the ledger")


def _check_ledger_end(entry: LedgerAttempt, member: ChainedLog, report: SetReport) -> None:
    """Compares the ledger's entry about the end of an attempt with its log."""
    summary, end = member.summary, entry.end
    if summary is None or end is None:
        return
    accuracy = summary.last_accuracy[0] if summary.last_accuracy else None
    logged = {"reason": summary.reason, "epochs": summary.num_accuracies, "accuracy": accuracy,
              "seconds": summary.seconds, "seed": summary.seed}
    recorded = {**end, "seed": entry.seed}
    for name, value in logged.items():
        if name in recorded and value is not None and recorded[name] != value:
            report(member.index, None, f"its {name} is {format_value(value)}; in the ledger next "
                                       f"to the set it is {format_value(recorded[name])}")


def _attempt_problem(log: RunSummary, reason: str, run: RunSummary | None) -> str | None:
    """Returns why a log cannot be that of an interrupted attempt; None if it can.

    Args:
      log: The facts about the attempt.
      reason: The reason why it ended, in the chain and the ledger.
      run: The facts about a run of the same set.
    """
    if log.status == "success" or log.reason not in (reason, None):
        return f"has status {format_value(log.status)} and reason {format_value(log.reason)}"
    # An attempt may have ended before these were logged.
    for name in ("track", "division", "target"):
        here, there = getattr(log, name), run and getattr(run, name)
        if here is not None and there is not None and here != there:
            return f"has the {name} {format_value(here)}; the runs of the set have " \
                   f"{format_value(there)}"
    return None


def _reached_end(log: RunSummary) -> str | None:
    """Describes the end that an attempt reached although it is not a run; None if it did not.

    A process may be killed between its last evaluation and its run_stop.
    """
    best = log.best_accuracy
    if log.target is not None and best is not None and best[0] >= log.target:
        return f"reached its target {format_value(log.target)}: its best hit rate is " \
               f"{format_value(best[0])}"
    if log.epoch_cap and log.num_accuracies >= log.epoch_cap:
        return f"evaluated every epoch of its cap: {log.epoch_cap}"
    return None


def _unplaced_attempts(chain: AttemptChain) -> dict[str, tuple[str, str, ChainedLog]]:
    """The attempts that are not runs, by the digest of their log.

    Returns:
      (a description of the attempt, its reason, the log at which it is reported).
    """
    wanted = {prior.sha256: (f"attempt {number} ({prior.reason})", prior.reason, mentioning)
              for number, (prior, mentioning) in chain.first_mentions.items()
              if not prior.is_result}
    for known in (chain.ledger_set.attempts if chain.ledger_set else []):
        if known.end is not None and not known.is_result:
            reason = known.end["reason"]
            wanted.setdefault(known.sha256, (f"attempt {known.number} ({reason})", reason,
                                             chain.last))
    return wanted


def _check_attempt_logs(chain: AttemptChain, report: SetReport) -> None:
    if chain.ledger_path is None or chain.last is None:
        return
    for digest, (attempt, reason, member) in _unplaced_attempts(chain).items():
        log = chain.attempt_logs.get(digest)
        problem = "is missing next to the ledger, or was changed" if log is None \
            else _attempt_problem(log, reason, member.summary)
        if problem:
            report(member.index, member.line, f"the log of {attempt} {problem}")


def _check_attempt_ends(chain: AttemptChain, report: SetReport) -> None:
    if chain.ledger_path is None or chain.last is None:
        return
    for digest, (attempt, _, member) in _unplaced_attempts(chain).items():
        log = chain.attempt_logs.get(digest)
        end = None if log is None or log.status == "success" else _reached_end(log)
        if end:
            report(member.index, member.line, f"the log of {attempt} {end}")


def _check_no_runs(chain: AttemptChain, report: SetReport) -> None:
    reasons = {number: prior.reason for number, (prior, _) in chain.first_mentions.items()
               if not prior.is_result}
    for known in (chain.ledger_set.attempts if chain.ledger_set else []):
        if not known.is_result and known.number not in chain.by_number:
            reasons.setdefault(known.number, known.end["reason"] if known.end else "not ended")
    if reasons:
        listed = [f"{number} ({format_value(reason, 20)[1:-1]})"
                  for number, reason in sorted(reasons.items())]
        report(chain.last.index, chain.last.line,
               f"{'attempt' if len(listed) == 1 else 'attempts'} {_join(listed)} ended "
               "without a result")


def _check_first_set(chain: AttemptChain, report: SetReport) -> None:
    _report_other_sets(chain, report, "before")


def _check_last_set(chain: AttemptChain, report: SetReport) -> None:
    _report_other_sets(chain, report, "after")


def _report_other_sets(chain: AttemptChain, report: SetReport, where: str) -> None:
    """Reports the sets in the ledger that come before or after this set."""
    if chain.ledger_set is None:
        return
    sets = chain.ledger[0].sets
    names = list(sets)
    place = names.index(chain.last.record.set)
    others = names[:place] if where == "before" else names[place + 1:]
    listed = [f"{format_value(name)[1:-1]} (attempts {len(sets[name].attempts)}, results "
              f"{sum(a.is_result for a in sets[name].attempts)})"
              for name in others if sets[name].attempts]
    if listed:
        report(chain.last.index, chain.last.line,
               f"the ledger next to the set has sets {where} it: {_join(listed)}")


def _join(texts: list[str]) -> str:
    """Joins texts with commas; for a long list, the first ones and the number of the others."""
    return ", ".join(texts[:_MAX_LISTED]) \
        + (f" and {len(texts) - _MAX_LISTED} more" if len(texts) > _MAX_LISTED else "")


_ASPECT_CHECKS = {
    "all": _check_all_have_record, "one_set": _check_one_set, "order": _check_order,
    "complete": _check_complete, "unchanged": _check_unchanged, "ledger": _check_ledger,
    "attempts": _check_attempt_logs, "attempt_ends": _check_attempt_ends,
    "no_runs": _check_no_runs, "first_set": _check_first_set, "last_set": _check_last_set}
