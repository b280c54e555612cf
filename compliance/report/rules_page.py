"""docs/rules.md, generated from the rule files:

    python -m compliance.report.rules_page > docs/rules.md

Each rule is a row: the records that it checks, its requirement with the reason, and the fix
of a violation.
"""

from __future__ import annotations

import sys
from typing import Any, Callable

from compliance.checking.ruleset import Rule, Ruleset, load_ruleset
from compliance.report.markdown import code_span
from compliance.report.pages import capitalized_sentence

COMMAND = "python -m compliance.report.rules_page > docs/rules.md"
_COUNT_WORDS = {"exactly_one": "appears once", "at_least_one": "appears at least once",
                "at_most_one": "appears at most once", "any": ""}
_TYPE_WORDS = {"integer": "a whole number", "number": "a finite number", "string": "text",
               "number_or_null": "a finite number or null", "boolean": "true or false",
               "object": "an object", "integers": "a list of whole numbers",
               "numbers": "a list of numbers"}
_READING_REQUIREMENTS = {
    "json": "complete JSON", "number": "no NaN or infinity", "duplicate": "no duplicate key",
    "record": "time, key, value and metadata of the right types", "time": "a finite time",
    "line": "one record per line"}
_OUTCOME_REQUIREMENTS = {
    "success": "if status is success, the last hit rate is at least the target",
    "not_before": "no hit rate before the last is at least the target",
    "aborted": "if status is aborted, no hit rate is at least the target",
    "last_epoch": "epoch_num is the last evaluated epoch (if aborted, or the next one)",
    "reason": "status is success if and only if reason is target",
    "cap": "reason is epoch_cap if and only if all epochs up to the cap (of configuration, in the "
           "closed division also of the track) were evaluated without reaching the target",
    "nan_loss": "if reason is nan_loss, the last epoch has no loss and was not evaluated"}
_SET_REQUIREMENTS = {
    "different": "losses, NDCG, hit rates, and seconds of training and evaluation differ between "
                 "the logs of a folder",
    "sequence": "attempts of a chain do not overlap in time",
    "parallel": "runs of a folder do not overlap in time",
    "runs": "no log of a folder is of an interrupted attempt"}
_CHAIN_KEYS = ["attempt"]
Params = dict[str, Any]


def _format_values(values: Any) -> str:
    return ", ".join(map(_format_value, values)) if isinstance(values, (list, tuple)) \
        else _format_value(values)


def _format_value(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) \
        else str(value)


def _format_keys(names: list[str], max_shown: int = 6) -> str:
    """Formats keys as code; shortens a long list to its first keys and the number of others."""
    shown = ", ".join(code_span(name) for name in names[:max_shown])
    return shown if len(names) <= max_shown else f"{shown} and {len(names) - max_shown} more"


def _field_name(p: Params) -> str:
    """Returns the name of the field that a rule checks: steps for metadata.steps."""
    field = str(p.get("field", "value"))
    return field.partition(".")[2] or field


def _record_requirement(p: Params) -> str:
    """Returns the requirement of a `record` rule in words."""
    field = p.get("field", "value")
    parts = [_COUNT_WORDS[p["count"]]] if _COUNT_WORDS.get(p.get("count", "any")) else []
    conditions = [] if "type" not in p else [_TYPE_WORDS.get(p["type"], p["type"])]
    signs = {"min": "at least", "max": "at most", "above": "above", "below": "below"}
    conditions += [f"{sign} {_format_value(p[name])}" for name, sign in signs.items() if name in p]
    if p.get("one_of") == "closed_tracks":
        conditions.append("a built-in track of the closed division")
    elif "one_of" in p:
        conditions.append(f"one of {_format_values(p['one_of'])}")
    if "equals" in p:
        conditions.append(f"equal to {_format_value(p['equals'])}")
    if "track" in p:
        conditions.append(f"the track's {p['track']}")
    if conditions:
        name = f"{_field_name(p)}: " if field != "value" else ""
        parts.append(name + ", ".join(conditions))
    elif field != "value" and not p.get("optional"):
        parts.append(f"{field} is present")
    return "; ".join(parts)


def _between_requirement(p: Params) -> str:
    end = f" and before {p['before']}" if p.get("before") else ""
    return f"each comes after {p['after']}{end}"


def _rate_requirement(p: Params) -> str:
    return (f"{_field_name(p)} is {p['count']} divided by the seconds, which agree with "
            f"the time from {p['interval']}_start to {p['interval']}_stop "
            f"within {100 * p['within']:g}% and {p['slack_s']:g} s")


def _per_epoch_requirement(p: Params) -> str:
    also = ", and may appear for one more epoch" if p.get("ahead") else ""
    return f"each appears once for each epoch of {p['of']}{also}"


