"""Atomic file writes, locks between processes, and disk errors."""

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
except ImportError:  # Not POSIX: no locks; atomic renames alone must suffice.
    fcntl = None  # type: ignore[assignment]

_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CHUNK_BYTES = 1 << 20


class StorageError(DataError):
    """The data folder is not writable, so trying another source would not help."""


def storage_error(error: OSError, path: Path) -> StorageError:
    """Returns the one-line error for an OSError raised while writing `path`."""
    if error.errno in _DISK_FULL_ERRNOS:
        return StorageError(
            f"no space left while writing {path}: free some space, or set "
            "--data_dir to another folder"
        )
    return StorageError(
        f"cannot write {path}: {error.strerror or error}; set --data_dir to a "
        "writable folder"
    )


def make_folder(path: Path) -> Path:
    """Creates a folder and its parents.

    Returns:
      `path`.

    Raises:
      StorageError: the folder cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error
    return path


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file that is renamed to `path` when the block succeeds.

    The temporary file is created in the same folder, because a rename is atomic only within
    one file system. If the block raises, the temporary file is removed and `path` is unchanged.

    Args:
      path: the final path; its folder is created if needed.

    Yields:
      The temporary file, opened for writing bytes.

    Raises:
      StorageError: in place of any OSError, including those raised by the block.
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
        # mkstemp creates files that only the owner can read; set the usual permissions.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
        fsync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    """Returns the umask of the process, which can be read only by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def fsync_folder(folder: Path) -> None:
    """Makes a rename in `folder` durable across a power failure, if the system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def file_lock(path: Path, progress: Progress = no_progress, waiting: str = "") -> Iterator[None]:
    """Holds an exclusive lock on the file `path` during the block.

    If the file system does not support locks, or the lock file cannot be written, the block
    runs without a lock. That is safe: every writer renames complete files into place, so at
    worst the same work is done twice.

    Args:
      path: the lock file; it is created if needed and never removed.
      progress: receives the notice `waiting` if another process holds the lock.
      waiting: the text of the notice.
    """
    descriptor = None
    if fcntl is not None:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if descriptor is not None:
            try:
                # Try without blocking first, so that the notice precedes the wait.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress(waiting, None, None)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError:
                pass
        yield
    finally:
        # Closing the file releases the lock.
        if descriptor is not None:
            os.close(descriptor)


def file_hash(path: Path, algorithm: str = "sha256", progress: Progress = no_progress) -> str:
    """Computes the hex digest of a file.

    Args:
      path: the file.
      algorithm: an algorithm name for `hashlib.new`.
      progress: receives the number of bytes hashed so far.

    Raises:
      DataError: the file cannot be read.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        total, done = path.stat().st_size, 0
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                progress(f"checking {path.name}", done, total)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()
