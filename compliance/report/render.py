"""What `check`, `score`, `report` and `rules` print."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from compliance.checking.results import CheckResult, FileResult
from compliance.checking.ruleset import Ruleset
from compliance.report import markdown
from compliance.report.tables import as_csv, number, render, share, wrap
from compliance.report.text import plain
from compliance.results.scoring import SOURCES, Score

# Entries of `check` under this name are about a submission tree, not a log.
TREE_RULESET = "submission-tree"
WORDS = {"pass": "PASS", "fail": "FAIL", "unreadable": "UNREADABLE"}
# In a table at most this many violations of one file are written out.
SHOWN = 20
RUN_COLUMNS = ("log", "verdict", "seconds", "epochs", "last HR", "best HR", "converged")
KINDS = "clrrrrl"
RUN_CSV = ("verdict", "status", "converged", "time_to_train_seconds", "epochs",
           "final_hit_rate", "best_hit_rate", "target_hit_rate", "seed")


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


def run_csv(result: FileResult) -> list[Any]:
    """The values of RUN_CSV for one log."""
    run = result.facts.as_json()
    return [result.verdict, *(run[key] for key in (
        "status", "converged", "seconds", "epochs", "final_accuracy", "best_accuracy", "target",
        "seed"))]


class Found(NamedTuple):
    """A violation or a warning as people read it; `more` stand elsewhere for the same."""

    where: str
    rule: str
    message: str
    fix: str
    warning: bool
    more: int = 0


def _found(names: list[str], files: list[FileResult]) -> tuple[list[Found], list[tuple[str, int]]]:
    """Violations (at most SHOWN a file), then warnings, alike ones once; (log, left out)."""
    errors: list[Found] = []
    left: list[tuple[str, int]] = []
    warned: dict[tuple[str, str], Found] = {}
    for name, result in zip(names, files):
        found = result.errors.list()
        errors += [Found(_where(name, v.line), v.rule, v.message, v.fix, False)
                   for v in found[:SHOWN]]
        if len(found) > SHOWN:
            left.append((name, len(found) - SHOWN))
        for v in result.warnings.list():
            seen = warned.get((v.rule, v.message))
            warned[v.rule, v.message] = seen._replace(more=seen.more + 1) if seen else Found(
                _where(name, v.line), v.rule, v.message, v.fix, True)
    return errors + list(warned.values()), left


def _where(name: str, line: int | None) -> str:
    return f"{name}:{line}" if line else name


def violations_text(names: list[str], files: list[FileResult]) -> str:
    """Each file's violations and warnings: where, what, and what to do."""
    found, left = _found(names, files)
    lines: list[str] = []
    for one in (one for one in found if not one.warning):
        lines += [f"{plain(one.where)}  {one.rule}", wrap(one.message, 4),
                  wrap(f"fix: {one.fix}", 4)]
    lines += [f"{plain(name)}  and {more} more (--format csv lists them)" for name, more in left]
    for one in (one for one in found if one.warning):
        also = f" and {one.more} more" if one.more else ""
        lines += [f"warning: {plain(one.where)}{also}  {one.rule}", wrap(one.message, 4)]
    return "\n".join(lines)


def violations_markdown(names: list[str], files: list[FileResult]) -> str:
    """The same as a list."""
    found, left = _found(names, files)
    items = []
    for one in found:
        kind = "warning " if one.warning else ""
        also = f" and {one.more} more" if one.more else ""
        items.append(f"{kind}**{one.rule}** {markdown.code(one.where)}{also}: "
                     f"{markdown.code(one.message)}. Fix: {markdown.escaped(one.fix)}")
    items += [f"{markdown.code(name)}: {more} more (`--format csv` lists them)"
              for name, more in left]
    return markdown.listed(items)


def check_text(result: CheckResult, form: str) -> str:
    """The answer of `check`; the last line of a table is the verdict, Markdown's title too."""
    names = short_paths(result.files)
    if form == "csv":
        return _check_csv(names, result.files)
    of_logs = [(n, r) for n, r in zip(names, result.files) if r.ruleset != TREE_RULESET]
    table = render(RUN_COLUMNS, [run_row(n, r) for n, r in of_logs], form, KINDS)
    if form == "markdown":
        return markdown.page(_check_verdict(result), table,
                             violations_markdown(names, result.files))
    found = violations_text(names, result.files)
    return "\n\n".join(filter(None, [table, found, _check_verdict(result)]))


