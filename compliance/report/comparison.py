"""Text, CSV and Markdown of the answer of `compare`."""

from __future__ import annotations

from typing import Any, Sequence

from compliance.logs.stage_times import STAGES
from compliance.report import markdown
from compliance.report.formatting import format_number
from compliance.report.tables import render_table, to_csv, wrap_text
from compliance.results.comparison import (
    ALPHA,
    INCONCLUSIVE,
    MIN_RUNS,
    NO_DIFFERENCE,
    TOO_FEW_RUNS,
    Comparison,
    Ratio,
)


def comparisons_text(comparisons: Sequence[Comparison], output_format: str) -> str:
    """Formats the answers of `compare` for several sets, each against the first.

    Args:
      comparisons: The answers.
      output_format: table, csv or markdown.
    """
    texts = [comparison_text(comparison, output_format) for comparison in comparisons]
    if output_format == "csv":  # one header
        rows = [text.rstrip("\n").split("\n") for text in texts]
        return "\n".join([rows[0][0], *(row for of_one in rows for row in of_one[1:])])
    if len(texts) == 1:
        return texts[0]
    rule = "\n\n---\n\n" if output_format == "markdown" else f"\n\n{'=' * 72}\n\n"
    last = [f"{comparison.b.path}: {verdict_sentence(comparison)}" for comparison in comparisons]
    last.append(f"The false-alarm rate of each of these {len(texts)} comparisons by itself is at "
                "most 5%.")
    tail = markdown.bullet_list(last) if output_format == "markdown" \
        else "\n".join(wrap_text(line, 0) for line in last)
    return rule.join([*texts, tail])


def comparison_text(comparison: Comparison, output_format: str) -> str:
    """Formats the answer of `compare`.

    Args:
      comparison: The answer.
      output_format: table, csv or markdown.

    Returns:
      Both sets, the ratios, the stages, the notes and the verdict.
    """
    if output_format == "csv":
        return _comparison_csv(comparison)
    tables = [_sets_table(comparison, output_format),
              render_table(("B over A", "ratio", "95% low", "95% high"),
                           [_ratio_row(name, ratio) for name, ratio in _named_ratios(comparison)],
                           output_format, "lrrr")]
    if comparison.stages:
        tables.append(render_table(
            ("stage", "A mean s", "B mean s", "B - A", "B / A"),
            [["other" if s["stage"] == "rest" else s["stage"],
              *(format_number(s[k], 3) for k in ("a_s", "b_s", "difference_s")),
              format_number(s["ratio"], 3)] for s in comparison.stages], output_format, "lrrrr"))
    if output_format == "markdown":
        notes = [markdown.code_span(note) for note in comparison.notes]
        return markdown.page(verdict_sentence(comparison), *tables,
                             *([comparison.power.sentence()] if comparison.power else []),
                             markdown.bullet_list(notes))
    notes = [wrap_text(f"note: {note}", 0) for note in comparison.notes]
    if comparison.power:
        notes.append(wrap_text(comparison.power.sentence(), 0))
    return "\n\n".join([*tables, *notes, wrap_text(verdict_sentence(comparison), 0)])


def _named_ratios(comparison: Comparison) -> list[tuple[str, Ratio | None]]:
    return [("time", comparison.time), ("epochs", comparison.epochs),
            ("seconds per epoch", comparison.epoch_time)]


def _ratio_row(name: str, ratio: Ratio | None) -> list[str]:
    values = (ratio.value, ratio.low, ratio.high) if ratio else (None, None, None)
    return [name, *(format_number(v, 4) for v in values)]


def _sets_table(comparison: Comparison, output_format: str) -> str:
    rows = [_set_row("A", comparison.a.as_json()), _set_row("B", comparison.b.as_json())]
    return render_table(("set", "path", "runs", "converged", "mean s", "mean epochs", "s/epoch"),
                        rows, output_format, "lcrrrrr")


def _set_row(name: str, figures: dict[str, Any]) -> list[str]:
    return [name, figures["path"], str(figures["runs"]), str(figures["converged"]),
            format_number(figures["mean_s"], 3), format_number(figures["mean_epochs"], 2),
            format_number(figures["seconds_per_epoch"], 4)]


def _comparison_csv(comparison: Comparison) -> str:
    """Returns a row for each set; ratios, p value and verdict are in the row of B."""
    stages = [s["stage"] for s in comparison.stages] or [*STAGES, "rest"]
    header = ["set", "path", "runs", "converged", "mean_time_to_train_seconds", "mean_epochs",
              "seconds_per_epoch", *(f"mean_{stage}_seconds" for stage in stages)]
    for name in ("time", "epochs", "seconds_per_epoch"):
        header += [f"{name}_ratio", f"{name}_ratio_ci95_low", f"{name}_ratio_ci95_high"]
    rows = []
    for name, key, compared in (("A", "a_s", comparison.a), ("B", "b_s", comparison.b)):
        figures = compared.as_json()
        ratios = [value for _, ratio in _named_ratios(comparison) for value in (
            (ratio.value, ratio.low, ratio.high) if ratio and name == "B" else [None] * 3)]
        rows.append([name, *(figures[k] for k in ("path", "runs", "converged", "mean_s",
                                                  "mean_epochs", "seconds_per_epoch")),
                     *([s[key] for s in comparison.stages] or [None] * len(stages)), *ratios,
                     *((comparison.p_value, comparison.verdict,
                        "; ".join(comparison.notes) or None) if name == "B" else [None] * 3)])
    return to_csv([*header, "p", "verdict", "notes"], rows)


def verdict_sentence(comparison: Comparison) -> str:
    """Returns the verdict in one line."""
    p_value = comparison.p_value
    significance = "" if p_value is None else f" (rank test p {p_value:.4g})"
    if comparison.verdict == TOO_FEW_RUNS:
        return (f"{TOO_FEW_RUNS}: {len(comparison.a.converged)} in A and "
                f"{len(comparison.b.converged)} in B converged; each side needs {MIN_RUNS}")
    ratio = comparison.time
    assert ratio is not None  # never None with enough runs
    interval = f"95% {ratio.low:.3f} to {ratio.high:.3f}"
    if comparison.verdict == NO_DIFFERENCE:
        return f"{NO_DIFFERENCE} between A and B: B takes {ratio.value:.3f} times A's time, " \
               f"{interval}{significance}"
    if comparison.verdict == INCONCLUSIVE:
        shown = "the rank test shows a difference, the interval does not" \
            if p_value is not None and p_value <= ALPHA \
            else "the interval excludes 1, the rank test shows no difference"
        if p_value is not None and p_value <= ALPHA and not ratio.low <= 1 <= ratio.high:
            shown = "the rank test and the interval show opposite differences"
        return f"{INCONCLUSIVE}: {shown}; B takes {ratio.value:.3f} times A's time, {interval}" \
               f"{significance}"
    return (f"{comparison.verdict}: B takes {ratio.value:.3f} times A's time, {interval}"
            f"{significance}")
