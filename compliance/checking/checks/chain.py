"""Checks of the chain of attempts: each log names its attempt and the ones before it.

What a log says is told in `compliance.chain.attempt_record`.  Where the results tree is at hand, its
ledger and the logs of interrupted attempts are held against the chain too; nothing in a
log or a ledger chooses a file to open.  Logs without the record are not judged, unless
others of their set have it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from compliance.base.untrusted_files import why_no_member
from compliance.chain import ledger
from compliance.chain.attempt_record import KEY, BadLink, Link, Prior, read_link
from compliance.checking.checks.base import choice
from compliance.checking.checks.records import _Base
from compliance.checking.checks.sets import LogSet, SetReport
from compliance.logs.dialects.event import Event, show

# Logs of attempts that are looked at beside a set.
MAX_ATTEMPT_LOGS, MAX_ATTEMPT_BYTES = 10_000, 1 << 32
_RESULT = re.compile(r"result_(0|[1-9][0-9]*)\.txt")


RECORD_ASPECTS = {
    "link": "there is at most one, it is whole, and the attempts before it follow each other",
    "launcher": "it joins the launcher before it where that was another"}


class Attempt(_Base):
    """A log names its attempt and those before it back to the last result (aspect link); a
    launcher that goes on with another's set says so (aspect launcher)."""

    PARAMS = {"aspect": choice("what is held", RECORD_ASPECTS, required=True)}
    keys = (KEY,)

    def setup(self) -> None:
        self.line: int | None = None

    def see(self, event: Event) -> None:
        link = None
        try:
            link = read_link(event.value)
        except BadLink as error:
            self._report("link", event.line, str(error))
        if self.line is not None:
            self._report("link", event.line, f"attempt stands again; it first stood in line "
                                             f"{self.line}")
        self.line = self.line or event.line
        before = link.previous[-1].launcher if link and link.previous else None
        if link is None or link.joins == (None if before == link.launcher else before):
            return
        said = "joins none" if link.joins is None else f"joins {show(link.joins)}"
        self._report("launcher", event.line, f"launcher {show(link.launcher)} {said}, but attempt "
                     f"{link.attempt - 1} is of launcher {show(before)}")

    def _report(self, aspect: str, line: int, message: str) -> None:
        if aspect == self.params["aspect"]:
            self.report(line, message)


@dataclass(frozen=True)
class _Member:
    """A log of the set whose link could be read."""

    index: int
    name: str
    line: int
    sha256: str | None
    link: Link


class Chain:
    """The chain of one set: what its logs, and the ledger beside them, say of it."""

    def __init__(self, logs: LogSet) -> None:
        self.logs = logs
        self.with_record = [i for i, m in enumerate(logs.members) if KEY in m.values]
        self.members: list[_Member] = []
        for index in self.with_record:
            member = logs.members[index]
            value, line = member.values[KEY]
            try:
                link = read_link(value)
            except BadLink:
                continue
            self.members.append(_Member(index, member.name, line, member.sha256, link))
        self.members.sort(key=lambda m: m.link.attempt)
        self.by_number = {m.link.attempt: m for m in reversed(self.members)}

    @property
    def last(self) -> _Member | None:
        """The log with the highest attempt."""
        return self.members[-1] if self.members else None

    @cached_property
    def tellers(self) -> dict[int, list[tuple[Prior, _Member]]]:
        """What the logs say of each attempt before their own, by its number, in order."""
        found: dict[int, list[tuple[Prior, _Member]]] = {}
        for member in self.members:
            for prior in member.link.previous:
                found.setdefault(prior.attempt, []).append((prior, member))
        return dict(sorted(found.items()))

    @property
    def told(self) -> dict[int, tuple[Prior, _Member]]:
        """The first that is said of each."""
        return {number: said[0] for number, said in self.tellers.items()}

    @cached_property
    def ledger_path(self) -> Path | None:
        """The ledger beside the set."""
        return ledger.beside(self.logs.folder)

    @cached_property
    def ledger(self) -> tuple[ledger.Ledger | None, str | None]:
        """(the ledger beside the set, why it cannot be used)."""
        if self.ledger_path is None:
            return None, None
        try:
            return ledger.read_ledger(self.ledger_path), None
        except ledger.LedgerError as error:
            return None, str(error)
        except OSError as error:
            return None, error.strerror or str(error)

    @property
    def known(self) -> ledger.SetLedger | None:
        """What the ledger beside says of this set."""
        whole = self.ledger[0]
        return whole.sets.get(self.last.link.set) if whole and self.last else None

    @cached_property
    def digests_beside(self) -> set[str]:
        """SHA-256 of the attempts' logs that lie beside the ledger."""
        found: set[str] = set()
        if self.ledger_path is None:
            return found
        left = MAX_ATTEMPT_BYTES
        for path in sorted(self.ledger_path.parent.glob("run_*.txt"))[:MAX_ATTEMPT_LOGS]:
            try:
                left -= path.stat().st_size
                if left >= 0 and why_no_member(path) is None:
                    with open(path, "rb") as stream:
                        digest = hashlib.sha256()
                        while block := stream.read(1 << 20):
                            digest.update(block)
                        found.add(digest.hexdigest())
            except OSError:
                continue
        return found


