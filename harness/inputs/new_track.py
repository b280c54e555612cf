"""`--new_track=RATINGS`: writes a track file for a ratings file, and prints the next steps.

Columns, counts and digest are determined from the file. Model and settings are initially those of
the built-in track whose dataset is nearest in size.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Any, Mapping

from compliance.base.strict_yaml import DataFileError
from compliance.tracks import BUILTIN_TRACKS, Track, load_track
from compliance.tracks.track import FREE_SETTINGS
from compliance.tracks.track_file import read_track
from harness.base import exit_codes
from harness.base.console import Console
from harness.base.error_text import one_line
from harness.config.flag_values import ConfigError
from harness.inputs.prepare_data import console_progress
from reference_model.base.errors import DataError
from reference_model.ratings.reader import Ratings, read_ratings
from reference_model.ratings.file_layout import (
    COLUMN_KEYS,
    Column,
    detect_layout,
    suggest_columns,
)
from reference_model.data.split import Split, leave_one_out

# Flags that may be combined with --new_track.
_OTHER_FLAGS = ("columns", "name", "quiet")
_NULL = ("null", "none")


def run(flags: Mapping[str, Any]) -> int:
    """Writes a track file.

    Args:
      flags: Values by flag name, None if a flag was not given.

    Returns:
      The exit code.
    """
    console = Console(quiet=bool(flags.get("quiet")))
    # Until the file is written, SIGINT ends the process: pandas would suppress the exception.
    handler = signal.signal(signal.SIGINT, _end_at_interrupt)
    try:
        others = [name for name, value in flags.items()
                  if value is not None and name not in ("new_track", *_OTHER_FLAGS)]
        if others:
            raise ConfigError(f"--new_track cannot be combined with --{others[0]}; use only "
                              "--columns, --name and --quiet")
        if not flags["new_track"]:
            raise ConfigError("--new_track is empty; name a ratings file")
        source = Path(flags["new_track"]).absolute()
        if not str(source).isprintable():
            raise ConfigError(f"{str(source)!r}: the name contains characters that a track file "
                              "cannot contain; rename the file")
        path = _track_path(source, flags.get("name"))
        columns = _choose_columns(source, flags.get("columns"))
        ratings = read_ratings(source, progress=console_progress(console), columns=columns)
        for notice in ratings.report.notices():
            console.note(notice)
        split = leave_one_out(ratings.user, ratings.item, ratings.timestamp)
        _write(path, _track_text(path, source, columns, ratings, split))
    except (ConfigError, DataError, DataFileError) as error:
        print(f"neumf-bench: {one_line(error)}", file=sys.stderr)
        return exit_codes.ERROR
    finally:
        signal.signal(signal.SIGINT, handler)
    track = shlex.quote(str(path))
    console.verdict(
        f"wrote {path}: {split.num_users} users, {split.num_items} items, "
        f"{split.num_positives} positives\n"
        "next, train one run to the epoch cap:\n"
        f"  ./run_and_time.sh --track={track} --num_runs=1\n"
        "then calibrate a target and write it into the track file:\n"
        f"  python -m harness.calibrate --track={track} --runs=6 --epochs=16 --output=FILE"
    )
    return exit_codes.OK


def _end_at_interrupt(*_: object) -> None:
    """Ends the process; nothing has been written."""
    os.write(2, b"neumf-bench: INTERRUPTED; nothing was written\n")
    os._exit(exit_codes.INTERRUPTED)


def _track_path(source: Path, name: str | None) -> Path:
    """Returns the path of the new track file: beside the ratings, or according to --name."""
    if name == "":
        raise ConfigError("--name is empty; give a name")
    if name is None:
        path = source.parent / f"{_track_name(source)}.yaml"
    elif name.endswith((".yaml", ".yml")) or os.sep in name:
        path = Path(name).absolute()
    else:
        path = source.parent / f"{name}.yaml"
    if os.path.lexists(path):
        raise ConfigError(f"{path} exists; choose another file with --name=FILE.yaml")
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is not a folder; create it, or choose another --name")
    return path


def _track_name(path: Path) -> str:
    """Returns the track's name: the file's name, reduced to the allowed characters."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-.") or "track"
    return f"my-{name}" if name in BUILTIN_TRACKS else name


