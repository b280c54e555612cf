"""Checks of the chain of attempts, which `compliance.chain.attempt_record` explains.

Each log names its attempt and those before it.  Where the results tree is at hand, its
ledger and the logs of interrupted attempts are compared with the logs, too.  Nothing in a
log or a ledger chooses a file to open.  Sets in which no log has an `attempt` record are not
judged.
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
# At most so many attempts or sets are listed in a message.
_MAX_LISTED = 10

RECORD_ASPECTS = {
    "link": "there is at most one record, it is valid, and it names the attempts back to the "
            "last result",
    "launcher": "a launcher that continues the set of another one names that one"}


class AttemptCheck(Check):
    """The `attempt` record of a log names its attempt and those before it."""

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
            self._report_aspect("link", event.line, f"attempt stands again; it first stood in line "
                                                    f"{self.first_line}")
        self.first_line = self.first_line or event.line
        before = record.previous[-1].launcher if record and record.previous else None
        # `joins` must name the launcher before where that is another one, and else be null.
        if record is None or record.joins == (None if before == record.launcher else before):
            return
        joins = "joins none" if record.joins is None else f"joins {format_value(record.joins)}"
        self._report_aspect("launcher", event.line, f"launcher {format_value(record.launcher)} "
                            f"{joins}, but attempt {record.attempt - 1} is of launcher "
                            f"{format_value(before)}")

    def _report_aspect(self, aspect: str, line: int, message: str) -> None:
        """Reports a violation, if this rule is about that aspect."""
        if aspect == self.params["aspect"]:
            self.report(line, message)


ASPECTS = {
    "all": "all logs of a set have an attempt record, or none has one and the ledger beside the "
           "set does not contradict that",
    "one_set": "all logs name the same set",
    "order": "each log has the name of its run, and no two logs are the same attempt",
    "complete": "no attempt is missing",
    "unchanged": "every log has the digest that later logs and the ledger name",
    "ledger": "the ledger beside the set is intact and agrees with the logs",
    "attempts": "the logs of attempts that are no runs lie beside the ledger, unchanged",
    "attempt_ends": "no such attempt reached its target or used all its epochs",
    "no_runs": "no attempt ended without a result",
    "first_set": "the ledger beside the set has no set before this one",
    "last_set": "the ledger beside the set has no set after this one"}


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
    # Where no log has a record, the set must not be one that the ledger of its place knows:
    # then the records were removed from all logs.  A set that was set aside may be older than
    # the ledger above it.
    folder, place = chain.logs.folder.resolve(), chain.ledger_path and chain.ledger_path.parent
    is_current = place and (place.name == folder.name or place.parent == folder
                            or folder.name == "current")
    whole = chain.ledger[0] if is_current and not chain.with_record else None
    if is_current and not chain.with_record and chain.ledger[1] is not None:
        report(0, None, "no log of the set names its attempt, and the ledger beside it is not "
                        f"whole: {chain.ledger[1]}")
    for index, member in enumerate(chain.logs.members):
        if index in chain.with_record:
            continue
        if chain.with_record:
            other = chain.logs.members[chain.with_record[0]].name
            report(index, None, f"it names no attempt, but {other} of the same set does")
        elif whole and whole.sets:
            report(index, None, "it names no attempt, and there is a ledger of attempts beside the "
                                "set")


def _check_one_set(chain: AttemptChain, report: SetReport) -> None:
    for member in chain.members[1:]:
        first = chain.members[0]
        if member.record.set != first.record.set:
            report(member.index, member.line, f"it is of set {format_value(member.record.set)}; "
                   f"{first.name} is of set {format_value(first.record.set)}")


def _check_order(chain: AttemptChain, report: SetReport) -> None:
    before: ChainedLog | None = None
    for member in chain.members:
        record = member.record
        match = _RESULT_NAME.fullmatch(member.name)
        if match is None or int(match.group(1)) != record.run:
            report(member.index, member.line, f"it is run {record.run} by its own record, which "
                                              f"belongs into result_{record.run}.txt")
        if before is not None and before.record.attempt == record.attempt:
            report(member.index, member.line, f"attempt {record.attempt} is also that of "
                                              f"{before.name}")
        before = member


def _check_complete(chain: AttemptChain, report: SetReport) -> None:
    mentions, before = chain.first_mentions, 0
    for number in sorted({*chain.by_number, *mentions}):
        # A gap in the numbers: no log has them, and none mentions them.
        later = chain.by_number.get(number) or mentions[number][1]
        if number > before + 1:
            which = f"attempt {number - 1} is" if number == before + 2 else \
                f"attempts {before + 1} to {number - 1} are"
            report(later.index, later.line, f"{which} missing: no log has it, and none says what "
                                            "became of it")
        before = number
        # A result that a later log mentions must be in the set.
        if number not in chain.by_number and mentions[number][0].is_result:
            prior, mentioning = mentions[number]
            report(mentioning.index, mentioning.line, f"attempt {number} is missing: it was run "
                   f"{prior.run} and ended ({prior.reason}), but its log is not in this set")
    # Only the ledger knows of results after the last log.
    for known in (chain.ledger_set.attempts if chain.ledger_set and chain.last else []):
        if known.number > chain.last.record.attempt and known.is_result:
            report(chain.last.index, None, f"attempt {known.number} is missing: the ledger has it "
                                           f"as run {known.run}, but its log is not in this set")


def _check_unchanged(chain: AttemptChain, report: SetReport) -> None:
    known = {a.number: a for a in chain.ledger_set.attempts} if chain.ledger_set else {}
    for member in chain.members:
        record, number = member.record, member.record.attempt
        for prior, mentioning in chain.mentions.get(number, ()):
            reason = member.summary.reason if member.summary is not None else None
            if reason is not None and prior.reason != reason:
                report(mentioning.index, mentioning.line, f"it says that attempt {number} ended "
                       f"({prior.reason}); {member.name} says {reason}")
            if prior.sha256 not in member.digests or (prior.run, prior.launcher) != (
                    record.run, record.launcher):
                report(member.index, member.line, f"it is not the log of attempt {number} that "
                       f"{mentioning.name} (line {mentioning.line}) was made after")
                break
        else:
            # No later log contradicts it; the last log is mentioned by none.
            entry = known.get(number)
            if entry and entry.sha256 and entry.sha256 not in member.digests:
                report(member.index, member.line, f"it is not the log of attempt {number} that "
                                                  "the ledger has")
    # All logs that mention an attempt must state the same of it.
    for number, mentions in chain.mentions.items():
        prior, first = mentions[0]
        for again, mentioning in mentions[1:]:
            if again != prior:
                report(mentioning.index, mentioning.line, f"it says of attempt {number} what "
                                                          f"{first.name} says otherwise")


def _check_ledger(chain: AttemptChain, report: SetReport) -> None:
    if chain.last is None:
        return
    problem = chain.ledger[1]
    if problem is not None:
        report(chain.last.index, None, f"the ledger beside the set is not whole: {problem}")
    elif chain.ledger[0] is not None and chain.ledger_set is None:
        report(chain.last.index, chain.last.line, "the ledger beside the set does not know set "
                                                  f"{format_value(chain.last.record.set)}")
    if chain.ledger_set is None:
        return
    known = {a.number: a for a in chain.ledger_set.attempts}
    for member in chain.members:
        record, entry = member.record, known.get(member.record.attempt)
        if entry is None:
            report(member.index, member.line, f"the ledger beside the set has no attempt "
                                              f"{record.attempt}")
            continue
        if (entry.run, entry.launcher) != (record.run, record.launcher):
            report(member.index, member.line, f"attempt {record.attempt} is run {record.run} of "
                   f"launcher {format_value(record.launcher)}; in the ledger it is run {entry.run} "
                   f"of {format_value(entry.launcher)}")
        if entry.end is None:
            report(member.index, member.line, f"the ledger beside the set has no end of attempt "
                                              f"{record.attempt}, whose log is a result")
        _check_ledger_end(entry, member, report)
        for prior in record.previous:
            old = known.get(prior.attempt)
            if old is None or (old.run, old.launcher, old.sha256, old.is_result) != (
                    prior.run, prior.launcher, prior.sha256, prior.is_result):
                report(member.index, member.line, f"it says of attempt {prior.attempt} what the "
                                                  "ledger says otherwise")


def _check_ledger_end(entry: LedgerAttempt, member: ChainedLog, report: SetReport) -> None:
    """Compares what the ledger says of an attempt's end with its log."""
    summary, end = member.summary, entry.end
    if summary is None or end is None:
        return
    accuracy = summary.last_accuracy[0] if summary.last_accuracy else None
    logged = {"reason": summary.reason, "epochs": summary.num_accuracies, "accuracy": accuracy,
              "seconds": summary.seconds, "seed": summary.seed}
    recorded = {**end, "seed": entry.seed}
    for name, value in logged.items():
        if name in recorded and value is not None and recorded[name] != value:
            report(member.index, None, f"its {name} is {format_value(value)}; the ledger beside "
                                       f"the set says {format_value(recorded[name])}")


