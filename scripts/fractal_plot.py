"""Plots the popularity curves of several datasets in one figure, and prints their statistics.

    python -m scripts.fractal_plot --output=docs/fractal.svg ml-1m ml-1m-4x4 ml-1m-16x32

All other tracks are compared with the first. The extra `report` is required. The SVG contains
at most 120 points of each curve, relative to the mean, and no other data of a dataset.
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
    """Number of ratings of each user and of each item, including held-out ratings.

    Attributes:
      name: Name of the track.
      users: Ratings by user, int64 [users].
      items: Ratings by item, int64 [items].
    """

    name: str
    users: np.ndarray
    items: np.ndarray


def count_ratings(track_name: str, data_dir: Path) -> RatingCounts:
    """Counts the ratings of a track's dataset, which is prepared if necessary.

    Raises:
      DataError: The dataset is not available.
      TrackError: The track does not exist or is invalid.
    """
    track = load_track(track_name)
    split = load_split(dataset_spec(track), data_dir)
    users = np.bincount(split.train_user, minlength=split.num_users) + 1
    items = np.bincount(split.train_item, minlength=split.num_items)
    items += np.bincount(split.test_item, minlength=split.num_items)
    return RatingCounts(track.name, users, items)


def markdown_table(datasets: Sequence[RatingCounts]) -> str:
    """Creates Markdown tables of the distribution of ratings over items and over users."""
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
    """Writes the curves of all datasets as SVG, items on the left, users on the right."""
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
    # Two decimals of a point are precise enough and keep the file small.
    rounded = re.sub(r"(\.\d\d)\d+", r"\1", text.getvalue())
    write_text(path, re.sub(r"[ \t]+$", "", rounded, flags=re.MULTILINE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables, plots with --output; returns 0, or 1 if a dataset is not available."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tracks", nargs="+", help="built-in tracks or track files")
    parser.add_argument("--data_dir", type=Path, default=Path(default_data_dir()))
    parser.add_argument("--output", type=Path, help="SVG file; if omitted, nothing is plotted")
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
