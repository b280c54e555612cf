"""Text, JSON, CSV and Markdown of the answer of `history`."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from compliance.base.text import format_value
from compliance.history.set_entry import SetEntry
from compliance.history.set_folders import EXPERIMENT, UNDER_WAY
from compliance.history.timeline import SCHEMA_VERSION, BenchmarkHistory, History
from compliance.report import markdown
from compliance.report.formatting import format_number
from compliance.report.tables import render_table, to_csv, wrap_text
from compliance.results.comparison import FASTER, SLOWER

VERDICT_WORDS = {"pass": "PASS", "fail": "FAIL", "unscored": "unscored",
                 "unreadable": "UNREADABLE", "missing": "missing"}
# The answer says what it is not.
NO_RULES = "history applies no rules to the logs; check does"
_COLUMNS = ("start (UTC)", "commit", "score (s)", "epochs", "s/epoch", "verdict", "step")
_KINDS = "tcrrrtt"
_MAX_SHOWN_CHANGES = 8


def date_text(entry: SetEntry) -> str:
    """Returns the start of a set to the minute, in UTC."""
    if entry.start_s is None:
        return "unknown"
    when = datetime.datetime.fromtimestamp(entry.start_s, datetime.timezone.utc)
    return f"{when:%Y-%m-%d %H:%M}"


def commit_text(entry: SetEntry) -> str:
    """Returns the commit in 7 digits, with a * if the checkout had uncommitted changes."""
    commit, dirty = entry.source
    return "-" if commit is None else format_value(commit[:7])[1:-1] + "*" * bool(dirty)


def step_text(entry: SetEntry) -> str:
    """Returns a step in words such as "slower +12%"; "-" if there is none."""
    if entry.step not in (FASTER, SLOWER) or entry.ratio is None:
        return "-"
    return f"{entry.step} {entry.ratio[0] - 1:+.1%}"


def score_text(entry: SetEntry) -> str:
    """Returns the score, with its interval if there is one."""
    seconds = format_number(entry.seconds, 3)
    low, high = (entry.score.ci95 if entry.score else None) or (None, None)
    return seconds if low is None else f"{seconds} ({low:.3f}-{high:.3f})"


def change_words(entry: SetEntry) -> list[str]:
    """Returns the changed settings, each as "name old -> new", and the number of others."""
    words = [f"{name} {format_value(old)} -> {format_value(new)}"
             for name, old, new in entry.changes[:_MAX_SHOWN_CHANGES]]
    more = len(entry.changes) - len(words)
    return [*words, f"and {more} more"] if more else words


def row_cells(entry: SetEntry, with_kind: bool) -> list[str]:
    """Returns the cells of a set's row."""
    cells = [date_text(entry), commit_text(entry), score_text(entry),
             format_number(entry.mean_epochs, 1), format_number(entry.seconds_per_epoch, 3),
             VERDICT_WORDS[entry.verdict], step_text(entry)]
    return [*cells, entry.kind] if with_kind else cells


def row_columns(with_kind: bool) -> tuple[str, ...]:
    """Returns the names of the columns of `row_cells`."""
    return (*_COLUMNS, "kind") if with_kind else _COLUMNS


def has_kinds(history: History) -> bool:
    """Whether sets of several kinds are listed, so that a column tells them apart."""
    return len({entry.kind for one in history.benchmarks for entry in one.sets}) > 1


def summary_sentence(history: History) -> str:
    """Returns what is listed and what is not, for the last line."""
    sets = sum(len(one.sets) for one in history.benchmarks)
    steps = sum(len(one.steps) for one in history.benchmarks)
    parts = [f"{count_words(sets, 'set')} of {count_words(len(history.benchmarks), 'benchmark')}, "
             f"{count_words(steps, 'step')}"]
    hidden = [f"{count} {what} ({flag})" for count, what, flag in (
        (history.hidden_aside, "unfinished or failed", "--set_aside"),
        (history.hidden_experiments, f"experiment{'s' * (history.hidden_experiments != 1)}",
         "--experiments")) if count]
    return "; ".join([*parts, *(["not listed: " + ", ".join(hidden)] if hidden else [])])


def count_words(number: int, noun: str) -> str:
    """Returns a number with its noun, in the plural if needed."""
    return f"{number} {noun}{'s' * (number != 1)}"


