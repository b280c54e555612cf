"""Where a dataset comes from: the data folder, the official archive, a package.

`locate` tries them in this order and returns a file that lies in the data
folder. What was put there by hand is used as it is (the digest of the split
decides whether it is the canonical data); what is fetched is verified first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from reference_model.base.atomic_files import StorageError, file_hash, locked, make_folder
from reference_model.base.errors import DataError
from reference_model.base.progress import Progress, no_progress
from reference_model.data.download import download, extract_member, fetch_from_package
from reference_model.data.published_splits import GivenSplitFiles, find_given_splits
from reference_model.data.split import MIN_RATINGS

_PLAIN_ENDINGS = (".inter", ".csv", ".dat", ".data")


@dataclass(frozen=True)
class DatasetSpec:
    """What a track says of its dataset; plain data.

    name: also the folder of the dataset under the data folder.
    kind: "ratings", "given_split", "synthetic" or "fractal".
    url, archive_md5, archive_sha256: the official zip archive and its digests.
    archive_member: the ratings file in it, e.g. "ml-1m/ratings.dat".
    package, package_member, package_member_sha256: the same data in a package
      of the Python index, e.g. "recbole==1.2.1", and the file in its wheel.
    split_digest: `Split.digest` of the canonical split.
    synthetic: num_users, num_items, num_ratings and seed of generated data.
    columns: names in the header of the ratings file, see `ratings.recognise`.
    fractal: the fields of `FractalShape`: which dataset is expanded, and how; where
      that dataset comes from is what url to columns say.
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
    columns: dict[str, str | None] | None = None
    fractal: dict[str, Any] | None = None

    @property
    def source(self) -> DatasetSpec:
        """The dataset whose files are read: of an expansion, the one that is expanded."""
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
        """The archive's digests by algorithm."""
        known = {"sha256": self.archive_sha256, "md5": self.archive_md5}
        return {name: value for name, value in known.items() if value}


def locate(
    spec: DatasetSpec, data_dir: Path | str, progress: Progress | None = None
) -> Path:
    """The dataset's file in the data folder, fetched if it is not there yet.

    For a given split it is the npz or the file of the training pairs. Raises
    DataError with what to do where no source works.
    """
    data_dir = Path(data_dir)
    progress = no_progress if progress is None else progress
    found = find_local(spec, data_dir)
    if found:
        return found
    if spec.kind != "ratings":
        raise DataError(_given_split_advice(spec, data_dir))
    make_folder(data_dir)
    waiting = f"waiting for another process that fetches {spec.name}"
    with locked(data_dir / f".{spec.name}.lock", progress, waiting):
        found = find_local(spec, data_dir)  # another process may have just put it there
        return found or _unpack_local(spec, data_dir, progress) or _fetch(spec, data_dir, progress)


def find_local(spec: DatasetSpec, data_dir: Path) -> Path | None:
    """The dataset's file where it already lies in the data folder, without reading it."""
    if data_dir.exists() and not data_dir.is_dir():
        raise DataError(f"--data_dir {data_dir} is a file; give the folder that it lies in")
    if spec.kind == "given_split":
        given = _choose_given_split(spec, data_dir)
        return given.files[0] if given else None
    return next((path for path in _candidates(spec, data_dir) if path.is_file()), None)


def _candidates(spec: DatasetSpec, data_dir: Path) -> list[Path]:
    """Where the ratings file may lie: the official layout first, then plain files."""
    folder = data_dir / spec.name
    paths = [data_dir / spec.archive_member] if spec.archive_member else []
    for member in (spec.archive_member, spec.package_member):
        if member:
            name = PurePosixPath(member).name
            paths += [folder / name, data_dir / name]
    for ending in _PLAIN_ENDINGS:
        paths += [folder / (spec.name + ending), data_dir / (spec.name + ending)]
    return paths


