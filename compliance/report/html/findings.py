"""Violations and warnings by rule, with the lines of the logs that they are about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

from compliance.checking.ruleset import Rule, load_ruleset
from compliance.report.html.limits import MAX_QUOTES, MAX_RULES, QUOTE, QUOTES_A_RULE, short
from compliance.report.html.runs import RunView

_CHUNK = 1 << 16


@dataclass
class Quote:
    """A place in a log: `text` is its line, or None where the finding names none."""

    log: str
    line: int | None
    message: str
    text: str | None = None


@dataclass
class Finding:
    """All that one rule says about a set."""

    rule: str
    severity: str
    fix: str
    why: str
    count: int = 0
    logs: set[str] = field(default_factory=set)
    quotes: list[Quote] = field(default_factory=list)

    @property
    def more(self) -> int:
        """Findings that are not quoted."""
        return self.count - len(self.quotes)


def findings(runs: Sequence[RunView]) -> tuple[list[Finding], int]:
    """Errors before warnings, in the order in which they turn up; and how many rules are
    left out."""
    found: dict[tuple[str, str], Finding] = {}
    for view in runs:
        file = view.run.file
        rules = _rules(file.ruleset)
        for severity, violations in (("error", file.errors.list()),
                                     ("warning", file.warnings.list())):
            for v in violations:
                rule = rules.get(v.rule)
                one = found.setdefault((severity, v.rule), Finding(
                    v.rule, severity, v.fix, rule.reason if rule else ""))
                one.logs.add(view.name)
                one.count += v.count or 1
                if v.count is None and len(one.quotes) < QUOTES_A_RULE:
                    one.quotes.append(Quote(view.name, v.line, short(v.message)))
        loose = view.run.stages.warning() if view.run.stages else None
        if loose:
            one = found.setdefault(("warning", "stages"), Finding(
                "stages", "warning", "Log every interval of the run, or find what took the time",
                "Time that no stage covers is time that nobody can account for"))
            one.logs.add(view.name)
            one.count += 1
            if len(one.quotes) < QUOTES_A_RULE:
                one.quotes.append(Quote(view.name, None, loose))
    ordered = sorted(found.values(), key=lambda f: f.severity != "error")
    shown = ordered[:MAX_RULES]
    _quote(runs, shown)
    return shown, len(ordered) - len(shown)


def _rules(ruleset: str | None) -> dict[str, Rule]:
    return {r.id: r for r in load_ruleset(ruleset).rules} if ruleset else {}


def _quote(runs: Sequence[RunView], found: Sequence[Finding]) -> None:
    """Gives the quotes their lines; each log is read at most once more."""
    paths = {view.name: view.run.file.path for view in runs}
    wanted: dict[str, list[Quote]] = {}
    for quote in [q for f in found for q in f.quotes if q.line is not None][:MAX_QUOTES]:
        wanted.setdefault(quote.log, []).append(quote)
    for log, quotes in wanted.items():
        lines = read_lines(paths[log], {q.line for q in quotes if q.line is not None})
        for quote in quotes:
            quote.text = lines.get(quote.line or 0)


def read_lines(path: str, wanted: set[int]) -> dict[int, str]:
    """The lines of these numbers (from 1; they end at \\n only), shortened to QUOTE characters.

    In constant memory; what cannot be read is left out.
    """
    found: dict[int, str] = {}
    last = max(wanted, default=0)
    try:
        with open(path, "rb") as stream:
            for number in range(1, last + 1):
                piece = line = stream.readline(_CHUNK)
                length = len(piece)
                while piece and not piece.endswith(b"\n"):
                    piece = stream.readline(_CHUNK)
                    length += len(piece)
                if not line:
                    break
                if number in wanted:
                    found[number] = _shown(line, length)
    except OSError:
        pass
    return found


def _shown(line: bytes, length: int) -> str:
    text = line.rstrip(b"\r\n")[:4 * QUOTE].decode("utf-8", "backslashreplace")
    cut = length > len(line) or len(line.rstrip(b"\r\n")) > 4 * QUOTE
    return short(text, QUOTE) if len(text) > QUOTE or not cut else short(text, QUOTE) + " …"
