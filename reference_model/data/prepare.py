"""Prepares the split of a dataset once, and loads it from its file in every run.

A prepared split is the file `<data_dir>/prepared/<name>-<key>.split`. The key is a hash of the
format version, the parameters of the preparation and the SHA-256 of the raw content.
`split_file.py` defines the file format; a file that does not match its header is rewritten.

Computing the SHA-256 of a large raw file is slow. Therefore it is recorded in a JSON file next to
the prepared splits, together with the size, times and inode of the raw file. The record is valid
while these do not change.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from reference_model.base.atomic_files import atomic_write, file_hash, file_lock, storage_error
from reference_model.base.errors import DataError
from reference_model.base.progress import Progress, no_progress
from reference_model.data.dataset_facts import log_dataset
from reference_model.data.fractal import EXPANSION_VERSION, Expansion, FractalShape, expand
from reference_model.data.published_splits import read_published_split, resolve_published_split
from reference_model.ratings.reader import ReadReport, read_ratings
from reference_model.data.sources import DatasetSpec, find_local, locate_dataset
from reference_model.data.split import Split, leave_one_out
from reference_model.data.split_file import (
    FORMAT_VERSION,
    InvalidSplitFile,
    SplitHeader,
    read_split_file,
    split_arrays,
    write_split_file,
)
from reference_model.data.synthetic import GENERATOR_VERSION, SyntheticShape, generate_split
from reference_model.events import EventSink, NullSink

# The folder of prepared splits in the data folder.
PREPARED_FOLDER = "prepared"


def load_split(
    spec: DatasetSpec,
    data_dir: Path | str,
    sink: EventSink = NullSink(),
    progress: Progress = no_progress,
) -> Split:
    """Loads the split of a dataset from its file; prepares it first if needed.

    Args:
      spec: the dataset.
      data_dir: the data folder.
      sink: receives the facts about the dataset.
      progress: receives the progress of the preparation.

    Raises:
      DataError: the dataset cannot be fetched, read or written.
    """
    data_dir = Path(data_dir)
    try:
        path = find_split_path(spec, data_dir)
        loaded = read_split_file(path) if path else None
    except InvalidSplitFile:
        loaded = None
    header, split = loaded or _prepare(spec, data_dir, progress)
    sizes = (split.num_users, split.num_items, split.num_positives)
    log_dataset(sink, header.name, split.digest, header.min_ratings, *sizes)
    return split


def prepare_split(
    spec: DatasetSpec, data_dir: Path | str, progress: Progress = no_progress
) -> SplitHeader:
    """Ensures that a complete, verified file of the prepared split exists.

    It fetches the dataset if needed. It logs nothing; the facts about the dataset are logged
    when a run loads the split.

    Args:
      spec: the dataset.
      data_dir: the data folder.
      progress: receives the progress, and notices about bad rows and about a digest that
        differs from that of the track. Notices are issued even if the file already existed.

    Returns:
      The header of the file.

    Raises:
      DataError: the dataset cannot be fetched, read or written.
    """
    header, _ = _prepare(spec, Path(data_dir), progress)
    for notice in _split_notices(spec, header):
        progress(notice, None, None)
    return header


def _split_notices(spec: DatasetSpec, header: SplitHeader) -> list[str]:
    """Returns the notices to the user about a prepared split."""
    notices = header.report.notices()
    is_packaged = Path(spec.package_member or "").name == header.source
    wanted = spec.package_member_sha256
    if is_packaged and wanted and header.source_sha256 != wanted.lower():
        notices.append(f"{header.source} is not the packaged copy (sha256 differs); it is used")
    if spec.split_digest and header.digest != spec.split_digest:
        notices.append(
            f"the split of {header.source} is not the canonical {spec.name} "
            f"({header.digest[:12]}..., expected {spec.split_digest[:12]}...): it is valid only "
            "in the open division"
        )
    return notices


# --- preparing -------------------------------------------------------------


def _prepare(
    spec: DatasetSpec, data_dir: Path, progress: Progress
) -> tuple[SplitHeader, Split]:
    """Reads the split from its file, or makes it and writes the file."""
    folder = data_dir / PREPARED_FOLDER
    if spec.kind == "fractal":
        _fractal_shape(spec)  # raise for an invalid shape before fetching
    waiting = f"waiting for another process to prepare {spec.name}"
    with file_lock(folder / f"{spec.name}.lock", progress, waiting):
        source = None
        if spec.kind != "synthetic":
            source = locate_dataset(spec.source, data_dir, progress)
        content = _content_hash(spec, folder, source, progress)
        path = _split_path(spec, folder, content)
        try:
            return read_split_file(path)
        except InvalidSplitFile as error:
            if path.exists():
                progress(f"{path} is not usable ({error}); rewriting it", None, None)
        # Remove temporary files of killed processes; the lock ensures that they are not in use.
        for leftover in folder.glob(f".{path.name}.*.part"):
            leftover.unlink(missing_ok=True)
        if spec.kind == "fractal":
            _write_expansion(spec, data_dir, path, content, progress)
            return read_split_file(path)
        split, report = _build_split(spec, source, progress)
        header = _make_header(spec, split, report, content)
        write_split_file(path, header, split_arrays(split))
    return header, split


def _write_expansion(
    spec: DatasetSpec, data_dir: Path, path: Path, content: str, progress: Progress
) -> None:
    """Prepares the source of an expansion, then writes the expansion.

    The complete expansion is never in memory.
    """
    shape = _fractal_shape(spec)
    source_header, source = _prepare(spec.source, data_dir, progress)
    # The header precedes the items in the file and contains their number and digest. So the items
    # are first written to a temporary file.
    try:
        with tempfile.TemporaryFile(dir=path.parent) as items:
            expansion = expand(source, shape, items, spec.min_ratings, progress)
            del source
            name = f"{source_header.source} x {shape.user_factor} x {shape.item_factor}"
            ratings = expansion.num_positives + expansion.num_users
            # The bad rows are those of the raw file of the source.
            report = ReadReport(name, ratings, source_header.bad)
            header = _make_header(spec, expansion, report, content)
            write_split_file(path, header, expansion.arrays())
    except OSError as error:
        raise storage_error(error, path) from error


def _build_split(
    spec: DatasetSpec, source: Path | None, progress: Progress
) -> tuple[Split, ReadReport]:
    """Reads the split from its raw file, or generates it if `source` is None."""
    if source is None:
        shape = _synthetic_shape(spec)
        progress(f"generating {shape.num_ratings:,} pairs for {spec.name}", None, None)
        return generate_split(shape), ReadReport("generated", shape.num_ratings)
    if spec.kind == "given_split":
        return read_published_split(resolve_published_split(source), progress)
    ratings = read_ratings(source, spec.min_ratings, progress, spec.columns)
    try:
        split = leave_one_out(
            ratings.user, ratings.item, ratings.timestamp, spec.min_ratings
        )
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    return split, ratings.report


def _synthetic_shape(spec: DatasetSpec) -> SyntheticShape:
    """Builds the shape of a generated dataset; raises DataError if it is invalid."""
    try:
        return SyntheticShape(**(spec.synthetic or {}))
    except (TypeError, ValueError) as error:
        raise DataError(f"{spec.name}: cannot generate synthetic data: {error}") from error


def _fractal_shape(spec: DatasetSpec) -> FractalShape:
    """Builds the shape of a fractal expansion; raises DataError if it is invalid."""
    try:
        shape = FractalShape(**(spec.fractal or {}))
        if shape.source == spec.name:
            raise ValueError("its name must differ from that of its source")
    except (TypeError, ValueError) as error:
        raise DataError(f"{spec.name}: cannot make the expansion: {error}") from error
    return shape


def _make_header(
    spec: DatasetSpec, split: Split | Expansion, report: ReadReport, content_sha256: str
) -> SplitHeader:
    """Builds the header of a prepared split."""
    negatives = split.eval_negatives
    return SplitHeader(
        name=spec.name,
        kind=spec.kind,
        num_users=split.num_users,
        num_items=split.num_items,
        num_positives=split.num_positives,
        num_negatives=0 if negatives is None else negatives.shape[1],
        digest=split.digest,
        min_ratings=spec.min_ratings,
        source=report.path,
        source_sha256=content_sha256,
        rows=report.rows,
        bad=report.bad,
    )


# --- file names ----------------------------------------------------------------


def _split_path(spec: DatasetSpec, folder: Path, content_sha256: str) -> Path:
    """Returns the path of a prepared split; its name includes a hash of all its inputs."""
    parts = [FORMAT_VERSION, spec.kind, spec.min_ratings, content_sha256]
    key = json.dumps(parts + ([spec.columns] if spec.columns else []), sort_keys=True)
    return folder / f"{spec.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.split"


def find_split_path(spec: DatasetSpec, data_dir: Path) -> Path | None:
    """Returns the path of a prepared split, if it is known without reading raw data.

    Returns None if the dataset is not in the data folder or its SHA-256 is not recorded.
    """
    folder = data_dir / PREPARED_FOLDER
    if spec.kind == "synthetic":
        return _split_path(spec, folder, _content_hash(spec, folder, None, no_progress))
    source = find_local(spec.source, data_dir)
    if source is None:
        return None
    hashes = [_recorded_file_hash(folder, file) for file in _source_files(spec, source)]
    known = [value for value in hashes if value]
    if len(known) < len(hashes):
        return None
    return _split_path(spec, folder, _combine_hashes(spec, known))


def _source_files(spec: DatasetSpec, source: Path) -> tuple[Path, ...]:
    """Returns all raw files of a dataset, including `source`."""
    return resolve_published_split(source).files if spec.kind == "given_split" else (source,)


def _combine_hashes(spec: DatasetSpec, hashes: list[str]) -> str:
    """Combines the hashes of the raw files, and the parameters of an expansion, into one hash.

    The hash of a single part is used as it is; several parts are hashed together.
    """
    parts = list(hashes)
    if spec.kind == "fractal":
        parameters = [EXPANSION_VERSION, asdict(_fractal_shape(spec))]
        parts.append(json.dumps(parameters, sort_keys=True))
    return parts[0] if len(parts) == 1 else hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _content_hash(
    spec: DatasetSpec, folder: Path, source: Path | None, progress: Progress
) -> str:
    """Computes the SHA-256 of the raw content, or of the parameters of generated data."""
    if source is None:
        text = json.dumps([GENERATOR_VERSION, asdict(_synthetic_shape(spec))], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
    files = _source_files(spec, source)
    return _combine_hashes(spec, [_cached_file_hash(folder, file, progress) for file in files])


def _cached_file_hash(folder: Path, file: Path, progress: Progress) -> str:
    """Returns the recorded SHA-256 of a raw file, or computes and records it."""
    recorded = _recorded_file_hash(folder, file)
    if recorded:
        return recorded
    before = _file_identity(file)
    value = file_hash(file, "sha256", progress)
    if before == _file_identity(file):  # do not record the hash if the file has changed
        record = {"path": str(file.resolve()), "identity": before, "sha256": value}
        with atomic_write(_hash_record_path(folder, file)) as out:
            out.write(json.dumps(record).encode())
    return value


def _recorded_file_hash(folder: Path, file: Path) -> str | None:
    """Returns the recorded SHA-256 of a raw file; None if there is no valid record."""
    try:
        record = json.loads(_hash_record_path(folder, file).read_bytes())
        is_same = (
            record["path"] == str(file.resolve()) and record["identity"] == _file_identity(file)
        )
        return record["sha256"] if is_same and len(record["sha256"]) == 64 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _hash_record_path(folder: Path, file: Path) -> Path:
    """Returns the path of the JSON file with the recorded SHA-256 of `file`."""
    name = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]
    return folder / f"{name}.sha256.json"


def _file_identity(file: Path) -> list[int]:
    """Returns the size, times in ns and inode of a file, which identify its content."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
