"""The style of the plots: sizes, line styles, colours by role, legends.

Every plot is drawn twice, for wide and for narrow screens, because the text of an SVG that
is scaled down to a phone's width is unreadable; the page shows the one that fits.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Iterator

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from compliance.report.html.svg import COLOUR, Tooltips, figure_to_svg

WIDE, NARROW = 560, 330  # pixels
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)))
MARKERS = "osD^vPX*"
FAINT_ALPHA = 0.4  # opacity of curves if there are many
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
class Appearance:
    """The look of a group of runs.

    Attributes:
      colour: The name of a colour in `svg.COLOUR`.
      dash: matplotlib's line style.
      marker: matplotlib's marker.
      is_filled: Whether markers are filled.
      hatch: The pattern of bars; empty for filled bars.
    """

    colour: str
    dash: Any = "-"
    marker: str = "o"
    is_filled: bool = True
    hatch: str = ""


GROUPS = {"converged": Appearance("c0"), "did not converge": Appearance("c1", DASHES[1]),
          "A": Appearance("c0"), "B": Appearance("c1", DASHES[1])}
COUNTED, FASTEST, SLOWEST, NOT_TAKEN, NOT_CONVERGED, INTERRUPTED, CONVERGED = (
    "counted", "dropped: fastest", "dropped: slowest", "not taken: after the first 50",
    "did not converge", "interrupted attempt", "converged")
ROLES = {COUNTED: Appearance("c0"), CONVERGED: Appearance("c0"),
         FASTEST: Appearance("c2", marker="v", hatch="////"),
         SLOWEST: Appearance("c3", marker="^", hatch="||||"),
         NOT_TAKEN: Appearance("muted", is_filled=False, hatch="--"),
         NOT_CONVERGED: Appearance("c1", marker="X", hatch="xx"),
         INTERRUPTED: Appearance("muted", marker="P", hatch="++"),
         "A": Appearance("c0"), "B": Appearance("c1", marker="D"),
         "A, did not converge": Appearance("c0", marker="X", is_filled=False, hatch="xx"),
         "B, did not converge": Appearance("c1", marker="X", is_filled=False, hatch="xx")}


@contextmanager
def use_plot_style() -> Iterator[None]:
    """Applies only the style of these plots, independent of the user's settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def draw_wide_and_narrow(id_prefix: str, label: str, draw: Callable[[Any, bool], Tooltips],
                         heights: tuple[int, int] = (310, 290)) -> Markup:
    """Draws a plot for wide and for narrow screens.

    Args:
      id_prefix: The prefix of the ids of both drawings.
      label: A description of the plot for screen readers.
      draw: Takes (figure, whether it is narrow), draws on the figure and returns the tooltips.
      heights: The heights of the wide and of the narrow drawing, in pixels.

    Returns:
      Both SVG elements.
    """
    parts = []
    for css_class, width, height in (("wide", WIDE, heights[0]), ("narrow", NARROW, heights[1])):
        with use_plot_style():
            figure = Figure(figsize=(width / 72, height / 72))
            FigureCanvasSVG(figure)
            tooltips = draw(figure, css_class == "narrow")
            parts.append(figure_to_svg(figure, f"{id_prefix}-{css_class[0]}", label, css_class,
                                       tooltips))
    return Markup("").join(parts)


def add_legend(figure: Any, axes: Any, columns: int) -> None:
    """Adds a legend above the plot, filled row by row (matplotlib fills columns)."""
    entries = list(zip(*axes.get_legend_handles_labels()))
    entries.sort(key=lambda entry: entry[1].startswith(("score ", "95% ", "target ")))
    if entries:
        columns = min(columns, len(entries))
        in_rows = [entry for column in range(columns) for entry in entries[column::columns]]
        legend = figure.legend(*zip(*in_rows), loc="outside upper left", ncols=columns)
        for handle in legend.legend_handles:
            # Curves are faint only if there are many; legend entries are not faint.
            if handle.get_alpha() == FAINT_ALPHA:
                handle.set(alpha=1, linewidth=1.8)


def write_beside(axes: Any, row: int, text: str) -> None:
    """Writes the value of a row to the right of the axes, where no line can strike it."""
    axes.annotate(text, (1, row), (6, 0), va="center", xycoords=("axes fraction", "data"),
                  textcoords="offset points", color=COLOUR["text"], annotation_clip=False)


def clip_label(text: str, limit: int) -> str:
    """Shortens a label to `limit` characters, without the suffix of a log's name."""
    text = text.removesuffix(".txt")
    return text if len(text) <= limit else text[:limit - 1] + "…"
