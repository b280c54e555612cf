"""TODO."""

from __future__ import annotations

from harness.base.console import Console
from harness.config.run_config import ConfigError, RunConfig
from harness.config.trial_spec import dataset_spec
from harness.inputs import data_mirror
from reference_model.base.progress import Progress
from reference_model.data.prepare import prepare
from reference_model.data.split_file import CacheHeader


def prepare_data(config: RunConfig, console: Console) -> CacheHeader:
    """Fetches and preprocesses the dataset, untimed, and holds it to the track.

    Raises DataError, or ConfigError where the closed division cannot take it.
    """
    track, progress = config.track, _progress(console)
    data_mirror.pull(config, progress)
    header = prepare(dataset_spec(track), config.data_dir, progress=progress)
    data_mirror.push(config, progress)
    given = track.evaluation.negatives if track.evaluation.given else 0
    if header.num_negatives != given:
        raise ConfigError(
            f"track {track.name} evaluates against {given or 'drawn'} given negatives, but "
            f"{header.source} brings {header.num_negatives or 'none'}"
        )
    if config.division == "closed":
        pinned = track.dataset
        for what in ("num_users", "num_items", "num_positives"):
            wanted, found = getattr(pinned, what), getattr(header, what)
            if wanted is not None and wanted != found:
                raise ConfigError(
                    f"{header.source} has {what} {found}, but track {track.name} has {wanted}; "
                    "use the track's data, or --division=open"
                )
        if pinned.split_digest and header.digest != pinned.split_digest:
            raise ConfigError(
                f"{header.source} is not the data of track {track.name} (its split has another "
                "digest); use the track's data, or --division=open"
            )
    return header


def _progress(console: Console) -> Progress:
    """Shows what preparing does."""
    said: set[str] = set()

    def progress(text: str, done: int | None = None, total: int | None = None) -> None:
        if done is None:
            console.note(text)
            return
        if text not in said:
            console.progress(text)
            said.add(text)
        share = f" {100 * done / total:3.0f}%" if total else f" {done / 2**20:.0f} MiB"
        console.progress(text + share, lasting=False)

    return progress


def sizes_of_track(config: RunConfig) -> CacheHeader:
    """What the header of the track's dataset would say, for runs that need no dataset.

    Raises ConfigError where the track does not say how large its dataset is.
    """
    track = config.track
    sizes = track.dataset.num_users, track.dataset.num_items, track.dataset.num_positives
    if None in sizes:
        raise ConfigError(
            f"--synthetic_batches: track {track.name} does not say how many users, items and "
            "positives its dataset has; write num_users, num_items and num_positives into it"
        )
    return CacheHeader(
        track.dataset.name, track.dataset.kind, *sizes, num_negatives=0, digest="",
        min_ratings=track.dataset.min_ratings, source="", source_sha256="", rows=0, bad={},
    )  # fmt: skip
