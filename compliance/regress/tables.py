"""What `regress` prints: the benchmarks, the calibration, notes, the verdict last."""

from __future__ import annotations

from compliance.regress.files import show
from compliance.regress.judge import (
    ALPHA,
    FAIL,
    IMPROVEMENT,
    NEW,
    OTHER_INPUT,
    PASS,
    REGRESSION,
    TOO_FEW,
    UNRESOLVED,
    UNSURE,
    VANISHED,
    Judgement,
    Row,
)
from compliance.report import markdown
from compliance.report.tables import as_csv, number, render, wrap
from compliance.report.text import plain

MAX_ROWS = 200  # those that matter stand first
_MAX_NAME = 100
_HEADER = ("benchmark", "baseline", "new", "ratio", "raw", "p", "status")
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def judgement_text(answer: Judgement, form: str) -> str:
    """The answer in one of the text formats."""
    if form == "csv":
        return _csv(answer)
    names = _short([row.name for row in answer.rows + answer.calibration])
    shown = answer.rows[:MAX_ROWS]
    rows = [_cells(row, names[row.name]) for row in shown]
    rows += [_cells(row, names[row.name], "calibration")
             for row in answer.calibration[:MAX_ROWS]]
    left = len(answer.rows) - len(shown)
    notes = [f"{left} more benchmarks, the last of them {answer.rows[-1].status}"] if left else []
    notes += answer.notes
    line = verdict_line(answer)
    if form == "markdown":
        return markdown.page(line, render(_HEADER, rows, form, "crrrrrl"),
                             markdown.listed([markdown.code(note) for note in notes]))
    parts = [render(_HEADER, rows, form, "lrrrrrl"), wrap(
        "ratio: new over baseline after division by the calibration of the same process; raw: "
        "before it; p: one-sided rank test after Holm's correction", 0)]
    return "\n\n".join([*parts, *(wrap(f"note: {note}", 0) for note in notes), wrap(line, 0)])


def verdict_line(answer: Judgement) -> str:
    """The verdict and its grounds in one line."""
    counts = [f"{answer.count(status)} {word}" for status, word in (
        (REGRESSION, "slower"), (VANISHED, "vanished"), (UNRESOLVED, "unresolved"),
        (TOO_FEW, "with too few processes"), (UNSURE, "above the threshold but not significant"),
        (OTHER_INPUT, "with another input"), (IMPROVEMENT, "faster"), (NEW, "new"))
        if answer.count(status)]
    grounds = (f"{answer.compared} benchmark{'s' * (answer.compared != 1)} compared, "
               f"{answer.baseline.processes} and {answer.new.processes} processes, threshold "
               f"{100 * answer.threshold:g}%, significance {100 * ALPHA:g}% over all of them")
    head = {PASS: "PASS: no regression", FAIL: "FAIL", UNRESOLVED: "UNRESOLVED"}[answer.verdict]
    if answer.verdict == UNRESOLVED and not answer.compared:
        head += ": nothing could be compared"
    return f"{head}: {', '.join([*counts, '']) if counts else ''}{grounds}"


def _cells(row: Row, name: str, status: str | None = None) -> list[str]:
    status = status or row.status
    if row.note:
        status += f" ({row.note})"
    return [name, seconds(row.baseline_s), seconds(row.new_s), number(row.ratio, 3),
            number(row.raw_ratio, 3), "-" if row.p is None else f"{row.p:.2g}", status]


def _csv(answer: Judgement) -> str:
    """A row a benchmark with its full name, then the calibration's; the verdict in each."""
    rows = [[row.name, status or row.status, row.baseline_s, row.new_s, row.ratio, row.raw_ratio,
             row.p, *row.processes, row.note or None, answer.verdict]
            for status, part in (("", answer.rows), ("calibration", answer.calibration))
            for row in part]
    return as_csv(("benchmark", "status", "baseline_seconds", "new_seconds", "ratio", "raw_ratio",
                   "p_holm", "baseline_processes", "new_processes", "note", "verdict"), rows)


def seconds(value: float | None) -> str:
    """A time with four figures and its unit."""
    if value is None:
        return "-"
    size, unit = next(((s, u) for s, u in _UNITS if value >= s), _UNITS[-1])
    return f"{value / size:.4g} {unit}"


def _short(names: list[str]) -> dict[str, str]:
    """Names without the folder that all of them share, cut where they are very long."""
    folders = {name.rpartition("::")[0].rpartition("/")[0] for name in names}
    cut = len(next(iter(folders))) + 1 if len(folders) == 1 and "" not in folders else 0
    return {name: plain(name[cut:]) if len(name) - cut <= _MAX_NAME
            else show(name[cut:]) for name in names}
