"""What `check`, `score`, `report` and `rules` print."""

from __future__ import annotations

import os
from typing import Any

from compliance.checker import CheckResult, FileResult, Violation
from compliance.report.tables import number, plain, render, share, wrap
from compliance.ruleset import Ruleset
from compliance.scoring import SOURCES, Score

# Entries of `check` under this name are about a submission tree, not a log.
TREE_RULESET = "submission-tree"
WORDS = {"pass": "PASS", "fail": "FAIL", "unreadable": "UNREADABLE"}
# In a table at most this many violations of one file are written out.
SHOWN = 20
RUN_COLUMNS = ("log", "verdict", "seconds", "epochs", "last HR", "best HR", "converged")
RIGHT = "llrrrrl"


def short_paths(files: list[FileResult]) -> list[str]:
    """The paths without the folder that they share."""
    paths = [f.path for f in files]
    if len(paths) < 2:
        return [os.path.basename(p) for p in paths]
    try:
        root = os.path.commonpath([os.path.dirname(os.path.abspath(p)) for p in paths])
    except ValueError:
        return paths
    return [os.path.relpath(os.path.abspath(p), root) for p in paths]


def yes(value: bool | None) -> str:
    """yes, no, or a dash."""
    return "-" if value is None else "yes" if value else "no"


def run_row(name: str, result: FileResult) -> list[str]:
    """The cells of RUN_COLUMNS for one log."""
    run = result.facts.as_json()
    return [name, WORDS[result.verdict], number(run["seconds"], 2), str(run["epochs"]),
            share(run["final_accuracy"]), share(run["best_accuracy"]), yes(run["converged"])]


def _found(name: str, result: FileResult) -> list[tuple[str, str, Violation]]:
    return [(name, "error", v) for v in result.errors.list()] + [
        (name, "warning", v) for v in result.warnings.list()]


def violations_text(names: list[str], files: list[FileResult]) -> str:
    """Each file's violations and warnings: where, what, and what to do."""
    lines: list[str] = []
    warned: dict[tuple[str, str], list[str]] = {}
    for name, result in zip(names, files):
        for violation in result.errors.list()[:SHOWN]:
            where = f"{name}:{violation.line}" if violation.line else name
            lines += [f"{plain(where)}  {violation.rule}", wrap(violation.message, 4),
                      wrap(f"fix: {violation.fix}", 4)]
        more = len(result.errors.list()) - SHOWN
        if more > 0:
            lines.append(f"{plain(name)}  and {more} more (--format csv lists them)")
        for violation in result.warnings.list():
            where = f"{name}:{violation.line}" if violation.line else name
            warned.setdefault((violation.rule, violation.message), []).append(where)
    for (rule, message), places in warned.items():
        also = f" and {len(places) - 1} more" if len(places) > 1 else ""
        lines += [f"warning: {plain(places[0])}{also}  {rule}", wrap(message, 4)]
    return "\n".join(lines)


def check_text(result: CheckResult, form: str) -> str:
    """The answer of `check`; the last line of a table is the verdict."""
    names = short_paths(result.files)
    if form != "table":
        rows = [[n, WORDS[r.verdict], r.ruleset or "-", severity, v.rule, str(v.line or ""),
                 v.message, v.fix] for name, r in zip(names, result.files)
                for n, severity, v in (_found(name, r) or [(name, "", Violation("", None, "", ""))])]
        return render(("log", "verdict", "ruleset", "severity", "rule", "line", "message", "fix"),
                      rows, form)
    of_logs = [(n, r) for n, r in zip(names, result.files) if r.ruleset != TREE_RULESET]
    parts = [render(RUN_COLUMNS, [run_row(n, r) for n, r in of_logs], form, RIGHT)]
    found = violations_text(names, result.files)
    if found:
        parts.append(found)
    trees = len(result.files) - len(of_logs)
    rulesets = sorted({r.ruleset or "no ruleset" for _, r in of_logs})
    bad = sum(r.verdict != "pass" for r in result.files)
    also = f" and {'a' if trees == 1 else trees} submission tree{'s'[:trees - 1]}" if trees else ""
    tail = f", {bad} {'does' if bad == 1 else 'do'} not pass" if bad else ""
    parts.append(f"{WORDS[result.verdict]}: {logs(len(of_logs))} under "
                 f"{', '.join(rulesets)}{also}{tail}")
    return "\n\n".join(parts)


def logs(count: int) -> str:
    """The number of logs in words."""
    return "1 log" if count == 1 else f"{count} logs"


def score_line(score: Score) -> str:
    """The score, or why there is none, as one line."""
    out = score.outcome
    if out.seconds is None:
        return wrap(f"no score ({score.rule}): {out.reason}", 0)
    between = f" (95%: {score.ci95[0]:.2f} to {score.ci95[1]:.2f})" if score.ci95 else ""
    return (f"score {out.seconds:.3f} s{between}, {score.rule}, "
            f"{len(score.counted)} of {len(score.runs)} runs")


def score_text(score: Score, form: str) -> str:
    """The answer of `score`; the last line of a table is the score."""
    rows = [[name, number(f.facts.seconds, 3), yes(f.facts.converged),
             yes(f.path in score.counted)] for name, f in zip(short_paths(score.files), score.files)]
    table = render(("log", "seconds", "converged", "counted"), rows, form, "lrll")
    if form != "table":
        return table
    out = score.outcome
    lines = []
    if out.seconds is not None:
        lines = [f"dropped: fastest {number(out.fastest, 3)} s, slowest {number(out.slowest, 3)} s; "
                 f"median {number(out.median, 3)} s"]
    lines.append(wrap(f"source: {SOURCES[score.rule]}", 0))
    return "\n".join([table, "", *lines, score_line(score)])


def rules_text(rulesets: list[Ruleset], form: str) -> str:
    """The answer of `rules`."""
    header = ("ruleset", "rule", "severity", "check", "reason", "fix", "source")
    rows = [[s.name, r.id, r.severity, r.what(), r.reason, r.fix, r.source]
            for s in rulesets for r in s.rules]
    if form != "table":
        return render(header, rows, form)
    parts = []
    for ruleset in rulesets:
        parts.append(f"{ruleset.name} ({ruleset.dialect}): {ruleset.title}")
        for rule in ruleset.rules:
            mark = " (warning)" if rule.severity == "warning" else ""
            parts.append("\n".join([f"{rule.id}{mark}", wrap(rule.what(), 4),
                                    wrap(f"why: {rule.reason}", 4), wrap(f"fix: {rule.fix}", 4),
                                    wrap(f"source: {rule.source}", 4)]))
    return "\n\n".join(parts)


def rules_json(rulesets: list[Ruleset]) -> dict[str, Any]:
    """The answer of `rules` as JSON."""
    return {"schema_version": 1, "rulesets": [
        {"ruleset": s.name, "title": s.title, "dialect": s.dialect, "rules": [
            {"id": r.id, "severity": r.severity, "check": r.check, "params": r.params,
             "reason": r.reason, "fix": r.fix, "source": r.source} for r in s.rules]}
        for s in rulesets]}
