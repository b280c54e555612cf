"""A `--data_dir` that is a URL: a local mirror of what a run needs of it.

What `tf.io.gfile` can open (gs://, s3:// with a plug-in, file://) may hold the datasets.
Before the data is prepared, files of the track's dataset that are new or changed there are
copied to a folder of this machine; afterwards what was fetched or prepared is copied
back. Runs read the mirror, under the clock as any local folder; the copying is of the
kind of a download, done once and untimed. Shards are not mirrored: they are written to
the URL and read from it.

The copying is done by a child process, `python -m harness.inputs.data_mirror`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from harness.config.run_config import RunConfig
from harness.config.trial_spec import dataset_spec
from harness.processes import tensorflow_process
from reference_model.base.atomic_files import make_folder, replacing
from reference_model.base.errors import DataError
from reference_model.base.progress import Progress
from reference_model.data.prepare import FOLDER as PREPARED
from reference_model.data.sources import DatasetSpec

_KNOWN = ".mirror.json"
_CHUNK = 4 << 20


# -- in the parent ----------------------------------------------------------------


def pull(config: RunConfig, progress: Progress) -> None:
    """Copies what is new at the URL. Raises DataError where it cannot be opened."""
    if config.data_url:
        make_folder(Path(config.data_dir))
        tensorflow_process.ask("harness.inputs.data_mirror", {"what": "pull", "config": config.to_json()}, progress)


def push(config: RunConfig, progress: Progress) -> None:
    """Copies back what is new here. Raises DataError."""
    if config.data_url and _new_here(config):
        tensorflow_process.ask("harness.inputs.data_mirror", {"what": "push", "config": config.to_json()}, progress)


def belongs(spec: DatasetSpec, path: str) -> bool:
    """Whether a file of the data folder, by its path in it, is of the dataset."""
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or parts[-1].startswith(".") or path.endswith(".part"):
        return False
    if parts[0] == PREPARED:
        return len(parts) == 2 and parts[1].startswith(spec.name) and path.endswith(".split")
    members = [m for m in (spec.archive_member, spec.package_member) if m]
    # ml-1m-paper lies beside, and is made from, files that are called ml-1m.
    family = "-".join(spec.name.split("-")[:2])
    return parts[0].startswith(family) or path in [PurePosixPath(m).name for m in members]


def _known(config: RunConfig) -> dict[str, list[int]]:
    """[size, time] at the URL of the files that are the same on both sides."""
    try:
        found = json.loads(Path(config.data_dir, _KNOWN).read_bytes())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _new_here(config: RunConfig) -> list[str]:
    root, spec, known = Path(config.data_dir), dataset_spec(config.track), _known(config)
    paths = (p.relative_to(root).as_posix() for p in sorted(root.rglob("*")) if p.is_file())
    return [path for path in paths if belongs(spec, path) and path not in known]


# -- in the child -----------------------------------------------------------------


def copy(order: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Does what `pull` or `push` orders. Raises DataError."""
    import tensorflow as tf

    from reference_model.shards.tfrecords import reason

    config = RunConfig.from_json(order["config"])
    known = _known(config)
    try:
        if order["what"] == "pull":
            copied = _pull(config, known, progress)
        else:
            copied = _push(config, known, progress)
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise DataError(f"--data_dir={config.data_url}: {reason(error)}") from error
    with replacing(Path(config.data_dir, _KNOWN)) as file:
        file.write(json.dumps(known).encode())
    return {"copied": copied}


def _pull(config: RunConfig, known: dict[str, list[int]], progress: Progress) -> int:
    import tensorflow as tf

    url, spec, copied = config.data_url, dataset_spec(config.track), 0
    if not tf.io.gfile.exists(url):
        tf.io.gfile.makedirs(url)  # finds out, too, whether it can be written to
    for path in list(_files(url)):
        if not belongs(spec, path):
            continue
        local, now = Path(config.data_dir, path), _stat(f"{url}/{path}")
        if known.get(path) == now and local.is_file() and local.stat().st_size == now[0]:
            continue
        with tf.io.gfile.GFile(f"{url}/{path}", "rb") as source, replacing(local) as out:
            _copy(source, out, f"copying {path}", now[0], progress)
        known[path], copied = now, copied + 1
    return copied


def _push(config: RunConfig, known: dict[str, list[int]], progress: Progress) -> int:
    import tensorflow as tf

    new = _new_here(config)
    for path in new:
        local, there = Path(config.data_dir, path), f"{config.data_url}/{path}"
        tf.io.gfile.makedirs(there.rpartition("/")[0])
        with local.open("rb") as source, tf.io.gfile.GFile(f"{there}.part", "wb") as out:
            _copy(source, out, f"copying {path} back", local.stat().st_size, progress)
        tf.io.gfile.rename(f"{there}.part", there, overwrite=True)
        known[path] = _stat(there)
    return len(new)


def _files(url: str) -> Any:
    """Paths in the folder `url` of the files that may be of a dataset."""
    import tensorflow as tf

    for folder, below, names in tf.io.gfile.walk(url):
        inside = folder.removeprefix(url).strip("/")
        if not inside and "shards" in (name.rstrip("/") for name in below):
            below[:] = [name for name in below if name.rstrip("/") != "shards"]
        for name in names:
            yield f"{inside}/{name}".lstrip("/")


def _stat(path: str) -> list[int]:
    import tensorflow as tf

    found = tf.io.gfile.stat(path)
    return [found.length, found.mtime_nsec]


def _copy(source: Any, out: Any, text: str, total: int, progress: Progress) -> None:
    done = 0
    while chunk := source.read(_CHUNK):
        out.write(chunk)
        done += len(chunk)
        progress(text, done, total)


if __name__ == "__main__":
    sys.exit(tensorflow_process.answer("harness.inputs.data_mirror", copy))
