"""Mirrors the dataset's files in a local folder if `--data_dir` is a URL.

The URL may be any that `tf.io.gfile` can open (gs://, s3:// with a plug-in, file://).
Before the data is prepared, files of the track's dataset that are new or changed at the URL
are copied to a local folder. Afterwards, files that were downloaded or prepared locally are
copied back. Runs read the mirror while their clock runs, like any local folder. The copying
is untimed, like a download, and is done once. Shards are not mirrored: they are written to
the URL and read from it.

A child process, `python -m harness.inputs.data_mirror`, copies the files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path, PurePosixPath
from typing import Any, Iterator

from harness.config.run_config import RunConfig
from harness.config.trial_spec import dataset_spec
from harness.processes import tensorflow_process
from reference_model.base.atomic_files import atomic_write, make_folder
from reference_model.base.errors import DataError
from reference_model.base.progress import Progress
from reference_model.data.prepare import PREPARED_FOLDER as PREPARED
from reference_model.data.sources import DatasetSpec

# File in the mirror that lists the files equal on both sides; see `_load_known_files`.
_KNOWN_FILES = ".mirror.json"
_CHUNK_BYTES = 4 << 20


# -- in the parent ----------------------------------------------------------------


def pull(config: RunConfig, progress: Progress) -> None:
    """Copies files that are new or changed at the URL to the mirror.

    Raises:
      DataError: The URL cannot be opened.
    """
    if config.data_url:
        make_folder(Path(config.data_dir))
        _run_copy_process("pull", config, progress)


def push(config: RunConfig, progress: Progress) -> None:
    """Copies files that are new in the mirror to the URL.

    Raises:
      DataError: The URL cannot be written to.
    """
    if config.data_url and _list_new_local_files(config):
        _run_copy_process("push", config, progress)


def _run_copy_process(direction: str, config: RunConfig, progress: Progress) -> None:
    """Runs the child process that copies in one direction, "pull" or "push"."""
    request = {"what": direction, "config": config.to_json()}
    tensorflow_process.run_in_child("harness.inputs.data_mirror", request, progress)


def _belongs_to_dataset(spec: DatasetSpec, path: str) -> bool:
    """Whether a file, by its path in the data folder, belongs to the dataset."""
    parts = PurePosixPath(path).parts
    # Hidden and partial files belong to unfinished writes; ".." would leave the folder.
    if not parts or ".." in parts or parts[-1].startswith(".") or path.endswith(".part"):
        return False
    if parts[0] == PREPARED:
        return len(parts) == 2 and parts[1].startswith(spec.name) and path.endswith(".split")
    members = [m for m in (spec.archive_member, spec.package_member) if m]
    # ml-1m-paper is made from files named ml-1m in the same folder.
    family = "-".join(spec.name.split("-")[:2])
    return parts[0].startswith(family) or path in [PurePosixPath(m).name for m in members]


def _load_known_files(config: RunConfig) -> dict[str, list[int]]:
    """Returns [size in bytes, time in ns] at the URL, by path, of files equal on both sides."""
    try:
        known = json.loads(Path(config.data_dir, _KNOWN_FILES).read_bytes())
        return known if isinstance(known, dict) else {}
    except (OSError, ValueError):
        return {}  # then everything is copied again


def _list_new_local_files(config: RunConfig) -> list[str]:
    """Returns the paths of the dataset's files that are in the mirror but not at the URL."""
    root, spec = Path(config.data_dir), dataset_spec(config.track)
    known = _load_known_files(config)
    paths = (p.relative_to(root).as_posix() for p in sorted(root.rglob("*")) if p.is_file())
    return [path for path in paths if _belongs_to_dataset(spec, path) and path not in known]


# -- in the child -----------------------------------------------------------------


def copy_files(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Copies in the requested direction, and records the files that are then equal.

    Args:
      request: {"what": "pull" or "push", "config": a RunConfig as JSON}.
      progress: Called with the bytes copied.

    Returns:
      {"copied": number of files}.

    Raises:
      DataError: The URL cannot be read or written.
    """
    import tensorflow as tf

    from reference_model.shards.tfrecords import error_reason

    config = RunConfig.from_json(request["config"])
    known = _load_known_files(config)
    try:
        if request["what"] == "pull":
            copied = _copy_from_url(config, known, progress)
        else:
            copied = _copy_to_url(config, known, progress)
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise DataError(f"--data_dir={config.data_url}: {error_reason(error)}") from error
    with atomic_write(Path(config.data_dir, _KNOWN_FILES)) as file:
        file.write(json.dumps(known).encode())
    return {"copied": copied}


def _copy_from_url(config: RunConfig, known: dict[str, list[int]], progress: Progress) -> int:
    """Copies new and changed files to the mirror and updates `known`; returns their number."""
    import tensorflow as tf

    url, spec, copied = config.data_url, dataset_spec(config.track), 0
    if not tf.io.gfile.exists(url):
        # Checks early that the URL can be written to.
        tf.io.gfile.makedirs(url)
    for path in list(_list_url_files(url)):
        if not _belongs_to_dataset(spec, path):
            continue
        local, status = Path(config.data_dir, path), _url_status(f"{url}/{path}")
        # Unchanged at the URL since it was copied, and still complete in the mirror.
        if known.get(path) == status and local.is_file() and local.stat().st_size == status[0]:
            continue
        with tf.io.gfile.GFile(f"{url}/{path}", "rb") as source, atomic_write(local) as target:
            _copy_stream(source, target, f"copying {path}", status[0], progress)
        known[path], copied = status, copied + 1
    return copied


def _copy_to_url(config: RunConfig, known: dict[str, list[int]], progress: Progress) -> int:
    """Copies new files to the URL and updates `known`; returns their number."""
    import tensorflow as tf

    new_paths = _list_new_local_files(config)
    for path in new_paths:
        local, remote = Path(config.data_dir, path), f"{config.data_url}/{path}"
        tf.io.gfile.makedirs(remote.rpartition("/")[0])
        # Written under another name first, so that no reader sees a partial file.
        with local.open("rb") as source, tf.io.gfile.GFile(f"{remote}.part", "wb") as target:
            size = local.stat().st_size
            _copy_stream(source, target, f"copying {path} back", size, progress)
        tf.io.gfile.rename(f"{remote}.part", remote, overwrite=True)
        known[path] = _url_status(remote)
    return len(new_paths)


def _list_url_files(url: str) -> Iterator[str]:
    """Yields the paths of all files under `url` except shards."""
    import tensorflow as tf

    for folder, subfolders, names in tf.io.gfile.walk(url):
        relative = folder.removeprefix(url).strip("/")
        # There are many shards; `walk` skips a folder that is removed from this list.
        if not relative and "shards" in (name.rstrip("/") for name in subfolders):
            subfolders[:] = [name for name in subfolders if name.rstrip("/") != "shards"]
        for name in names:
            yield f"{relative}/{name}".lstrip("/")


def _url_status(path: str) -> list[int]:
    """Returns [size in bytes, modification time in ns] of a file at a URL."""
    import tensorflow as tf

    status = tf.io.gfile.stat(path)
    return [status.length, status.mtime_nsec]


def _copy_stream(source: Any, target: Any, text: str, total: int, progress: Progress) -> None:
    """Copies one open file into another in chunks and reports the bytes copied."""
    copied = 0
    while chunk := source.read(_CHUNK_BYTES):
        target.write(chunk)
        copied += len(chunk)
        progress(text, copied, total)


if __name__ == "__main__":
    sys.exit(tensorflow_process.child_main("harness.inputs.data_mirror", copy_files))
