"""Finds the rules that could not be checked because the log lacks a record that they require.

Such a rule is a violation: it is never skipped silently. If another rule has already reported
the same record as missing or wrong, no second violation is added.
"""

from __future__ import annotations

from typing import Callable

from compliance.checking.checks import CHECKS, Context
from compliance.checking.checks.base import (
    ABSENT,
    TRACK_VALUES,
    TYPES,
    Need,
    field_getter,
    field_name,
)
from compliance.checking.results import FileResult
from compliance.checking.ruleset import Rule, Ruleset
from compliance.logs.dialects import Event


class NeedTracker:
    """Tracks whether a log contains the records that the rules of a ruleset require.

    Attributes:
      observers: For each key the function that processes its events.
    """

    def __init__(self, ruleset: Ruleset, context: Context) -> None:
        """Starts with all needs unmet.

        Args:
          ruleset: The rules that are applied to the log.
          context: The log's track; needs about the track depend only on it.
        """
        self._rules, self._context = ruleset.rules, context
        self._needs_of_rule = {rule.id: CHECKS[rule.check].needs(rule.params)
                               for rule in ruleset.rules if not rule.is_about_set}
        needs = {need for found in self._needs_of_rule.values() for need in found}
        self._unmet = needs
        self._seen_keys: set[str] = set()
        keys = {need.key for need in needs} | {need.when for need in needs if need.when}
        # The unmet needs of each key.
        self._waiting: dict[str, list[Need]] = {
            key: [need for need in needs if need.key == key and need.track_value is None]
            for key in keys}
        self.observers: dict[str, Callable[[Event], None]] = dict.fromkeys(keys, self._observe)

    def _observe(self, event: Event) -> None:
        key = event.key
        self._seen_keys.add(key)
        waiting = self._waiting[key]
        if waiting:  # nearly always empty in long logs
            self._waiting[key] = [need for need in waiting if not _is_met(need, event)]

    def report_unmet(self, result: FileResult) -> None:
        """Reports every rule with an unmet need that no other rule has reported.

        Args:
          result: The result of the log, with all other violations.
        """
        reported = [rule for rule in self._rules if result.has_violation_of(rule.id)]
        for rule in self._rules:
            for need in self._needs_of_rule.get(rule.id, ()):
                if self._is_unmet(need) and not any(_is_about(other, need) for other in reported):
                    result.add(rule, None, f"the rule cannot be checked: {_describe(need)}")

    def _is_unmet(self, need: Need) -> bool:
        if need.when is not None and need.when not in self._seen_keys:
            return False
        if need.track_value is None:
            return need in self._waiting[need.key]
        track = self._context.track
        return track is None or TRACK_VALUES[need.track_value](track) is None


def _is_met(need: Need, event: Event) -> bool:
    """Whether an event of the need's key has the field with the required type."""
    value = field_getter(need.field)(event)
    return value is not ABSENT and (need.type is None or TYPES[need.type][1](value))


def _is_about(rule: Rule, need: Need) -> bool:
    """Whether a violation of a rule already reports this unmet need."""
    if rule.check == "pinned":
        return need.track_value == rule.params["track"]
    if rule.check != "record" or rule.params["key"] != need.key:
        return False
    return rule.params.get("field", "value") == need.field or need.track_value is not None


def _describe(need: Need) -> str:
    """Describes an unmet need for a message."""
    if need.track_value is not None:
        return f"the log's track is not a built-in track that fixes {need.track_value}"
    what = f"no {need.key} record" if need.field == "value" and need.type is None \
        else f"no {field_name(need.key, need.field)}"
    return f"there is {what}" + (f" that is {TYPES[need.type][0]}" if need.type else "")
