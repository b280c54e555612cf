"""Final weights of a run on disk: an .npz without pickles, written whole or not at all.

`attempts/<benchmark>/checkpoints/result_N.npz` belongs to `result_N.txt` beside
`attempts`. Its members are the weights by name, float32, and `evaluation_lists`, the
64 hex characters of their digest as uint8. A checkpoint is untrusted when it is read: nothing
is unpacked that does not have the name, the type and the shape that the engine's
own weights have.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from compliance.chain.ledger import is_digest
from reference_model.base.atomic_files import replacing

LISTS = "evaluation_lists"
# Room for the names and headers of a member.
_MEMBER_OVERHEAD = 4096
_MAX_HEADER = 1024


class CheckpointError(ValueError):
    """A checkpoint that cannot be one of this run; the message is one line."""


def path_for(attempts: Path, run: int) -> Path:
    """Where the checkpoint of a run goes."""
    return attempts / "checkpoints" / f"result_{run}.npz"


def beside(result: Path) -> Path | None:
    """The checkpoint of a result by the layout of a results tree; None if there is none."""
    folder = result.absolute().parent
    name = f"{result.stem}.npz"
    places = [folder.parent / "attempts" / folder.name / "checkpoints", folder / "checkpoints"]
    return next((p / name for p in places if (p / name).is_file()), None)


def save(path: Path, weights: Mapping[str, np.ndarray], lists: str | None) -> str:
    """Writes a checkpoint; returns the SHA-256 of the file. Raises DataError, OSError."""
    members = {name: np.ascontiguousarray(value, "<f4") for name, value in weights.items()}
    if LISTS in members:
        raise CheckpointError(f"a weight has the name {LISTS}")
    if lists is not None:
        members[LISTS] = np.frombuffer(lists.encode(), np.uint8)
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **members)
    return file_digest(path)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def load(path: Path, like: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str | None]:
    """(the weights, the digest of the evaluation lists) of a checkpoint.

    like: weights of the same engine, whose names and shapes are the only ones taken.
    Raises CheckpointError for anything else, OSError.
    """
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        name: (np.dtype("<f4"), np.shape(value)) for name, value in like.items()
    }
    most = sum(_size(*wanted) for wanted in shapes.values()) + _MEMBER_OVERHEAD
    if path.stat().st_size > most + len(shapes) * _MEMBER_OVERHEAD:
        raise CheckpointError("it is larger than the model's weights are")
    try:
        with zipfile.ZipFile(path) as archive:
            found = _read_members(archive, shapes)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OverflowError) as error:
        raise CheckpointError(f"it is no .npz file ({error})") from None
    lists = found.pop(LISTS, None)
    return found, None if lists is None else _digest(lists)


def _size(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    return dtype.itemsize * int(np.prod(shape, dtype=np.int64))


def _read_members(
    archive: zipfile.ZipFile, shapes: Mapping[str, tuple[Any, tuple[int, ...]]]
) -> dict[str, np.ndarray]:
    wanted = {f"{name}.npy": (name, *value) for name, value in shapes.items()}
    optional = f"{LISTS}.npy"
    names = [info.filename for info in archive.infolist()]
    if len(set(names)) < len(names) or not set(wanted) <= set(names) <= {*wanted, optional}:
        raise CheckpointError("its members are not the model's weights")
    wanted[optional] = (LISTS, np.dtype("u1"), (64,))
    return {
        wanted[info.filename][0]: _read_array(archive, info, *wanted[info.filename][1:])
        for info in archive.infolist()
    }


def _read_array(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, dtype: np.dtype, shape: tuple[int, ...]
) -> np.ndarray:
    """One member, of which type and shape are known before a byte of it is taken."""
    name, size = info.filename, _size(dtype, shape)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise CheckpointError(f"member {name!r} is compressed or encrypted")
    if not size < info.file_size <= size + _MAX_HEADER:
        raise CheckpointError(f"member {name!r} has {info.file_size} bytes, not about {size}")
    with archive.open(info) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                raise ValueError(f"version {version}")
            told = np.lib.format.read_array_header_1_0(stream, max_header_size=_MAX_HEADER)
        except Exception as error:  # numpy reads the header as Python: many things can fail
            text = " ".join(str(error).split())[:100]
            raise CheckpointError(f"member {name!r} has no header of an array ({text})") from None
        if told != (shape, False, dtype):
            raise CheckpointError(f"member {name!r} is not {dtype.name} {list(shape)}")
        data = stream.read(size + 1)
    if len(data) != size:
        raise CheckpointError(f"member {name!r} is cut off")
    return np.frombuffer(data, dtype).reshape(shape)


def _digest(lists: np.ndarray) -> str:
    text = lists.tobytes().decode("ascii", "replace")
    if not is_digest(text):
        raise CheckpointError("its evaluation_lists is no digest")
    return text
