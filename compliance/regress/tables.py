"""What `regress` prints: the benchmarks, the calibration, notes, the verdict last."""

from __future__ import annotations

from compliance.regress.files import show
from compliance.regress.judge import (ALPHA, FAIL, IMPROVEMENT, NEW, OTHER_INPUT, PASS, REGRESSION,
                                      TOO_FEW, UNRESOLVED, UNSURE, VANISHED, Judgement, Row)
from compliance.report.tables import number, plain, render, wrap

MAX_ROWS = 200  # those that matter stand first
_MAX_NAME = 100
_HEADER = ("benchmark", "baseline", "new", "ratio", "raw", "p", "status")
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>#~"})


def judgement_text(answer: Judgement, form: str) -> str:
    """The answer in one of the text formats."""
    names = _short([row.name for row in answer.rows + answer.calibration])
    shown = answer.rows[:MAX_ROWS]
    rows = [_cells(row, names[row.name], form) for row in shown]
    rows += [_cells(row, names[row.name], form, "calibration")
             for row in answer.calibration[:MAX_ROWS]]
    if form == "csv":
        return _csv(answer)
    left = len(answer.rows) - len(shown)
    notes = [f"{left} more benchmarks, the last of them {answer.rows[-1].status}"] if left else []
    notes += answer.notes
    line = verdict_line(answer)
    if form == "markdown":
        return "\n\n".join([render(_HEADER, rows, form, "lrrrrrl"),
                            *(f"- {_escaped(note)}" for note in notes), f"**{_escaped(line)}**"])
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


def _cells(row: Row, name: str, form: str, status: str | None = None) -> list[str]:
    status = status or row.status
    if row.note:
        status += f" ({row.note})"
    escape = _escaped if form == "markdown" else plain
    return [escape(name), seconds(row.baseline_s), seconds(row.new_s), number(row.ratio, 3),
            number(row.raw_ratio, 3), "-" if row.p is None else f"{row.p:.2g}", escape(status)]


def _csv(answer: Judgement) -> str:
    """All benchmarks with full names and figures in seconds; then calibration and verdict."""
    header = ("benchmark", "status", "baseline_s", "new_s", "ratio", "raw_ratio", "p_holm",
              "baseline_processes", "new_processes", "note")

    def cells(row: Row, status: str) -> list[str]:
        figures = (row.baseline_s, row.new_s, row.ratio, row.raw_ratio, row.p)
        return [row.name, status, *("" if v is None else f"{v:.6g}" for v in figures),
                *map(str, row.processes), row.note]

    rows = [cells(row, row.status) for row in answer.rows]
    rows += [cells(row, "calibration") for row in answer.calibration]
    rows += [["", "note", *[""] * 7, note] for note in answer.notes]
    rows.append(["", answer.verdict, *[""] * 7, verdict_line(answer)])
    return render(header, rows, "csv")


def seconds(value: float | None) -> str:
    """A time with four figures and its unit."""
    if value is None:
        return "-"
    size, unit = next(((s, u) for s, u in _UNITS if value >= s), _UNITS[-1])
    return f"{value / size:.4g} {unit}"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is (`render` takes care of the bars)."""
    return plain(text).translate(_SPECIAL)


def _short(names: list[str]) -> dict[str, str]:
    """Names without the folder that all of them share, cut where they are very long."""
    folders = {name.rpartition("::")[0].rpartition("/")[0] for name in names}
    cut = len(next(iter(folders))) + 1 if len(folders) == 1 and "" not in folders else 0
    return {name: plain(name[cut:]) if len(name) - cut <= _MAX_NAME
            else show(name[cut:]) for name in names}