def _attempt_problem(log: RunSummary, reason: str, run: RunSummary | None) -> str | None:
    """Why a log cannot be that of an attempt that was ended before its time; None: it can.

    Args:
      log: The facts of the attempt.
      reason: Why it ended, as chain and ledger have it.
      run: The facts of a run of the same set.
    """
    if log.status == "success" or log.reason not in (reason, None):
        return f"says {log.status} because of {format_value(log.reason)}"
    # An attempt may have ended before it logged these.
    for name in ("track", "division", "target"):
        here, there = getattr(log, name), run and getattr(run, name)
        if here is not None and there is not None and here != there:
            return f"has the {name} {format_value(here)}; the runs of the set have " \
                   f"{format_value(there)}"
    return None


def _reached_end(log: RunSummary) -> str | None:
    """The end that an attempt reached although it is no run, in words; None: it reached none.

    A process may be killed between its last evaluation and its run_stop.
    """
    best = log.best_accuracy
    if log.target is not None and best is not None and best[0] >= log.target:
        return f"reached its target {format_value(log.target)}: {format_value(best[0])}"
    if log.epoch_cap and log.num_accuracies >= log.epoch_cap:
        return f"has evaluated all {log.epoch_cap} epochs of its cap"
    return None


def _unplaced_attempts(chain: AttemptChain) -> dict[str, tuple[str, str, ChainedLog]]:
    """The attempts that are no runs, by the digest of their log.

    Returns:
      (the attempt in words, its reason, the log at which it is reported).
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
        problem = "does not lie beside the ledger as it was written" if log is None \
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
               f"attempts of this set that are no runs: {_join(listed)}")


def _check_first_set(chain: AttemptChain, report: SetReport) -> None:
    _report_other_sets(chain, report, "before")


def _check_last_set(chain: AttemptChain, report: SetReport) -> None:
    _report_other_sets(chain, report, "after")


def _report_other_sets(chain: AttemptChain, report: SetReport, where: str) -> None:
    """Reports the other sets in the ledger beside the set: those before or after it."""
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
               f"the ledger beside the set has sets {where} it: {_join(listed)}")


def _join(texts: list[str]) -> str:
    """The texts with commas; of a long list the first ones and the number of the others."""
    return ", ".join(texts[:_MAX_LISTED]) \
        + (f" and {len(texts) - _MAX_LISTED} more" if len(texts) > _MAX_LISTED else "")


_ASPECT_CHECKS = {
    "all": _check_all_have_record, "one_set": _check_one_set, "order": _check_order,
    "complete": _check_complete, "unchanged": _check_unchanged, "ledger": _check_ledger,
    "attempts": _check_attempt_logs, "attempt_ends": _check_attempt_ends,
    "no_runs": _check_no_runs, "first_set": _check_first_set, "last_set": _check_last_set}
