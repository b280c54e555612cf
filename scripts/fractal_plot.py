"""Plots the popularity curves of datasets over each other, and prints their figures.

    python -m scripts.fractal_plot --output=docs/fractal.svg ml-1m ml-1m-4x4 ml-1m-16x32

The others are compared with the first track. The extra `report` is needed. The SVG holds at
most 120 points of each curve, relative to the mean, and nothing else of a dataset.
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


class RatingCounts(NamedTuple):
    """How many ratings each user and each item has, held-out ratings included.

    Attributes:
      name: Of the dataset.
      users: int64 [users].
      items: int64 [items].
    """

    name: str
    users: np.ndarray
    items: np.ndarray


def count_ratings(track_name: str, data_dir: Path) -> RatingCounts:
    """Counts the ratings of a track's dataset, which is prepared if need be.

    Raises:
      DataError: The dataset cannot be had.
      TrackError: There is no such track.
    """
    track = load_track(track_name)
    split = load_split(dataset_spec(track), data_dir)
    users = np.bincount(split.train_user, minlength=split.num_users) + 1
    items = np.bincount(split.train_item, minlength=split.num_items)
    items += np.bincount(split.test_item, minlength=split.num_items)
    return RatingCounts(track.name, users, items)


def markdown_table(datasets: Sequence[RatingCounts]) -> str:
    """Makes Markdown tables of how ratings spread over items and over users."""
    lines = []
    for side in ("items", "users"):
        lines += [
            f"| ratings over {side} | {side} | ratings | top 1% | top 10% | Gini | KS distance |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        first = getattr(datasets[0], side)
        for data in datasets:
            counts = getattr(data, side)
            shares = " | ".join(f"{100 * top_share(counts, share):.1f}%" for share in (0.01, 0.1))
            distance = "" if counts is first else f"{ks_distance(first, counts):.3f}"
            lines.append(
                f"| {data.name} | {len(counts):,} | {counts.sum():,} | {shares} "
                f"| {gini(counts):.3f} | {distance} |"
            )
        lines.append("")
    return "\n".join(lines)


def plot_curves(datasets: Sequence[RatingCounts], path: Path) -> None:
    """Writes the curves of all datasets as SVG, items beside users."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(9, 3.8))
        FigureCanvasSVG(figure)
        for axes, side in zip(figure.subplots(1, 2), ("items", "users")):
            for index, data in enumerate(datasets):
                axes.loglog(
                    *rank_curve(getattr(data, side)),
                    color=COLOURS[index % len(COLOURS)],
                    linestyle=DASHES[index % len(DASHES)],
                    label=data.name,
                )
            axes.set_title(f"Ratings over {side}")
            axes.set_xlabel(f"rank / number of {side}")
            axes.set_ylabel(f"ratings / mean ratings of {side}")
            axes.minorticks_off()
            axes.legend(loc="lower left")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    # Hundredths of a point are precise enough and keep the file small.
    rounded = re.sub(r"(\.\d\d)\d+", r"\1", text.getvalue())
    write_text(path, re.sub(r"[ \t]+$", "", rounded, flags=re.MULTILINE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables, plots if asked to; returns 0, or 1 where a dataset cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tracks", nargs="+", help="built-in tracks or track files")
    parser.add_argument("--data_dir", type=Path, default=Path(default_data_dir()))
    parser.add_argument("--output", type=Path, help="the SVG; without it only the table is made")
    args = parser.parse_args(arguments)
    try:
        datasets = [count_ratings(name, args.data_dir) for name in args.tracks]
        print(markdown_table(datasets))
        if args.output:
            plot_curves(datasets, args.output)
    except (DataError, TrackError, OSError) as error:
        print(f"fractal_plot: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
