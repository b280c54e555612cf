"""Text, CSV and Markdown of the answers of `check`, `score` and `rules`."""

from __future__ import annotations

from typing import Any, NamedTuple

from compliance.base.text import printable_line
from compliance.checking.results import (
    COMPLIANCE_CELLS,
    COMPLIANCE_WORDS,
    PASS,
    CheckResult,
    FileResult,
)
from compliance.checking.ruleset import Ruleset
from compliance.report import markdown
from compliance.report.formatting import (
    format_hit_rate,
    format_log_count,
    format_number,
    format_yes_no,
)
from compliance.report.tables import render_table, to_csv, wrap_text
from compliance.results.run_set import relative_paths
from compliance.results.scoring import SOURCES, Score, score_words
from compliance.submission.tree_check import RULESET_NAME as TREE_RULESET

# A table lists at most this many violations of one file.
MAX_VIOLATIONS_PER_FILE = 20
RUN_COLUMNS = ("log", "compliant", "seconds", "epochs", "last HR", "best HR", "converged")
RUN_COLUMN_KINDS = "clrrrrl"
RUN_CSV_COLUMNS = ("verdict", "status", "converged", "time_to_train_seconds", "epochs",
                   "final_hit_rate", "best_hit_rate", "target_hit_rate", "seed")


def log_names(files: list[FileResult]) -> list[str]:
    """Returns the paths of logs, relative to the innermost folder that contains all logs."""
    return relative_paths([f.path for f in files])


def run_row(name: str, result: FileResult) -> list[str]:
    """Returns the cells of RUN_COLUMNS for one log."""
    run = result.summary.as_json()
    return [name, COMPLIANCE_CELLS[result.verdict], format_number(run["seconds"], 2),
            str(run["epochs"]), format_hit_rate(run["final_accuracy"]),
            format_hit_rate(run["best_accuracy"]), format_yes_no(run["converged"])]


def run_csv_values(result: FileResult) -> list[Any]:
    """Returns the values of RUN_CSV_COLUMNS for one log."""
    run = result.summary.as_json()
    return [result.verdict, *(run[key] for key in (
        "status", "converged", "seconds", "epochs", "final_accuracy", "best_accuracy", "target",
        "seed"))]


class ListedFinding(NamedTuple):
    """A violation or a warning in a list.

    Attributes:
      where: The log's name, with the line number if there is one.
      rule: The rule's id.
      message: The message.
      fix: How to repair it.
      is_warning: Whether it is a warning.
      more: The number of other places with the same warning.
    """

    where: str
    rule: str
    message: str
    fix: str
    is_warning: bool
    more: int = 0


def _list_findings(names: list[str], files: list[FileResult]
                   ) -> tuple[list[ListedFinding], list[tuple[str, int]]]:
    """Returns (violations, then warnings; (log, number of violations left out)).

    At most MAX_VIOLATIONS_PER_FILE violations of a log are listed, and equal warnings once.
    """
    errors: list[ListedFinding] = []
    omitted: list[tuple[str, int]] = []
    warnings: dict[tuple[str, str], ListedFinding] = {}
    for name, result in zip(names, files):
        violations = result.errors.list()
        errors += [ListedFinding(_where(name, v.line), v.rule, v.message, v.fix, False)
                   for v in violations[:MAX_VIOLATIONS_PER_FILE]]
        if len(violations) > MAX_VIOLATIONS_PER_FILE:
            omitted.append((name, len(violations) - MAX_VIOLATIONS_PER_FILE))
        for v in result.warnings.list():
            seen = warnings.get((v.rule, v.message))
            warnings[v.rule, v.message] = seen._replace(more=seen.more + 1) if seen \
                else ListedFinding(_where(name, v.line), v.rule, v.message, v.fix, True)
    return errors + list(warnings.values()), omitted


def _where(name: str, line: int | None) -> str:
    return f"{name}:{line}" if line else name


