"""Fetches one file: an archive by https, a member of a zip archive, a member of a package.

Each file is verified under a temporary name before it is renamed. All errors are DataErrors with
one-line messages.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Mapping

from reference_model.base.atomic_files import (
    StorageError,
    atomic_write,
    file_hash,
    fsync_folder,
    make_folder,
    storage_error,
)
from reference_model.base.errors import DataError
from reference_model.base.progress import Progress, no_progress

# Timeout to connect and to receive the next bytes. It is short, so that a machine without access
# to the official host soon tries the package.
NETWORK_TIMEOUT_S = 6.0
# The download fails after this many consecutive attempts without new bytes.
MAX_STALLED_RETRIES = 3
PIP_TIMEOUT_S = 900.0
_CHUNK_BYTES = 1 << 20


class _ConnectionLost(Exception):
    """The connection ended early; the received bytes are kept."""


def download(
    url: str, target: Path, checksums: Mapping[str, str], progress: Progress = no_progress
) -> None:
    """Downloads a file, or resumes an earlier download.

    The bytes are written to `<target>.part`. After a network failure that file is kept, so that
    the next call resumes the download. After a checksum error or a disk error it is removed.

    Args:
      url: an https URL (or http on localhost).
      target: the final path.
      checksums: hex digests by algorithm name; at least one.
      progress: receives the bytes downloaded so far.

    Raises:
      DataError: the file cannot be fetched or has a wrong checksum.
    """
    _check_url(url)
    if not checksums:
        raise DataError(f"no checksum is known for {url}; it is not downloaded")
    make_folder(target.parent)
    part = target.with_name(target.name + ".part")
    resumed = part.exists()
    try:
        _download_part(url, part, progress)
        wrong = _find_wrong_checksum(part, checksums)
        # The earlier part may belong to another version of the file: start again.
        if wrong and resumed:
            part.unlink()
            _download_part(url, part, progress)
            wrong = _find_wrong_checksum(part, checksums)
        if wrong:
            part.unlink()
            raise DataError(
                f"{url} has the wrong {wrong}: the download is damaged or the file has "
                "changed; it was removed, try again later"
            )
        os.replace(part, target)
        fsync_folder(target.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise storage_error(error, target) from error


def _check_url(url: str) -> None:
    """Raises DataError unless the URL is https, or http on localhost."""
    parts = urllib.parse.urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise DataError(f"{url} is not an https URL")


def _find_wrong_checksum(path: Path, checksums: Mapping[str, str]) -> str | None:
    """Returns the first algorithm whose digest differs; None if all match."""
    for algorithm, wanted in checksums.items():
        if file_hash(path, algorithm) != wanted.lower():
            return algorithm
    return None


def _download_part(url: str, part: Path, progress: Progress) -> None:
    """Downloads the rest of `part`, with retries; raises OSError only for disk errors."""
    failures, previous_size = 0, -1
    while True:
        try:
            _request_rest(url, part, progress)
            return
        except _ConnectionLost as error:
            size = part.stat().st_size if part.exists() else 0
            # Only attempts without new bytes count as failures.
            failures = 0 if size > previous_size >= 0 else failures + 1
            previous_size = size
            if failures >= MAX_STALLED_RETRIES or not size:
                raise DataError(
                    f"{url} cannot be reached: {error}"
                    + (f" ({size:,} bytes are kept to resume later)" if size else "")
                ) from error


def _request_rest(url: str, part: Path, progress: Progress) -> None:
    """Makes one request for the rest of `part`.

    Raises _ConnectionLost, DataError for an HTTP error, or OSError for a disk error.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "neumf-bench"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        # 416: the file has no bytes beyond those of the part. So the part is complete or too long;
        # the checksum distinguishes these cases.
        if error.code == 416:
            return
        raise DataError(f"{url} returned {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _ConnectionLost(getattr(error, "reason", None) or error) from error
    with response:
        if response.status != 206 or not _response_starts_at(response, have):
            have = 0  # the server sends the whole file
        left = response.headers.get("Content-Length")
        total = have + int(left) if left and left.isdecimal() else None
        _check_space(part, None if total is None else total - have)
        with part.open("ab" if have else "wb") as file:
            _copy_response(response, file, part.stem, have, total, progress)


def _response_starts_at(response, offset: int) -> bool:
    """Whether a partial response starts at the requested byte."""
    return (response.headers.get("Content-Range") or "").startswith(f"bytes {offset}-")


def _check_space(path: Path, needed: int | None) -> None:
    """Raises StorageError if less than `needed` bytes are free (None: unknown)."""
    free = shutil.disk_usage(path.parent).free
    if needed is not None and free < needed:
        raise StorageError(
            f"no space for {path.stem} in {path.parent}: {needed >> 20:,} MiB are needed, "
            f"{free >> 20:,} MiB are free; free some space, or set --data_dir to another folder"
        )


def _copy_response(
    response, file, name: str, have: int, total: int | None, progress: Progress
) -> None:
    """Appends the response to `file`, which already has `have` of `total` bytes."""
    while True:
        try:
            chunk = response.read(_CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _ConnectionLost(error) from error
        if not chunk:
            break
        file.write(chunk)
        have += len(chunk)
        progress(f"downloading {name}", have, total)
    if total is not None and have < total:
        raise _ConnectionLost(f"the connection ended after {have:,} of {total:,} bytes")


def extract_member(
    archive: Path,
    member: str,
    target: Path,
    sha256: str | None = None,
    progress: Progress = no_progress,
) -> None:
    """Unpacks one member of a zip archive.

    Args:
      archive: the zip archive.
      member: the name of the member.
      target: the output file.
      sha256: the expected hex digest of the member; None for no check.
      progress: receives the bytes unpacked so far.

    Raises:
      DataError: the archive is damaged, contains a name that points outside the folder, or
        lacks the member; or the checksum of the member is wrong.
    """
    try:
        with zipfile.ZipFile(archive) as contents:
            _reject_unsafe_names(archive, contents.namelist())
            try:
                entry = contents.getinfo(member)
            except KeyError:
                raise DataError(
                    f"{archive} does not contain {member}: it is not the expected archive"
                ) from None
            with contents.open(entry) as source, atomic_write(target) as out:
                _write_member(archive, entry, source, out, sha256, progress)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{archive} is not a complete zip archive ({error}): it is truncated or damaged; "
            "remove it and try again"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {archive}: {error.strerror or error}") from error


def _write_member(archive, entry, source, out, sha256, progress: Progress) -> None:
    """Copies one open member to `out` and verifies its checksum."""
    digest, done = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
        out.write(chunk)
        done += len(chunk)
        progress(f"unpacking {PurePosixPath(entry.filename).name}", done, entry.file_size)
    if sha256 and digest.hexdigest() != sha256.lower():
        raise DataError(
            f"{entry.filename} in {archive.name} has the wrong sha256: it is damaged or "
            "another version; it was not kept"
        )


def _reject_unsafe_names(archive: Path, names: list[str]) -> None:
    """Raises DataError if a name is absolute, has a drive letter or contains '..'."""
    for name in names:
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
            raise DataError(
                f"{archive} is rejected: its entry {name!r} points outside the target "
                "folder; get the archive from its official URL"
            )


def fetch_from_package(
    package: str,
    member: str,
    sha256: str | None,
    target: Path,
    progress: Progress = no_progress,
) -> None:
    """Extracts a data file from a package on the Python index configured for pip.

    The wheel is downloaded without its dependencies. It is not installed or executed, and only
    `member` is read.

    Args:
      package: the requirement, e.g. "recbole==1.2.1".
      member: the name of the file in the wheel.
      sha256: the expected hex digest of the file; None for no check.
      target: the output file.
      progress: receives the progress.

    Raises:
      DataError: the package cannot be downloaded, or its file cannot be extracted (see
        `extract_member`).
    """
    make_folder(target.parent)
    progress(f"fetching package {package} for {PurePosixPath(member).name}", None, None)
    try:
        folder = Path(tempfile.mkdtemp(prefix=".fetch-", dir=target.parent))
    except OSError as error:
        raise storage_error(error, target) from error
    try:
        wheel = _pip_download(package, folder)
        extract_member(wheel, member, target, sha256, progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pip_download(package: str, folder: Path) -> Path:
    """Downloads the wheel of a package into `folder` and returns its path."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--ignore-requires-python", "--disable-pip-version-check", "--no-input"]
    command += ["--no-cache-dir", "--quiet", "--retries", "2", "--timeout", "15"]
    command += ["--dest", str(folder), package]
    try:
        run = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PIP_TIMEOUT_S,
            env={**os.environ, "TMPDIR": str(folder)},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"package {package} cannot be fetched: {error}") from error
    if "No space left on device" in run.stderr:
        raise StorageError(
            f"no space left in {folder.parent} for package {package}: free some space, or "
            "set --data_dir to another folder"
        )
    wheels = sorted(folder.glob("*.whl"))
    if run.returncode or not wheels:
        raise DataError(f"package {package} cannot be fetched: {_pip_reason(run.stderr)}")
    return wheels[0]


def _pip_reason(stderr: str) -> str:
    """Returns the first error reported by pip, in one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        return "this Python has no pip (python -m ensurepip installs it)"
    with contextlib.suppress(StopIteration):
        return next(line for line in lines if line.startswith("ERROR:"))[7:300]
    return lines[-1][:300] if lines else "pip reported no reason"
