"""Text, CSV and Markdown of the answer of `regress`."""

from __future__ import annotations

from compliance.base.text import printable_line
from compliance.regress.files import short_line
from compliance.regress.judge import (
    ALPHA,
    DIFFERENT_INPUT,
    FAIL,
    IMPROVEMENT,
    NEW,
    NOT_SIGNIFICANT,
    PASS,
    REGRESSION,
    TOO_FEW_PROCESSES,
    UNRESOLVED,
    VANISHED,
    BenchmarkComparison,
    RegressionReport,
)
from compliance.report import markdown
from compliance.report.formatting import format_duration, format_number
from compliance.report.tables import render_table, to_csv, wrap_text

MAX_ROWS = 200  # the most important statuses come first
_MAX_NAME_CHARS = 100
_HEADER = ("benchmark", "baseline", "new", "ratio", "raw", "p", "finds", "status")


def regression_text(report: RegressionReport, output_format: str) -> str:
    """Formats the answer of `regress`.

    Args:
      report: The answer.
      output_format: table, csv or markdown.

    Returns:
      The benchmarks, the calibration, the notes and the verdict.
    """
    if output_format == "csv":
        return _regression_csv(report)
    names = _short_names([row.name for row in report.rows + report.calibration])
    shown = report.rows[:MAX_ROWS]
    rows = [_row_cells(row, names[row.name]) for row in shown]
    rows += [_row_cells(row, names[row.name], "calibration")
             for row in report.calibration[:MAX_ROWS]]
    omitted = len(report.rows) - len(shown)
    notes = list(report.notes)
    if omitted:
        notes.insert(0, f"{omitted} more benchmark{'s' * (omitted != 1)} not shown; the last has "
                        f"the status {report.rows[-1].status}")
    verdict = verdict_line(report)
    if output_format == "markdown":
        return markdown.page(verdict, render_table(_HEADER, rows, output_format, "crrrrrrl"),
                             markdown.bullet_list([markdown.code_span(note) for note in notes]))
    parts = [render_table(_HEADER, rows, output_format, "lrrrrrrl"), wrap_text(
        "ratio: new over baseline, each divided by the calibration of the same process; raw: "
        "without that division; p: one-sided rank test after Holm's correction; finds: the "
        "smallest slowdown that would be significant in 8 of 10 cases", 0)]
    return "\n\n".join([*parts, *(wrap_text(f"note: {note}", 0) for note in notes),
                        wrap_text(verdict, 0)])


def verdict_line(report: RegressionReport) -> str:
    """Returns the verdict and the reasons for it in one line."""
    counts = [f"{report.count(status)} {word}" for status, word in (
        (REGRESSION, "slower"), (VANISHED, "vanished"),
        (UNRESOLVED, "that may hide a slowdown above the threshold"),
        (TOO_FEW_PROCESSES, "with too few processes"),
        (NOT_SIGNIFICANT, "above the threshold but not significant"),
        (DIFFERENT_INPUT, "with a different input"), (IMPROVEMENT, "faster"), (NEW, "new"))
        if report.count(status)]
    grounds = (f"{report.num_tested} benchmark{'s' * (report.num_tested != 1)} compared, "
               f"{report.baseline.num_processes} and {report.new.num_processes} processes, "
               f"threshold {100 * report.threshold:g}%, "
               f"significance {100 * ALPHA:g}% over all benchmarks")
    verdict = {PASS: "PASS: no regression", FAIL: "FAIL", UNRESOLVED: "UNRESOLVED"}[report.verdict]
    if report.verdict == UNRESOLVED and not report.num_tested:
        verdict += ": no benchmark could be compared"
    return f"{verdict}: {', '.join([*counts, '']) if counts else ''}{grounds}"


def _row_cells(row: BenchmarkComparison, name: str, status: str | None = None) -> list[str]:
    """Returns the cells of one benchmark."""
    status = status or row.status
    if row.note:
        status += f" ({row.note})"
    return [name, format_duration(row.baseline_s), format_duration(row.new_s),
            format_number(row.ratio, 3), format_number(row.raw_ratio, 3),
            "-" if row.p_value is None else f"{row.p_value:.2g}", _detectable(row), status]


def _detectable(row: BenchmarkComparison) -> str:
    """Returns the smallest slowdown that would be significant, in percent."""
    if row.detectable is None:
        return "-"
    return "none" if row.detectable > 100 else f"{100 * (row.detectable - 1):.3g}%"


def _regression_csv(report: RegressionReport) -> str:
    """Returns a row for each benchmark, then for each calibration, with the verdict in each row."""
    rows = [[row.name, status or row.status, row.baseline_s, row.new_s, row.ratio, row.raw_ratio,
             row.p_value, *row.processes,
             None if row.detectable is None or row.detectable > 1e6 else row.detectable,
             row.note or None, report.verdict]
            for status, part in (("", report.rows), ("calibration", report.calibration))
            for row in part]
    return to_csv(("benchmark", "status", "baseline_seconds", "new_seconds", "ratio", "raw_ratio",
                   "p_holm", "baseline_processes", "new_processes", "detectable_ratio", "note", "verdict"),
                  rows)


def _short_names(names: list[str]) -> dict[str, str]:
    """Maps full names to names without their common folder, shortened if they are long."""
    folders = {name.rpartition("::")[0].rpartition("/")[0] for name in names}
    prefix_length = len(next(iter(folders))) + 1 if len(folders) == 1 and "" not in folders else 0
    rests = {name: name[prefix_length:] for name in names}
    return {name: printable_line(rest) if len(rest) <= _MAX_NAME_CHARS else short_line(rest)
            for name, rest in rests.items()}
