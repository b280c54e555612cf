"""What `convergence` and `compare` print."""

from __future__ import annotations

from collections import Counter
from typing import Any

from compliance.logs.stage_times import STAGES
from compliance.rcp.verdict import METHOD, Answer, Convergence
from compliance.report import markdown
from compliance.report.tables import as_csv, number, render, wrap
from compliance.report.text import plain
from compliance.results.comparison import ALPHA, MIN_RUNS, NO_DIFFERENCE, TOO_FEW, Comparison, Ratio


def convergence_text(answer: Answer, form: str) -> str:
    """The answer of `convergence`: a row and a sentence a set, then the method."""
    if form == "csv":
        return _convergence_csv(answer)
    if form == "markdown":
        header = ("set", "verdict", "track", "batch size", "runs", "converged", "mean epochs",
                  "reference", "p", "limit (RCP)")
        return markdown.page(
            f"Convergence: {'; '.join(dict.fromkeys(one.verdict for one in answer.sets))}",
            render(header, [_row(one) for one in answer.sets], form, "clcrrrrrrr"),
            markdown.listed([f"{markdown.code(one.path)}: "
                             + markdown.escaped("; ".join([sentence(one), *one.notes]))
                             for one in answer.sets]), markdown.escaped(f"Method: {METHOD}"))
    parts = []
    for one in answer.sets:
        lines = [plain(one.path), wrap(_epochs_of(one), 2), wrap(sentence(one), 2)]
        parts.append("\n".join(lines + [wrap(f"note: {note}", 2) for note in one.notes]))
    return "\n\n".join([*parts, wrap(f"method: {METHOD}", 0)])


def _convergence_csv(answer: Answer) -> str:
    """A row a set."""
    rows = []
    for one in answer.sets:
        test = one.test
        rows.append([
            one.path, one.verdict, one.track, one.batch_size, len(one.runs),
            sum(r.epochs is not None for r in one.runs),
            *((test.mean, test.reference_mean, test.p, test.rcp_limit, test.normalization)
              if test else [None] * 5), one.reason, "; ".join(one.notes) or None])
    return as_csv(("set", "verdict", "track", "batch_size", "runs", "converged", "mean_epochs",
                   "reference_mean_epochs", "p", "rcp_limit_epochs", "rcp_normalization",
                   "reason", "notes"), rows)


def _row(one: Convergence) -> list[str]:
    test = one.test
    return [one.path, one.verdict, one.track or "-", str(one.batch_size or "-"), str(len(one.runs)),
            str(sum(r.epochs is not None for r in one.runs)),
            *([number(test.mean, 2), number(test.reference_mean, 2), number(test.p, 4),
               number(test.rcp_limit, 2)] if test else ["-"] * 4)]


def _epochs_of(one: Convergence) -> str:
    counts = sorted(Counter(r.epochs for r in one.runs if r.epochs is not None).items())
    missed = len(one.runs) - sum(n for _, n in counts)
    shown = ", ".join(f"{e}" if n == 1 else f"{e} ({n}x)" for e, n in counts)
    tail = f"; {missed} did not converge" if missed else ""
    left = f"; {one.attempts} interrupted attempts left out" if one.attempts else ""
    return (f"track {one.track or '-'}, batch size {one.batch_size or '-'}, {len(one.runs)} runs, "
            f"epochs to the target: {shown or 'none'}{tail}{left}")


def sentence(one: Convergence) -> str:
    """The verdict on one set in words."""
    test, point = one.test, one.point
    if test is None or point is None:
        return f"{one.verdict}: {one.reason}"
    kind = f"interpolated ({point.source})" if point.interpolated else point.source
    text = (f"{one.verdict}: mean {test.mean:.2f} epochs, reference {test.reference_mean:.2f} "
            f"({len(point.epochs)} runs, {kind}); p {test.p:.4f} for as few where both are alike")
    if test.mean < test.reference_mean and not test.too_fast:
        text += f"; MLPerf would multiply the score by {test.normalization:.4f}"
    return text


