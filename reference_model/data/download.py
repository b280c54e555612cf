"""Fetches one file: an archive by https, a member of a zip archive, a member of a package.

Every file is verified under a temporary name and only then renamed. All errors are
DataErrors whose message is one line.
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

# Seconds to connect, and to wait for the next bytes. It is short so that a machine that cannot
# reach the official host tries the package soon.
NETWORK_TIMEOUT_S = 6.0
# After this many attempts in a row that brought no new bytes, the download fails.
MAX_STALLED_RETRIES = 3
PIP_TIMEOUT_S = 900.0
_CHUNK_BYTES = 1 << 20


class _ConnectionLost(Exception):
    """The connection ended early; the bytes that arrived are kept."""


def download(
    url: str, target: Path, checksums: Mapping[str, str], progress: Progress = no_progress
) -> None:
    """Downloads a file, and resumes an earlier download of it.

    The bytes go to `<target>.part`. After a network failure that file stays, so that the
    next call continues from there. After a wrong checksum or a full disk it is removed.

    Args:
      url: an https address (or http on this machine).
      target: the final name.
      checksums: hex digests by the name of the algorithm; at least one.
      progress: gets the bytes downloaded so far.

    Raises:
      DataError: the file cannot be fetched or has a wrong checksum.
    """
    _check_url(url)
    if not checksums:
        raise DataError(f"no checksum is known for {url}: it is not downloaded")
    make_folder(target.parent)
    part = target.with_name(target.name + ".part")
    resumed = part.exists()
    try:
        _download_part(url, part, progress)
        wrong = _find_wrong_checksum(part, checksums)
        # A part of an earlier download may belong to another version of the file: start anew.
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
    """Raises DataError unless the address is https, or http on this machine."""
    parts = urllib.parse.urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise DataError(f"{url} is not an https address")


def _find_wrong_checksum(path: Path, checksums: Mapping[str, str]) -> str | None:
    """Returns the name of the first algorithm whose digest differs; None if all agree."""
    for algorithm, wanted in checksums.items():
        if file_hash(path, algorithm) != wanted.lower():
            return algorithm
    return None


def _download_part(url: str, part: Path, progress: Progress) -> None:
    """Downloads the rest of `part`, with retries. Raises OSError only for disk errors."""
    failures, previous_size = 0, -1
    while True:
        try:
            _request_rest(url, part, progress)
            return
        except _ConnectionLost as error:
            size = part.stat().st_size if part.exists() else 0
            # Only attempts that brought no new bytes count as failures.
            failures = 0 if size > previous_size >= 0 else failures + 1
            previous_size = size
            if failures >= MAX_STALLED_RETRIES or not size:
                raise DataError(
                    f"{url} cannot be reached: {error}"
                    + (f" ({size:,} bytes are kept and taken up next time)" if size else "")
                ) from error


def _request_rest(url: str, part: Path, progress: Progress) -> None:
    """Makes one request for the rest of `part`.

    Raises _ConnectionLost, DataError for an answer that is an error, or OSError for the disk.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "neumf-bench"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        # 416: the file has no bytes beyond those that are here. So the part is complete or too
        # long, and the checksum tells which.
        if error.code == 416:
            return
        raise DataError(f"{url} answers {error.code} {error.reason}") from error
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
    """Whether a partial response begins at the byte that was asked for."""
    return (response.headers.get("Content-Range") or "").startswith(f"bytes {offset}-")


def _check_space(path: Path, needed: int | None) -> None:
    """Raises StorageError where the disk has not `needed` bytes free (None: unknown)."""
    free = shutil.disk_usage(path.parent).free
    if needed is not None and free < needed:
        raise StorageError(
            f"no space for {path.stem}: {needed >> 20:,} MiB are needed and {free >> 20:,} "
            f"MiB free in {path.parent}; free some, or give another folder with --data_dir"
        )


def _copy_response(
    response, file, name: str, have: int, total: int | None, progress: Progress
) -> None:
    """Writes the response to `file`; `have` bytes of `total` are there already."""
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
      target: the file that it is written to.
      sha256: the hex digest that the member must have; None for no check.
      progress: gets the bytes unpacked so far.

    Raises:
      DataError: the archive is damaged, contains a name that points outside the folder,
        or lacks the member; or the member has another checksum.
    """
    try:
        with zipfile.ZipFile(archive) as contents:
            _reject_unsafe_names(archive, contents.namelist())
            try:
                entry = contents.getinfo(member)
            except KeyError:
                raise DataError(
                    f"{archive} holds no {member}: it is not the archive that was expected"
                ) from None
            with contents.open(entry) as source, atomic_write(target) as out:
                _write_member(archive, entry, source, out, sha256, progress)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{archive} is not a whole zip archive ({error}): it is truncated or damaged; "
            "remove it, then try again"
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
            "another version; nothing of it was kept"
        )


def _reject_unsafe_names(archive: Path, names: list[str]) -> None:
    """Raises DataError where a name is absolute, has a drive letter or contains '..'."""
    for name in names:
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
            raise DataError(
                f"{archive} is refused: its entry {name!r} points outside the folder it "
                "would be unpacked to; get the archive from its official place"
            )


def fetch_from_package(
    package: str,
    member: str,
    sha256: str | None,
    target: Path,
    progress: Progress = no_progress,
) -> None:
    """Takes a data file out of a package of the Python index that pip uses.

    The wheel is downloaded without its dependencies. Nothing of it is installed or run, and
    only `member` is read.

    Args:
      package: the requirement, e.g. "recbole==1.2.1".
      member: the name of the file in the wheel.
      sha256: the hex digest that the file must have; None for no check.
      target: the file that it is written to.
      progress: gets the progress.

    Raises:
      DataError: the package cannot be downloaded, or `extract_member` raises it.
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
            f"no space left in {folder.parent} for package {package}: free some, or give "
            "another folder with --data_dir"
        )
    wheels = sorted(folder.glob("*.whl"))
    if run.returncode or not wheels:
        raise DataError(f"package {package} cannot be fetched: {_pip_reason(run.stderr)}")
    return wheels[0]


def _pip_reason(stderr: str) -> str:
    """Returns the first error that pip reports, in one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        return "this Python has no pip (python -m ensurepip installs it)"
    with contextlib.suppress(StopIteration):
        return next(line for line in lines if line.startswith("ERROR:"))[7:300]
    return lines[-1][:300] if lines else "pip gives no reason"