def _check_verdict(result: CheckResult) -> str:
    of_logs = [r for r in result.files if r.ruleset != TREE_RULESET]
    trees = len(result.files) - len(of_logs)
    rulesets = sorted({r.ruleset or "no ruleset" for r in of_logs})
    bad = sum(r.verdict != "pass" for r in result.files)
    also = f" and {'a' if trees == 1 else trees} submission tree{'s'[:trees - 1]}" if trees else ""
    tail = f", {bad} {'does' if bad == 1 else 'do'} not pass" if bad else ""
    return (f"{WORDS[result.verdict]}: {logs(len(of_logs))} under "
            f"{', '.join(rulesets)}{also}{tail}")


def _check_csv(names: list[str], files: list[FileResult]) -> str:
    """A row a finding, with the run's own figures; a row for a log without any."""
    rows = []
    for name, result in zip(names, files):
        about = [name, result.ruleset, result.dialect, *run_csv(result)]
        found = [("error", v) for v in result.errors.list()]
        found += [("warning", v) for v in result.warnings.list()]
        rows += [[*about, severity, v.rule, v.line, v.message, v.fix] for severity, v in found] \
            or [[*about, *[None] * 5]]
    return as_csv(("log", "ruleset", "dialect", *RUN_CSV, "severity", "rule", "line", "message",
                   "fix"), rows)


def logs(count: int) -> str:
    """The number of logs in words."""
    return "1 log" if count == 1 else f"{count} logs"


def score_words(score: Score) -> str:
    """The score, or why there is none."""
    out = score.outcome
    if out.seconds is None:
        return f"no score ({score.rule}): {out.reason}"
    between = f" (95%: {score.ci95[0]:.2f} to {score.ci95[1]:.2f})" if score.ci95 else ""
    return (f"score {out.seconds:.3f} s{between}, {score.rule}, "
            f"{len(score.counted)} of {len(score.runs)} runs")


def score_title(score: Score) -> str:
    """The score for a heading: the reason for none is too long for one."""
    return score_words(score) if score.outcome.seconds is not None else f"no score ({score.rule})"


def score_line(score: Score) -> str:
    """The same within 80 columns."""
    return wrap(score_words(score), 0)


def score_text(score: Score, form: str) -> str:
    """The answer of `score`; the last line of a table is the score, Markdown's title too."""
    if form == "csv":
        return _score_csv(score)
    named = zip(short_paths(score.files), score.files)
    rows = [[name, number(f.facts.seconds, 3), yes(f.facts.converged),
             yes(f.path in score.counted)] for name, f in named]
    table = render(("log", "seconds", "converged", "counted"), rows, form, "crll")
    out = score.outcome
    dropped = "" if out.seconds is None else (
        f"dropped: fastest {number(out.fastest, 3)} s, slowest {number(out.slowest, 3)} s; "
        f"median {number(out.median, 3)} s")
    source = f"source: {SOURCES[score.rule]}"
    if form == "markdown":
        return markdown.page(score_title(score), table, markdown.escaped(out.reason or dropped),
                             markdown.escaped(source))
    return "\n".join([table, "", *filter(None, [dropped]), wrap(source, 0), score_line(score)])


def _score_csv(score: Score) -> str:
    """A row a run; what holds for the set stands in each."""
    out = score.outcome
    of_set = [score.rule, out.seconds, *(score.ci95 or (None, None)), out.median, out.fastest,
              out.slowest, out.reason]
    return as_csv(
        ("log", "time_to_train_seconds", "converged", "counted", "score_rule", "score_seconds",
         "score_ci95_low_seconds", "score_ci95_high_seconds", "median_seconds",
         "dropped_fastest_seconds", "dropped_slowest_seconds", "no_score_reason"),
        [[name, f.facts.seconds, f.facts.converged, f.path in score.counted, *of_set]
         for name, f in zip(short_paths(score.files), score.files)])


def rules_text(rulesets: list[Ruleset], form: str) -> str:
    """The answer of `rules`."""
    header = ("ruleset", "rule", "severity", "check", "reason", "fix", "source")
    rows = [[s.name, r.id, r.severity, r.what(), r.reason, r.fix, r.source]
            for s in rulesets for r in s.rules]
    if form == "csv":
        return as_csv(header, rows)
    if form == "markdown":
        return "\n\n".join(markdown.page(
            f"{s.name} ({s.dialect}): {s.title}",
            render(header[1:], [row[1:] for row in rows if row[0] == s.name], form))
            for s in rulesets)
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
