"""What the page of `compare` shows: the answer, then both submissions side by side."""

from __future__ import annotations

import math
from typing import Any, Sequence

from compliance.report.answers import verdict_line
from compliance.report.html import plots
from compliance.report.html.limits import (
    MAX_CURVES,
    MAX_MARKS,
    MAX_POINTS,
    Rows,
    real,
    short,
    spread,
    thin,
)
from compliance.report.html.runs import MAX_SECONDS, RunView, hit_rate_name, views
from compliance.report.html.sections import figure, headline, runs_table, stage_table
from compliance.report.html.settings import FIXED, FREE, said, shown, system_tables
from compliance.report.html.tables import Table, seconds, table
from compliance.report.tables import number
from compliance.results.comparison import (
    ALPHA,
    FASTER,
    MIN_RUNS,
    NO_DIFFERENCE,
    RESAMPLES,
    SLOWER,
    TOO_FEW,
    Comparison,
    Ratio,
)
from compliance.results.run_set import RunSet
from compliance.results.scoring import Score

_SENTENCES = {FASTER: "B is faster than A", SLOWER: "B is slower than A",
              NO_DIFFERENCE: "No difference shown", TOO_FEW: "Too few runs to tell"}
_RATIOS = (("time to train", "time", "mean_s"), ("epochs", "epochs", "mean_epochs"),
           ("seconds per epoch", "per_epoch", "seconds_per_epoch"))
METHOD = (f"Faster or slower is said only where two things agree: the exact rank test of Mann "
          f"and Whitney at {100 * ALPHA:g}%, in which runs that missed the target count as the "
          f"slowest, and the 95% interval of the ratio of mean times ({RESAMPLES:,} bootstrap "
          f"samples of the runs that converged), which then leaves out 1. At least {MIN_RUNS} "
          "runs a side are needed. Time is epochs times seconds per epoch, so the first ratio "
          "is the product of the other two.")


def comparison_section(answer: Comparison, sets: tuple[RunSet, RunSet],
                       scores: tuple[Score, Score]) -> dict[str, Any]:
    """Everything that the page shows."""
    sides = [views(runs, score) for runs, score in zip(sets, scores)]
    heads = [headline(*args) for args in zip(sets, scores, sides)]
    rows = Rows(120, 0)
    return {
        "verdict": answer.verdict, "sentence": _SENTENCES[answer.verdict],
        "words": short(verdict_line(answer).removeprefix(f"{answer.verdict}: ")), "method": METHOD,
        "tiles": _tiles(answer), "sides": list(zip("AB", heads)),
        "figures": _figures(answer, sets, sides, scores), "ratios": _ratio_table(answer),
        "stages": _stage_table(answer), "settings": _settings(sides),
        "notes": [short(note) for note in answer.notes],
        "systems": [system_tables(name.lower(), *pair)
                    for name, pair in zip("AB", zip(sets, sides))],
        "numbers": [[_named(stage_table(key, side, rows), name),
                     _named(runs_table(key, side, rows, hit_rate_name(sets[0])), name)]
                    for name, key, side in zip("AB", "ab", sides)]}


def _named(t: Table, side: str) -> Table:
    return Table(t.key, f"{side}: {t.caption}", t.header, t.rows, t.right, t.note, True)


def _tiles(answer: Comparison) -> list[tuple[str, str, str]]:
    a, b = answer.a.as_json(), answer.b.as_json()
    ratio = answer.time
    return [
        ("B over A, time", number(ratio.value if ratio else None, 3), _interval(ratio)),
        ("A, mean time", f"{seconds(a['mean_s'])} s", f"{a['converged']} of {a['runs']} converged"),
        ("B, mean time", f"{seconds(b['mean_s'])} s", f"{b['converged']} of {b['runs']} converged"),
        ("Rank test, p", "-" if answer.p is None else f"{answer.p:.3g}",
         f"significant at or below {ALPHA:g}"),
        ("Epochs, B over A", number(answer.epochs.value if answer.epochs else None, 3),
         _interval(answer.epochs)),
        ("Seconds per epoch, B over A",
         number(answer.per_epoch.value if answer.per_epoch else None, 3),
         _interval(answer.per_epoch))]


def _interval(ratio: Ratio | None) -> str:
    if ratio is None or ratio.low is None or ratio.high is None:
        return "no interval"
    return f"95%: {ratio.low:.3f} to {ratio.high:.3f}"


def _ratio_table(answer: Comparison) -> Table:
    a, b = answer.a.as_json(), answer.b.as_json()
    rows = [["runs", str(a["runs"]), str(b["runs"]), "-", "-", "-"],
            ["converged", str(a["converged"]), str(b["converged"]), "-", "-", "-"]]
    for name, which, key in _RATIOS:
        ratio = getattr(answer, which)
        values = (ratio.value, ratio.low, ratio.high) if ratio else (None, None, None)
        unit = "" if key == "mean_epochs" else " (s)"
        rows.append([f"{name}{unit}, mean", number(a[key], 4), number(b[key], 4),
                     *(number(v, 4) for v in values)])
    return table("ratios", "A and B", ("figure", ">A", ">B", ">B over A", ">95% low",
                                      ">95% high"), rows)


