"""The page of `history`: a plot over time and a table for each benchmark."""

from __future__ import annotations

import datetime
from typing import Any, Sequence

from markupsafe import Markup

from compliance.history.set_entry import SetEntry
from compliance.history.set_folders import EXPERIMENT
from compliance.history.timeline import SETS_OF_LEVEL, BenchmarkHistory, History
from compliance.report.formatting import format_seconds
from compliance.report.history.text import (
    NO_RULES,
    VERDICT_WORDS,
    change_words,
    commit_text,
    count_words,
    date_text,
    has_kinds,
    row_cells,
    row_columns,
    set_remarks,
    step_text,
    summary_sentence,
)
from compliance.report.html.figures import figure_block
from compliance.report.html.limits import (
    MAX_MARKS,
    MAX_POINTS,
    clip_text,
    evenly_spaced,
    number_within,
)
from compliance.report.html.page import build_page
from compliance.report.html.plot_style import add_legend, draw_wide_and_narrow
from compliance.report.html.runs import MAX_SECONDS
from compliance.report.html.svg import COLOUR
from compliance.report.html.tables import HtmlTable, make_table, omitted_rows_note
from compliance.results.comparison import ALPHA, SLOWER

# Rows of all tables of a page together.
_MAX_ROWS = 600
_MAX_BENCHMARKS = 24
METHOD = (
    f"A step is a set that is faster or slower than the up to {SETS_OF_LEVEL} sets before it of "
    "the same track and target, back to the last step, by the test of compare: the exact rank test "
    f"of Mann and Whitney at {ALPHA:.0%} and the 95% interval of the ratio of mean times agree. Of "
    "100 sets without any change, up to 5 are marked by chance; a change in small steps may have no "
    "mark. Experiments are compared with sets that are no experiments. "
    f"{NO_RULES.capitalize()}.")


def history_page(history: History) -> str:
    """Builds the page of `history`.

    Args:
      history: The answer of `history`.

    Returns:
      The page as HTML.
    """
    section = history_section(history)
    return build_page(f"History: {section['lead']}", "history",
                      f"python -m compliance history {history.path} --html FILE",
                      "history.html", h=section)


def history_section(history: History) -> dict[str, Any]:
    """Collects all values of the page.

    Args:
      history: The answer of `history`.

    Returns:
      The values for the template history.html.
    """
    shown = history.benchmarks[:_MAX_BENCHMARKS]
    limit = _MAX_ROWS // max(len(shown), 1)
    with_kind = has_kinds(history)
    left_out = len(history.benchmarks) - len(shown)
    return {
        "lead": summary_sentence(history) + (f"; {left_out} more benchmarks are not shown: give a "
                                             "folder of one" if left_out else ""),
        "method": METHOD,
        "benchmarks": [_benchmark_block(f"b{number}", one, limit, with_kind)
                       for number, one in enumerate(shown)]}


def _benchmark_block(key: str, one: BenchmarkHistory, limit: int, with_kind: bool
                     ) -> dict[str, Any]:
    """Returns heading, plot, steps and table of one benchmark."""
    figure = _time_figure(key, one)
    return {
        "id": key, "heading": clip_text(f"{one.benchmark} on {one.system}", 120),
        "figures": [figure] if figure else [],
        "steps": [clip_text(f"{date_text(entry)}: {step_text(entry)}, commit {commit_text(entry)}"
                            + "".join(f"; {words}" for words in change_words(entry)), 400)
                  for entry in one.steps[-40:]],
        "table": _sets_table(key, one, limit, with_kind),
        "remarks": _remarks_table(key, one, limit)}


def _sets_table(key: str, one: BenchmarkHistory, limit: int, with_kind: bool) -> HtmlTable:
    """Returns the table of the newest sets, the newest first."""
    entries = one.sets[::-1][:limit]
    right = ("score (s)", "epochs", "s/epoch")
    columns = [f">{name}" if name in right else name for name in row_columns(with_kind)]
    rows = [row_cells(entry, with_kind) for entry in entries]
    return make_table(
        f"{key}-sets", "Every set", columns, rows,
        omitted_rows_note("sets", len(entries), len(one.sets),
                          "python -m compliance history --format csv lists every set"),
        folded=len(rows) > 60)


def _remarks_table(key: str, one: BenchmarkHistory, limit: int) -> HtmlTable | None:
    """Returns the table of changed settings and reasons, the newest first; None without any."""
    rows = [[date_text(entry), text] for entry, text in set_remarks(one)[::-1]]
    if not rows:
        return None
    return make_table(
        f"{key}-remarks", "Remarks: reasons for no score, noise, changed settings",
        ("start (UTC)", "remark"), rows[:limit], omitted_rows_note("remarks", len(rows[:limit]), len(rows),
                                        "python -m compliance history --format csv lists all"),
        folded=len(rows) > 60)


