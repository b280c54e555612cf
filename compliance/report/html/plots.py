"""The plots of a page, drawn by matplotlib without its global state.

matplotlib, since it is what keeps best: it needs no script in the page, no browser to make
it, and writes SVG whose text stays text.  Every plot is drawn twice, for wide and for narrow
places, because an SVG that is shrunk to a phone has letters that nobody can read; the page
shows the one that fits.  Labels come from logs: they are plain text here (no mathtext).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Sequence

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from compliance.report.html.limits import BARS, Point
from compliance.report.html.svg import COLOUR, as_svg

WIDE, NARROW = 560, 330  # pixels
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)))
MARKERS = "osD^vPX*"
FAINT = 0.4  # of curves that are many
HATCHES = ("", "///", "", "\\\\\\", "xx")
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "neumf-bench", "text.parse_math": False,
    "font.family": "DejaVu Sans", "font.size": 12, "text.color": COLOUR["text"],
    "axes.edgecolor": COLOUR["muted"], "axes.linewidth": 1, "axes.grid": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.titlesize": 12, "axes.titlelocation": "left", "axes.titlecolor": COLOUR["muted"],
    "axes.labelcolor": COLOUR["muted"], "axes.facecolor": "none", "figure.facecolor": "none",
    "grid.color": COLOUR["grid"], "grid.linewidth": 1,
    "xtick.color": COLOUR["muted"], "ytick.color": COLOUR["muted"],
    "xtick.labelcolor": COLOUR["text"], "ytick.labelcolor": COLOUR["text"],
    "xtick.major.size": 4, "ytick.major.size": 0, "legend.frameon": False,
    "legend.fontsize": 12, "legend.handlelength": 2.2, "legend.columnspacing": 1.4,
    "legend.borderpad": 0, "legend.borderaxespad": 0.2, "hatch.linewidth": 1.2,
    "lines.linewidth": 1.8, "lines.markersize": 4.5, "figure.constrained_layout.use": True,
    "figure.dpi": 72}


@dataclass(frozen=True)
class Curve:
    """A line of a plot.  `group`: where there are many, one of GROUPS instead of a name."""

    label: str
    points: list[Point]
    tip: str
    group: str = "converged"


@dataclass(frozen=True)
class Mark:
    """A run in the plot of times: seconds, and what the score made of it."""

    label: str
    seconds: float
    role: str
    tip: str


@dataclass(frozen=True)
class Kind:
    """How a group of many runs looks."""

    colour: str
    dash: Any = "-"
    marker: str = "o"
    filled: bool = True


GROUPS = {"converged": Kind("c0"), "did not converge": Kind("c1", DASHES[1]),
          "A": Kind("c0"), "B": Kind("c1", DASHES[1])}
COUNTED, FASTEST, SLOWEST, LATE, MISSED, NONE, PLAIN = (
    "counted", "dropped: fastest", "dropped: slowest", "not taken: after the first 50",
    "did not converge", "no run: interrupted", "converged")
ROLES = {COUNTED: Kind("c0"), PLAIN: Kind("c0"), FASTEST: Kind("c3", marker="v"),
         SLOWEST: Kind("c3", marker="^"), LATE: Kind("muted", filled=False),
         MISSED: Kind("c1", marker="X"), NONE: Kind("muted", marker="P"),
         "A": Kind("c0"), "B": Kind("c1", marker="D"),
         "A, did not converge": Kind("c0", marker="X", filled=False),
         "B, did not converge": Kind("c1", marker="X", filled=False)}


@contextmanager
def _style() -> Iterator[None]:
    """Our style alone, whatever the user's own settings of matplotlib are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def both(key: str, label: str, draw: Callable[[Any, bool], dict[str, str]],
         heights: tuple[int, int] = (310, 290)) -> Markup:
    """The plot for wide and for narrow places; `draw(figure, narrow)` returns tooltips."""
    parts = []
    for kind, width, height in (("wide", WIDE, heights[0]), ("narrow", NARROW, heights[1])):
        with _style():
            figure = Figure(figsize=(width / 72, height / 72))
            FigureCanvasSVG(figure)
            tips = draw(figure, kind == "narrow")
            parts.append(as_svg(figure, f"{key}-{kind[0]}", label, kind, tips))
    return Markup("").join(parts)


def _legend(figure: Any, axes: Any, columns: int) -> None:
    """A legend above the plot, in rows (matplotlib fills columns)."""
    entries = list(zip(*axes.get_legend_handles_labels()))
    entries.sort(key=lambda entry: entry[1].startswith(("score ", "95% ")))
    if entries:
        columns = min(columns, len(entries))
        in_rows = [entry for column in range(columns) for entry in entries[column::columns]]
        legend = figure.legend(*zip(*in_rows), loc="outside upper left", ncols=columns)
        for handle in legend.legend_handles:
            if handle.get_alpha() == FAINT:
                handle.set(alpha=1, linewidth=1.8)


