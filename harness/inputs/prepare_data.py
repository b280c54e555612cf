"""Prepares the dataset of a set of runs before the first clock starts.

The dataset is downloaded and preprocessed once for all runs, then checked against the
track. Runs on synthetic batches need no dataset: their sizes come from the track.
"""

from __future__ import annotations

from harness.base.console import Console
from harness.config.run_config import ConfigError, RunConfig
from harness.config.trial_spec import dataset_spec
from harness.inputs import data_mirror
from reference_model.base.progress import Progress
from reference_model.data.prepare import prepare_split
from reference_model.data.split_file import SplitHeader


def prepare_data(config: RunConfig, console: Console) -> SplitHeader:
    """Downloads and preprocesses the dataset, and checks it against the track.

    Args:
      config: The settings of the set.
      console: Shows progress.

    Returns:
      The header of the prepared split.

    Raises:
      DataError: The dataset cannot be fetched or read.
      ConfigError: The dataset does not match the track, or its closed division.
    """
    track, progress = config.track, console_progress(console)
    data_mirror.pull(config, progress)
    header = prepare_split(dataset_spec(track), config.data_dir, progress=progress)
    data_mirror.push(config, progress)
    track_negatives = track.evaluation.negatives if track.evaluation.given else 0
    if header.num_negatives != track_negatives:
        raise ConfigError(
            f"track {track.name} requires {track_negatives or 'no'} given evaluation negatives, "
            f"but {header.source} contains {header.num_negatives or 'none'}"
        )
    if config.division == "closed":
        _check_closed_dataset(config, header)
    return header


def _check_closed_dataset(config: RunConfig, header: SplitHeader) -> None:
    """Raises ConfigError if the dataset is not the one that the track pins."""
    track, pinned = config.track, config.track.dataset
    # Sizes first: they describe a wrong file better than a digest does.
    for field in ("num_users", "num_items", "num_positives"):
        wanted, found = getattr(pinned, field), getattr(header, field)
        if wanted is not None and wanted != found:
            raise ConfigError(
                f"{header.source} has {field} {found}, but track {track.name} has {wanted}; "
                "use the track's data, or --division=open"
            )
    if pinned.split_digest and header.digest != pinned.split_digest:
        raise ConfigError(
            f"{header.source} is not the data of track {track.name} (the digests of the splits "
            "differ); use the track's data, or --division=open"
        )


def console_progress(console: Console) -> Progress:
    """Returns a progress callback that shows the current step on the console.

    A text without a count is a separate note. A text with a count gets one lasting line at
    its first call, and then a line that is overwritten on a terminal.
    """
    shown: set[str] = set()

    def progress(text: str, done: int | None = None, total: int | None = None) -> None:
        if done is None:
            console.note(text)
            return
        if text not in shown:
            console.progress(text)
            shown.add(text)
        # If the total is not known, `done` counts bytes.
        share = f" {100 * done / total:3.0f}%" if total else f" {done / 2**20:.0f} MiB"
        console.progress(text + share, lasting=False)

    return progress


def header_from_track(config: RunConfig) -> SplitHeader:
    """Makes the header that the track's dataset would have, for runs that need no dataset.

    Returns:
      A header with the track's sizes and an empty digest.

    Raises:
      ConfigError: The track does not specify the sizes of its dataset.
    """
    track = config.track
    sizes = track.dataset.num_users, track.dataset.num_items, track.dataset.num_positives
    if None in sizes:
        raise ConfigError(
            f"--synthetic_batches: track {track.name} does not specify the sizes of its dataset; "
            "add num_users, num_items and num_positives to the track file"
        )
    return SplitHeader(
        track.dataset.name, track.dataset.kind, *sizes, num_negatives=0, digest="",
        min_ratings=track.dataset.min_ratings, source="", source_sha256="", rows=0, bad={},
    )  # fmt: skip