def _stage_table(answer: Comparison) -> Table:
    return table("stages", "Mean seconds of each stage", (
        "stage", ">A (s)", ">B (s)", ">B - A (s)", ">B over A"),
        [["other" if s["stage"] == "rest" else s["stage"],
          *(_figure(s[k]) for k in ("a_s", "b_s", "difference_s", "ratio"))]
         for s in answer.stages])


def _figure(value: float | None) -> str:
    text = number(value, 4)
    return "0.0000" if text == "-0.0000" else text


def _settings(sides: Sequence[Sequence[RunView]]) -> Table:
    rows = []
    for label, keys, *_ in (*FREE, *FIXED):
        a, b = (said(side, keys) for side in sides)
        rows.append([label, shown(a), shown(b), "same" if a == b else "differs"])
    return table("settings", "Settings of A and B, from the logs",
                 ("setting", "A", "B", "agreement"), rows)


def _figures(answer: Comparison, sets: tuple[RunSet, RunSet],
             sides: Sequence[Sequence[RunView]], scores: tuple[Score, Score]
             ) -> list[dict[str, Any]]:
    """Ratios, times, both curves and the stages."""
    found = []
    rows = [(name, r.value, r.low, r.high) for name, which, _ in _RATIOS
            if (r := getattr(answer, which)) and r.value < 1e6]
    if rows:
        label = "B over A: " + ", ".join(f"{row[0]} {row[1]:.3f}" for row in rows) + "."
        found.append(figure("ratio-plot", "B over A", f"{label} Bars are 95% intervals; where "
                            "one leaves out 1, the sets differ in it.",
                            plots.ratios("ratio-plot", label, rows)))
    marks = [mark for name, side in zip("AB", sides) for mark in _marks(name, side)]
    if marks:
        label = f"Time to train of {len(marks)} runs, those of A first, then those of B."
        found.append(figure("times", "Time to train", f"{label} Crosses missed the target.",
                            plots.points("times", label, marks)))
    target = real(sets[0].target, 0, 1)
    hr = hit_rate_name(sets[0])
    for key, what, x, points in (("epoch", f"{hr} by epoch", "epoch", RunView.by_epoch),
                                 ("time", f"{hr} by wall time", "seconds since run_start",
                                  RunView.by_time)):
        curves = [c for name, side in zip("AB", sides) for c in _curves(name, side, points)]
        if curves:
            label = f"{what} of {len(curves)} runs: A as full lines, B as dashed lines."
            found.append(figure(f"hr-{key}", what, label, plots.curves(
                f"hr-{key}", label, curves, x, hr, target)))
    stages = [s for s in answer.stages if s["a_s"] is not None and s["b_s"] is not None]
    if stages:
        parts = [[max(s[k], 0.0) for s in stages] for k in ("a_s", "b_s")]
        names = ["other" if s["stage"] == "rest" else s["stage"] for s in stages]
        label = "Mean seconds by stage: " + "; ".join(
            f"{n} {x:.3g} s in A, {y:.3g} s in B" for n, x, y in zip(names, *parts)) + "."
        found.append(figure("stage-plot", "Where the time went", label, plots.stages(
            "stage-plot", label, ["A", "B"], names, parts, "seconds")))
    rates = [c for name, side in zip("AB", sides) for c in _curves(name, side, RunView.rates)]
    if rates:
        label = "Training examples per second by epoch: A as full lines, B as dashed lines."
        found.append(figure("rate", "Throughput by epoch", label, plots.curves(
            "rate", label, rates, "epoch", "examples/s", None, True)))
    return found


def _marks(name: str, side: Sequence[RunView]) -> list[plots.Mark]:
    able = [v for v in side if v.run.is_run and real(v.seconds, 0, MAX_SECONDS) is not None]
    return [plots.Mark(v.name, v.seconds or 0.0, name if v.run.converged
                       else f"{name}, did not converge", f"{name}, {v.tip}")
            for v in spread(able, MAX_MARKS // 2)]


def _curves(name: str, side: Sequence[RunView], points: Any) -> list[plots.Curve]:
    able = [v for v in side if points(v)]
    able = spread(sorted(able, key=lambda v: v.seconds if v.seconds is not None else math.inf),
                  MAX_CURVES // 2)
    limit = max(MAX_POINTS // 2 // max(len(able), 1), 6)
    return [plots.Curve(v.name, thin(points(v), limit), f"{name}, {v.tip}", name) for v in able]
