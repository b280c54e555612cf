"""Collects the values for the page on `compare`: the answer, then both sets side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Sequence

from compliance.report.comparison import verdict_sentence
from compliance.report.formatting import format_number, format_seconds
from compliance.report.html import plots
from compliance.report.html.figures import figure_block, sort_time
from compliance.report.html.limits import (
    MAX_BARS,
    MAX_CURVES,
    MAX_MARKS,
    MAX_POINTS,
    RowLimits,
    clip_text,
    downsample,
    evenly_spaced,
    number_within,
)
from compliance.report.html.runs import MAX_SECONDS, RunView, hit_rate_name, run_views
from compliance.report.html.sections import headline
from compliance.report.html.settings import (
    FIXED_ROWS,
    FREE_ROWS,
    logged_value,
    shorten_digests,
    system_tables,
)
from compliance.report.html.tables import HtmlTable, make_table, runs_table, stage_table
from compliance.results.comparison import (
    ALPHA,
    FASTER,
    INCONCLUSIVE,
    MIN_RUNS,
    NO_DIFFERENCE,
    SLOWER,
    TOO_FEW_RUNS,
    Comparison,
    Ratio,
)
from compliance.results.run_set import RunSet
from compliance.results.scoring import Score

_SENTENCES = {FASTER: "B is faster than A", SLOWER: "B is slower than A",
              NO_DIFFERENCE: "No difference shown", INCONCLUSIVE: "Inconclusive", TOO_FEW_RUNS: "Too few runs to tell"}
_RATIOS = (("time to train", "time", "mean_s"), ("epochs", "epochs", "mean_epochs"),
           ("seconds per epoch", "epoch_time", "seconds_per_epoch"))
METHOD = (f"The answer is faster or slower only if two results agree: the exact rank test of Mann "
          f"and Whitney at {100 * ALPHA:g}%, in which runs that missed the target count as the "
          "slowest, and the 95% interval of the ratio of mean times (Welch's, on the log scale, of "
          "the runs that converged), which must exclude 1. If the two disagree, the answer is "
          f"inconclusive. Each side needs at least {MIN_RUNS} runs that converged. "
          "Time is epochs times seconds per epoch, so the first ratio is the product of the other "
          "two.")


def comparison_section(comparison: Comparison, sets: tuple[RunSet, RunSet],
                       scores: tuple[Score, Score]) -> dict[str, Any]:
    """Collects all values of the page on a comparison.

    Args:
      comparison: The answer of `compare`.
      sets: Both sets, A and B.
      scores: Their scores.

    Returns:
      The values for the template compare.html.
    """
    sides = [run_views(run_set, score) for run_set, score in zip(sets, scores)]
    headlines = [headline(*args) for args in zip(sets, scores, sides)]
    limits = RowLimits(runs=120, epochs=0)
    return {
        "verdict": comparison.verdict, "sentence": _SENTENCES[comparison.verdict],
        "words": clip_text(verdict_sentence(comparison).removeprefix(f"{comparison.verdict}: ")),
        "method": f"{comparison.power.sentence()}. {METHOD}" if comparison.power else METHOD,
        "tiles": _summary_tiles(comparison), "sides": list(zip("AB", headlines)),
        "figures": _figure_blocks(comparison, sets, sides),
        "ratios": _ratio_table(comparison),
        "stages": _stage_table(comparison), "settings": _settings_table(sides),
        "notes": [clip_text(note) for note in comparison.notes],
        "systems": [system_tables(name.lower(), *pair)
                    for name, pair in zip("AB", zip(sets, sides))],
        "numbers": [[_with_set_name(stage_table(key, side, limits), name),
                     _with_set_name(runs_table(key, side, limits, hit_rate_name(sets[0])), name)]
                    for name, key, side in zip("AB", "ab", sides)]}


def _with_set_name(html_table: HtmlTable, side: str) -> HtmlTable:
    """Returns the table, closed at first, with the name of the set before its caption."""
    return replace(html_table, caption=f"{side}: {html_table.caption}", folded=True)


def _summary_tiles(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Returns (name, value, remark) of the most important figures."""
    a, b = comparison.a.as_json(), comparison.b.as_json()
    ratio = comparison.time
    return [
        ("B over A, time", format_number(ratio.value if ratio else None, 3), _interval_text(ratio)),
        ("A, mean time", f"{format_seconds(a['mean_s'])} s",
         f"arithmetic, of {a['converged']} of {a['runs']} runs"),
        ("B, mean time", f"{format_seconds(b['mean_s'])} s",
         f"arithmetic, of {b['converged']} of {b['runs']} runs"),
        ("Rank test, p", "-" if comparison.p_value is None else f"{comparison.p_value:.3g}",
         f"significant at or below {ALPHA:g}"),
        ("Epochs, B over A",
         format_number(comparison.epochs.value if comparison.epochs else None, 3),
         _interval_text(comparison.epochs)),
        ("Seconds per epoch, B over A",
         format_number(comparison.epoch_time.value if comparison.epoch_time else None, 3),
         _interval_text(comparison.epoch_time))]