ASPECTS = {
    "all": "all logs of a set have a link, or none and no ledger beside them says otherwise",
    "one_set": "they are of one set",
    "order": "each is the run and the attempt that its place says",
    "complete": "no attempt is missing",
    "unchanged": "every log is the one that later logs and the ledger name",
    "ledger": "the ledger beside is whole and agrees",
    "attempts": "the logs of attempts that are no runs lie beside the ledger, unchanged",
    "no_runs": "no attempt ended without a result",
    "first_set": "the ledger beside has no set before this one"}


class AttemptChain:
    """The attempts of a set hang together: none was removed, edited or reordered. Aspects:
    all (all logs of a set have a link, or none and no ledger beside them says otherwise),
    one_set (they are of one set), order (each is the run and the attempt that its place
    says), complete (no attempt is missing), unchanged (every log is the one that later logs
    and the ledger name), ledger (the ledger beside is whole and agrees), attempts (the logs
    of attempts that are no runs lie beside the ledger, unchanged), no_runs (no attempt ended
    without a result), first_set (the ledger beside has no set before this one)."""

    PARAMS = {"aspect": choice("what must hold", ASPECTS, required=True)}

    @staticmethod
    def wants(params: dict[str, Any]) -> tuple[str, ...]:
        return (KEY,)

    @staticmethod
    def judge(params: dict[str, Any], logs: LogSet, report: SetReport) -> None:
        if logs.chain is None:
            logs.chain = Chain(logs)
        _JUDGES[params["aspect"]](logs.chain, report)


def _all(chain: Chain, report: SetReport) -> None:
    is_current = chain.ledger_path and chain.ledger_path.parent.name == chain.logs.folder.name
    whole = chain.ledger[0] if is_current and not chain.with_record else None
    digests = {a.sha256 for one in whole.sets.values() for a in one.attempts} if whole else set()
    for index, member in enumerate(chain.logs.members):
        if index in chain.with_record:
            continue
        if chain.with_record:
            other = chain.logs.members[chain.with_record[0]].name
            report(index, None, f"it names no attempt, but {other} of the same set does")
        elif whole and whole.sets and member.sha256 not in digests:
            report(index, None, "it names no attempt, and the ledger beside the set does not know "
                                "this log")


def _one_set(chain: Chain, report: SetReport) -> None:
    for member in chain.members[1:]:
        first = chain.members[0]
        if member.link.set != first.link.set:
            report(member.index, member.line, f"it is of set {show(member.link.set)}; {first.name} "
                                              f"is of set {show(first.link.set)}")


def _order(chain: Chain, report: SetReport) -> None:
    before: _Member | None = None
    for member in chain.members:
        link = member.link
        found = _RESULT.fullmatch(member.name)
        if found is None or int(found.group(1)) != link.run:
            report(member.index, member.line, f"it is run {link.run} by its own record, which "
                                              f"belongs into result_{link.run}.txt")
        if before is not None and before.link.attempt == link.attempt:
            report(member.index, member.line, f"attempt {link.attempt} is also that of "
                                              f"{before.name}")
        before = member


def _complete(chain: Chain, report: SetReport) -> None:
    told, before = chain.told, 0
    for number in sorted({*chain.by_number, *told}):
        later = chain.by_number.get(number) or told[number][1]
        if number > before + 1:
            which = f"attempt {number - 1} is" if number == before + 2 else \
                f"attempts {before + 1} to {number - 1} are"
            report(later.index, later.line, f"{which} missing: no log has it, and none says what "
                                            "became of it")
        before = number
        if number not in chain.by_number and told[number][0].is_result:
            prior, teller = told[number]
            report(teller.index, teller.line, f"attempt {number} is missing: it was run "
                   f"{prior.run} and ended ({prior.reason}), but its log is not in this set")
    for known in (chain.known.attempts if chain.known and chain.last else []):
        if known.number > chain.last.link.attempt and known.is_result:
            report(chain.last.index, None, f"attempt {known.number} is missing: the ledger has it "
                                           f"as run {known.run}, but its log is not in this set")


