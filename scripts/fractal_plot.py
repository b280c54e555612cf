"""Plots the popularity curves of datasets over each other, and prints their figures.

    python -m scripts.fractal_plot --output=docs/fractal.svg ml-1m ml-1m-4x4 ml-1m-16x32

The first track is what the others are held against. Needs the extra `report`. The file
holds at most 120 points of each curve, relative to the mean: nothing of a dataset beyond.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np

from compliance.base.untrusted_files import write_text
from compliance.tracks import TrackError, load_track
from harness.config.run_config import default_data_dir
from harness.config.trial_spec import dataset_spec
from reference_model.base.errors import DataError
from reference_model.data.popularity import gini, ks_distance, rank_curve, top_share
from reference_model.data.prepare import load_split

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "neumf-bench",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
COLOURS = ("#111111", "#0072b2", "#d55e00", "#009e73", "#cc79a7")
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)), (0, (3, 1)))


class Counts(NamedTuple):
    """Ratings of each user and of each item, held-out ones included: int64 [U], [M]."""

    name: str
    users: np.ndarray
    items: np.ndarray


def counts_of(track_name: str, data_dir: Path) -> Counts:
    """The counts of a track's dataset, prepared if need be. Raises DataError, TrackError."""
    track = load_track(track_name)
    split = load_split(dataset_spec(track), data_dir)
    users = np.bincount(split.train_user, minlength=split.num_users) + 1
    items = np.bincount(split.train_item, minlength=split.num_items)
    items += np.bincount(split.test_item, minlength=split.num_items)
    return Counts(track.name, users, items)


def table(datasets: Sequence[Counts]) -> str:
    """Markdown: how ratings spread over items and over users in each dataset."""
    lines = []
    for what in ("items", "users"):
        lines += [
            f"| ratings over {what} | {what} | ratings | top 1% | top 10% | Gini | KS distance |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        first = getattr(datasets[0], what)
        for data in datasets:
            counts = getattr(data, what)
            shares = " | ".join(f"{100 * top_share(counts, part):.1f}%" for part in (0.01, 0.1))
            distance = "" if counts is first else f"{ks_distance(first, counts):.3f}"
            lines.append(
                f"| {data.name} | {len(counts):,} | {counts.sum():,} | {shares} "
                f"| {gini(counts):.3f} | {distance} |"
            )
        lines.append("")
    return "\n".join(lines)


def plot(datasets: Sequence[Counts], path: Path) -> None:
    """Writes the curves of all datasets, items beside users, as SVG."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(9, 3.8))
        FigureCanvasSVG(figure)
        for axes, what in zip(figure.subplots(1, 2), ("items", "users")):
            for k, data in enumerate(datasets):
                axes.loglog(
                    *rank_curve(getattr(data, what)),
                    color=COLOURS[k % len(COLOURS)],
                    linestyle=DASHES[k % len(DASHES)],
                    label=data.name,
                )
            axes.set_title(f"Ratings over {what}")
            axes.set_xlabel(f"rank / number of {what}")
            axes.set_ylabel(f"ratings / mean ratings of {what}")
            axes.minorticks_off()
            axes.legend(loc="lower left")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    short = re.sub(r"(\.\d\d)\d+", r"\1", text.getvalue())  # hundredths of a point are enough
    write_text(path, re.sub(r"[ \t]+$", "", short, flags=re.MULTILINE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 where a dataset cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tracks", nargs="+", help="built-in tracks or track files")
    parser.add_argument("--data_dir", type=Path, default=Path(default_data_dir()))
    parser.add_argument("--output", type=Path, help="the SVG; without it only the table is made")
    chosen = parser.parse_args(arguments)
    try:
        datasets = [counts_of(name, chosen.data_dir) for name in chosen.tracks]
        print(table(datasets))
        if chosen.output:
            plot(datasets, chosen.output)
    except (DataError, TrackError, OSError) as error:
        print(f"fractal_plot: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
