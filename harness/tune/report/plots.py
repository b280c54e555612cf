"""The plots of a tuning's page."""

from __future__ import annotations

import math
from typing import Any, Sequence

from markupsafe import Markup

from compliance.report.html.plot_style import DASHES, add_legend, draw_wide_and_narrow
from compliance.report.html.svg import COLOUR
from harness.tune.learning.models import SecondsModel, observed_epochs
from harness.tune.learning.record import CONVERGED, STOPPED, TrialRecord
from harness.tune.learning.settings import to_scale
from harness.tune.report.text import Outcome, settings_text

# Groups of trials: (heading, colour, marker, whether it is filled).
_GROUPS = (("converged", "c0", "o", True), ("stopped early", "muted", "v", False),
           ("missed or failed", "c1", "X", False))
_MAX_CURVES = 120


def _group(record: TrialRecord) -> int:
    return 0 if record.outcome == CONVERGED else 1 if record.outcome == STOPPED else 2


def _shown(outcome: Outcome) -> list[tuple[TrialRecord, float, float]]:
    """Returns (trial, epochs, seconds per epoch) of the trials that show epochs."""
    seconds, target = SecondsModel(outcome.records), outcome.config.target
    return [(r, e, seconds.seconds_per_epoch(r.settings)) for r in outcome.records
            if (e := observed_epochs(r, target)) is not None]


def plot_setting(outcome: Outcome, name: str) -> Markup:
    """Plots the time to the target of each trial against one setting."""
    fixed = SecondsModel(outcome.records).fixed_seconds
    points = [(r, getattr(r.settings, name), fixed + e * s) for r, e, s in _shown(outcome)]
    is_number = isinstance(points[0][1], (int, float))
    levels = [] if is_number else sorted({x for _, x, _ in points})
    label = f"Expected seconds to the target of {len(points)} trials by {name}."

    def draw(figure: Any, narrow: bool) -> dict[str, str]:
        axes, tooltips = figure.subplots(), {}
        _scatter(axes, tooltips, [
            (r, to_scale(name, x) if is_number else levels.index(x) + _jitter(i), y)
            for i, (r, x, y) in enumerate(points)])
        axes.set_yscale("log")
        axes.set_title("seconds to the target")
        if is_number:
            axes.set_xscale("log", base=2 if name == "batch_size" else 10)
            axes.set_xlabel(f"1 - {name}" if name in ("beta1", "beta2") else name, loc="right")
            if name == "batch_size":
                ticks = sorted({x for _, x, _ in points})
                axes.set_xticks(ticks, [_short(x) for x in ticks], minor=False)
                axes.set_xticks([], minor=True)
        else:
            axes.set_xticks(range(len(levels)), levels)
            axes.set_xlim(-0.5, len(levels) - 0.5)
        _plain_log_axis(axes)
        add_legend(figure, axes, 1 if narrow else 3)
        return tooltips

    return draw_wide_and_narrow(f"by-{name}", label, draw)


def plot_frontier(outcome: Outcome) -> Markup:
    """Plots epochs against seconds per epoch, with lines of equal time."""
    points = _shown(outcome)
    fixed = SecondsModel(outcome.records).fixed_seconds
    label = f"Epochs to the target against seconds per epoch of {len(points)} trials."

    def draw(figure: Any, narrow: bool) -> dict[str, str]:
        axes, tooltips = figure.subplots(), {}
        _scatter(axes, tooltips, [(r, s, e) for r, e, s in points])
        corner = frontier(points)
        axes.plot([s for s, _ in corner], [e for _, e in corner], color=COLOUR["c0"],
                  linestyle=DASHES[1], linewidth=1.2, label="frontier")
        best = min(s * e for _, e, s in points)
        low, high = (f(s for _, _, s in points) for f in (min, max))
        for factor in (1, 2, 4):
            xs = [low * (high / low) ** (k / 40) if high > low else low * 0.8 * 1.5 ** (k / 40)
                  for k in range(41)]
            axes.plot(xs, [factor * best / x for x in xs], color=COLOUR["grid"], zorder=1)
            axes.annotate(f"{fixed + factor * best:.3g} s", (xs[20], factor * best / xs[20]),
                          color=COLOUR["muted"], fontsize=10)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(0.8 * min(e for _, e, _ in points), 1.2 * max(e for _, e, _ in points))
        axes.set_title("epochs to the target")
        axes.set_xlabel("seconds per epoch", loc="right")
        _plain_log_axis(axes)
        _plain_log_axis(axes, "x")
        add_legend(figure, axes, 2 if narrow else 4)
        return tooltips

    return draw_wide_and_narrow("frontier", label, draw)