def _order_requirement(p: Params) -> str:
    return f"in this order: {', '.join(p['keys'])}"


def _interval_keys(names: list[str]) -> list[str]:
    return [f"{name}_{end}" for name in names for end in ("start", "stop")]


# check -> (keys of its records, requirement). For other checks the page shows only the reason.
_CHECK_DESCRIPTIONS: dict[str, tuple[Callable[[Params], list[str]], Callable[[Params], str]]] = {
    "record": (lambda p: [p["key"]], _record_requirement),
    "reading": (lambda p: [],
                lambda p: ", ".join(_READING_REQUIREMENTS.get(x, x) for x in p["problems"])),
    "time": (lambda p: [], lambda p: "no time is earlier than that of the previous record"),
    "event_types": (lambda p: [], lambda p: "the event type of the key in the log format"),
    "clock": (lambda p: [p["key"]], lambda p: f"{p['field']} agrees with the record's own time "
              f"within {p['within_s']:g} s" + (
                  f" or {p['share']:.0%} of the run" if "share" in p else "")),
    "within": (lambda p: p["keys"],
               lambda p: f"at most {p['within_s']:g} s from each of them to the next"),
    "gaps": (lambda p: [*p["epoch"], p["end"]],
             lambda p: "from the end of an epoch to the next end, and at both ends of the run, "
             f"at most {p['share']:.0%} of an epoch's time or {p['slack_s']:g} s belong to no "
             "interval"),
    "said_anywhere": (lambda p: [], lambda p: "in every record that has the member, " + " and ".join(
        f"{name} is {' or '.join(map(_format_value, values))}"
        for name, values in p["members"].items())),
    "no_such_epoch": (lambda p: [p["key"], p["of"]], lambda p: f"no {_field_name(p)} {p['value']} "
                      f"in the {p['key']} of an epoch with {p['of']}"),
    "run_seconds": (lambda p: ["run_start", "run_stop"],
                    lambda p: "the run takes more than 0 s, and at least the seconds of its "
                    f"epochs: {', '.join(p['fields'])} of all {p['key']} records"),
    "agrees": (lambda p: [p["key"]],
               lambda p: ("it has these members, and they equal other records: "
                          if p.get("complete") else "these members equal other records: ")
               + ", ".join(name if name == key else f"{name} {key}"
                           for name, key in p["fields"].items())),
    "pinned": (lambda p: [], lambda p: f"the track fixes {p['track']}"),
    "outcome": (lambda p: ["run_stop", "eval_accuracy"],
                lambda p: _OUTCOME_REQUIREMENTS.get(p["aspect"], "")),
    "order": (lambda p: p["keys"], _order_requirement),
    "epoch_order": (lambda p: p["keys"], lambda p: f"within an epoch {_order_requirement(p)}"),
    "between": (lambda p: p["keys"], _between_requirement),
    "nesting": (lambda p: _interval_keys(p["intervals"]),
                lambda p: "each ends before the interval around it, and does not begin twice"),
    "pairs": (lambda p: _interval_keys([p["interval"]]),
              lambda p: "a start and a stop for each epoch_num"),
    "epochs": (lambda p: [p["key"]], lambda p: "epoch_num increases by one, from 1 or 0"),
    "per_epoch": (lambda p: p["keys"], _per_epoch_requirement),
    "same": (lambda p: [p["key"]], lambda p: f"{_field_name(p)} equals {p['as']}"),
    "product": (lambda p: [p["key"]], lambda p: f"equals {p['of']} x (1 + {p['one_plus']})"),
    "batches": (lambda p: [p["key"]],
                lambda p: f"{_field_name(p)} is {p['of']} / {p['size']}, rounded up"),
    "at_most": (lambda p: [p["key"]], lambda p: f"no more records than the track's {p['track']}"),
    "some": (lambda p: p["keys"], lambda p: f"at least one has {p.get('field', 'value')} "
             f"{_format_values(p['one_of'])}"),
    "hits": (lambda p: [p["key"], p["stop"]], lambda p: f"the value times {p['users']} is a whole "
             "number of hits, equal to the logged number if there is one"),
    "rate": (lambda p: [p["key"]], _rate_requirement),
    "ndcg": (lambda p: [p["key"]],
             lambda p: "is between the hit rate x ln 2 / ln(k + 1) and the hit rate"),
    "masked_share": (lambda p: [p["key"]],
                     lambda p: f"{_field_name(p)}, as a share of all candidates, is within "
                     f"{p['within']:g} of the share for uniform draws; the mean number of "
                     "candidates agrees with it"),
    "in_turn": (lambda p: [p["first"], p["last"]],
                lambda p: f"{p['first']} comes after the {p['last']} of the previous epoch"),
    "equal_in_epoch": (lambda p: [p["key"], p["as"]],
                       lambda p: f"{_field_name(p)} is the same in both for each epoch"),
    "unique_in_set": (lambda p: [p["key"]], lambda p: (
        f"{', '.join(p['members'])}: " if "members" in p else "")
        + "differs between the logs of a folder"
        + (f", if {p['only_if']} is true" if "only_if" in p else "")),
    "all_in_set": (lambda p: [p["key"]],
                   lambda p: "all logs of a folder have it" + (
                       f" with {', '.join(p['members'])}" if "members" in p else "")
                   + ", or none has it"),
    "runs_in_set": (lambda p: ["run_start", "run_stop"],
                    lambda p: _SET_REQUIREMENTS.get(p["aspect"], "")),
    "epochs_vary": (lambda p: ["eval_stop"], lambda p: "without the first, the mean epoch takes at "
                    f"most {p['share']:.0%} longer than the fastest quarter of them"),
    "epochs_vary_in_set": (lambda p: ["eval_stop"], lambda p: "the median epoch of a run takes at "
                           f"most {p['share']:.0%} longer than those of the fastest quarter of the "
                           "runs"),
    "equal_in_set": (lambda p: p["keys"], lambda p: "equal in all logs of a folder"),
    "attempt": (lambda p: _CHAIN_KEYS, lambda p: ""),
    "attempt_chain": (lambda p: _CHAIN_KEYS, lambda p: ""),
}