def _unchanged(chain: Chain, report: SetReport) -> None:
    known = {a.number: a for a in chain.known.attempts} if chain.known else {}
    for member in chain.members:
        number = member.link.attempt
        for prior, teller in chain.tellers.get(number, ()):
            if (prior.sha256, prior.run, prior.launcher) != (
                    member.sha256, member.link.run, member.link.launcher):
                report(member.index, member.line, f"it is not the log of attempt {number} that "
                       f"{teller.name} (line {teller.line}) was made after")
                break
        else:
            entry = known.get(number)
            if entry and entry.sha256 and entry.sha256 != member.sha256:
                report(member.index, member.line, f"it is not the log of attempt {number} that "
                                                  "the ledger has")
    for number, said in chain.tellers.items():
        prior, first = said[0]
        for again, teller in said[1:]:
            if again != prior:
                report(teller.index, teller.line, f"it says of attempt {number} what "
                                                  f"{first.name} says otherwise")


def _ledger(chain: Chain, report: SetReport) -> None:
    if chain.last is None:
        return
    problem = chain.ledger[1]
    if problem is not None:
        report(chain.last.index, None, f"the ledger beside the set is not whole: {problem}")
    elif chain.ledger[0] is not None and chain.known is None:
        report(chain.last.index, chain.last.line, "the ledger beside the set does not know set "
                                                  f"{show(chain.last.link.set)}")
    if chain.known is None:
        return
    known = {a.number: a for a in chain.known.attempts}
    for member in chain.members:
        link, entry = member.link, known.get(member.link.attempt)
        if entry is None:
            report(member.index, member.line, f"the ledger beside the set has no attempt "
                                              f"{link.attempt}")
            continue
        if (entry.run, entry.launcher) != (link.run, link.launcher):
            report(member.index, member.line, f"attempt {link.attempt} is run {link.run} of "
                   f"launcher {show(link.launcher)}; in the ledger it is run {entry.run} of "
                   f"{show(entry.launcher)}")
        for prior in link.previous:
            old = known.get(prior.attempt)
            if old is None or (old.run, old.launcher, old.sha256, old.is_result) != (
                    prior.run, prior.launcher, prior.sha256, prior.is_result):
                report(member.index, member.line, f"it says of attempt {prior.attempt} what the "
                                                  "ledger says otherwise")


def _attempts(chain: Chain, report: SetReport) -> None:
    if chain.ledger_path is None or chain.last is None:
        return
    wanted = {prior.sha256: (f"attempt {number} ({prior.reason})", teller)
              for number, (prior, teller) in chain.told.items() if not prior.is_result}
    for known in (chain.known.attempts if chain.known else []):
        if known.end is not None and not known.is_result:
            wanted.setdefault(known.sha256, (f"attempt {known.number} ({known.end['reason']})",
                                             chain.last))
    for digest, (what, teller) in wanted.items():
        if digest not in chain.digests_beside:
            report(teller.index, teller.line, f"the log of {what} does not lie beside the ledger "
                                              "as it was written")


def _no_runs(chain: Chain, report: SetReport) -> None:
    reasons = {number: prior.reason for number, (prior, _) in chain.told.items()
               if not prior.is_result}
    for known in (chain.known.attempts if chain.known else []):
        if not known.is_result and known.number not in chain.by_number:
            reasons.setdefault(known.number, known.end["reason"] if known.end else "not ended")
    if reasons:
        found = [f"{n} ({show(reason, 20)[1:-1]})" for n, reason in sorted(reasons.items())]
        report(chain.last.index, chain.last.line,
               f"attempts of this set that are no runs: {_listed(found)}")


def _first_set(chain: Chain, report: SetReport) -> None:
    if chain.known is None:
        return
    names = list(chain.ledger[0].sets)
    before = [(name, chain.ledger[0].sets[name])
              for name in names[:names.index(chain.last.link.set)]]
    found = [f"{show(name)[1:-1]} (attempts {len(one.attempts)}, results "
             f"{sum(a.is_result for a in one.attempts)})" for name, one in before if one.attempts]
    if found:
        report(chain.last.index, chain.last.line,
               f"the ledger beside the set has sets before it: {_listed(found)}")


def _listed(found: list[str]) -> str:
    return ", ".join(found[:10]) + (f" and {len(found) - 10} more" if len(found) > 10 else "")


_JUDGES = {"all": _all, "one_set": _one_set, "order": _order, "complete": _complete,
           "unchanged": _unchanged, "ledger": _ledger, "attempts": _attempts, "no_runs": _no_runs,
           "first_set": _first_set}