def violations_text(names: list[str], files: list[FileResult]) -> str:
    """Lists the violations and warnings of logs for a terminal: place, message and fix.

    Args:
      names: The logs' names.
      files: The checker's results, in the same order.

    Returns:
      The text, or an empty string.
    """
    findings, omitted = _list_findings(names, files)
    lines: list[str] = []
    for finding in (f for f in findings if not f.is_warning):
        lines += [f"{printable_line(finding.where)}  {finding.rule}", wrap_text(finding.message, 4),
                  wrap_text(f"fix: {finding.fix}", 4)]
    lines += [f"{printable_line(name)}  and {more} more (--format csv lists them)"
              for name, more in omitted]
    for finding in (f for f in findings if f.is_warning):
        more_text = f" and {finding.more} more" if finding.more else ""
        lines += [f"warning: {printable_line(finding.where)}{more_text}  {finding.rule}",
                  wrap_text(finding.message, 4)]
    return "\n".join(lines)


def violations_markdown(names: list[str], files: list[FileResult]) -> str:
    """Lists the violations and warnings of logs as a Markdown list; arguments as above."""
    findings, omitted = _list_findings(names, files)
    items = []
    for finding in findings:
        kind = "warning " if finding.is_warning else ""
        more_text = f" and {finding.more} more" if finding.more else ""
        items.append(f"{kind}**{finding.rule}** {markdown.code_span(finding.where)}{more_text}: "
                     f"{markdown.code_span(finding.message)}. Fix: {markdown.escape(finding.fix)}")
    items += [f"{markdown.code_span(name)}: {more} more (`--format csv` lists them)"
              for name, more in omitted]
    return markdown.bullet_list(items)


def check_text(result: CheckResult, output_format: str) -> str:
    """Formats the answer of `check`.

    Args:
      result: The answer.
      output_format: table, csv or markdown.

    Returns:
      The text; the last line of a table, and the title of Markdown, is the verdict.
    """
    names = log_names(result.files)
    if output_format == "csv":
        return _check_csv(names, result.files)
    rows = [run_row(name, file) for name, file in zip(names, result.files)
            if file.ruleset != TREE_RULESET]
    table = render_table(RUN_COLUMNS, rows, output_format, RUN_COLUMN_KINDS)
    if output_format == "markdown":
        return markdown.page(_check_verdict(result), table,
                             violations_markdown(names, result.files))
    violations = violations_text(names, result.files)
    return "\n\n".join(filter(None, [table, violations, _check_verdict(result)]))


def _check_verdict(result: CheckResult) -> str:
    """Returns the verdict in one line; logs are counted apart from submission trees."""
    logs = [r for r in result.files if r.ruleset != TREE_RULESET]
    trees = [r for r in result.files if r.ruleset == TREE_RULESET]
    word = COMPLIANCE_WORDS[result.verdict]
    rulesets = ", ".join(sorted({r.ruleset or "no ruleset" for r in logs}))
    all_logs = format_log_count(len(logs))
    num_bad = sum(log.verdict != PASS for log in logs)
    bad_trees = [tree for tree in trees if tree.verdict != PASS]
    if bad_trees:
        num_rules = len({(t.path, v.rule) for t in bad_trees for v in t.errors.list()})
        verb = "violates" if len(bad_trees) == 1 else "violate"
        return (f"{word}: {_tree_count(len(bad_trees))} {verb} {num_rules} "
                f"rule{'s' * (num_rules != 1)}; {len(logs) - num_bad} of {all_logs} compliant "
                f"under {rulesets}")
    if num_bad:
        return f"{word}: {num_bad} of {all_logs} under {rulesets}"
    return f"{word}: {all_logs} under {rulesets}{f' and {_tree_count(len(trees))}' * bool(trees)}"


def _tree_count(count: int) -> str:
    """Returns "a submission tree" or "N submission trees"."""
    return "a submission tree" if count == 1 else f"{count} submission trees"


def _check_csv(names: list[str], files: list[FileResult]) -> str:
    """Returns a row with the run's figures for each violation, and one for a log without any."""
    rows = []
    for name, result in zip(names, files):
        run_values = [name, result.ruleset, result.dialect, *run_csv_values(result)]
        violations = [("error", v) for v in result.errors.list()]
        violations += [("warning", v) for v in result.warnings.list()]
        rows += [[*run_values, severity, v.rule, v.line, v.message, v.fix]
                 for severity, v in violations] \
            or [[*run_values, *[None] * 5]]
    return to_csv(("log", "ruleset", "dialect", *RUN_CSV_COLUMNS, "severity", "rule", "line",
                   "message", "fix"), rows)


