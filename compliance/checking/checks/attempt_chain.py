"""The chain of attempts of one set, from its logs and the ledger next to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from compliance.base.untrusted_files import unsafe_path_reason
from compliance.chain import ledger
from compliance.chain.attempt_record import (
    ATTEMPT_KEY,
    AttemptRecord,
    InvalidAttemptRecord,
    PriorAttempt,
    read_attempt_record,
)
from compliance.checking.checks.sets import LogSet
from compliance.logs.dialects import Event, LogReader
from compliance.logs.run_summary import RunSummary

# At most this many logs of attempts, and this many bytes of them, are read for a set.
MAX_ATTEMPT_LOGS, MAX_ATTEMPT_BYTES = 10_000, 1 << 32


@dataclass(frozen=True)
class ChainedLog:
    """A log of the set with a valid `attempt` record.

    Attributes:
      index: Its index in the set.
      name: The file's name.
      line: The line of its `attempt` record.
      digests: Digests of the file and, if it is compressed or otherwise wrapped, of the log in
        it.
      record: Its `attempt` record.
      summary: The facts about its run; None if the log could not be read.
    """

    index: int
    name: str
    line: int
    digests: tuple[str | None, ...]
    record: AttemptRecord
    summary: RunSummary | None


class AttemptChain:
    """The information about a set's attempts in its logs and in the ledger next to them.

    Attributes:
      logs: The set.
      with_record: Indices of the logs that have an `attempt` record, valid or not.
      members: The logs with a valid record, ordered by attempt number.
      by_number: The first of them for each attempt number.
    """

    def __init__(self, logs: LogSet) -> None:
        self.logs = logs
        self.with_record = [i for i, m in enumerate(logs.members) if ATTEMPT_KEY in m.values]
        self.members: list[ChainedLog] = []
        for index in self.with_record:
            member = logs.members[index]
            value, line, _ = member.values[ATTEMPT_KEY]
            try:
                record = read_attempt_record(value)
            except InvalidAttemptRecord:
                continue  # the check `attempt` on that log reports it
            self.members.append(ChainedLog(
                index, member.name, line, (member.sha256, member.content_sha256), record,
                member.summary))
        self.members.sort(key=lambda m: m.record.attempt)
        self.by_number = {m.record.attempt: m for m in reversed(self.members)}

    @property
    def last(self) -> ChainedLog | None:
        """The log with the highest attempt number."""
        return self.members[-1] if self.members else None

    @cached_property
    def mentions(self) -> dict[int, list[tuple[PriorAttempt, ChainedLog]]]:
        """By attempt number, the entries of later logs about the attempt, each with its log.

        Both the numbers and the logs are in order.
        """
        found: dict[int, list[tuple[PriorAttempt, ChainedLog]]] = {}
        for member in self.members:
            for prior in member.record.previous:
                found.setdefault(prior.attempt, []).append((prior, member))
        return dict(sorted(found.items()))

    @property
    def first_mentions(self) -> dict[int, tuple[PriorAttempt, ChainedLog]]:
        """The first mention of each attempt."""
        return {number: mentions[0] for number, mentions in self.mentions.items()}

    @cached_property
    def ledger_path(self) -> Path | None:
        """The path of the ledger next to the set."""
        return ledger.find_ledger(self.logs.folder)

    @cached_property
    def ledger(self) -> tuple[ledger.Ledger | None, str | None]:
        """(the ledger next to the set, the reason why it cannot be used)."""
        if self.ledger_path is None:
            return None, None
        try:
            return ledger.read_ledger(self.ledger_path), None
        except ledger.LedgerError as error:
            return None, str(error)
        except OSError as error:
            return None, error.strerror or str(error)

    @property
    def ledger_set(self) -> ledger.SetLedger | None:
        """The part of the ledger about this set."""
        whole = self.ledger[0]
        return whole.sets.get(self.last.record.set) if whole and self.last else None

    @cached_property
    def attempt_logs(self) -> dict[str, RunSummary]:
        """The logs of attempts next to the ledger, by their SHA-256.

        They are found by a fixed file name pattern: no log and no ledger chooses a file.
        """
        found: dict[str, RunSummary] = {}
        if self.ledger_path is None:
            return found
        bytes_left = MAX_ATTEMPT_BYTES
        for path in sorted(self.ledger_path.parent.glob("run_*.txt"))[:MAX_ATTEMPT_LOGS]:
            try:
                bytes_left -= path.stat().st_size
                if bytes_left >= 0 and unsafe_path_reason(path) is None:
                    digest, summary = _read_log(path)
                    found[digest] = summary
            except OSError:
                continue
        return found


def _read_log(path: Path) -> tuple[str, RunSummary]:
    """Returns the SHA-256 of a log and the facts about its run. Raises OSError."""
    reader, summary = LogReader(path), None
    for item in reader:
        if summary is None:
            summary = RunSummary(reader.dialect.name, reader.dialect.ticks_per_second)
        if isinstance(item, Event) and item.key in RunSummary.KEYS:
            summary.observe(item)
    return reader.sha256, summary or RunSummary("", 1)
