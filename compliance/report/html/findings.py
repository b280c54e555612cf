"""Violations and warnings by rule, each with the log lines that caused it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Iterator, Sequence

from compliance.checking.ruleset import Rule, load_ruleset
from compliance.logs.dialects.file_encodings import open_log
from compliance.report.html.limits import (
    MAX_QUOTE_CHARS,
    MAX_QUOTES,
    MAX_QUOTES_PER_RULE,
    MAX_RULES,
    clip_text,
)
from compliance.report.html.runs import RunView

_CHUNK_BYTES = 1 << 16
# At most this many bytes of a line are kept; a character takes up to 4 bytes.
_KEPT_BYTES = 4 * MAX_QUOTE_CHARS + 1


@dataclass
class QuotedLine:
    """One place in a log that breaks a rule.

    Attributes:
      log: The log's name on the page.
      line: The number of the line, from 1; None if the violation has no line.
      message: The violation's message.
      text: The line itself, shortened; None if there is none.
    """

    log: str
    line: int | None
    message: str
    text: str | None = None


@dataclass
class RuleFindings:
    """All violations or warnings of one rule in a set.

    Attributes:
      rule: The rule's id.
      severity: error or warning.
      fix: How to repair it.
      reason: Why the rule exists; empty if unknown.
      count: The number of violations.
      logs: The names of the logs with violations.
      quotes: The first few violations.
    """

    rule: str
    severity: str
    fix: str
    reason: str
    count: int = 0
    logs: set[str] = field(default_factory=set)
    quotes: list[QuotedLine] = field(default_factory=list)

    @property
    def more(self) -> int:
        """Violations that are not quoted."""
        return self.count - len(self.quotes)


def collect_findings(views: Sequence[RunView]) -> tuple[list[RuleFindings], int]:
    """Collects the violations and warnings of a set by rule.

    Args:
      views: The runs of the set.

    Returns:
      (the rules with their findings, errors before warnings; the number of rules left out).
    """
    found: dict[tuple[str, str], RuleFindings] = {}
    for view in views:
        file = view.run.file
        rules = _rules_by_id(file.ruleset)
        for severity, violations in (("error", file.errors.list()),
                                     ("warning", file.warnings.list())):
            for v in violations:
                rule = rules.get(v.rule)
                rule_findings = found.setdefault((severity, v.rule), RuleFindings(
                    v.rule, severity, v.fix, rule.reason if rule else ""))
                rule_findings.logs.add(view.name)
                rule_findings.count += v.count or 1
                if v.count is None and len(rule_findings.quotes) < MAX_QUOTES_PER_RULE:
                    rule_findings.quotes.append(QuotedLine(view.name, v.line, clip_text(v.message)))
        stage_warning = view.run.stages.warning() if view.run.stages else None
        if stage_warning:
            rule_findings = found.setdefault(("warning", "stages"), RuleFindings(
                "stages", "warning", "Log every interval of the run, or find the unlogged work",
                "Time in no stage is not accounted for"))
            rule_findings.logs.add(view.name)
            rule_findings.count += 1
            if len(rule_findings.quotes) < MAX_QUOTES_PER_RULE:
                rule_findings.quotes.append(QuotedLine(view.name, None, stage_warning))
    ordered = sorted(found.values(), key=lambda f: f.severity != "error")
    kept = ordered[:MAX_RULES]
    _read_quoted_lines(views, kept)
    return kept, len(ordered) - len(kept)


def _rules_by_id(ruleset: str | None) -> dict[str, Rule]:
    """Returns the rules of a ruleset by their ids."""
    return {r.id: r for r in load_ruleset(ruleset).rules} if ruleset else {}


def _read_quoted_lines(views: Sequence[RunView], found: Sequence[RuleFindings]) -> None:
    """Adds the texts of the lines to the quotes; each log is read again at most once."""
    paths = {view.name: view.run.file.path for view in views}
    wanted: dict[str, list[QuotedLine]] = {}
    for quoted in [q for f in found for q in f.quotes if q.line is not None][:MAX_QUOTES]:
        wanted.setdefault(quoted.log, []).append(quoted)
    for log, quotes in wanted.items():
        lines = read_lines(paths[log], {q.line for q in quotes if q.line is not None})
        for quoted in quotes:
            quoted.text = lines.get(quoted.line or 0)


def read_lines(path: str, wanted: set[int]) -> dict[int, str]:
    """Reads single lines of a log in constant memory.

    Args:
      path: The file, which may be compressed or otherwise wrapped, as `check` reads it.
      wanted: The numbers of the lines, from 1. Lines end at a line feed only.

    Returns:
      The lines by number, shortened to MAX_QUOTE_CHARS; lines that cannot be read are left out.
    """
    found: dict[int, str] = {}
    last = max(wanted, default=0)
    try:
        with open_log(Path(path), lambda data: None) as (stream, _):
            for number, (line, length) in enumerate(_lines(stream), start=1):
                if number in wanted:
                    found[number] = _line_text(line, length)
                if number >= last:
                    break
    except OSError:
        pass
    return found


def _lines(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yields the lines of a stream without their ends: (the first _KEPT_BYTES, the length)."""
    line, length = b"", 0  # of the current line
    while block := stream.read(_CHUNK_BYTES):
        *whole, rest = block.split(b"\n")
        for piece in whole:
            yield (line + piece)[:_KEPT_BYTES], length + len(piece)
            line, length = b"", 0
        line, length = (line + rest)[:_KEPT_BYTES], length + len(rest)
    if length:
        yield line, length


def _line_text(line: bytes, length: int) -> str:
    """Decodes and shortens one line; `length` is its full length in bytes."""
    text = line.rstrip(b"\r")[:4 * MAX_QUOTE_CHARS].decode("utf-8", "backslashreplace")
    is_cut = length > len(line) or len(line.rstrip(b"\r")) > 4 * MAX_QUOTE_CHARS
    shown = clip_text(text, MAX_QUOTE_CHARS)
    # A text above the limit already ends with the number of characters left out.
    return shown if len(text) > MAX_QUOTE_CHARS or not is_cut else f"{shown} …"
