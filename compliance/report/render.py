"""What `check`, `score`, `report` and `rules` print."""

from __future__ import annotations

import os
from typing import Any, List, Tuple

from compliance.checker import CheckResult, FileResult, Violation
from compliance.report.tables import number, plain, render, share, wrap
from compliance.ruleset import Ruleset
from compliance.scoring import Score

WORDS = {"pass": "PASS", "fail": "FAIL", "unreadable": "UNREADABLE"}
# Folder, its logs as `check` judges them, its score.
ReportedSet = Tuple[str, List[FileResult], Score]
# In a table at most this many violations of one file are written out.
SHOWN = 20
_RUNS = ("log", "verdict", "seconds", "epochs", "last HR", "best HR", "converged")
_RIGHT = "llrrrrl"


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


def _yes(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "no"


def _run_row(name: str, result: FileResult) -> list[str]:
    run = result.facts.as_json()
    return [name, WORDS[result.verdict], number(run["seconds"], 2), str(run["epochs"]),
            share(run["final_accuracy"]), share(run["best_accuracy"]), _yes(run["converged"])]


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
    parts = [render(_RUNS, [_run_row(n, r) for n, r in zip(names, result.files)], form, _RIGHT)]
    found = violations_text(names, result.files)
    if found:
        parts.append(found)
    rulesets = sorted({r.ruleset or "no ruleset" for r in result.files})
    bad = sum(r.verdict != "pass" for r in result.files)
    tail = f", {bad} do not pass" if bad else ""
    parts.append(f"{WORDS[result.verdict]}: {_logs(len(result.files))} under "
                 f"{', '.join(rulesets)}{tail}")
    return "\n\n".join(parts)


def _logs(count: int) -> str:
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
    rows = [[name, number(f.facts.seconds, 3), _yes(f.facts.converged),
             _yes(f.path in score.counted)] for name, f in zip(short_paths(score.files), score.files)]
    table = render(("log", "seconds", "converged", "counted"), rows, form, "lrll")
    if form != "table":
        return table
    out = score.outcome
    lines = []
    if out.seconds is not None:
        lines = [f"dropped: fastest {number(out.fastest, 3)} s, slowest {number(out.slowest, 3)} s; "
                 f"median {number(out.median, 3)} s"]
    return "\n".join([table, "", *lines, score_line(score)])


def report_json(result: CheckResult, sets: list[ReportedSet]) -> dict[str, Any]:
    """The answer of `report` as JSON: the check, and each set's score."""
    return {"schema_version": 1, "check": result.as_json(),
            "sets": [{"path": path, "score": score.as_json()} for path, _, score in sets]}


def report_text(result: CheckResult, sets: list[ReportedSet], form: str) -> str:
    """The answer of `report`: each set's runs, score and violations."""
    parts = []
    for path, files, score in sets:
        facts = files[0].facts
        rows = [[*_run_row(n, f), number(f.facts.throughput, 0)]
                for n, f in zip(short_paths(files), files)]
        table = render((*_RUNS, "train/s"), rows, form, _RIGHT + "r")
        if form == "csv":
            parts.append(table)
            continue
        head = "## " if form == "markdown" else ""
        about = (f"track {facts.track or '-'}, division {facts.division or '-'}, target "
                 f"{'-' if facts.target is None else facts.target}")
        parts += [f"{head}{plain(path)}", plain(about), table, score_line(score)]
        found = violations_text(short_paths(files), files)
        if found:
            parts.append(f"```\n{found}\n```" if form == "markdown" else found)
    if form == "csv":
        return "\n".join(parts)
    return "\n\n".join([*parts, f"{WORDS[result.verdict]}: {_logs(len(result.files))}"])


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
