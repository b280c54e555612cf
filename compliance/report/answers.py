"""What `convergence` and `compare` print."""

from __future__ import annotations

from collections import Counter
from typing import Any

from compliance.comparison import ALPHA, MIN_RUNS, NO_DIFFERENCE, TOO_FEW, Comparison, Ratio
from compliance.convergence import METHOD, Answer, Convergence
from compliance.report.tables import number, plain, render, wrap


def convergence_text(answer: Answer, form: str) -> str:
    """The answer of `convergence`: a row and a sentence a set, then the method."""
    header = ("set", "verdict", "track", "batch size", "runs", "converged", "mean epochs",
              "reference", "p", "limit (RCP)")
    rows = [_row(one) for one in answer.sets]
    if form == "csv":
        reasons = [[one.reason or ""] for one in answer.sets]
        return render((*header, "reason"), [r + s for r, s in zip(rows, reasons)], form)
    if form == "markdown":
        return "\n\n".join([render(header, rows, form, "lllrrrrrrr"),
                            *(sentence(one) for one in answer.sets), METHOD])
    parts = []
    for one in answer.sets:
        lines = [plain(one.path), wrap(_epochs_of(one), 2), wrap(sentence(one), 2)]
        parts.append("\n".join(lines + [wrap(f"note: {note}", 2) for note in one.notes]))
    return "\n\n".join([*parts, wrap(f"method: {METHOD}", 0)])


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
    sides = _side_table(answer, form)
    ratios = render(("B over A", "ratio", "95% low", "95% high"),
                    [_ratio_row(name, ratio) for name, ratio in _ratios(answer)], form, "lrrr")
    stages = render(("stage", "A mean s", "B mean s", "B - A", "B / A"),
                    [[s["stage"], *(number(s[k], 3) for k in ("a_s", "b_s", "difference_s")),
                      number(s["ratio"], 3)] for s in answer.stages], form, "lrrrr")
    if form == "csv":
        return _csv(answer)
    parts = [sides, ratios] + ([stages] if answer.stages else [])
    parts += [wrap(f"note: {note}", 0) for note in answer.notes]
    return "\n\n".join([*parts, wrap(verdict_line(answer), 0)])


def _ratios(answer: Comparison) -> list[tuple[str, Ratio | None]]:
    return [("time", answer.time), ("epochs", answer.epochs),
            ("seconds per epoch", answer.per_epoch)]


def _ratio_row(name: str, ratio: Ratio | None) -> list[str]:
    values = (ratio.value, ratio.low, ratio.high) if ratio else (None, None, None)
    return [name, *(number(v, 4) for v in values)]


def _side_table(answer: Comparison, form: str) -> str:
    rows = [_side_row(name, side.as_json()) for name, side in (("A", answer.a), ("B", answer.b))]
    return render(("set", "path", "runs", "converged", "mean s", "mean epochs", "s/epoch"), rows,
                  form, "llrrrrr")


def _side_row(name: str, side: dict[str, Any]) -> list[str]:
    return [name, side["path"], str(side["runs"]), str(side["converged"]),
            number(side["mean_s"], 3), number(side["mean_epochs"], 2),
            number(side["seconds_per_epoch"], 4)]


def _csv(answer: Comparison) -> str:
    """One table: a figure a row."""
    a, b = answer.a.as_json(), answer.b.as_json()
    rows = [["verdict", "", "", answer.verdict, "", ""]]
    rows += [[k, str(a[k]), str(b[k]), "", "", ""] for k in ("path", "runs", "converged")]
    for name, key in (("time", "mean_s"), ("epochs", "mean_epochs"),
                      ("seconds per epoch", "seconds_per_epoch")):
        row = _ratio_row(name, dict(_ratios(answer))[name])
        rows.append([name, number(a[key], 6), number(b[key], 6), *row[1:]])
    rows += [[f"stage {s['stage']}", number(s["a_s"], 6), number(s["b_s"], 6),
              number(s["ratio"], 6), "", ""] for s in answer.stages]
    rows.append(["p", "", "", number(answer.p, 6), "", ""])
    rows += [["note", "", "", note, "", ""] for note in answer.notes]
    return render(("figure", "A", "B", "B over A", "95% low", "95% high"), rows, "csv")


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
