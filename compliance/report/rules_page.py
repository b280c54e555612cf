"""docs/rules.md, made from the rule files:

    python -m compliance.report.rules_page > docs/rules.md

Each rule is a row: which records it looks at, what it requires and why, and what to do
when it fails.
"""

from __future__ import annotations

import sys
from typing import Any, Callable

from compliance.checking.ruleset import Rule, Ruleset, load_ruleset
from compliance.report.markdown import code
from compliance.report.pages import sentence

COMMAND = "python -m compliance.report.rules_page > docs/rules.md"
_COUNTS = {"exactly_one": "stands once", "at_least_one": "stands at least once",
           "at_most_one": "stands at most once", "any": ""}
_TYPES = {"integer": "a whole number", "number": "a finite number", "string": "text",
          "number_or_null": "a finite number or null", "boolean": "true or false",
          "object": "an object", "integers": "a list of whole numbers",
          "numbers": "a list of numbers"}
_PROBLEMS = {"json": "whole JSON", "number": "no NaN or infinity", "duplicate": "no key twice",
             "record": "time, key, value and metadata of their types", "time": "a finite time",
             "line": "one record a line"}
_OUTCOMES = {"success": "where status is success, the last hit rate is at least the target",
             "not_before": "no hit rate before the last is at least the target",
             "aborted": "where status is aborted, no hit rate is at least the target",
             "last_epoch": "it names the last evaluated epoch (aborted: or the one after)",
             "reason": "status is success if and only if reason is target"}
_CHAIN_KEYS = ["attempt"]
Params = dict[str, Any]