def _interval_text(ratio: Ratio | None) -> str:
    if ratio is None or ratio.low is None or ratio.high is None:
        return "no interval"
    return f"95%: {ratio.low:.3f} to {ratio.high:.3f}"


def _ratio_table(comparison: Comparison) -> HtmlTable:
    """Returns a table of both means and their ratio with its interval."""
    a, b = comparison.a.as_json(), comparison.b.as_json()
    rows = [["runs", str(a["runs"]), str(b["runs"]), "-", "-", "-"],
            ["converged", str(a["converged"]), str(b["converged"]), "-", "-", "-"]]
    for name, attribute, key in _RATIOS:
        ratio = getattr(comparison, attribute)
        values = (ratio.value, ratio.low, ratio.high) if ratio else (None, None, None)
        unit = "" if key == "mean_epochs" else " (s)"
        rows.append([f"{name}{unit}, mean", format_number(a[key], 4), format_number(b[key], 4),
                     *(format_number(v, 4) for v in values)])
    return make_table("ratios", "A and B", (
        "figure", ">A", ">B", ">B over A", ">95% low", ">95% high"), rows)


def _stage_table(comparison: Comparison) -> HtmlTable:
    """Returns a table of the mean seconds of each stage."""
    return make_table("stages", "Mean seconds of each stage", (
        "stage", ">A (s)", ">B (s)", ">B - A (s)", ">B over A"),
        [[_stage_name(s["stage"]),
          *(format_number(s[k], 4) for k in ("a_s", "b_s", "difference_s", "ratio"))]
         for s in comparison.stages])


def _stage_name(stage: str) -> str:
    """Returns the name of a stage on the page; "rest" is the time in no stage."""
    return "other" if stage == "rest" else stage


def _settings_table(sides: Sequence[Sequence[RunView]]) -> HtmlTable:
    """Returns a table of the settings of both sets."""
    rows = []
    for label, keys, *_ in (*FREE_ROWS, *FIXED_ROWS):
        a, b = (logged_value(side, keys) for side in sides)
        rows.append([label, shorten_digests(a), shorten_digests(b),
                     "same" if a == b else "differs"])
    return make_table("settings", "Settings of A and B, from the logs",
                      ("setting", "A", "B", "agreement"), rows)


