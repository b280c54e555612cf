"""Text, CSV and Markdown of the answer of `convergence`."""

from __future__ import annotations

from collections import Counter

from compliance.base.text import printable_line
from compliance.rcp.verdict import METHOD, ConvergenceReport, SetConvergence
from compliance.report import markdown
from compliance.report.formatting import format_number
from compliance.report.tables import render_table, to_csv, wrap_text


def convergence_text(report: ConvergenceReport, output_format: str) -> str:
    """Formats the answer of `convergence`.

    Args:
      report: The answer.
      output_format: table, csv or markdown.

    Returns:
      For each set its epochs and the verdict in a sentence, then the method.
    """
    if output_format == "csv":
        return _convergence_csv(report)
    if output_format == "markdown":
        return _convergence_markdown(report)
    parts = []
    for convergence in report.sets:
        lines = [printable_line(convergence.path), wrap_text(_epochs_sentence(convergence), 2),
                 wrap_text(convergence_sentence(convergence), 2)]
        parts.append("\n".join(
            lines + [wrap_text(f"note: {note}", 2) for note in convergence.notes]))
    return "\n\n".join([*parts, wrap_text(f"method: {METHOD}", 0)])


def _convergence_markdown(report: ConvergenceReport) -> str:
    """Returns a table with a row for each set, and the sentences as a list."""
    header = ("set", "verdict", "track", "batch size", "runs", "converged", "mean epochs",
              "reference", "p", "limit (RCP)")
    verdicts = dict.fromkeys(convergence.verdict for convergence in report.sets)
    sentences = [
        f"{markdown.code_span(convergence.path)}: "
        + markdown.escape("; ".join([convergence_sentence(convergence), *convergence.notes]))
        for convergence in report.sets]
    return markdown.page(
        f"Convergence: {'; '.join(verdicts)}",
        render_table(header, [_table_row(convergence) for convergence in report.sets],
                     "markdown", "clcrrrrrrr"),
        markdown.bullet_list(sentences), markdown.escape(f"Method: {METHOD}"))


def _convergence_csv(report: ConvergenceReport) -> str:
    """Returns a row for each set."""
    rows = []
    for convergence in report.sets:
        test = convergence.test
        figures = [None] * 5 if test is None else [
            test.mean_epochs, test.reference_mean_epochs, test.p_value, test.rcp_min_mean_epochs,
            test.normalization]
        rows.append([convergence.path, convergence.verdict, convergence.track,
                     convergence.batch_size, len(convergence.runs), convergence.num_converged,
                     *figures, convergence.reason, "; ".join(convergence.notes) or None])
    return to_csv(("set", "verdict", "track", "batch_size", "runs", "converged", "mean_epochs",
                   "reference_mean_epochs", "p", "rcp_limit_epochs", "rcp_normalization",
                   "reason", "notes"), rows)


def _table_row(convergence: SetConvergence) -> list[str]:
    """Returns the cells of one set in the Markdown table."""
    test = convergence.test
    figures = ["-"] * 4 if test is None else [
        format_number(test.mean_epochs, 2), format_number(test.reference_mean_epochs, 2),
        format_number(test.p_value, 4), format_number(test.rcp_min_mean_epochs, 2)]
    return [convergence.path, convergence.verdict, convergence.track or "-",
            str(convergence.batch_size or "-"), str(len(convergence.runs)),
            str(convergence.num_converged), *figures]


def _epochs_sentence(convergence: SetConvergence) -> str:
    """Returns track, batch size and runs, and the number of runs for each number of epochs."""
    counts = sorted(Counter(r.epochs_to_target for r in convergence.runs
                            if r.epochs_to_target is not None).items())
    num_missed = len(convergence.runs) - convergence.num_converged
    shown = ", ".join(f"{e}" if n == 1 else f"{e} ({n}x)" for e, n in counts)
    missed = f"; {num_missed} did not converge" if num_missed else ""
    interrupted = f"; {convergence.num_interrupted} interrupted attempt" \
        f"{'s' * (convergence.num_interrupted != 1)} left out" \
        if convergence.num_interrupted else ""
    return (f"track {convergence.track or '-'}, batch size {convergence.batch_size or '-'}, "
            f"{len(convergence.runs)} run{'s' * (len(convergence.runs) != 1)}, "
            f"epochs to the target: {shown or 'none'}{missed}{interrupted}")


def convergence_sentence(convergence: SetConvergence) -> str:
    """Returns the verdict on one set in words."""
    test, reference = convergence.test, convergence.reference
    if test is None or reference is None:
        return f"{convergence.verdict}: {convergence.reason}"
    kind = f"interpolated ({reference.source})" if reference.is_interpolated else reference.source
    text = (f"{convergence.verdict}: mean {test.mean_epochs:.2f} epochs, "
            f"reference {test.reference_mean_epochs:.2f} "
            f"({len(reference.epochs)} runs, {kind}); "
            f"p {test.p_value:.4f} for as few epochs if both are alike")
    if test.mean_epochs < test.reference_mean_epochs and not test.is_too_fast:
        text += f"; MLPerf would multiply the score by {test.normalization:.4f}"
    return text
