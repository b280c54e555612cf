"""TODO."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from compliance.checking.ruleset import Rule
from compliance.logs.run_summary import RunFacts

SCHEMA_VERSION = 1


MAX_PER_RULE = 100


PASS = "pass"


FAIL = "fail"


UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Violation:
    """A rule that a log breaks; `line` is the file's own, from 1, or None."""

    rule: str
    line: int | None
    message: str
    fix: str
    count: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The contract's object."""
        result = {"rule": self.rule, "line": self.line, "message": self.message, "fix": self.fix}
        return result if self.count is None else {**result, "count": self.count}


class Findings:
    """The violations of one severity: at most MAX_PER_RULE a rule, the rest counted."""

    def __init__(self) -> None:
        self._shown: list[Violation] = []
        self._counts: dict[str, int] = {}
        self._fixes: dict[str, str] = {}

    def add(self, rule: str, line: int | None, message: str, fix: str) -> None:
        """One more violation."""
        count = self._counts[rule] = self._counts.get(rule, 0) + 1
        if count <= MAX_PER_RULE:
            self._shown.append(Violation(rule, line, message, fix))
            self._fixes[rule] = fix

    def list(self) -> list[Violation]:
        """By line of the file, those about the whole file last."""
        shown = sorted(self._shown, key=lambda v: (v.line is None, v.line or 0))
        for rule, count in self._counts.items():
            if count > MAX_PER_RULE:
                more = count - MAX_PER_RULE
                shown.append(Violation(rule, None, f"{more} more of the same rule",
                                       self._fixes[rule], more))
        return shown

    def __bool__(self) -> bool:
        return bool(self._shown)


@dataclass
class FileResult:
    """What the checker found out about one log."""

    path: str
    sha256: str | None = None
    dialect: str | None = None
    ruleset: str | None = None
    facts: RunFacts = field(default_factory=lambda: RunFacts("", 1))
    errors: Findings = field(default_factory=Findings)
    warnings: Findings = field(default_factory=Findings)
    unreadable: bool = False
    set_values: dict[str, tuple[Any, int]] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """unreadable where there is no log or no end of one, else fail or pass."""
        if self.unreadable:
            return UNREADABLE
        return FAIL if self.errors else PASS

    def add(self, rule: Rule, line: int | None, message: str) -> None:
        """Reports a violation of `rule`."""
        found = self.errors if rule.severity == "error" else self.warnings
        found.add(rule.id, line, message, rule.fix)

    def as_json(self) -> dict[str, Any]:
        """The contract's object for one file."""
        return {"path": self.path, "sha256": self.sha256, "dialect": self.dialect,
                "ruleset": self.ruleset, "verdict": self.verdict, "run": self.facts.as_json(),
                "violations": [v.as_json() for v in self.errors.list()],
                "warnings": [v.as_json() for v in self.warnings.list()]}


@dataclass(frozen=True)
class CheckResult:
    """The verdict over all files; `ruleset` is None where they have several."""

    ruleset: str | None
    files: list[FileResult]

    @property
    def verdict(self) -> str:
        """fail if any file fails, else unreadable if any is, else pass."""
        verdicts = {f.verdict for f in self.files}
        return FAIL if FAIL in verdicts else UNREADABLE if UNREADABLE in verdicts else PASS

    def as_json(self) -> dict[str, Any]:
        """The contract's object."""
        return {"schema_version": SCHEMA_VERSION, "ruleset": self.ruleset,
                "verdict": self.verdict, "files": [f.as_json() for f in self.files]}
