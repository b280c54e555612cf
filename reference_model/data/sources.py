"""Locates a dataset: in the data folder, at its official URL, or in a package.

`locate_dataset` tries these sources in order and returns a file in the data folder. A file placed
there by the user is used as it is; the digest of the split shows whether it is the canonical
data. Fetched files are verified before use.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from reference_model.base.atomic_files import StorageError, file_hash, file_lock, make_folder
from reference_model.base.errors import DataError
from reference_model.base.progress import Progress, no_progress
from reference_model.data.download import download, extract_member, fetch_from_package
from reference_model.data.published_splits import PublishedSplitFiles, find_published_splits
from reference_model.data.split import MIN_RATINGS

_PLAIN_SUFFIXES = (".inter", ".csv", ".dat", ".data")


@dataclass(frozen=True)
class DatasetSpec:
    """A track's description of its dataset.

    Attributes:
      name: name of the dataset and of its folder in the data folder.
      kind: "ratings" (a ratings file), "given_split", "synthetic" (generated) or "fractal"
        (the expansion of a ratings file). A "given_split" is a published split with held-out
        items and evaluation negatives; see `published_splits`.
      url: URL of the official zip archive.
      archive_md5: MD5 of the archive.
      archive_sha256: SHA-256 of the archive.
      archive_member: the ratings file in the archive, e.g. "ml-1m/ratings.dat".
      package: a package on the Python index with the same data, e.g. "recbole==1.2.1".
      package_member: the ratings file in the package's wheel.
      package_member_sha256: SHA-256 of that file.
      min_ratings: users with fewer ratings are excluded.
      split_digest: `Split.digest` of the canonical split.
      synthetic: the fields of `SyntheticShape`.
      columns: names or positions in the ratings file; see `ratings.file_layout.detect_layout`.
      fractal: the fields of `FractalShape`, including the name of the source dataset. The
        fields from `url` to `package_member_sha256` and `columns` then describe the source.
      file: path of the ratings file, if it is neither fetched nor in the data folder.
    """

    name: str
    kind: str = "ratings"
    url: str | None = None
    archive_md5: str | None = None
    archive_sha256: str | None = None
    archive_member: str | None = None
    package: str | None = None
    package_member: str | None = None
    package_member_sha256: str | None = None
    min_ratings: int = MIN_RATINGS
    split_digest: str | None = None
    synthetic: dict[str, int] | None = None
    columns: dict[str, str | int | None] | None = None
    fractal: dict[str, Any] | None = None
    file: str | None = None

    @property
    def source(self) -> DatasetSpec:
        """The dataset to read; for an expansion, its source dataset."""
        if self.kind != "fractal":
            return self
        name = (self.fractal or {}).get("source") or self.name
        return replace(self, name=name, kind="ratings", fractal=None, split_digest=None)

    @property
    def archive_name(self) -> str:
        """The file name of the archive, e.g. "ml-1m.zip"."""
        return self.url.rsplit("/", 1)[-1] if self.url else f"{self.name}.zip"

    @property
    def checksums(self) -> dict[str, str]:
        """The digests of the archive by algorithm."""
        known = {"sha256": self.archive_sha256, "md5": self.archive_md5}
        return {name: value for name, value in known.items() if value}


def locate_dataset(
    spec: DatasetSpec, data_dir: Path | str, progress: Progress = no_progress
) -> Path:
    """Returns the file of the dataset in the data folder; fetches it if it is missing.

    Args:
      spec: the dataset, of kind "ratings" or "given_split".
      data_dir: the data folder.
      progress: receives the progress, and notices about sources that fail.

    Returns:
      The ratings file; for a published split, the npz or the file of training pairs.

    Raises:
      DataError: no source works; the message contains instructions for the user.
    """
    data_dir = Path(data_dir)
    found = find_local(spec, data_dir)
    if found:
        return found
    if spec.kind != "ratings":
        raise DataError(_published_split_instructions(spec, data_dir))
    make_folder(data_dir)
    waiting = f"waiting for another process to fetch {spec.name}"
    with file_lock(data_dir / f".{spec.name}.lock", progress, waiting):
        # Another process may have fetched it while this one waited for the lock.
        return (
            find_local(spec, data_dir)
            or _unpack_local_archive(spec, data_dir, progress)
            or _fetch(spec, data_dir, progress)
        )


def find_local(spec: DatasetSpec, data_dir: Path) -> Path | None:
    """Finds the file of the dataset in the data folder, without reading it.

    Returns:
      The file, as for `locate_dataset`; None if it is missing.

    Raises:
      DataError: the data folder is a file or contains several matching published splits, or
        `spec.file` does not exist.
    """
    if data_dir.exists() and not data_dir.is_dir():
        raise DataError(f"--data_dir {data_dir} is a file; give the folder that contains it")
    if spec.file:
        if not Path(spec.file).is_file():
            raise DataError(f"{spec.file}, the file of dataset {spec.name}, is not a file")
        return Path(spec.file)
    if spec.kind == "given_split":
        published = _choose_published_split(spec, data_dir)
        return published.files[0] if published else None
    return next((path for path in _candidate_paths(spec, data_dir) if path.is_file()), None)


def _candidate_paths(spec: DatasetSpec, data_dir: Path) -> list[Path]:
    """Lists the possible paths of the ratings file: the official layout, then plain files."""
    folder = data_dir / spec.name
    paths = [data_dir / spec.archive_member] if spec.archive_member else []
    for member in (spec.archive_member, spec.package_member):
        if member:
            name = PurePosixPath(member).name
            paths += [folder / name, data_dir / name]
    for ending in _PLAIN_SUFFIXES:
        paths += [folder / (spec.name + ending), data_dir / (spec.name + ending)]
    return paths


def _choose_published_split(spec: DatasetSpec, data_dir: Path) -> PublishedSplitFiles | None:
    """Chooses the split with the longest common prefix of its name and the dataset's name.

    It searches the folder of the dataset first, then the data folder.
    """
    for folder in (data_dir / spec.name, data_dir):
        found = find_published_splits(folder)
        if spec.archive_member:
            wanted = PurePosixPath(spec.archive_member).name
            found = [split for split in found if wanted in {f.name for f in split.files}]
        common = [len(os.path.commonprefix([split.name, spec.name])) for split in found]
        best = [split for split, length in zip(found, common) if length == max(common)]
        if len(best) > 1:
            names = " and ".join(split.files[0].name for split in best)
            raise DataError(
                f"{folder} contains {names}: it is unclear which is {spec.name}; put only that one "
                f"in {data_dir / spec.name}"
            )
        if best:
            return best[0]
    return None


def _published_split_instructions(spec: DatasetSpec, data_dir: Path) -> str:
    """Returns an error that lists the files of a published split and the folder for them."""
    return (
        f"{spec.name} is a published split that cannot be fetched: put its files "
        f"(<name>.train.rating, .test.rating and .test.negative, or an npz of them) in "
        f"{data_dir / spec.name}; see docs/running.md for the source"
    )


def _member_path(spec: DatasetSpec, data_dir: Path) -> Path:
    """Returns the path for the unpacked archive member; raises DataError for an unsafe name."""
    member = PurePosixPath(spec.archive_member or "")
    if not member.name or member.is_absolute() or ".." in member.parts:
        raise DataError(f"{spec.name}: archive_member {spec.archive_member!r} names no file")
    return data_dir / member


def find_archive(spec: DatasetSpec, data_dir: Path) -> Path | None:
    """Finds the archive of the dataset in the data folder; None if it is missing."""
    if not spec.archive_member:
        return None
    candidates = (data_dir / spec.archive_name, data_dir / spec.name / spec.archive_name)
    return next((path for path in candidates if path.is_file()), None)


def _unpack_local_archive(spec: DatasetSpec, data_dir: Path, progress: Progress) -> Path | None:
    """Unpacks an archive placed in the data folder by the user; None if there is no archive."""
    archive = find_archive(spec, data_dir)
    if archive is None:
        return None
    for algorithm, wanted in spec.checksums.items():
        if file_hash(archive, algorithm, progress) != wanted.lower():
            progress(
                f"{archive} is not the official archive ({algorithm} differs); it is used, "
                "and the digest of the split is checked",
                None,
                None,
            )
            break
    target = _member_path(spec, data_dir)
    extract_member(archive, spec.archive_member, target, None, progress)
    return target


def _fetch(spec: DatasetSpec, data_dir: Path, progress: Progress) -> Path:
    """Fetches the dataset from the first source that works."""
    failures = []
    for source in (_fetch_archive, _fetch_package):
        try:
            target = source(spec, data_dir, progress)
        except StorageError:  # would also affect other sources
            raise
        except DataError as error:
            failures.append(str(error))
            progress(f"{spec.name}: {error}", None, None)
            continue
        if target:
            return target
    raise DataError(_manual_instructions(spec, data_dir, failures))


def _manual_instructions(spec: DatasetSpec, data_dir: Path, failures: list[str]) -> str:
    """Returns an error with the failures of all sources and the paths for manual downloads."""
    reasons = "; ".join(failures) or "no source is known"
    target = data_dir / (spec.archive_member or f"{spec.name}/{spec.name}.csv")
    archive = f", or {spec.url} as {data_dir / spec.archive_name}" if spec.url else ""
    return (
        f"{spec.name} cannot be fetched ({reasons}): put the ratings file manually at "
        f"{target}{archive}"
    )


def _fetch_archive(spec: DatasetSpec, data_dir: Path, progress: Progress) -> Path | None:
    """Downloads and unpacks the official archive; None if the dataset has no URL."""
    if not spec.url:
        return None
    target, archive = _member_path(spec, data_dir), data_dir / spec.archive_name
    download(spec.url, archive, spec.checksums, progress)
    extract_member(archive, spec.archive_member or "", target, None, progress)
    with contextlib.suppress(OSError):  # the archive is no longer needed
        archive.unlink()
    return target


def _fetch_package(spec: DatasetSpec, data_dir: Path, progress: Progress) -> Path | None:
    """Extracts the ratings file from a package; None if the dataset has no package."""
    if not (spec.package and spec.package_member):
        return None
    target = data_dir / spec.name / PurePosixPath(spec.package_member).name
    _remove_leftovers(target.parent)
    fetch_from_package(
        spec.package, spec.package_member, spec.package_member_sha256, target, progress
    )
    with contextlib.suppress(OSError):  # a partial download is no longer needed
        (data_dir / (spec.archive_name + ".part")).unlink()
    return target


def _remove_leftovers(folder: Path) -> None:
    """Removes temporary files of killed processes; the caller must hold the lock."""
    for path in folder.glob(".fetch-*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            path.unlink()
