"""The results of `check`: violations of rules, the verdict on each log and the overall verdict.

`as_json` returns the objects of `check --format json`; their members are a public contract.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from compliance.checking.ruleset import Rule
from compliance.logs.run_summary import RunSummary

SCHEMA_VERSION = 1
# At most this many violations per rule and log are listed; the rest are counted.
MAX_PER_RULE = 100
# The verdicts.
PASS = "pass"
FAIL = "fail"
UNREADABLE = "unreadable"
# Warnings that say that the times of a run or of a set are not comparable.
NOISE_RULES = "NCF-EPOCHS-VARY", "NCF-SET-EPOCHS-VARY"
# A log's verdict in texts and pages. PASS and FAIL in capitals are verdicts on sets of runs.
COMPLIANCE_WORDS = {PASS: "compliant", FAIL: "not compliant", UNREADABLE: "unreadable"}
# The same in a column named "compliant".
COMPLIANCE_CELLS = {PASS: "yes", FAIL: "no", UNREADABLE: "unreadable"}


@dataclass(frozen=True)
class Violation:
    """One violation of a rule.

    Attributes:
      rule: The rule's id.
      line: The line of the file, from 1; None if the violation is about the whole log.
      message: One line: the value found and the value required.
      fix: How to repair it.
      count: The number of violations beyond MAX_PER_RULE, in the entry that summarizes them;
        else None.
    """

    rule: str
    line: int | None
    message: str
    fix: str
    count: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns an object of `violations` or `warnings` in `check --format json`."""
        result = {"rule": self.rule, "line": self.line, "message": self.message, "fix": self.fix}
        return result if self.count is None else {**result, "count": self.count}


class Findings:
    """The violations of one severity: lists at most MAX_PER_RULE per rule, and counts the rest.

    It is true if there is any violation.
    """

    def __init__(self) -> None:
        self._listed: list[Violation] = []
        self._counts: dict[str, int] = {}  # by rule
        self._fixes: dict[str, str] = {}  # by rule

    def add(self, rule: str, line: int | None, message: str, fix: str) -> None:
        """Adds one violation; the arguments are the attributes of `Violation`."""
        count = self._counts[rule] = self._counts.get(rule, 0) + 1
        if count <= MAX_PER_RULE:
            self._listed.append(Violation(rule, line, message, fix))
            self._fixes[rule] = fix

    def list(self) -> list[Violation]:
        """Returns the violations by line of the file, then those about the whole log.

        One entry with a count follows for each rule with more than MAX_PER_RULE violations.
        """
        violations = sorted(self._listed, key=lambda v: (v.line is None, v.line or 0))
        for rule, count in self._counts.items():
            if count > MAX_PER_RULE:
                more = count - MAX_PER_RULE
                violations.append(Violation(rule, None, f"{more} more of the same rule",
                                            self._fixes[rule], more))
        return violations

    def has(self, rule: str) -> bool:
        """Returns whether there is a violation of the rule with this id."""
        return rule in self._counts

    def __bool__(self) -> bool:
        return bool(self._listed)


@dataclass
class FileResult:
    """The result of checking one log.

    Attributes:
      path: The path of the log, as given.
      sha256: Digest of the file; None if it could not be read.
      dialect: mllog, v0.5 or v0.6; None if no record was found.
      ruleset: The name of the applied ruleset; None if none applies.
      summary: The facts about the run in the log.
      errors: Violations that fail the log.
      warnings: Violations that do not fail the log.
      unreadable: Whether the log could not be read or is incomplete.
      set_values: (first value, line, metadata) of the keys that the rules about sets compare.
      content_sha256: Digest of the text in a compressed or otherwise wrapped file, else None.
    """

    path: str
    sha256: str | None = None
    dialect: str | None = None
    ruleset: str | None = None
    summary: RunSummary = field(default_factory=lambda: RunSummary("", 1))
    errors: Findings = field(default_factory=Findings)
    warnings: Findings = field(default_factory=Findings)
    unreadable: bool = False
    set_values: dict[str, tuple[Any, int, dict[str, Any]]] = field(default_factory=dict)
    content_sha256: str | None = None

    def has_violation_of(self, rule: str) -> bool:
        """Returns whether the log violates the rule with this id."""
        return self.errors.has(rule) or self.warnings.has(rule)

    @property
    def verdict(self) -> str:
        """UNREADABLE if the log could not be read or is incomplete, else FAIL or PASS."""
        if self.unreadable:
            return UNREADABLE
        return FAIL if self.errors else PASS

    def add(self, rule: Rule, line: int | None, message: str) -> None:
        """Adds a violation to the errors or the warnings, by the rule's severity."""
        found = self.errors if rule.severity == "error" else self.warnings
        found.add(rule.id, line, message, rule.fix)

    def as_json(self) -> dict[str, Any]:
        """Returns an object of `files` in `check --format json`."""
        return {"path": self.path, "sha256": self.sha256, "dialect": self.dialect,
                "ruleset": self.ruleset, "verdict": self.verdict, "run": self.summary.as_json(),
                "violations": [v.as_json() for v in self.errors.list()],
                "warnings": [v.as_json() for v in self.warnings.list()]}


@dataclass(frozen=True)
class CheckResult:
    """The results of all logs of one call.

    Attributes:
      ruleset: The name of the ruleset; None if the logs have different ones.
      files: The result of each log.
    """

    ruleset: str | None
    files: list[FileResult]

    @property
    def verdict(self) -> str:
        """FAIL if any log fails, else UNREADABLE if any log is unreadable, else PASS."""
        verdicts = {f.verdict for f in self.files}
        return FAIL if FAIL in verdicts else UNREADABLE if UNREADABLE in verdicts else PASS

    def as_json(self) -> dict[str, Any]:
        """Returns the object that `check --format json` prints."""
        return {"schema_version": SCHEMA_VERSION, "ruleset": self.ruleset,
                "verdict": self.verdict, "files": [f.as_json() for f in self.files]}