def _figure_blocks(comparison: Comparison, sets: tuple[RunSet, RunSet],
                   sides: Sequence[Sequence[RunView]]) -> list[dict[str, Any]]:
    """Returns the figures: ratios, times, hit rates, stages, throughput."""
    blocks = []
    rows = [(name, r.value, r.low, r.high) for name, attribute, _ in _RATIOS
            if (r := getattr(comparison, attribute)) and r.value < 1e6]
    if rows:
        label = "B over A: " + ", ".join(f"{row[0]} {row[1]:.3f}" for row in rows) + "."
        caption = (f"{label} Bars are 95% intervals; an interval that contains 1 shows no "
                   "difference.")
        blocks.append(figure_block("ratio-plot", "B over A", caption,
                                   plots.plot_ratios("ratio-plot", label, rows)))
    markers = [marker for name, side in zip("AB", sides)
               for marker in _set_markers(name, side)]
    if markers:
        label = f"Time to train of {len(markers)} runs: the runs of A, then the runs of B."
        missed = ""
        if any("did not converge" in marker.role for marker in markers):
            shape = "Hatched bars" if len(markers) <= MAX_BARS else "Crosses"
            missed = f" {shape} are runs that missed the target."
        blocks.append(figure_block("times", "Time to train", f"{label}{missed}",
                                   plots.plot_two_sets("times", label, markers)))
    target = number_within(sets[0].target, 0, 1)
    hit_rate_label = hit_rate_name(sets[0])
    for key, heading, x_label, points in (
            ("epoch", f"{hit_rate_label} by epoch", "epoch", RunView.hit_rates_by_epoch),
            ("time", f"{hit_rate_label} by wall time", "seconds since run_start",
             RunView.hit_rates_by_time)):
        curves = [c for name, side in zip("AB", sides) for c in _set_curves(name, side, points)]
        if curves:
            label = f"{heading} of {len(curves)} runs: A as full lines, B as dashed lines."
            blocks.append(figure_block(f"hr-{key}", heading, label, plots.plot_curves(
                f"hr-{key}", label, curves, x_label, hit_rate_label, target)))
    stages = [s for s in comparison.stages if s["a_s"] is not None and s["b_s"] is not None]
    if stages:
        parts = [[max(s[k], 0.0) for s in stages] for k in ("a_s", "b_s")]
        names = [_stage_name(s["stage"]) for s in stages]
        label = "Mean seconds by stage: " + "; ".join(
            f"{n} {x:.3g} s in A, {y:.3g} s in B" for n, x, y in zip(names, *parts)) + "."
        blocks.append(figure_block("stage-plot", "Time by stage", label, plots.plot_stages(
            "stage-plot", label, ["A", "B"], names, parts, "seconds")))
    rates = [c for name, side in zip("AB", sides)
             for c in _set_curves(name, side, RunView.throughput_by_epoch)]
    if rates:
        label = "Training examples per second by epoch: A as full lines, B as dashed lines."
        blocks.append(figure_block("rate", "Throughput by epoch", label, plots.plot_curves(
            "rate", label, rates, "epoch", "examples/s", None, True)))
    for key, y, points in (("ndcg", hit_rate_label.replace("HR", "NDCG"), RunView.ndcgs_by_epoch),
                           ("loss", "loss", RunView.losses_by_epoch)):
        curves = [c for name, side in zip("AB", sides) for c in _set_curves(name, side, points)]
        if curves:
            heading = f"{y[0].upper()}{y[1:]} by epoch"
            label = f"{heading} of {len(curves)} runs: A as full lines, B as dashed lines."
            blocks.append(figure_block(key, heading, label,
                                       plots.plot_curves(key, label, curves, "epoch", y)))
    return blocks


def _set_markers(name: str, side: Sequence[RunView]) -> list[plots.TimeMarker]:
    """Returns the markers of one set for the plot of times."""
    drawable = [v for v in side if v.run.is_complete_run
                and number_within(v.seconds, 0, MAX_SECONDS) is not None]
    return [plots.TimeMarker(f"{name} {v.name}", v.seconds or 0.0, name if v.run.converged
                             else f"{name}, did not converge", f"{name}, {v.tooltip}")
            for v in evenly_spaced(drawable, MAX_MARKS // 2)]


def _set_curves(name: str, side: Sequence[RunView], points: Any) -> list[plots.Curve]:
    """Returns the curves of one set; `points` extracts the points of a RunView."""
    drawable = sorted((v for v in side if points(v)), key=sort_time)
    drawable = evenly_spaced(drawable, MAX_CURVES // 2)
    limit = max(MAX_POINTS // 2 // max(len(drawable), 1), 6)
    return [plots.Curve(v.name, downsample(points(v), limit), f"{name}, {v.tooltip}", name)
            for v in drawable]