def comparison_text(answer: Comparison, form: str) -> str:
    """The answer of `compare`: both sides, the ratios, the stages, the verdict last."""
    if form == "csv":
        return _comparison_csv(answer)
    tables = [_side_table(answer, form),
              render(("B over A", "ratio", "95% low", "95% high"),
                     [_ratio_row(name, ratio) for name, ratio in _ratios(answer)], form, "lrrr")]
    if answer.stages:
        tables.append(render(
            ("stage", "A mean s", "B mean s", "B - A", "B / A"),
            [[s["stage"], *(number(s[k], 3) for k in ("a_s", "b_s", "difference_s")),
              number(s["ratio"], 3)] for s in answer.stages], form, "lrrrr"))
    if form == "markdown":
        return markdown.page(verdict_line(answer), *tables,
                             markdown.listed([markdown.code(note) for note in answer.notes]))
    notes = [wrap(f"note: {note}", 0) for note in answer.notes]
    return "\n\n".join([*tables, *notes, wrap(verdict_line(answer), 0)])


def _ratios(answer: Comparison) -> list[tuple[str, Ratio | None]]:
    return [("time", answer.time), ("epochs", answer.epochs),
            ("seconds per epoch", answer.per_epoch)]


def _ratio_row(name: str, ratio: Ratio | None) -> list[str]:
    values = (ratio.value, ratio.low, ratio.high) if ratio else (None, None, None)
    return [name, *(number(v, 4) for v in values)]


def _side_table(answer: Comparison, form: str) -> str:
    rows = [_side_row(name, side.as_json()) for name, side in (("A", answer.a), ("B", answer.b))]
    return render(("set", "path", "runs", "converged", "mean s", "mean epochs", "s/epoch"), rows,
                  form, "lcrrrrr")


def _side_row(name: str, side: dict[str, Any]) -> list[str]:
    return [name, side["path"], str(side["runs"]), str(side["converged"]),
            number(side["mean_s"], 3), number(side["mean_epochs"], 2),
            number(side["seconds_per_epoch"], 4)]


def _comparison_csv(answer: Comparison) -> str:
    """A row a side; what B is to A stands in B's."""
    names = [s["stage"] for s in answer.stages] or [*STAGES, "rest"]
    header = ["set", "path", "runs", "converged", "mean_time_to_train_seconds", "mean_epochs",
              "seconds_per_epoch", *(f"mean_{name}_seconds" for name in names)]
    for name in ("time", "epochs", "seconds_per_epoch"):
        header += [f"{name}_ratio", f"{name}_ratio_ci95_low", f"{name}_ratio_ci95_high"]
    rows = []
    for name, key, side in (("A", "a_s", answer.a), ("B", "b_s", answer.b)):
        about = side.as_json()
        ratios = [value for _, ratio in _ratios(answer) for value in (
            (ratio.value, ratio.low, ratio.high) if ratio and name == "B" else [None] * 3)]
        rows.append([name, *(about[k] for k in ("path", "runs", "converged", "mean_s",
                                                "mean_epochs", "seconds_per_epoch")),
                     *([s[key] for s in answer.stages] or [None] * len(names)), *ratios,
                     *((answer.p, answer.verdict, "; ".join(answer.notes) or None)
                       if name == "B" else [None] * 3)])
    return as_csv([*header, "p", "verdict", "notes"], rows)


def verdict_line(answer: Comparison) -> str:
    """The verdict in one line, never more than the figures say."""
    p = "" if answer.p is None else f" (rank test p {answer.p:.4g})"
    if answer.verdict == TOO_FEW:
        return (f"{TOO_FEW}: A has {len(answer.a.converged)}, B {len(answer.b.converged)} runs "
                f"that converged; {MIN_RUNS} a side are needed")
    if answer.verdict == NO_DIFFERENCE:
        return f"{NO_DIFFERENCE} between A and B at {100 * ALPHA:g}%{p}"
    ratio = answer.time
    assert ratio is not None  # a verdict rests on it
    return (f"{answer.verdict}: B takes {ratio.value:.3f} times A's time, 95% {ratio.low:.3f} to "
            f"{ratio.high:.3f}{p}")
