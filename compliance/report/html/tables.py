"""Tables of a page, including those with a row for each run or epoch of a set.

Cells are text, which the template escapes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Sequence

from compliance.checking.results import COMPLIANCE_CELLS
from compliance.report.formatting import (
    format_percent,
    format_rate,
    format_seconds,
    format_yes_no,
)
from compliance.report.html.limits import RowLimits, clip_text, number_within
from compliance.report.html.runs import STAGE_NAMES, RunView

FULL_DATA_HINT = "python -m compliance report --format csv lists every run"


@dataclass(frozen=True)
class HtmlTable:
    """A table that can be copied.

    Attributes:
      key: Its id, unique in the page.
      caption: The caption.
      header: The names of the columns.
      rows: The cells of each row.
      right: The indices of the columns of numbers, which are aligned to the right.
      note: A sentence below the table, such as a note on rows that were left out.
      folded: Whether the table is closed at first.
    """

    key: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[int] = frozenset()
    note: str = ""
    folded: bool = False


def make_table(key: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]],
               note: str = "", folded: bool = False) -> HtmlTable:
    """Makes a table; a column whose name begins with ">" contains numbers.

    Args:
      key: Its id, unique in the page.
      caption: The caption.
      columns: The names of the columns.
      rows: The cells of each row; they are converted to short text.
      note: A sentence below the table.
      folded: Whether the table is closed at first.

    Returns:
      The table.
    """
    right = frozenset(i for i, c in enumerate(columns) if c.startswith(">"))
    return HtmlTable(key, caption, [c.removeprefix(">") for c in columns],
                     [[clip_text(cell) for cell in row] for row in rows], right, note, folded)


def omitted_rows_note(what: str, shown: int, count: int, where: str) -> str:
    """Returns the sentence on rows that were left out, or an empty text.

    Args:
      what: The rows' name in the plural.
      shown: The number of rows that are shown.
      count: The number of all rows.
      where: A hint on the place that lists all rows.
    """
    return "" if shown >= count else (
        f"{shown:,} of {count:,} {what} are shown, to keep the page small; {where}")


def stage_table(key: str, views: Sequence[RunView], limits: RowLimits) -> HtmlTable:
    """Makes the table of seconds and shares of each run's stages."""
    rows = []
    for view in views[:limits.runs]:
        parts, whole = view.stages, view.run.stages.total if view.run.stages else None
        pairs = [(format_seconds(p), format_percent(p, whole)) for p in parts] if parts \
            else [("-", "-")] * len(STAGE_NAMES)
        hidden = view.run.stages.overlapped if parts and view.run.stages else None
        rows.append([view.name, format_seconds(view.seconds), *(c for pair in pairs for c in pair),
                     format_seconds(hidden)])
    columns = ["run", ">total (s)"]
    for name in STAGE_NAMES:
        columns += [f">{name} (s)", f">{name} (%)"]
    return make_table(f"{key}-stage-table", "Seconds and share of each stage",
                      (*columns, ">overlapped (s)"), rows,
                      omitted_rows_note("runs", len(rows), len(views), FULL_DATA_HINT),
                      folded=len(rows) > 10)


def runs_table(key: str, views: Sequence[RunView], limits: RowLimits, hit_rate_label: str
               ) -> HtmlTable:
    """Makes the table with a row for each run."""
    rows = []
    for view in views[:limits.runs]:
        facts = view.run.file.summary.as_json()
        rates = [y for _, y in view.throughput_by_epoch()]
        rows.append([view.name, COMPLIANCE_CELLS[view.run.file.verdict],
                     "-" if facts["seed"] is None else clip_text(facts["seed"], 40),
                     format_seconds(facts["seconds"]), str(facts["epochs"]),
                     _nine_digits(facts["final_accuracy"]), _nine_digits(facts["best_accuracy"]),
                     format_yes_no(facts["converged"]), view.role,
                     format_rate(math.fsum(rates) / len(rates) if rates else None),
                     view.run.file.sha256 or "-"])
    return make_table(f"{key}-runs", "Every run", (
        "run", "compliant", ">seed", ">time to train (s)", ">epochs", f">last {hit_rate_label}",
        f">best {hit_rate_label}", "converged", "in the score", ">examples/s",
        "SHA-256 of the log"), rows,
        omitted_rows_note("runs", len(rows), len(views), FULL_DATA_HINT), folded=len(rows) > 30)


def _nine_digits(value: Any) -> str:
    """Formats a number with nine significant digits."""
    value = number_within(value, -1e6, 1e6)
    return "-" if value is None else f"{value:.9g}"


def epochs_table(key: str, views: Sequence[RunView], limits: RowLimits, hit_rate_label: str
                 ) -> HtmlTable:
    """Makes the table with a row for each epoch of every run."""
    num_epochs = sum(len(view.run.timeline.hit_rates) for view in views)
    rows: list[list[str]] = []
    for view in views:
        for epoch in view.epochs[:limits.epochs - len(rows)]:
            rows.append([view.name, str(epoch.number), format_seconds(epoch.seconds),
                         _nine_digits(epoch.hit_rate), _nine_digits(epoch.ndcg),
                         _nine_digits(epoch.loss), format_rate(epoch.throughput),
                         format_rate(epoch.eval_throughput)])
        if len(rows) >= limits.epochs:
            break
    return make_table(f"{key}-epochs", "Every epoch", (
        "run", ">epoch", ">since run_start (s)", f">{hit_rate_label}",
        f">{hit_rate_label.replace('HR', 'NDCG')}", ">loss",
        ">training examples/s", ">evaluation pairs/s"), rows,
        omitted_rows_note("epochs", len(rows), num_epochs, "the logs contain all"), folded=True)