def history_text(history: History, output_format: str) -> str:
    """Formats the answer of `history`.

    Args:
      history: The answer.
      output_format: table, csv or markdown.

    Returns:
      The text; the last line of a table, and the title of Markdown, is the summary.
    """
    if output_format == "csv":
        return _history_csv(history)
    parts = []
    for one in history.benchmarks:
        rows = [row_cells(entry, with_kind=False) for entry in one.sets]
        table = render_table(row_columns(with_kind=False), rows, output_format, _KINDS)
        if output_format == "markdown":
            parts += [f"### {markdown.code_span(f'{one.benchmark} on {one.system}')}", table,
                      markdown.bullet_list([f"{date_text(entry)}: {markdown.code_span(text)}"
                                            for entry, text in set_remarks(one)])]
            continue
        heading = wrap_text(f"{one.benchmark} on {one.system}", 0)
        remarks = [wrap_text(f"{date_text(entry)}  {text}", 0) for entry, text in set_remarks(one)]
        parts += [heading, table, *(["\n".join(remarks)] if remarks else [])]
    if output_format == "markdown":
        return markdown.page(summary_sentence(history), *parts, markdown.escape(NO_RULES))
    return "\n\n".join([*parts, NO_RULES, summary_sentence(history)])


def set_remarks(one: BenchmarkHistory) -> list[tuple[SetEntry, str]]:
    """Returns (set, text): what kind of set it is, why it has no score, noise, changes."""
    found = []
    for entry in one.sets:
        if entry.kind in (EXPERIMENT, UNDER_WAY):
            found.append((entry, f"{entry.kind}: {Path(entry.path).name}"))
        if entry.reason is not None:
            found.append((entry, f"{VERDICT_WORDS[entry.verdict]}: {entry.reason}"))
        if entry.num_noisy:
            found.append((entry, f"the epochs of {entry.num_noisy} of {len(entry.logs)} runs vary: "
                          "the machine was busy or slowed down; the times are not comparable"))
        if entry.changes:
            found.append((entry, f"changed: {', '.join(change_words(entry))}"))
    return found


def _set_json(entry: SetEntry) -> dict[str, Any]:
    commit, dirty = entry.source
    low_high = None if entry.ratio is None or entry.ratio[1] is None else list(entry.ratio[1:])
    track, target = entry.task or (None, None)
    return {
        "path": entry.path, "kind": entry.kind, "set": entry.set_id, "start_s": entry.start_s,
        "commit": commit, "dirty": dirty, "track": track, "target": target,
        "runs": len(entry.logs), "converged": entry.num_converged,
        "rule": entry.score.rule if entry.score else None, "seconds": entry.seconds,
        "ci95_s": entry.score.ci95 if entry.score else None, "mean_epochs": entry.mean_epochs,
        "seconds_per_epoch": entry.seconds_per_epoch, "verdict": entry.verdict,
        "reason": entry.reason, "noisy_runs": entry.num_noisy,
        "changes": [{"setting": name, "before": old, "after": new}
                    for name, old, new in entry.changes],
        "step": None if not entry.before else {
            "before": [one.path for one in entry.before], "verdict": entry.step,
            "ratio": entry.ratio[0] if entry.ratio else None, "ci95": low_high}}


def history_json(history: History) -> dict[str, Any]:
    """Returns the object of `history --format json`."""
    return {"schema_version": SCHEMA_VERSION,
            "benchmarks": [{"system": one.system, "benchmark": one.benchmark,
                            "sets": [_set_json(entry) for entry in one.sets]}
                           for one in history.benchmarks],
            "not_listed": {"set_aside": history.hidden_aside,
                           "experiments": history.hidden_experiments}}


def _history_csv(history: History) -> str:
    """Returns a row for each set."""
    header = ("system", "benchmark", "set", "kind", "path", "start_utc", "commit", "dirty", "track",
              "target_hit_rate", "runs", "converged", "score_seconds", "score_ci95_low_seconds",
              "score_ci95_high_seconds", "mean_epochs", "seconds_per_epoch", "verdict", "reason",
              "noisy_runs", "step", "time_ratio", "time_ratio_ci95_low", "time_ratio_ci95_high",
              "changed_settings")
    rows = []
    for one in history.benchmarks:
        for entry in one.sets:
            facts = _set_json(entry)
            start = None if entry.start_s is None else datetime.datetime.fromtimestamp(
                entry.start_s, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            rows.append([
                one.system, one.benchmark, entry.set_id, entry.kind, entry.path, start,
                facts["commit"], facts["dirty"], facts["track"], facts["target"], facts["runs"],
                facts["converged"], facts["seconds"], *(facts["ci95_s"] or (None, None)),
                facts["mean_epochs"], facts["seconds_per_epoch"], facts["verdict"],
                facts["reason"], facts["noisy_runs"], entry.step, *(entry.ratio or (None,) * 3),
                "; ".join(f"{name} {format_value(old)} -> {format_value(new)}"
                          for name, old, new in entry.changes) or None])
    return to_csv(header, rows)