def _clip(text: str, limit: int) -> str:
    text = text.removesuffix(".txt")
    return text if len(text) <= limit else text[:limit - 1] + "…"


def curves(key: str, label: str, lines: Sequence[Curve], x: str, y: str,
           target: float | None = None, from_zero: bool = False) -> Markup:
    """Lines over epochs or seconds, with the target where there is one."""
    named = len(lines) <= 8 and not {line.group for line in lines} & {"A", "B"}
    marked = sum(len(line.points) for line in lines) <= 250

    def draw(figure: Any, narrow: bool) -> dict[str, str]:
        axes, tips, seen = figure.subplots(), {}, set()
        for i, line in enumerate(lines):
            kind = GROUPS[line.group]
            name = _clip(line.label, 12) if named else line.group
            if named and line.group != "converged":
                name += " (missed)"
            (artist,) = axes.plot(
                *zip(*line.points), label=None if name in seen else name,
                color=COLOUR[f"c{i % 8}" if named else kind.colour],
                linestyle=DASHES[i % 4] if named else kind.dash,
                marker=(MARKERS[i % 8] if named else kind.marker) if marked else None,
                alpha=1 if named or len(lines) <= 20 else FAINT,
                linewidth=1.8 if named else 1.1,
                zorder=2 if line.group in ("converged", "A") else 3)
            seen.add(name)
            artist.set_gid(f"s{i}")
            tips[f"s{i}"] = line.tip
        axes.set_title(y)
        axes.set_xlabel(x, loc="right")
        axes.margins(x=0.03, y=0.08)
        if x == "epoch":
            axes.xaxis.set_major_locator(MaxNLocator(6 if narrow else 9, integer=True))
        if from_zero:
            axes.set_ylim(0, 1.1 * max(y for line in lines for _, y in line.points))
            axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        if target is not None:
            axes.axhline(target, color=COLOUR["text"], linestyle=(0, (4, 3)), linewidth=1.2)
            axes.annotate(f"target {target:g}", (0, target), (6, 4), textcoords="offset points",
                          xycoords=("axes fraction", "data"), color=COLOUR["text"])
        _legend(figure, axes, (3 if named else 2) if narrow else 5)
        return tips

    return both(key, label, draw)


def times(key: str, label: str, marks: Sequence[Mark], score: float | None,
          interval: Sequence[float] | None) -> Markup:
    """Seconds of every run: a bar each, or points where there are many."""
    few = len(marks) <= BARS
    height = max(96 + 27 * len(marks), 310) if few else 350

    def draw(figure: Any, narrow: bool) -> dict[str, str]:
        axes = figure.subplots()
        tips = (_bars if few else _points)(axes, marks, narrow)
        line, span = (axes.axvline, axes.axvspan) if few else (axes.axhline, axes.axhspan)
        if interval:
            span(*interval, color=COLOUR["text"], alpha=0.12, linewidth=0, label="95% interval")
        if score is not None:
            line(score, color=COLOUR["text"], linestyle=(0, (4, 3)), linewidth=1.2,
                 label=f"score {score:.4g} s")
        _legend(figure, axes, (1 if not few else 2) if narrow else 3 if few else 2)
        return tips

    return both(key, label, draw, (height, height + (20 if few else 60)))


def points(key: str, label: str, marks: Sequence[Mark]) -> Markup:
    """Seconds of the runs of two sets, one after the other."""
    def draw(figure: Any, narrow: bool) -> dict[str, str]:
        axes = figure.subplots()
        tips = _points(axes, marks, narrow)
        axes.set_ylim(0, 1.1 * max(mark.seconds for mark in marks) or 1)
        axes.set_xlabel("runs of A, then of B", loc="right")
        _legend(figure, axes, 2)
        return tips

    return both(key, label, draw, (250, 260))


def _bars(axes: Any, marks: Sequence[Mark], narrow: bool) -> dict[str, str]:
    tips, seen, longest = {}, set(), max(mark.seconds for mark in marks)
    for i, mark in enumerate(marks):
        kind, counted = ROLES[mark.role], mark.role in (COUNTED, PLAIN)
        (bar,) = axes.barh(
            i, mark.seconds, height=0.6, color=COLOUR[kind.colour] if counted else "none",
            edgecolor=COLOUR[kind.colour], hatch=None if counted else "////", linewidth=1.2,
            label=None if mark.role in seen else mark.role)
        seen.add(mark.role)
        bar.set_gid(f"b{i}")
        tips[f"b{i}"] = mark.tip
        axes.annotate(f"{mark.seconds:.4g} s", (mark.seconds, i), (5, 0), va="center",
                      textcoords="offset points", color=COLOUR["text"], zorder=5,
                      bbox={"facecolor": COLOUR["surface"], "edgecolor": "none", "pad": 1})
    axes.set_yticks(range(len(marks)), [_clip(m.label, 14 if narrow else 22) for m in marks])
    axes.set_ylim(len(marks) - 0.4, -0.6)
    axes.set_xlim(0, (longest or 1) * (1.3 if narrow else 1.16))
    axes.xaxis.set_major_locator(MaxNLocator(4 if narrow else 7))
    axes.set_xlabel("seconds", loc="right")
    axes.grid(axis="y", visible=False)
    return tips