def _choose_given_split(spec: DatasetSpec, data_dir: Path) -> GivenSplitFiles | None:
    """The split in the dataset's folder or the data folder that is most like its name."""
    for folder in (data_dir / spec.name, data_dir):
        found = find_given_splits(folder)
        if spec.archive_member:
            wanted = PurePosixPath(spec.archive_member).name
            found = [given for given in found if wanted in {f.name for f in given.files}]
        alike = [len(os.path.commonprefix([given.name, spec.name])) for given in found]
        best = [given for given, n in zip(found, alike) if n == max(alike)]
        if len(best) > 1:
            names = " and ".join(given.files[0].name for given in best)
            raise DataError(
                f"{folder} holds {names}: which is {spec.name}? Put one of them alone "
                f"in {data_dir / spec.name}"
            )
        if best:
            return best[0]
    return None


def _given_split_advice(spec: DatasetSpec, data_dir: Path) -> str:
    return (
        f"{spec.name} is a published split that cannot be fetched: put its files "
        f"(<name>.train.rating, .test.rating and .test.negative, or an npz of them) into "
        f"{data_dir / spec.name}; the README says where its authors publish it"
    )


def _member_path(spec: DatasetSpec, data_dir: Path) -> Path:
    """Where the archive's member is unpacked to. Raises DataError for an odd name."""
    member = PurePosixPath(spec.archive_member or "")
    if not member.name or member.is_absolute() or ".." in member.parts:
        raise DataError(f"{spec.name}: archive_member {spec.archive_member!r} names no file")
    return data_dir / member


def _unpack_local(spec: DatasetSpec, data_dir: Path, progress: Progress) -> Path | None:
    """Unpacks an archive that was put into the data folder by hand."""
    places = (data_dir / spec.archive_name, data_dir / spec.name / spec.archive_name)
    archive = next((path for path in places if path.is_file()), None)
    if archive is None or not spec.archive_member:
        return None
    for algorithm, wanted in spec.checksums.items():
        if file_hash(archive, algorithm, progress) != wanted.lower():
            progress(
                f"{archive} is not the official archive ({algorithm} differs); it is used, "
                "and the digest of the split decides",
                None,
                None,
            )
            break
    target = _member_path(spec, data_dir)
    extract_member(archive, spec.archive_member, target, None, progress)
    return target


def _fetch(spec: DatasetSpec, data_dir: Path, progress: Progress) -> Path:
    failures = []
    for source in (_fetch_archive, _fetch_package):
        try:
            target = source(spec, data_dir, progress)
        except StorageError:
            raise
        except DataError as error:
            failures.append(str(error))
            progress(f"{spec.name}: {error}", None, None)
            continue
        if target:
            return target
    raise DataError(_advice(spec, data_dir, failures))


def _advice(spec: DatasetSpec, data_dir: Path, failures: list[str]) -> str:
    """What went wrong, and where to put which file by hand."""
    why = "; ".join(failures) or "no source is known"
    place = data_dir / (spec.archive_member or f"{spec.name}/{spec.name}.csv")
    archive = f", or {spec.url} as {data_dir / spec.archive_name}" if spec.url else ""
    return (
        f"{spec.name} cannot be fetched ({why}): put the ratings file by hand at "
        f"{place}{archive}"
    )


def _fetch_archive(spec: DatasetSpec, data_dir: Path, progress: Progress) -> Path | None:
    if not spec.url:
        return None
    target, archive = _member_path(spec, data_dir), data_dir / spec.archive_name
    download(spec.url, archive, spec.checksums, progress)
    extract_member(archive, spec.archive_member or "", target, None, progress)
    with contextlib.suppress(OSError):  # unpacked, it is of no more use
        archive.unlink()
    return target


def _fetch_package(spec: DatasetSpec, data_dir: Path, progress: Progress) -> Path | None:
    if not (spec.package and spec.package_member):
        return None
    target = data_dir / spec.name / PurePosixPath(spec.package_member).name
    _remove_leftovers(target.parent)
    fetch_from_package(
        spec.package, spec.package_member, spec.package_member_sha256, target, progress
    )
    with contextlib.suppress(OSError):  # a broken download is of no more use
        (data_dir / (spec.archive_name + ".part")).unlink()
    return target


def _remove_leftovers(folder: Path) -> None:
    """Removes what a process that was killed while fetching left; the lock is held."""
    for path in folder.glob(".fetch-*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            path.unlink()
