"""Checkpoints: the final weights of a run in an .npz file without pickled objects.

`checkpoints/result_N.npz` in the folder of a set belongs to `result_N.txt` of that set. For the set
among the results, the folder is `attempts/<benchmark>/checkpoints/`. The members of a checkpoint
are the weights by name, float32, and `evaluation_lists`, the digest of the evaluation lists as 64
hex characters, uint8. A checkpoint is not trusted when it is read: a member is read only if its
name, type and shape are those of a weight of the engine.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from compliance.chain.ledger import is_digest
from harness.base.error_text import one_line
from reference_model.base.atomic_files import atomic_write

# Folder of the checkpoints, in the folder of the attempts or of any other set.
FOLDER = "checkpoints"
# Member with the digest of the evaluation lists.
LISTS_MEMBER = "evaluation_lists"
# Maximum size of the names and headers of a member in the archive, in bytes.
_MEMBER_OVERHEAD = 4096
# Maximum size of the header of an array, in bytes.
_MAX_HEADER = 1024


class CheckpointError(ValueError):
    """The file is not a checkpoint of this run; the message is one line."""


def checkpoint_path(result: Path) -> Path:
    """Returns the path of the checkpoint of a run whose log will be moved to `result`."""
    return result.parent / FOLDER / f"{result.stem}.npz"


def find_checkpoint(result: Path) -> Path | None:
    """Returns the checkpoint of a result log; None if there is none.

    Args:
      result: The log, among the results or in another set.
    """
    folder = result.absolute().parent
    name = f"{result.stem}.npz"
    # The first folder is that of the set among the results, the second that of any other set.
    folders = [folder.parent / "attempts" / folder.name / FOLDER, folder / FOLDER]
    return next((place / name for place in folders if (place / name).is_file()), None)


def save(path: Path, weights: Mapping[str, np.ndarray], lists: str | None) -> str:
    """Writes a checkpoint atomically.

    Args:
      path: The file; replaced if it exists.
      weights: Arrays by name; written as float32.
      lists: Digest (hex) of the evaluation lists; None leaves it out.

    Returns:
      The SHA-256 (hex) of the file.

    Raises:
      CheckpointError: a weight has a reserved name.
      DataError, OSError: the file cannot be written.
    """
    members = {name: np.ascontiguousarray(value, "<f4") for name, value in weights.items()}
    if LISTS_MEMBER in members:
        raise CheckpointError(f"a weight has the reserved name {LISTS_MEMBER}; rename it")
    if lists is not None:
        members[LISTS_MEMBER] = np.frombuffer(lists.encode(), np.uint8)
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, **members)
    return file_digest(path)


def file_digest(path: Path) -> str:
    """Returns the SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def load(
    path: Path, expected: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], str | None]:
    """Reads a checkpoint, which is not trusted.

    Args:
      path: The file.
      expected: Weights of the same engine; names and shapes in the file must be exactly
        the same.

    Returns:
      (weights by name, float32; digest (hex) of the evaluation lists or None).

    Raises:
      CheckpointError: the file is not such a checkpoint.
      OSError: the file cannot be read.
    """
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        name: (np.dtype("<f4"), np.shape(value)) for name, value in expected.items()
    }
    # Check the size first, so that a huge file is never opened. The additional overhead is
    # for the digest of the evaluation lists.
    largest = sum(_num_bytes(*shape) for shape in shapes.values()) + _MEMBER_OVERHEAD
    if path.stat().st_size > largest + len(shapes) * _MEMBER_OVERHEAD:
        raise CheckpointError("it is larger than the weights of the model")
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = _read_members(archive, shapes)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OverflowError) as error:
        raise CheckpointError(f"it is not an .npz file ({error})") from None
    lists = arrays.pop(LISTS_MEMBER, None)
    return arrays, None if lists is None else _decode_digest(lists)


def _num_bytes(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    """Returns the size of an array in bytes."""
    return dtype.itemsize * int(np.prod(shape, dtype=np.int64))


def _read_members(
    archive: zipfile.ZipFile, shapes: Mapping[str, tuple[Any, tuple[int, ...]]]
) -> dict[str, np.ndarray]:
    """Returns the arrays by name; each name in `shapes` must occur exactly once."""
    wanted = {f"{name}.npy": (name, *value) for name, value in shapes.items()}
    optional = f"{LISTS_MEMBER}.npy"
    names = [info.filename for info in archive.infolist()]
    if len(set(names)) < len(names) or not set(wanted) <= set(names) <= {*wanted, optional}:
        raise CheckpointError("its members are not the weights of the model")
    wanted[optional] = (LISTS_MEMBER, np.dtype("u1"), (64,))
    return {
        wanted[info.filename][0]: _read_array(archive, info, *wanted[info.filename][1:])
        for info in archive.infolist()
    }


def _read_array(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, dtype: np.dtype, shape: tuple[int, ...]
) -> np.ndarray:
    """Reads one member; checks its type and shape before it reads the data."""
    name, size = info.filename, _num_bytes(dtype, shape)
    # A compressed member could expand to any size.
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise CheckpointError(f"member {name!r} is compressed or encrypted")
    if not size < info.file_size <= size + _MAX_HEADER:
        raise CheckpointError(
            f"member {name!r} has {info.file_size} bytes, not {size} plus the header of an array"
        )
    with archive.open(info) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                raise ValueError(f"version {version}")
            header = np.lib.format.read_array_header_1_0(stream, max_header_size=_MAX_HEADER)
        except Exception as error:  # NumPy evaluates the header as Python: any exception may occur
            text = one_line(error, 100)
            raise CheckpointError(f"member {name!r} has no valid array header ({text})") from None
        if header != (shape, False, dtype):  # False: not in Fortran order
            raise CheckpointError(f"member {name!r} is not {dtype.name} {list(shape)}")
        data = stream.read(size + 1)
    if len(data) != size:
        raise CheckpointError(f"member {name!r} is truncated")
    return np.frombuffer(data, dtype).reshape(shape)


def _decode_digest(lists: np.ndarray) -> str:
    """Returns the digest that a checkpoint contains as characters in a uint8 array."""
    text = lists.tobytes().decode("ascii", "replace")
    if not is_digest(text):
        raise CheckpointError("its evaluation_lists is not a SHA-256 digest")
    return text