def score_sentence(score: Score) -> str:
    """Returns the score in words, or the reason why there is none."""
    result = score.result
    if result.seconds is None:
        return f"no score ({score.rule}): {result.reason}"
    return score_words(score.as_json())


def score_title(score: Score) -> str:
    """Returns the score for a heading; a reason for no score is left out, since it may be long."""
    return score_sentence(score) if score.result.seconds is not None \
        else f"no score ({score.rule})"


def wrapped_score_sentence(score: Score) -> str:
    """Returns the score in words within 80 columns."""
    return wrap_text(score_sentence(score), 0)


def score_text(score: Score, output_format: str) -> str:
    """Formats the answer of `score`.

    Args:
      score: The answer.
      output_format: table, csv or markdown.

    Returns:
      The text; the last line of a table, and the title of Markdown, is the score.
    """
    if output_format == "csv":
        return _score_csv(score)
    rows = [[name, format_number(f.summary.seconds, 3), format_yes_no(f.summary.converged),
             format_yes_no(f.path in score.counted)] 
            for name, f in zip(log_names(score.files), score.files)]
    table = render_table(("log", "seconds", "converged", "counted"), rows, output_format, "crll")
    result = score.result
    dropped = "" if result.seconds is None else (
        f"dropped: fastest {format_number(result.fastest_s, 3)} s, "
        f"slowest {format_number(result.slowest_s, 3)} s; "
        f"median {format_number(result.median_s, 3)} s")
    source = f"source: {SOURCES[score.rule]}"
    if output_format == "markdown":
        return markdown.page(score_title(score), table, markdown.escape(result.reason or dropped),
                             markdown.escape(source))
    return "\n".join([table, "", *filter(None, [dropped]), wrap_text(source, 0),
                      wrapped_score_sentence(score)])


def _score_csv(score: Score) -> str:
    """Returns a row for each run; values of the set are repeated in each row."""
    result = score.result
    set_values = [score.rule, result.seconds, *(score.ci95 or (None, None)), result.median_s,
                  result.fastest_s, result.slowest_s, result.reason]
    return to_csv(
        ("log", "time_to_train_seconds", "converged", "counted", "score_rule", "score_seconds",
         "score_ci95_low_seconds", "score_ci95_high_seconds", "median_seconds",
         "dropped_fastest_seconds", "dropped_slowest_seconds", "no_score_reason"),
        [[name, f.summary.seconds, f.summary.converged, f.path in score.counted, *set_values]
         for name, f in zip(log_names(score.files), score.files)])


def rules_text(rulesets: list[Ruleset], output_format: str) -> str:
    """Formats the answer of `rules`.

    Args:
      rulesets: The rulesets.
      output_format: table, csv or markdown.

    Returns:
      The text.
    """
    header = ("ruleset", "rule", "severity", "check", "reason", "fix", "source")
    rows = [[s.name, r.id, r.severity, r.describe_check(), r.reason, r.fix, r.source]
            for s in rulesets for r in s.rules]
    if output_format == "csv":
        return to_csv(header, rows)
    if output_format == "markdown":
        return "\n\n".join(markdown.page(
            f"{s.name} ({s.dialect}): {s.title}",
            render_table(header[1:], [row[1:] for row in rows if row[0] == s.name], output_format))
            for s in rulesets)
    parts = []
    for ruleset in rulesets:
        parts.append(f"{ruleset.name} ({ruleset.dialect}): {ruleset.title}")
        for rule in ruleset.rules:
            mark = " (warning)" if rule.severity == "warning" else ""
            parts.append("\n".join([
                f"{rule.id}{mark}", wrap_text(rule.describe_check(), 4),
                wrap_text(f"why: {rule.reason}", 4),
                wrap_text(f"fix: {rule.fix}", 4), wrap_text(f"source: {rule.source}", 4)]))
    return "\n\n".join(parts)


def rules_json(rulesets: list[Ruleset]) -> dict[str, Any]:
    """Returns the object of `rules --format json`."""
    return {"schema_version": 1, "rulesets": [
        {"ruleset": s.name, "title": s.title, "dialect": s.dialect, "rules": [
            {"id": r.id, "severity": r.severity, "check": r.check, "params": r.params,
             "reason": r.reason, "fix": r.fix, "source": r.source} for r in s.rules]}
        for s in rulesets]}