def _choose_columns(source: Path, given: str | None) -> dict[str, Column] | None:
    """Returns the columns to write into the track file; None if the format is known."""
    if given is None:
        try:
            detect_layout(source)
            return None
        except DataError:
            pass  # missing columns are reported below
    found, names, has_header = suggest_columns(source)
    columns: dict[str, Column] = {**found, **_parse_columns(given or "", has_header)}
    missing = [key for key in COLUMN_KEYS if key not in columns]
    if missing:
        example = ",".join(f"{key}={columns.get(key, 'NAME' if has_header else 'NUMBER')}"
                           for key in COLUMN_KEYS)
        shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
        raise ConfigError(
            f"{source}: cannot tell which column is {' and which is '.join(missing)}: its "
            f"{'columns are' if has_header else 'first line has'} {shown}; give --columns={example}"
            + ("" if has_header else " by position, from 1")
            + ", or timestamp=null if there is none")
    if columns["user"] == columns["item"] or columns["timestamp"] in (
            columns["user"], columns["item"]):
        raise ConfigError(f"--columns={given}: user, item and timestamp must be different columns")
    detect_layout(source, columns)
    return columns


def _parse_columns(text: str, has_header: bool) -> dict[str, Column]:
    """Parses `user=NAME,item=NAME,timestamp=NAME`."""
    columns: dict[str, Column] = {}
    for part in text.split(",") if text else ():
        key, sign, name = (piece.strip() for piece in part.partition("="))
        if key not in COLUMN_KEYS or not sign or key in columns:
            raise ConfigError(f"--columns={text} must be user=NAME,item=NAME,timestamp=NAME, "
                              f"each once; '{part.strip()}' is invalid")
        if name.lower() in _NULL:
            if key != "timestamp":
                raise ConfigError(f"--columns: {key} must be a column")
            columns[key] = None
        else:
            columns[key] = int(name) if not has_header and name.isdecimal() else name
    return columns


def _nearest_track(num_positives: int) -> Track:
    """Returns the built-in ratings track whose log number of positives is nearest."""
    tracks = [load_track(name) for name in BUILTIN_TRACKS]
    return min((track for track in tracks
                if track.dataset.kind == "ratings" and track.dataset.num_positives),
               key=lambda track: abs(math.log(track.dataset.num_positives / num_positives)))


def _track_text(path: Path, source: Path, columns: Mapping[str, Column] | None,
                ratings: Ratings, split: Split) -> str:
    """Returns the text of the track file."""
    name, like = _track_name(path), _nearest_track(split.num_positives)
    model, settings = like.model, like.hyperparameters
    inside = source.is_relative_to(path.parent)
    file = source.relative_to(path.parent) if inside else source
    found = "" if columns is None else \
        "  columns: " + json.dumps(dict(columns), ensure_ascii=False) + "\n"
    return f"""# Made by --new_track; docs/adding-a-track.md describes the next steps.
name: {json.dumps(name)}
benchmark: {json.dumps(f"ncf-{name}")}   # name of its results folder
division_default: open
description: {json.dumps(f"ratings of {source.name}", ensure_ascii=False)}
dataset:
  name: {json.dumps(name)}
  kind: ratings
  file: {json.dumps(str(file), ensure_ascii=False)}   # relative to the folder of this file
{found}  url: null
  archive_md5: null
  archive_sha256: null
  archive_member: null
  package: null
  package_member: null
  package_member_sha256: null
  min_ratings: 20
  split_digest: "{split.digest}"   # SHA-256 of the split
  synthetic: null
  num_users: {split.num_users}
  num_items: {split.num_items}
  num_ratings: {split.num_positives + split.num_users}
  num_positives: {split.num_positives}
# Model and settings are those of track {like.name}, whose dataset is nearest in size.
model:
  mf_dim: {model.mf_dim}
  mlp_layers: {list(model.mlp_layers)}
  l2_mf: {model.l2_mf}
  l2_mlp: {list(model.l2_mlp)}
sampling:
  train_negatives: {like.sampling.train_negatives}
evaluation:
  negatives: {like.evaluation.negatives}
  given: false
  top_k: {like.evaluation.top_k}
target: null   # to be calibrated
max_epochs: {like.max_epochs}
hyperparameters:
  batch_size: {settings.batch_size}
  eval_batch_size: {settings.eval_batch_size}
  optimizer: {settings.optimizer}
  learning_rate: {settings.learning_rate}
  beta1: {settings.beta1}
  beta2: {settings.beta2}
  epsilon: {settings.epsilon:.9e}
runs: 5
scoring: olympic-mean
free: [{", ".join(FREE_SETTINGS)}]
"""


def _write(path: Path, text: str) -> None:
    """Writes a temporary file, checks it as the harness does, and links it to `path`."""
    temporary = path.with_name(f".new_track.{os.getpid()}.part")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the file is written
    try:
        temporary.write_text(text, encoding="utf-8")
        read_track(temporary)
        os.link(temporary, path)  # unlike a rename, fails if the file exists
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}; choose another file "
                          "with --name=FILE.yaml") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
