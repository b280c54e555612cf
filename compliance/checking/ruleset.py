"""Rulesets: rules as data, validated against a fixed vocabulary when they are loaded.

A rule file (`rules/<name>.yaml`) contains `ruleset`, `title`, `dialect`, `extends` (a ruleset
whose rules come first, or null) and `rules`. A rule has `id`, `severity` (error or
warning), `check` (a word of `compliance.checking.checks.VOCABULARY`), the parameters of that
check, and `reason`, `fix` and `source`. A rule replaces an inherited rule with the same id.

No part of a rule is ever evaluated as code, and no content of a log chooses a file: rulesets are
loaded only by the names in `RULESETS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from compliance.base.strict_yaml import DataFileError, LineTrackedDict, load_mapping
from compliance.checking.checks import CHECKS, SET_CHECKS, InvalidParameter, validate_params

RULES_DIR = Path(__file__).resolve().parents[1] / "rules"
RULESETS: tuple[str, ...] = ("ncf-closed", "ncf-open", "ncf-v0.5-l1", "ncf-v0.5-l2")
SEVERITIES = ("error", "warning")
# Keys of a rule with texts; all other keys are parameters of its check.
_TEXT_KEYS = ("id", "severity", "check", "reason", "fix", "source")
_FILE_KEYS = ("ruleset", "title", "dialect", "extends", "rules")


class RulesetError(ValueError):
    """A rule file that cannot be used; the message is one line, with file and line number."""


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
      id: A stable name, such as NCF-RUN-STOP.
      severity: error: a violation fails the log; warning: it does not.
      check: The word of the vocabulary: the kind of check.
      params: The check's parameters.
      reason: The reason for the rule.
      fix: How to repair a violation.
      source: The document that the rule comes from.
    """

    id: str
    severity: str
    check: str
    params: dict[str, Any]
    reason: str
    fix: str
    source: str

    @property
    def is_about_set(self) -> bool:
        """Whether the rule is about a set of logs, not about one log."""
        return self.check in SET_CHECKS

    def describe_check(self) -> str:
        """Returns the check and its parameters on one line."""
        return f"{self.check}: " \
            + ", ".join(f"{k} {_format_param(v)}" for k, v in self.params.items())


@dataclass(frozen=True)
class Ruleset:
    """A named list of rules for the logs of one dialect.

    Attributes:
      name: One of RULESETS, or another name in a user's own file.
      title: A one-line description.
      dialect: mllog or v0.5.
      rules: The inherited rules first.
    """

    name: str
    title: str
    dialect: str
    rules: tuple[Rule, ...]


def load_ruleset(name: str) -> Ruleset:
    """Loads a built-in ruleset.

    Args:
      name: One of RULESETS.

    Raises:
      RulesetError: There is no such ruleset, or its file cannot be used.
    """
    if name not in RULESETS:
        raise RulesetError(f"there is no ruleset '{name}'; choose from {', '.join(RULESETS)}")
    return load_ruleset_file(RULES_DIR / f"{name}.yaml")


@lru_cache(maxsize=16)
def load_ruleset_file(path: Path) -> Ruleset:
    """Loads the ruleset in a file, with the rules that it inherits.

    Args:
      path: The YAML file.

    Raises:
      RulesetError: The file cannot be used.
    """
    try:
        return _read_ruleset(path, load_mapping(path))
    except DataFileError as error:
        raise RulesetError(str(error)) from None


def _read_ruleset(path: Path, data: LineTrackedDict) -> Ruleset:
    """The ruleset in a mapping; raises DataFileError."""
    for key in data:
        if key not in _FILE_KEYS:
            raise DataFileError(path, data.key_lines[key], f"unknown key '{key}'")
    for key in _FILE_KEYS:
        if key not in data:
            raise DataFileError(path, data.line, f"'{key}' is missing")
    for key in ("ruleset", "title", "dialect"):
        if not isinstance(data[key], str):
            raise DataFileError(path, data.key_lines[key], f"'{key}' must be text")
    if data["dialect"] not in ("mllog", "v0.5"):
        raise DataFileError(path, data.key_lines["dialect"], "'dialect' must be mllog or v0.5")
    rules: dict[str, Rule] = {}
    if data["extends"] is not None:
        if data["extends"] not in RULESETS or data["extends"] == data["ruleset"]:
            raise DataFileError(path, data.key_lines["extends"],
                                f"'extends' must be one of {', '.join(RULESETS)}, or null")
        rules = {rule.id: rule for rule in load_ruleset(data["extends"]).rules}
    if not isinstance(data["rules"], list):
        raise DataFileError(path, data.key_lines["rules"], "'rules' must be a list")
    own_ids: set[str] = set()
    for entry in data["rules"]:
        if not isinstance(entry, LineTrackedDict):
            raise DataFileError(path, data.key_lines["rules"], "each rule must be a mapping")
        rule = _read_rule(path, entry)
        if rule.id in own_ids:
            raise DataFileError(path, entry.line, f"rule {rule.id} appears twice")
        own_ids.add(rule.id)
        # A rule that replaces an inherited one keeps its place in the order.
        rules[rule.id] = rule
    return Ruleset(data["ruleset"], data["title"], data["dialect"], tuple(rules.values()))


def _read_rule(path: Path, entry: LineTrackedDict) -> Rule:
    """The rule in a mapping; raises DataFileError."""
    for key in _TEXT_KEYS:
        if not isinstance(entry.get(key), str) or not entry[key].strip():
            raise DataFileError(path, entry.key_lines.get(key, entry.line),
                                f"the rule lacks '{key}', or its value is not text")
    if set(entry["id"]) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") \
            or not entry["id"].startswith("NCF-"):
        raise DataFileError(path, entry.key_lines["id"], "'id' must look like NCF-RUN-STOP")
    if entry["severity"] not in SEVERITIES:
        raise DataFileError(path, entry.key_lines["severity"],
                            f"unknown severity '{entry['severity']}'; it must be error or warning")
    if entry["check"] not in CHECKS and entry["check"] not in SET_CHECKS:
        raise DataFileError(path, entry.key_lines["check"],
                            f"unknown check '{entry['check']}'; the vocabulary is "
                            f"{', '.join([*CHECKS, *SET_CHECKS])}")
    params = {key: value for key, value in entry.items() if key not in _TEXT_KEYS}
    try:
        params = validate_params(entry["check"], params)
    except InvalidParameter as error:
        raise DataFileError(path, entry.key_lines.get(error.key, entry.line), str(error)) from None
    # Long texts may span several lines in YAML.
    texts = {key: " ".join(entry[key].split()) for key in _TEXT_KEYS}
    return Rule(params=params, **texts)


def _format_param(value: Any) -> str:
    """Formats a parameter as in the rule file."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_format_param, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
