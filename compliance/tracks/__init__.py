"""Tracks: everything that a benchmark fixes, as data for both the harness and the checker.

A track is one YAML file. The built-in tracks are in this folder; a user's own track is always in
the open division. `track` has the dataclasses, `track_file` reads the YAML.

Imports: base; nothing else.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from compliance.base.strict_yaml import DataFileError
from compliance.tracks.track import BUILTIN_TRACKS, DIVISIONS, TRACKS_DIR, Track
from compliance.tracks.track_file import read_track

__all__ = [
    "BUILTIN_TRACKS", "DIVISIONS", "TRACKS_DIR", "Track", "TrackError", "load_track", "track_path",
]


class TrackError(ValueError):
    """A track that does not exist or cannot be used; the message is one line for the user."""


def track_path(name_or_path: str | Path) -> Path:
    """Returns the file of a built-in track, or the path itself if it is a file.

    Args:
      name_or_path: A name in BUILTIN_TRACKS, or the path of a track file.

    Raises:
      TrackError: It is neither.
    """
    text = str(name_or_path)
    if text in BUILTIN_TRACKS:
        return TRACKS_DIR / f"{text}.yaml"
    if Path(text).is_file():
        return Path(text).resolve()
    raise TrackError(
        f"track '{text}' is neither a built-in track ({', '.join(BUILTIN_TRACKS)}) "
        "nor a file; give one of these names or the path of a track file")


def load_track(name_or_path: str | Path) -> Track:
    """Loads a track by name or from a file.

    Args:
      name_or_path: A name in BUILTIN_TRACKS, or the path of a track file.

    Raises:
      TrackError: There is no such track, or its file cannot be used.
    """
    return _load(track_path(name_or_path))


@lru_cache(maxsize=16)
def _load(path: Path) -> Track:
    """Returns the track in a file; each file is read once per process."""
    try:
        return read_track(path)
    except DataFileError as error:
        raise TrackError(str(error)) from None
