"""Prepared splits on disk: made once, loaded quickly, never trusted unseen.

A prepared split lies in `<data_dir>/prepared/<name>-<key>.split`, where the key
is a hash of the format version, the preparation's parameters and the SHA-256 of
the raw content. The file itself is `prepared_file.py`'s; one that does not agree with
its header is made anew.

Hashing the raw file at each start would read all of it, so the hash is kept
beside, with the file's size, times and inode: while those stay, it counts.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from reference_model.base.atomic_files import file_hash, locked, replacing, storage_error
from reference_model.base.errors import DataError
from reference_model.base.progress import Progress, no_progress
from reference_model.data.dataset_facts import say_dataset
from reference_model.data.fractal import EXPANSION_VERSION, Expansion, FractalShape, expand
from reference_model.data.published_splits import given_split_files, read_given_split_files
from reference_model.data.ratings import ReadReport, read_ratings
from reference_model.data.sources import DatasetSpec, find_local, locate
from reference_model.data.split import Split, leave_one_out
from reference_model.data.split_file import (
    FORMAT_VERSION,
    CacheHeader,
    Unusable,
    read_prepared,
    read_prepared_header,
    write_prepared,
)
from reference_model.data.synthetic import GENERATOR_VERSION, SyntheticShape, generate_split
from reference_model.events import EventSink, NullSink

FOLDER = "prepared"


def load_split(
    spec: DatasetSpec,
    data_dir: Path | str,
    sink: EventSink = NullSink(),
    progress: Progress | None = None,
) -> Split:
    """The split of a dataset, from its prepared file; prepared first if need be.

    Says what it loaded to the sink. Raises DataError.
    """
    data_dir = Path(data_dir)
    progress = no_progress if progress is None else progress
    try:
        path = _prepared_path(spec, data_dir)
        loaded = read_prepared(path) if path else None
    except Unusable:
        loaded = None
    header, split = loaded or _prepare(spec, data_dir, progress)
    sizes = (split.num_users, split.num_items, split.num_positives)
    say_dataset(sink, header.name, split.digest, header.min_ratings, *sizes)
    return split


def prepare(
    spec: DatasetSpec,
    data_dir: Path | str,
    sink: EventSink = NullSink(),
    progress: Progress | None = None,
) -> CacheHeader:
    """Makes sure that a whole, verified prepared file exists; fetches if need be.

    Notices (bad rows, a digest that is not the track's) go to `progress`, also
    where the file was there already. The sink gets nothing: the facts are said
    when the split is loaded. Raises DataError.
    """
    progress = no_progress if progress is None else progress
    header, _ = _prepare(spec, Path(data_dir), progress)
    for note in _notes(spec, header):
        progress(note, None, None)
    return header


def read_header(spec: DatasetSpec, data_dir: Path | str) -> CacheHeader:
    """The header of the prepared file, without reading a byte of the dataset.

    Raises DataError where nothing has been prepared, or the raw file changed.
    """
    try:
        path = _prepared_path(spec, Path(data_dir))
        if path:
            with path.open("rb") as file:
                return read_prepared_header(file)
    except (OSError, Unusable):
        pass
    raise DataError(f"{spec.name} is not prepared in {data_dir}: run with --prepare_only first")


def _notes(spec: DatasetSpec, header: CacheHeader) -> list[str]:
    notes = header.report.notes()
    packaged = Path(spec.package_member or "").name == header.source
    wanted = spec.package_member_sha256
    if packaged and wanted and header.source_sha256 != wanted.lower():
        notes.append(f"{header.source} is not the packaged copy (sha256 differs); it is used")
    if spec.split_digest and header.digest != spec.split_digest:
        notes.append(
            f"the split of {header.source} is not the canonical {spec.name} "
            f"({header.digest[:12]}..., expected {spec.split_digest[:12]}...): only the open "
            "division takes it"
        )
    return notes


# --- preparing -------------------------------------------------------------


def _prepare(
    spec: DatasetSpec, data_dir: Path, progress: Progress
) -> tuple[CacheHeader, Split]:
    folder = data_dir / FOLDER
    if spec.kind == "fractal":
        _expansion(spec)  # before anything is fetched
    waiting = f"waiting for another process that prepares {spec.name}"
    with locked(folder / f"{spec.name}.lock", progress, waiting):
        source = None if spec.kind == "synthetic" else locate(spec.source, data_dir, progress)
        content = _content_hash(spec, folder, source, progress)
        path = _path(spec, folder, content)
        try:
            return read_prepared(path)
        except Unusable as error:
            if path.exists():
                progress(f"{path} is not usable ({error}); making it anew", None, None)
        for leftover in folder.glob(f".{path.name}.*.part"):  # of a killed process
            leftover.unlink(missing_ok=True)
        if spec.kind == "fractal":
            _expand(spec, data_dir, path, content, progress)
            return read_prepared(path)
        split, report = _make(spec, source, progress)
        header = _header(spec, split, report, content)
        counts = np.diff(split.row_starts)
        negatives = [] if split.eval_negatives is None else [split.eval_negatives]
        write_prepared(path, header, [counts, split.train_item, split.test_item, *negatives])
    return header, split


def _expand(
    spec: DatasetSpec, data_dir: Path, path: Path, content: str, progress: Progress
) -> None:
    """Writes the expansion of a dataset, which is prepared first; never whole in memory."""
    shape = _expansion(spec)
    source_header, source = _prepare(spec.source, data_dir, progress)
    try:  # the items come before their number and digest, which the header needs
        with tempfile.TemporaryFile(dir=path.parent) as items:
            expansion = expand(source, shape, items, spec.min_ratings, progress)
            del source
            name = f"{source_header.source} x {shape.user_factor} x {shape.item_factor}"
            ratings = expansion.num_positives + expansion.num_users
            report = ReadReport(name, ratings, source_header.bad)
            header = _header(spec, expansion, report, content)
            write_prepared(path, header, expansion.arrays())
    except OSError as error:
        raise storage_error(error, path) from error


def _make(
    spec: DatasetSpec, source: Path | None, progress: Progress
) -> tuple[Split, ReadReport]:
    """Reads or generates the split."""
    if source is None:
        shape = _shape(spec)
        progress(f"generating {shape.num_ratings:,} pairs for {spec.name}", None, None)
        return generate_split(shape), ReadReport("generated", shape.num_ratings)
    if spec.kind == "given_split":
        return read_given_split_files(given_split_files(source), progress)
    ratings = read_ratings(source, spec.min_ratings, progress, spec.columns)
    try:
        split = leave_one_out(
            ratings.user, ratings.item, ratings.timestamp, spec.min_ratings, NullSink()
        )
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    return split, ratings.report


def _shape(spec: DatasetSpec) -> SyntheticShape:
    try:
        return SyntheticShape(**(spec.synthetic or {}))
    except (TypeError, ValueError) as error:
        raise DataError(f"{spec.name}: synthetic data cannot be made: {error}") from error


def _expansion(spec: DatasetSpec) -> FractalShape:
    try:
        shape = FractalShape(**(spec.fractal or {}))
        if shape.source == spec.name:
            raise ValueError("it needs another name than its source")
    except (TypeError, ValueError) as error:
        raise DataError(f"{spec.name}: the expansion cannot be made: {error}") from error
    return shape


def _header(
    spec: DatasetSpec, split: Split | Expansion, report: ReadReport, content: str
) -> CacheHeader:
    negatives = split.eval_negatives
    return CacheHeader(
        name=spec.name,
        kind=spec.kind,
        num_users=split.num_users,
        num_items=split.num_items,
        num_positives=split.num_positives,
        num_negatives=0 if negatives is None else negatives.shape[1],
        digest=split.digest,
        min_ratings=spec.min_ratings,
        source=report.path,
        source_sha256=content,
        rows=report.rows,
        bad=report.bad,
    )


# --- which file ------------------------------------------------------------


def _path(spec: DatasetSpec, folder: Path, content: str) -> Path:
    parts = [FORMAT_VERSION, spec.kind, spec.min_ratings, content]
    key = json.dumps(parts + ([spec.columns] if spec.columns else []), sort_keys=True)
    return folder / f"{spec.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.split"


def _prepared_path(spec: DatasetSpec, data_dir: Path) -> Path | None:
    """Where the prepared file should lie; None where that takes reading raw data."""
    folder = data_dir / FOLDER
    if spec.kind == "synthetic":
        return _path(spec, folder, _content_hash(spec, folder, None, no_progress))
    source = find_local(spec.source, data_dir)
    if source is None:
        return None
    hashes = [_remembered_hash(folder, file) for file in _source_files(spec, source)]
    known = [value for value in hashes if value]
    return _path(spec, folder, _content(spec, known)) if len(known) == len(hashes) else None


def _source_files(spec: DatasetSpec, source: Path) -> tuple[Path, ...]:
    return given_split_files(source).files if spec.kind == "given_split" else (source,)


def _content(spec: DatasetSpec, hashes: list[str]) -> str:
    """The hash of one file is the file's; of several, the hash of their hashes.

    For an expansion it goes together with what is done to the file.
    """
    parts = list(hashes)
    if spec.kind == "fractal":
        how = [EXPANSION_VERSION, asdict(_expansion(spec))]
        parts.append(json.dumps(how, sort_keys=True))
    return parts[0] if len(parts) == 1 else hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _content_hash(
    spec: DatasetSpec, folder: Path, source: Path | None, progress: Progress
) -> str:
    """SHA-256 of the raw content; of the parameters where it is generated."""
    if source is None:
        text = json.dumps([GENERATOR_VERSION, asdict(_shape(spec))], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
    files = _source_files(spec, source)
    return _content(spec, [_hash(folder, file, progress) for file in files])


def _hash(folder: Path, file: Path, progress: Progress) -> str:
    remembered = _remembered_hash(folder, file)
    if remembered:
        return remembered
    before = _identity(file)
    value = file_hash(file, "sha256", progress)
    if before == _identity(file):  # else it changed meanwhile: hash it again next time
        note = {"path": str(file.resolve()), "identity": before, "sha256": value}
        with replacing(_note_path(folder, file)) as out:
            out.write(json.dumps(note).encode())
    return value


def _remembered_hash(folder: Path, file: Path) -> str | None:
    try:
        note = json.loads(_note_path(folder, file).read_bytes())
        same = note["path"] == str(file.resolve()) and note["identity"] == _identity(file)
        return note["sha256"] if same and len(note["sha256"]) == 64 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _note_path(folder: Path, file: Path) -> Path:
    name = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]
    return folder / f"{name}.sha256.json"


def _identity(file: Path) -> list[int]:
    """What a change of the file changes: size, times in ns, inode."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
