"""Finds the rules that could not be judged, because the log lacks what they compare.

A rule that lacks what it needs is a violation, never silence.  Where another rule has already
reported the same record, as missing or as wrong, that report is enough.
"""

from __future__ import annotations

from typing import Callable

from compliance.checking.checks import CHECKS, Context
from compliance.checking.checks.base import (
    ABSENT,
    TRACK_KEY,
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
    """Watches a log for everything that the rules of a ruleset need.

    Attributes:
      observers: For each key the function that takes its events.
    """

    def __init__(self, ruleset: Ruleset, context: Context) -> None:
        """Begins with an empty log.

        Args:
          ruleset: The rules that are applied to the log.
          context: The log's track; its needs are met from the beginning.
        """
        self._rules, self._context = ruleset.rules, context
        self._needs_of_rule = {rule.id: CHECKS[rule.check].needs(rule.params)
                               for rule in ruleset.rules if not rule.is_about_set}
        needs = {need for found in self._needs_of_rule.values() for need in found}
        self._unmet = needs
        self._seen_keys: set[str] = set()
        keys = {need.key for need in needs} | {need.when for need in needs if need.when}
        # The needs of each key that no record has met yet.
        self._waiting: dict[str, list[Need]] = {
            key: [need for need in needs if need.key == key and need.track_value is None]
            for key in keys}
        self.observers: dict[str, Callable[[Event], None]] = dict.fromkeys(keys, self._observe)

    def _observe(self, event: Event) -> None:
        key = event.key
        self._seen_keys.add(key)
        waiting = self._waiting[key]
        if waiting:  # in long logs nearly always empty
            self._waiting[key] = [need for need in waiting if not _is_met(need, event)]

    def report_unmet(self, result: FileResult) -> None:
        """Reports every rule that lacks something about which no other rule complains.

        Args:
          result: The result of the log, with all other violations in it.
        """
        reported = [rule for rule in self._rules if result.has_violation_of(rule.id)]
        for rule in self._rules:
            for need in self._needs_of_rule.get(rule.id, ()):
                if self._is_unmet(need) and not any(_is_about(other, need) for other in reported):
                    result.add(rule, None, f"it cannot be judged: {_describe(need)}")

    def _is_unmet(self, need: Need) -> bool:
        if need.when is not None and need.when not in self._seen_keys:
            return False
        if need.track_value is None:
            return need in self._waiting[need.key]
        track = self._context.track
        return track is None or TRACK_VALUES[need.track_value](track) is None


def _is_met(need: Need, event: Event) -> bool:
    """Whether an event of the need's key has the field, with its type."""
    value = field_getter(need.field)(event)
    return value is not ABSENT and (need.type is None or TYPES[need.type][1](value))


def _is_about(rule: Rule, need: Need) -> bool:
    """Whether a violation of a rule says that this need is not met."""
    if rule.check == "pinned":
        return need.track_value == rule.params["track"]
    if rule.check != "record" or rule.params["key"] != need.key:
        return False
    return rule.params.get("field", "value") == need.field or need.track_value is not None


def _describe(need: Need) -> str:
    """The need in words."""
    if need.track_value is not None:
        return f"the log has no built-in track that fixes {need.track_value}"
    what = f"no {need.key} record" if need.field == "value" and need.type is None \
        else f"no {field_name(need.key, need.field)}"
    return f"there is {what}" + (f" that is {TYPES[need.type][0]}" if need.type else "")