def frontier(points: Sequence[tuple[TrialRecord, float, float]]) -> list[tuple[float, float]]:
    """Returns (seconds per epoch, epochs) of the converged trials that none beats in both."""
    reached = sorted((s, e) for r, e, s in points if r.outcome == CONVERGED)
    found: list[tuple[float, float]] = []
    for seconds, epochs in reached:
        if not found or epochs < found[-1][1]:
            found.append((seconds, epochs))
    return found


def plot_hit_rates(outcome: Outcome) -> Markup:
    """Plots the curve of every trial."""
    records = [r for r in outcome.records if r.hit_rates]
    step = max(1, math.ceil(len(records) / _MAX_CURVES))
    label = f"Hit rate by epoch of {len(records)} trials; target {outcome.config.target}."

    def draw(figure: Any, narrow: bool) -> dict[str, str]:
        axes, tooltips, seen = figure.subplots(), {}, set()
        for i, record in enumerate(records[::step]):
            heading, colour, marker, _ = _GROUPS[_group(record)]
            (line,) = axes.plot(
                range(1, len(record.hit_rates) + 1), record.hit_rates, color=COLOUR[colour],
                marker=marker if len(record.hit_rates) == 1 else None, linewidth=1.1, alpha=0.5,
                linestyle=DASHES[_group(record)], label=None if heading in seen else heading)
            seen.add(heading)
            line.set_gid(f"h{i}")
            tooltips[f"h{i}"] = settings_text(record.settings)
        axes.axhline(outcome.config.target, color=COLOUR["text"], linestyle=DASHES[1])
        axes.set_title(f"HR@{outcome.config.track.evaluation.top_k}")
        axes.set_xlabel("epoch", loc="right")
        add_legend(figure, axes, 1 if narrow else 3)
        return tooltips

    return draw_wide_and_narrow("curves", label, draw)


def plot_importance(shares: dict[str, float]) -> Markup:
    """Plots the importance of each setting as a bar."""
    names = sorted(shares, key=lambda name: shares[name])
    label = "Importance of the settings: " + ", ".join(
        f"{name} {100 * shares[name]:.0f}%" for name in reversed(names)) + "."

    def draw(figure: Any, narrow: bool) -> dict[str, str]:
        axes = figure.subplots()
        axes.barh(range(len(names)), [100 * shares[n] for n in names], color=COLOUR["c0"],
                  height=0.6)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("importance, %", loc="right")
        axes.grid(axis="y", visible=False)
        return {}

    return draw_wide_and_narrow("importance-plot", label, draw, (90 + 27 * len(names),) * 2)


def _scatter(
    axes: Any, tooltips: dict[str, str], points: Sequence[tuple[TrialRecord, float, float]]
) -> None:
    """Draws a marker for each trial, in the style of its group."""
    for number, (heading, colour, marker, is_filled) in enumerate(_GROUPS):
        label: str | None = heading
        for i, (record, x, y) in enumerate(points):
            if _group(record) != number:
                continue
            point = axes.scatter([x], [y], marker=marker, s=26, linewidths=1.2, label=label,
                                 edgecolors=COLOUR[colour], zorder=3,
                                 facecolors=COLOUR[colour] if is_filled else "none")
            label = None
            point.set_gid(f"g{i}")
            tooltips[f"g{i}"] = f"{y:.3g}: {settings_text(record.settings)}"


def _plain_log_axis(axes: Any, which: str = "y") -> None:
    """Labels a logarithmic axis with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _jitter(index: int) -> float:
    """Returns a small offset, so that markers of one category do not cover each other."""
    return 0.3 * ((index * 0.618034) % 1 - 0.5)


def _short(count: float) -> str:
    return f"{count / 1024:g}k" if count >= 1024 and count % 1024 == 0 else f"{count:g}"
