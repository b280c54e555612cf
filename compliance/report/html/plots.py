"""The plots of a page, drawn by matplotlib without its global state.

matplotlib needs no script in the page and no browser, and it writes SVG in which text stays
text. Labels come from logs, so they are drawn as plain text (no mathtext).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

from markupsafe import Markup
from matplotlib.ticker import EngFormatter, MaxNLocator

from compliance.report.html.limits import MAX_BARS, PlotPoint, evenly_spaced
from compliance.report.html.plot_style import (
    DASHES,
    FAINT_ALPHA,
    GROUPS,
    HATCHES,
    MARKERS,
    ROLES,
    add_legend,
    clip_label,
    draw_wide_and_narrow,
    write_beside,
)
from compliance.report.html.svg import COLOUR, Tooltips


@dataclass(frozen=True)
class Curve:
    """A line of a plot.

    Attributes:
      label: The run's name.
      points: (x, y).
      tooltip: The run in one line.
      group: One of GROUPS, which determines the style if there are many curves.
    """

    label: str
    points: list[PlotPoint]
    tooltip: str
    group: str = "converged"


@dataclass(frozen=True)
class TimeMarker:
    """A run in the plot of times.

    Attributes:
      label: The run's name.
      seconds: Its time to train.
      role: Its role under the scoring rule, one of ROLES.
      tooltip: The run in one line.
    """

    label: str
    seconds: float
    role: str
    tooltip: str


def plot_curves(id_prefix: str, label: str, curves: Sequence[Curve], x: str, y: str,
                target: float | None = None, from_zero: bool = False) -> Markup:
    """Plots lines over epochs or seconds, with the target if there is one.

    Args:
      id_prefix: The prefix of the ids of the drawings.
      label: A description of the plot.
      curves: The lines, at least one.
      x: The label of the x axis.
      y: The title of the y axis.
      target: A hit rate to mark, or None.
      from_zero: Whether the y axis begins at 0.

    Returns:
      The plot.
    """
    has_own_styles = len(curves) <= 8 and not {line.group for line in curves} & {"A", "B"}
    has_markers = sum(len(line.points) for line in curves) <= 250

    def draw(figure: Any, narrow: bool) -> Tooltips:
        axes, tooltips, seen = figure.subplots(), {}, set()
        for i, line in enumerate(curves):
            appearance = GROUPS[line.group]
            name = clip_label(line.label, 12) if has_own_styles else line.group
            if has_own_styles and line.group != "converged":
                name += " (missed)"
            (artist,) = axes.plot(
                *zip(*line.points), label=None if name in seen else name,
                color=COLOUR[f"c{i % 8}" if has_own_styles else appearance.colour],
                linestyle=DASHES[i % 4] if has_own_styles else appearance.dash,
                marker=None if not has_markers
                else MARKERS[i % 8] if has_own_styles else appearance.marker,
                alpha=1 if has_own_styles or len(curves) <= 20 else FAINT_ALPHA,
                linewidth=1.8 if has_own_styles else 1.1,
                zorder=2 if line.group in ("converged", "A") else 3)
            seen.add(name)
            artist.set_gid(f"s{i}")
            tooltips[f"s{i}"] = [line.tooltip, *_point_texts(line, x, y)] if has_markers \
                else line.tooltip
        axes.set_title(y)
        axes.set_xlabel(x, loc="right")
        axes.margins(x=0.03, y=0.08)
        if x == "epoch":
            axes.xaxis.set_major_locator(MaxNLocator(6 if narrow else 9, integer=True))
        if from_zero:
            axes.set_ylim(0, 1.1 * max(y for line in curves for _, y in line.points))
            axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        if target is not None:
            axes.axhline(target, color=COLOUR["text"], linestyle=(0, (4, 3)), linewidth=1.2,
                         label=f"target {target:g}")
        add_legend(figure, axes, (3 if has_own_styles else 2) if narrow else 5)
        return tooltips

    return draw_wide_and_narrow(id_prefix, label, draw)


def _point_texts(line: Curve, x: str, y: str) -> list[str]:
    """Returns the tooltips of the points of a line: the run and both values."""
    name = clip_label(line.label, 40)
    group = f"{line.group}, " if line.group in ("A", "B") else ""
    where = "epoch {:g}" if x == "epoch" else "{:.4g} s"
    return [f"{group}{name}, {where.format(at)}: {y} {value:.6g}" for at, value in line.points]


def plot_times(id_prefix: str, label: str, markers: Sequence[TimeMarker], score: float | None,
               interval: Sequence[float] | None) -> Markup:
    """Plots the seconds of every run: a bar for each, or points if there are many.

    Args:
      id_prefix: The prefix of the ids of the drawings.
      label: A description of the plot.
      markers: The runs.
      score: The score in seconds, or None.
      interval: [low, high] of the score in seconds, or None.

    Returns:
      The plot.
    """
    is_small = len(markers) <= MAX_BARS
    height = max(96 + 27 * len(markers), 310) if is_small else 350

    def draw(figure: Any, narrow: bool) -> Tooltips:
        axes = figure.subplots()
        tooltips = (_draw_bars if is_small else _draw_points)(axes, markers, narrow)
        line, span = (axes.axvline, axes.axvspan) if is_small else (axes.axhline, axes.axhspan)
        if interval:
            span(*interval, color=COLOUR["text"], alpha=0.12, linewidth=0, label="95% interval")
        if score is not None:
            line(score, color=COLOUR["text"], linestyle=(0, (4, 3)), linewidth=1.2,
                 label=f"score {score:.4g} s")
        add_legend(figure, axes, (1 if not is_small else 2) if narrow else 3 if is_small else 2)
        return tooltips

    return draw_wide_and_narrow(id_prefix, label, draw, (height, height + (20 if is_small else 60)))


def plot_two_sets(id_prefix: str, label: str, markers: Sequence[TimeMarker]) -> Markup:
    """Plots the seconds of the runs of two sets, one set after the other.

    A few runs are bars with names, more are points.
    """
    is_small = len(markers) <= MAX_BARS
    height = 76 + 27 * len(markers) if is_small else 310

    def draw(figure: Any, narrow: bool) -> Tooltips:
        axes = figure.subplots()
        tooltips = (_draw_bars if is_small else _draw_points)(axes, markers, narrow)
        if not is_small:
            axes.set_ylim(0, 1.1 * max(marker.seconds for marker in markers) or 1)
        add_legend(figure, axes, 2)
        return tooltips

    return draw_wide_and_narrow(id_prefix, label, draw, (height, height + 20))


def _draw_bars(axes: Any, markers: Sequence[TimeMarker], narrow: bool) -> Tooltips:
    """Draws a bar with a name for each run and returns the tooltips."""
    tooltips: Tooltips = {}
    seen, longest = set(), max(marker.seconds for marker in markers)
    for i, marker in enumerate(markers):
        # Runs outside the mean are hatched instead of filled, each role in its own way.
        appearance = ROLES[marker.role]
        (bar,) = axes.barh(
            i, marker.seconds, height=0.6, linewidth=1.2,
            color="none" if appearance.hatch else COLOUR[appearance.colour],
            edgecolor=COLOUR[appearance.colour], hatch=appearance.hatch or None,
            label=None if marker.role in seen else marker.role)
        seen.add(marker.role)
        bar.set_gid(f"b{i}")
        tooltips[f"b{i}"] = marker.tooltip
        write_beside(axes, i, f"{marker.seconds:.4g} s")
    axes.set_yticks(range(len(markers)),
                    [clip_label(m.label, 14 if narrow else 22) for m in markers])
    axes.set_ylim(len(markers) - 0.4, -0.6)
    axes.set_xlim(0, (longest or 1) * 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(4 if narrow else 7))
    axes.set_xlabel("seconds", loc="right")
    axes.grid(axis="y", visible=False)
    return tooltips


def _draw_points(axes: Any, markers: Sequence[TimeMarker], narrow: bool) -> Tooltips:
    """Draws a point for each run, in the style of its role, and returns the tooltips."""
    tooltips: Tooltips = {}
    for role, appearance in ROLES.items():
        members = [(i, marker) for i, marker in enumerate(markers) if marker.role == role]
        style = {"marker": appearance.marker, "s": 30 if appearance.marker == "o" else 52,
                 "linewidths": 1.3,
                 "facecolors": COLOUR[appearance.colour] if appearance.is_filled else "none",
                 "edgecolors": COLOUR[appearance.colour]}
        if not members:
            continue
        name = f"{role} ({len(members)})"
        if len(members) > 40:
            axes.scatter(*zip(*((i, m.seconds) for i, m in members)), label=name, **style)
            continue
        # Markers are drawn one by one, so each has its own tooltip.
        for n, (i, marker) in enumerate(members):
            point = axes.scatter([i], [marker.seconds], label=None if n else name, **style)
            point.set_gid(f"m{i}")
            tooltips[f"m{i}"] = marker.tooltip
    axes.set_title("seconds")
    _name_runs(axes, [marker.label for marker in markers], narrow)
    axes.margins(x=0.02)
    return tooltips


def _name_runs(axes: Any, names: Sequence[str], narrow: bool) -> None:
    """Writes the names of some of many runs below the x axis."""
    named = evenly_spaced(range(len(names)), 5 if narrow else 9)
    axes.set_xticks(named, [clip_label(names[i], 14) for i in named], rotation=30, ha="right",
                    rotation_mode="anchor")


def plot_stages(id_prefix: str, label: str, names: Sequence[str], stage_names: Sequence[str],
                values: Sequence[Sequence[float | None]], unit: str) -> Markup:
    """Plots the stages of each run as stacked bars, or as steps if there are many runs.

    A stage that takes no time in any run is left out.

    Args:
      id_prefix: The prefix of the ids of the drawings.
      label: A description of the plot.
      names: The runs' names.
      stage_names: The stages' names.
      values: [runs][stages] in `unit`; None if a log has no such stage.
      unit: The unit of the values.

    Returns:
      The plot.
    """
    is_small = len(names) <= MAX_BARS
    height = max(104 + 27 * len(names), 310) if is_small else 310

    def draw(figure: Any, narrow: bool) -> Tooltips:
        axes, tooltips = figure.subplots(), {}
        base = [0.0] * len(names)
        for s, stage in enumerate(stage_names):
            part = [row[s] or 0.0 for row in values]
            if not any(part):
                continue
            top = [b + p for b, p in zip(base, part)]
            style = {"facecolor": COLOUR[f"c{s}"], "edgecolor": COLOUR["surface"],
                      "hatch": HATCHES[s], "linewidth": 0.6, "label": stage}
            if is_small:
                for i, bar in enumerate(axes.barh(range(len(names)), part, left=base,
                                                  height=0.6, **style)):
                    bar.set_gid(f"{s}.{i}")
                    tooltips[f"{s}.{i}"] = f"{names[i]}: {stage} {part[i]:.4g} {unit}"
            else:
                edges = [x - 0.5 for x in range(len(names) + 1)]
                axes.fill_between(edges, [*base, base[-1]], [*top, top[-1]], step="post", **style)
            base = top
        longest = max(base) or 1
        if is_small:
            axes.set_yticks(range(len(names)), [clip_label(n, 14 if narrow else 22) for n in names])
            axes.set_ylim(len(names) - 0.4, -0.6)
            axes.set_xlim(0, longest * 1.02)
            axes.set_xlabel(unit, loc="right")
            axes.xaxis.set_major_locator(MaxNLocator(4 if narrow else 7))
            axes.grid(axis="y", visible=False)
        else:
            axes.set_xlim(-0.5, len(names) - 0.5)
            axes.set_ylim(0, longest * 1.02)
            axes.set_title(unit)
            _name_runs(axes, names, narrow)
        add_legend(figure, axes, 3 if narrow else 5)
        return tooltips

    return draw_wide_and_narrow(id_prefix, label, draw, (height, height + 22))


def plot_ratios(id_prefix: str, label: str,
                rows: Sequence[tuple[str, float, float | None, float | None]]) -> Markup:
    """Plots ratios of B over A with their intervals; 1 is in the middle.

    Args:
      id_prefix: The prefix of the ids of the drawings.
      label: A description of the plot.
      rows: (name, ratio, lower bound, upper bound); bounds are None without an interval.

    Returns:
      The plot.
    """
    def draw(figure: Any, narrow: bool) -> Tooltips:
        axes, tooltips = figure.subplots(), {}
        for i, (name, value, low, high) in enumerate(rows):
            if low is not None and high is not None:
                axes.hlines(i, low, high, color=COLOUR["c0"], linewidth=3)
            (point,) = axes.plot([value], [i], marker="D", color=COLOUR["c0"], markersize=8)
            point.set_gid(f"r{i}")
            interval = "" if low is None or high is None else f", 95% {low:.4g} to {high:.4g}"
            tooltips[f"r{i}"] = f"{name}: {value:.4g}{interval}"
            write_beside(axes, i, f"{value:.3f}")
        axes.axvline(1, color=COLOUR["text"], linestyle=(0, (4, 3)), linewidth=1.2)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.7)
        ends = [1.0, *(v for row in rows for v in row[1:] if v is not None)]
        reach = max(max(ends) - 1, 1 - min(ends), 0.05) * 1.2
        axes.set_xlim(max(1 - reach, 0), 1 + reach)
        axes.set_title("B faster ←  1  → B slower")
        axes.set_xlabel("B over A", loc="right")
        axes.xaxis.set_major_locator(MaxNLocator(4 if narrow else 7))
        axes.grid(axis="y", visible=False)
        return tooltips

    return draw_wide_and_narrow(id_prefix, label, draw, (230, 240))