def _tooltip(entry: SetEntry) -> str:
    words = [date_text(entry), f"commit {commit_text(entry)}",
             "no score" if entry.seconds is None else f"score {format_seconds(entry.seconds)} s",
             VERDICT_WORDS[entry.verdict]]
    if (step := step_text(entry)) != "-":
        words.append(step)
    return clip_text(", ".join([*words, *change_words(entry)]), 240)


def _time_figure(key: str, one: BenchmarkHistory) -> dict[str, Any] | None:
    """Returns the plot over time; None if no set has a time."""
    drawable = [entry for entry in one.sets if entry.start_s is not None and _level(entry)]
    if not drawable:
        return None
    marks = {id(entry) for entry in one.steps}
    steps = [entry for entry in drawable if id(entry) in marks][-MAX_MARKS // 2:]
    kept = evenly_spaced(drawable, MAX_POINTS)
    label = (f"Time to train over time: {count_words(len(drawable), 'set')}, "
             f"{count_words(sum(id(e) in marks for e in drawable), 'step')}.")
    return figure_block(
        f"{key}-time", "Time to train over time",
        f"{label} A set without a score is a cross at the mean of its "
        "runs that reached the target; experiments are diamonds.",
        _plot(f"{key}-time", label, kept, steps))


def _level(entry: SetEntry) -> float | None:
    """Returns the score, else the mean time of the runs that reached the target."""
    times = entry.times_s
    level = entry.seconds if entry.seconds is not None else \
        sum(times) / len(times) if times else None
    return number_within(level, 1e-9, MAX_SECONDS)


def _date(entry: SetEntry) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(entry.start_s or 0.0, datetime.timezone.utc)


def _plot(id_prefix: str, label: str, entries: Sequence[SetEntry], steps: Sequence[SetEntry]
          ) -> Markup:
    """Plots scores and runs over time, with a mark at each step."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    has_runs = sum(len(entry.times_s) for entry in entries) <= MAX_MARKS
    has_tooltips = len(entries) <= MAX_MARKS

    def draw(figure: Any, narrow: bool) -> dict[str, str]:
        axes, tooltips = figure.subplots(), {}
        if has_runs:
            runs = [(_date(entry), seconds) for entry in entries for seconds in entry.times_s
                    if number_within(seconds, 1e-9, MAX_SECONDS)]
            if runs:
                axes.plot(*zip(*runs), linestyle="none", marker="o", markersize=3,
                          color=COLOUR["muted"], label="run", zorder=2)
        scored = [entry for entry in entries
                  if entry.seconds is not None and entry.kind != EXPERIMENT]
        if scored:
            axes.plot([_date(e) for e in scored], [_level(e) for e in scored], color=COLOUR["c0"],
                      linewidth=1.2, marker=None if has_tooltips else ".", label="score", zorder=3)
        for number, entry in enumerate(entries if has_tooltips else ()):
            is_scored = entry.seconds is not None
            (artist,) = axes.plot(
                [_date(entry)], [_level(entry)],
                marker="X" if not is_scored else "D" if entry.kind == EXPERIMENT else "s",
                color=COLOUR["c0" if is_scored else "c1"], linestyle="none", zorder=4)
            artist.set_gid(f"p{number}")
            tooltips[f"p{number}"] = _tooltip(entry)
        seen = set()
        for number, entry in enumerate(steps):
            slower = entry.step == SLOWER
            name = "slower than before" if slower else "faster than before"
            (artist,) = axes.plot(
                [_date(entry)], [_level(entry)], marker="^" if slower else "v", markersize=11,
                color=COLOUR["bad" if slower else "good"], linestyle="none", zorder=5,
                label=None if name in seen else name)
            seen.add(name)
            artist.set_gid(f"t{number}")
            tooltips[f"t{number}"] = _tooltip(entry)
        axes.set_title("time to train (s)")
        locator = AutoDateLocator(minticks=2, maxticks=5 if narrow else 9)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        # A margin of an hour at least: a single set has no range of dates.
        dates = [_date(entry) for entry in entries]
        margin = max((max(dates) - min(dates)) * 0.05, datetime.timedelta(hours=1))
        axes.set_xlim(min(dates) - margin, max(dates) + margin)
        axes.margins(y=0.12)
        axes.set_ylim(bottom=0)
        add_legend(figure, axes, 2 if narrow else 4)
        return tooltips

    return draw_wide_and_narrow(id_prefix, label, draw)