def requirement(rule: Rule) -> str:
    """Returns the requirement of a rule in words; empty if its reason contains it."""
    known = _CHECK_DESCRIPTIONS.get(rule.check)
    return known[1](rule.params) if known else rule.params.get("what", "")


def record_keys(rule: Rule) -> list[str]:
    """Returns the keys of the records that a rule checks; none if it checks all records."""
    known = _CHECK_DESCRIPTIONS.get(rule.check)
    return known[0](rule.params) if known else []


def _rule_row(rule: Rule) -> str:
    """Returns the table's row of a rule."""
    mark = " (warning)" if rule.severity == "warning" else ""
    keys = _format_keys(record_keys(rule)) \
        or ("the folders" if rule.check == "tree" else "every record")
    why = f"{capitalized_sentence(requirement(rule))} {capitalized_sentence(rule.reason)}".strip()
    return f"| {code_span(rule.id)}{mark} | {keys} | {why} | {capitalized_sentence(rule.fix)} |"


def _ruleset_section(ruleset: Ruleset, rules: list[Rule], note: str) -> list[str]:
    """Returns the section of a ruleset."""
    return [f"## {ruleset.name}", "", f"{ruleset.title}. {note}", "",
            "| rule | records | requirement and reason | fix |",
            "|---|---|---|---|", *map(_rule_row, rules), ""]


def _rules_that_differ(ruleset: Ruleset, base: Ruleset) -> list[Rule]:
    """Returns the rules of a ruleset whose text differs from that in its base."""
    base_rows = set(map(_rule_row, base.rules))
    return [rule for rule in ruleset.rules if _rule_row(rule) not in base_rows]


def rules_page() -> str:
    """Returns the page as Markdown, ending with a line break."""
    from compliance.submission.tree_check import tree_ruleset

    closed_rules, open_rules, level_1, level_2 = (load_ruleset(name) for name in (
        "ncf-closed", "ncf-open", "ncf-v0.5-l1", "ncf-v0.5-l2"))
    # A ruleset that extends another lists only the rules that differ.
    closed_only = _rules_that_differ(closed_rules, open_rules)
    level_2_only = _rules_that_differ(level_2, level_1)
    lines = [
        "# Rules", "",
        "`python -m compliance check` applies these rules to a log. A warning never fails a log.",
        "If a record or a track that a rule compares is missing, the rule is violated, unless",
        "another rule already reports that record.",
        "`python -m compliance rules` prints every parameter and source. The checks that rules use",
        "are in [compliance/rules](../compliance/rules/README.md), the keys of the log in",
        "[log-format.md](log-format.md). This page is generated from `compliance/rules/*.yaml`; do",
        "not edit it:", "", f"    {COMMAND}", "",
        *_ruleset_section(open_rules, list(open_rules.rules),
                          "Rules named NCF-SET and NCF-CHAIN check the logs of a folder as a set."),
        *_ruleset_section(
            closed_rules, closed_only,
            "All rules of ncf-open apply too; a rule here replaces the rule with the same name."),
        *_ruleset_section(level_1, list(level_1.rules),
                          "Applies to logs of that round; values are not judged."),
        *_ruleset_section(level_2, level_2_only, "All rules of level 1 apply too."),
        *_ruleset_section(
            tree_ruleset(), list(tree_ruleset().rules),
            "Applies to a folder with the layout of a submission; see "
            "[submitting.md](submitting.md)."),
    ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(rules_page())
