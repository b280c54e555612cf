"""The figures of one set: hit rates, times, stages and throughput, each with its caption."""

from __future__ import annotations

import math
from typing import Any, Sequence

from compliance.report.formatting import (
    format_rate_with_prefix,
    format_seconds,
)
from compliance.report.html import plots
from compliance.report.html.limits import (
    MAX_CURVES,
    MAX_MARKS,
    MAX_POINTS,
    MAX_STACKS,
    clip_text,
    downsample,
    evenly_spaced,
    number_within,
)
from compliance.report.html.plot_style import NOT_CONVERGED
from compliance.report.html.runs import (
    MAX_SECONDS,
    STAGE_NAMES,
    RunView,
    hit_rate_name,
    sum_known,
)
from compliance.results.run_set import RunSet
from compliance.results.scoring import (
    Score,
)


def sort_time(view: RunView) -> float:
    """Returns a run's time as a sort key; runs without a time come last."""
    return view.seconds if view.seconds is not None else math.inf


def figure_block(key: str, heading: str, caption: str, svg: Any) -> dict[str, Any]:
    """Returns a plot with its id, heading and caption, for the template."""
    return {"id": key, "heading": heading, "caption": caption, "svg": svg}


def _run_curves(views: Sequence[RunView], points: Any) -> tuple[list[plots.Curve], str]:
    """Returns the curves that are drawn, and a sentence on those that are not."""
    drawable = [view for view in views if points(view)]
    shown = {id(view) for view in evenly_spaced(sorted(drawable, key=sort_time), MAX_CURVES)}
    kept = [view for view in drawable if id(view) in shown]
    limit = max(MAX_POINTS // max(len(kept), 1), 6)
    every = [points(view) for view in kept]
    curves = [plots.Curve(view.name, downsample(p, limit), view.tooltip,
                          "converged" if view.run.converged else NOT_CONVERGED)
              for view, p in zip(kept, every)]
    notes = []
    if len(kept) < len(drawable):
        notes.append(f"{len(kept)} of {len(drawable)} runs are drawn, evenly spaced from the "
                     "fastest to the slowest.")
    if any(len(p) > limit for p in every):
        notes.append("Curves are reduced to their ends, peaks and dips.")
    return curves, " ".join(notes)


def curve_figures(key: str, run_set: RunSet, views: Sequence[RunView]) -> list[dict[str, Any]]:
    """Returns the figures of the hit rate by epoch and by wall time."""
    hit_rate_label = hit_rate_name(run_set)
    target = number_within(run_set.target, 0, 1)
    num_reached = sum(v.run.converged for v in views)
    blocks = []
    for name, heading, x_label, points in (
            ("epoch", f"{hit_rate_label} by epoch", "epoch", RunView.hit_rates_by_epoch),
            ("time", f"{hit_rate_label} by wall time", "seconds since run_start",
             RunView.hit_rates_by_time)):
        curves, note = _run_curves(views, points)
        if curves:
            aim = "no common target" if target is None else f"target {target:g}"
            label = (f"{heading} of {len(curves)} run{'s' * (len(curves) != 1)}, {num_reached} "
                     f"reached the target; {aim}.")
            plot = plots.plot_curves(f"{key}-hr-{name}", label, curves, x_label, hit_rate_label,
                                     target)
            blocks.append(figure_block(f"{key}-hr-{name}", heading, f"{label} {note}", plot))
    return blocks


def quality_figures(key: str, run_set: RunSet, views: Sequence[RunView]) -> list[dict[str, Any]]:
    """Returns the figures of NDCG and of the training loss by epoch."""
    blocks = []
    for name, y, points in (("ndcg", hit_rate_name(run_set).replace("HR", "NDCG"),
                             RunView.ndcgs_by_epoch), ("loss", "loss", RunView.losses_by_epoch)):
        curves, note = _run_curves(views, points)
        if curves:
            last = [curve.points[-1][1] for curve in curves]
            heading = f"{y[0].upper()}{y[1:]} by epoch"
            label = (f"{heading} of {len(curves)} run{'s' * (len(curves) != 1)}; in the last epoch "
                     f"{min(last):.4g} to {max(last):.4g}.")
            blocks.append(figure_block(f"{key}-{name}", heading, f"{label} {note}", plots.plot_curves(
                f"{key}-{name}", label, curves, "epoch", y)))
    return blocks


def times_figure(key: str, views: Sequence[RunView], score: Score) -> dict[str, Any] | None:
    """Returns the figure of every run's time and of the runs that the score dropped."""
    shown = {id(v) for v in evenly_spaced(sorted(views, key=sort_time), MAX_MARKS)}
    markers = [plots.TimeMarker(v.name, s, v.role, v.tooltip) for v in views
             if id(v) in shown and (s := number_within(v.seconds, 0, MAX_SECONDS)) is not None]
    if not markers:
        return None
    result = score.result
    label = (f"Time to train of {len(markers)} run{'s' * (len(markers) != 1)}, "
             f"{_time_range(markers)}.")
    caption = "Dropped: " + " and ".join(
        f"the {name} ({format_seconds(value)} s)" for name, value in
        (("fastest", result.fastest_s), ("slowest", result.slowest_s)) if value is not None) + "." \
        if result.seconds is not None else f"No score: {result.reason}."
    if len(shown) < len(views):
        caption += (f" {len(shown)} of {len(views)} runs are drawn, evenly spaced from the fastest "
                 "to the slowest.")
    plot = plots.plot_times(f"{key}-times", label, markers,
                            number_within(result.seconds, 0, MAX_SECONDS), score.ci95)
    return figure_block(f"{key}-times", "Time to train",
                        f"From run_start to run_stop. {clip_text(caption)}", plot)


def _time_range(markers: Sequence[plots.TimeMarker]) -> str:
    """Returns the shortest and the longest time in words."""
    values = [mark.seconds for mark in markers]
    return f"{format_seconds(min(values))} to {format_seconds(max(values))} s"


def stage_figures(key: str, views: Sequence[RunView]) -> list[dict[str, Any]]:
    """Returns the figures of the stages, in seconds and as shares of the run."""
    drawable = [(view.name, view.stages) for view in views
                if view.stages and sum_known(view.stages) > 0]
    if not drawable:
        return []
    names, values = [name for name, _ in drawable], [parts for _, parts in drawable]
    total = math.fsum(map(sum_known, values))
    words = ", ".join(
        f"{name} {100 * sum_known(column) / total:.1f}%" if any(p is not None for p in column)
        else f"{name} not logged separately"
        for name, column in zip(STAGE_NAMES, zip(*values)))
    label = f"Time by stage of {len(drawable)} run{'s' * (len(drawable) != 1)}: {words}."
    shown = evenly_spaced(range(len(drawable)), MAX_STACKS)
    names, values = [names[i] for i in shown], [values[i] for i in shown]
    drawn = f" {len(shown)} of {len(drawable)} runs are drawn, evenly spaced." \
        if len(shown) < len(drawable) else ""
    shares = [[None if p is None else 100 * p / sum_known(parts) for p in parts]
              for parts in values]
    return [
        figure_block(f"{key}-stages", "Time by stage", f"All runs together: {words}.{drawn}",
                     plots.plot_stages(f"{key}-stages", label, names, STAGE_NAMES, values,
                                       "seconds")),
        figure_block(f"{key}-shares", "Time by stage, as a share of the run",
                     "Sampling is the time that the run waits for; overlapped sampling does not "
                     "lengthen the run.",
                     plots.plot_stages(f"{key}-shares", label, names, STAGE_NAMES, shares,
                                       "% of the run"))]


def throughput_figure(key: str, views: Sequence[RunView]) -> dict[str, Any] | None:
    """Returns the figure of the training throughput by epoch, or None if there is none."""
    curves, note = _run_curves(views, RunView.throughput_by_epoch)
    if not curves:
        return None
    values = [y for curve in curves for _, y in curve.points]
    label = (f"Training examples per second by epoch, {format_rate_with_prefix(min(values))} to "
             f"{format_rate_with_prefix(max(values))}.")
    if any(view.has_derived_throughput for view in views):
        note += (" Computed as the track's examples per epoch over the time from train_epoch to "
                 "eval_start; v0.5 logs contain no throughput.")
    return figure_block(f"{key}-rate", "Throughput by epoch", f"{label} {note}",
                        plots.plot_curves(f"{key}-rate", label, curves, "epoch", "examples/s",
                                          None, True))