def _points(axes: Any, marks: Sequence[Mark], narrow: bool) -> dict[str, str]:
    tips: dict[str, str] = {}
    for role, kind in ROLES.items():
        members = [(i, mark) for i, mark in enumerate(marks) if mark.role == role]
        look = {"marker": kind.marker, "s": 30 if kind.marker == "o" else 52, "linewidths": 1.3,
                "facecolors": COLOUR[kind.colour] if kind.filled else "none",
                "edgecolors": COLOUR[kind.colour]}
        if not members:
            continue
        name = f"{role} ({len(members)})"
        if len(members) > 40:
            axes.scatter(*zip(*((i, m.seconds) for i, m in members)), label=name, **look)
            continue
        for n, (i, mark) in enumerate(members):  # one by one, for their tooltips
            point = axes.scatter([i], [mark.seconds], label=None if n else name, **look)
            point.set_gid(f"m{i}")
            tips[f"m{i}"] = mark.tip
    axes.set_title("seconds")
    axes.set_xlabel("runs in the order of their logs", loc="right")
    axes.xaxis.set_major_locator(MaxNLocator(5 if narrow else 9, integer=True))
    axes.margins(x=0.02)
    return tips


def stages(key: str, label: str, names: Sequence[str], stages_: Sequence[str],
           values: Sequence[Sequence[float | None]], unit: str) -> Markup:
    """Stacked parts of each run: bars with names, or steps where there are many.

    values: for each run the parts, in the order of `stages_`.  A stage that takes no time
    in any run is left out.
    """
    few = len(names) <= BARS
    height = max(104 + 27 * len(names), 310) if few else 310

    def draw(figure: Any, narrow: bool) -> dict[str, str]:
        axes, tips = figure.subplots(), {}
        base = [0.0] * len(names)
        for s, stage in enumerate(stages_):
            part = [row[s] or 0.0 for row in values]
            if not any(part):
                continue
            top = [b + p for b, p in zip(base, part)]
            look = {"facecolor": COLOUR[f"c{s}"], "edgecolor": COLOUR["surface"],
                    "hatch": HATCHES[s], "linewidth": 0.6, "label": stage}
            if few:
                for i, bar in enumerate(axes.barh(range(len(names)), part, left=base,
                                                  height=0.6, **look)):
                    bar.set_gid(f"{s}.{i}")
                    tips[f"{s}.{i}"] = f"{names[i]}: {stage} {part[i]:.4g} {unit}"
            else:
                edges = [x - 0.5 for x in range(len(names) + 1)]
                axes.fill_between(edges, [*base, base[-1]], [*top, top[-1]], step="post", **look)
            base = top
        longest = max(base) or 1
        if few:
            axes.set_yticks(range(len(names)), [_clip(n, 14 if narrow else 22) for n in names])
            axes.set_ylim(len(names) - 0.4, -0.6)
            axes.set_xlim(0, longest * 1.02)
            axes.set_xlabel(unit, loc="right")
            axes.xaxis.set_major_locator(MaxNLocator(4 if narrow else 7))
            axes.grid(axis="y", visible=False)
        else:
            axes.set_xlim(-0.5, len(names) - 0.5)
            axes.set_ylim(0, longest * 1.02)
            axes.set_title(unit)
            axes.set_xlabel("runs in the order of their logs", loc="right")
            axes.xaxis.set_major_locator(MaxNLocator(5 if narrow else 9, integer=True))
        _legend(figure, axes, 3 if narrow else 5)
        return tips

    return both(key, label, draw, (height, height + 22))


def ratios(key: str, label: str, rows: Sequence[tuple[str, float, float | None, float | None]]
           ) -> Markup:
    """Ratios of B over A with their intervals, around 1."""
    def draw(figure: Any, narrow: bool) -> dict[str, str]:
        axes, tips = figure.subplots(), {}
        for i, (name, value, low, high) in enumerate(rows):
            if low is not None and high is not None:
                axes.hlines(i, low, high, color=COLOUR["c0"], linewidth=3)
            (point,) = axes.plot([value], [i], marker="D", color=COLOUR["c0"], markersize=8)
            point.set_gid(f"r{i}")
            tips[f"r{i}"] = f"{name}: {value:.4g}"
            axes.annotate(f"{value:.3f}", (value, i), (0, 9), textcoords="offset points",
                          ha="center", color=COLOUR["text"])
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
        return tips

    return both(key, label, draw, (230, 240))