def _words(values: Any) -> str:
    return ", ".join(map(_value, values)) if isinstance(values, (list, tuple)) else _value(values)


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _keys(names: list[str], most: int = 6) -> str:
    """Keys as code; of a long list the first ones and how many more."""
    shown = ", ".join(code(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _field(p: Params) -> str:
    """The name of the field that is meant: steps for metadata.steps."""
    field = str(p.get("field", "value"))
    return field.partition(".")[2] or field


def _record(p: Params) -> str:
    field = p.get("field", "value")
    parts = [_COUNTS[p["count"]]] if _COUNTS.get(p.get("count", "any")) else []
    what = [] if "type" not in p else [_TYPES.get(p["type"], p["type"])]
    signs = {"min": "at least", "max": "at most", "above": "above", "below": "below"}
    what += [f"{sign} {_value(p[name])}" for name, sign in signs.items() if name in p]
    if p.get("one_of") == "closed_tracks":
        what.append("a built-in track of the closed division")
    elif "one_of" in p:
        what.append(f"one of {_words(p['one_of'])}")
    if "equals" in p:
        what.append(f"equal to {_value(p['equals'])}")
    if "track" in p:
        what.append(f"the track's {p['track']}")
    if what:
        name = f"{_field(p)}: " if field != "value" else ""
        parts.append(name + ", ".join(what))
    elif field != "value" and not p.get("optional"):
        parts.append(f"{field} is there")
    return "; ".join(parts)


def _between(p: Params) -> str:
    end = f" and before {p['before']}" if p.get("before") else ""
    return f"each stands after {p['after']}{end}"


def _rate(p: Params) -> str:
    return (f"{_field(p)} is {p['count']} divided by the seconds, and these "
            f"are those from {p['interval']}_start to {p['interval']}_stop "
            f"within {100 * p['within']:g}% and {p['slack_s']:g} s")


def _per_epoch(p: Params) -> str:
    also = ", and may for one epoch more" if p.get("ahead") else ""
    return f"each stands once for each epoch of {p['of']}{also}"


def _in_order(p: Params) -> str:
    return f"in this order: {', '.join(p['keys'])}"


def _intervals(names: list[str]) -> list[str]:
    return [f"{name}_{end}" for name in names for end in ("start", "stop")]


# check -> (its records' keys, what it requires); a check that is not here speaks by its reason.
_CHECKS: dict[str, tuple[Callable[[Params], list[str]], Callable[[Params], str]]] = {
    "record": (lambda p: [p["key"]], _record),
    "reading": (lambda p: [], lambda p: ", ".join(_PROBLEMS.get(x, x) for x in p["problems"])),
    "time": (lambda p: [], lambda p: "no time before that of the record above"),
    "event_types": (lambda p: [], lambda p: "the event type that log-format.md gives the key"),
    "clock": (lambda p: [p["key"]], lambda p: f"{p['field']} agrees with the record's own time "
              f"within {p['within_s']:g} s"),
    "outcome": (lambda p: ["run_stop", "eval_accuracy"], lambda p: _OUTCOMES.get(p["aspect"], "")),
    "order": (lambda p: p["keys"], _in_order),
    "epoch_order": (lambda p: p["keys"], lambda p: f"within an epoch {_in_order(p)}"),
    "between": (lambda p: p["keys"], _between),
    "nesting": (lambda p: _intervals(p["intervals"]),
                lambda p: "each closes before the one around it, and does not begin twice"),
    "pairs": (lambda p: _intervals([p["interval"]]),
              lambda p: "a start and a stop for each epoch_num"),
    "epochs": (lambda p: [p["key"]], lambda p: "epoch_num counts up by one, from 1 or 0"),
    "per_epoch": (lambda p: p["keys"], _per_epoch),
    "same": (lambda p: [p["key"]], lambda p: f"{_field(p)} equals {p['as']}"),
    "product": (lambda p: [p["key"]], lambda p: f"equals {p['of']} x (1 + {p['one_plus']})"),
    "batches": (lambda p: [p["key"]],
                lambda p: f"{_field(p)} is {p['of']} / {p['size']}, rounded up"),
    "at_most": (lambda p: [p["key"]], lambda p: f"no more records than the track's {p['track']}"),
    "some": (lambda p: p["keys"], lambda p: f"at least one has {p.get('field', 'value')} "
             f"{_words(p['one_of'])}"),
    "hits": (lambda p: [p["key"], p["stop"]], lambda p: f"times {p['users']} it is a whole number "
             "of hits, the logged one where one is logged"),
    "rate": (lambda p: [p["key"]], _rate),
    "ndcg": (lambda p: [p["key"]],
             lambda p: "lies between the hit rate x ln 2 / ln(k + 1) and the hit rate"),
    "unique_in_set": (lambda p: [p["key"]], lambda p: "differs from log to log of a folder"),
    "equal_in_set": (lambda p: p["keys"], lambda p: "alike in all logs of a folder"),
    "attempt": (lambda p: _CHAIN_KEYS, lambda p: ""),
    "attempt_chain": (lambda p: _CHAIN_KEYS, lambda p: ""),
}


def requirement(rule: Rule) -> str:
    """What a rule requires, in words; empty where its reason says it all."""
    known = _CHECKS.get(rule.check)
    return known[1](rule.params) if known else rule.params.get("what", "")


def records(rule: Rule) -> list[str]:
    """The keys of the records that a rule looks at; none: all of them, or no log at all."""
    known = _CHECKS.get(rule.check)
    return known[0](rule.params) if known else []


def _row(rule: Rule) -> str:
    mark = " (warning)" if rule.severity == "warning" else ""
    keys = _keys(records(rule)) or ("the folders" if rule.check == "tree" else "every record")
    why = f"{sentence(requirement(rule))} {sentence(rule.reason)}".strip()
    return f"| {code(rule.id)}{mark} | {keys} | {why} | {sentence(rule.fix)} |"


def _section(ruleset: Ruleset, rules: list[Rule], note: str) -> list[str]:
    return [f"## {ruleset.name}", "", f"{ruleset.title}. {note}", "",
            "| rule | log lines | what it requires, and why | when it fails |",
            "|---|---|---|---|", *map(_row, rules), ""]


def rules_page() -> str:
    """The page as Markdown, ending with a newline."""
    from compliance.submission.tree_check import ruleset as tree_rules

    closed, opened, one, two = (load_ruleset(name) for name in (
        "ncf-closed", "ncf-open", "ncf-v0.5-l1", "ncf-v0.5-l2"))
    inherited, first = set(map(_row, opened.rules)), set(map(_row, one.rules))
    lines = [
        "# Rules", "",
        "What `python -m compliance check` holds a log against. A warning never fails a log.",
        "`python -m compliance rules` prints every parameter and source; the words that rules are",
        "made of are in [compliance/rules](../compliance/rules/README.md), the keys of the log in",
        "[log-format.md](log-format.md). Made from `compliance/rules/*.yaml`, not to be edited:",
        "", f"    {COMMAND}", "",
        *_section(opened, list(opened.rules),
                  "Rules named NCF-SET and NCF-CHAIN are about a folder as a set."),
        *_section(closed, [r for r in closed.rules if _row(r) not in inherited],
                  "All of ncf-open holds too; a rule of the same name here takes its place."),
        *_section(one, list(one.rules), "Judged for logs of that round; values are not judged."),
        *_section(two, [r for r in two.rules if _row(r) not in first], "Level 1 holds too."),
        *_section(tree_rules(), list(tree_rules().rules),
                  "For a folder laid out as a submission; see [submitting.md](submitting.md)."),
    ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(rules_page())
