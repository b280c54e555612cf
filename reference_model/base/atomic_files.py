"""Files that appear whole or not at all, locks between processes, and disk errors."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from pathlib import Path
from typing import BinaryIO, Iterator

from reference_model.base.errors import DataError
from reference_model.base.progress import Progress, no_progress

try:
    import fcntl
except ImportError:  # not POSIX: atomic renames alone must do
    fcntl = None  # type: ignore[assignment]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CHUNK = 1 << 20


class StorageError(DataError):
    """The data folder cannot be written: another source would not help."""


def storage_error(error: OSError, path: Path) -> StorageError:
    """The one line for an error met while writing `path`."""
    if error.errno in _FULL:
        return StorageError(
            f"no space left while writing {path}: free some, or give another folder "
            "with --data_dir"
        )
    return StorageError(
        f"cannot write {path}: {error.strerror or error}; give a folder that can be "
        "written with --data_dir"
    )


def make_folder(path: Path) -> Path:
    """Creates a folder and its parents. Raises StorageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error
    return path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the name `path` when the block ends well.

    Until then it has a name of its own in the same folder; if the block raises,
    it is removed and `path` is untouched. OSErrors become StorageError.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part"
        )
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` last through a power cut, where that is possible."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, progress: Progress = no_progress, waiting: str = "") -> Iterator[None]:
    """Holds the lock file `path`; waits for another process that holds it.

    Where the file system has no locks (or cannot be written) it goes on without:
    all writers rename whole files into place, so work is at most done twice.
    """
    descriptor = None
    if fcntl is not None:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if descriptor is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress(waiting, None, None)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError:
                pass
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def file_hash(path: Path, algorithm: str = "sha256", progress: Progress = no_progress) -> str:
    """Hex digest of a file. Raises DataError if it cannot be read."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        total, done = path.stat().st_size, 0
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                done += len(chunk)
                progress(f"checking {path.name}", done, total)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()
