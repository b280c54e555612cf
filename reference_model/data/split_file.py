"""The file of a prepared split: a header with the sizes and other facts, then the arrays.

The header can be read without the arrays. `prepare.py` writes the file. Reading recomputes the
digest of the split from the arrays and rejects a file that does not match its header.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Iterable

import numpy as np

from reference_model.base.aligned_arrays import ALIGNMENT, aligned_empty
from reference_model.base.atomic_files import atomic_write
from reference_model.data.split import Split
from reference_model.ratings.cells import BadRows
from reference_model.ratings.reader import ReadReport

# Increment if the meaning of the file, the ratings readers or the split changes.
FORMAT_VERSION = 2
MAGIC = b"neumf-bench split\n"
HEADER_FRAME = struct.Struct("<II")  # length and CRC-32 of the header
MAX_HEADER_BYTES = 1 << 20
# Larger arrays are mapped from the file instead of being read. The training items start at a
# multiple of ALIGNMENT in the file, and smaller arrays are read into aligned memory. So an engine
# on the host can use mapped and read arrays without a copy.
MAX_READ_BYTES = 1 << 26
_BLOCK_USERS = 1 << 10


@dataclass(frozen=True)
class SplitHeader:
    """The facts about a prepared split that can be read without its arrays.

    Attributes:
      name: the dataset's name in the track.
      kind: `DatasetSpec.kind`.
      num_users: number of users.
      num_items: number of items.
      num_positives: number of training positives.
      num_negatives: published evaluation negatives per user; 0 if they are drawn.
      digest: `Split.digest`.
      min_ratings: users with fewer ratings were excluded.
      source: name of the raw file, or a description of generated data.
      source_sha256: SHA-256 of the raw content, or of the parameters of the generator.
      rows: data rows in the raw file.
      bad: the bad rows of the raw file by reason, as in `ReadReport`.
      format_version: version of the file format.
    """

    name: str
    kind: str
    num_users: int
    num_items: int
    num_positives: int
    num_negatives: int
    digest: str
    min_ratings: int
    source: str
    source_sha256: str
    rows: int
    bad: dict[str, BadRows]
    format_version: int = FORMAT_VERSION

    @property
    def report(self) -> ReadReport:
        """The report on the raw file."""
        return ReadReport(self.source, self.rows, self.bad)

    @property
    def array_lengths(self) -> list[int]:
        """Lengths of the int32 arrays in the file, in order.

        The arrays are: positives per user, training items, held-out items, evaluation negatives.
        """
        users = self.num_users
        return [users, self.num_positives, users, users * self.num_negatives]


class InvalidSplitFile(Exception):
    """The file of a prepared split is missing, damaged or has another format version."""


def split_arrays(split: Split) -> list[np.ndarray]:
    """Returns the arrays of a split in the order of `SplitHeader.array_lengths`.

    The file contains the number of positives of each user instead of `train_user`.
    """
    negatives = [] if split.eval_negatives is None else [split.eval_negatives]
    return [np.diff(split.row_starts), split.train_item, split.test_item, *negatives]


def write_split_file(path: Path, header: SplitHeader, arrays: Iterable[np.ndarray]) -> None:
    """Writes a prepared split.

    Args:
      path: the file; it is written atomically.
      header: the header of the file.
      arrays: the arrays in the order of `SplitHeader.array_lengths`; each may come in
        several parts.

    Raises:
      StorageError: the file cannot be written.
    """
    text = json.dumps(asdict(header)).encode()
    # Pad the header with spaces so that the items start at a multiple of ALIGNMENT.
    before_items = len(MAGIC) + HEADER_FRAME.size + len(text) + 4 * header.num_users
    text += b" " * (-before_items % ALIGNMENT)
    with atomic_write(path) as file:
        file.write(MAGIC + HEADER_FRAME.pack(len(text), zlib.crc32(text)) + text)
        for array in arrays:
            file.write(np.ascontiguousarray(array, dtype="<i4").data)


def read_split_header(file: BinaryIO) -> SplitHeader:
    """Reads the header and leaves the file position at the first array.

    Raises:
      InvalidSplitFile: there is no valid header.
    """
    start = file.read(len(MAGIC) + HEADER_FRAME.size)
    if len(start) != len(MAGIC) + HEADER_FRAME.size or not start.startswith(MAGIC):
        raise InvalidSplitFile("no header")
    length, crc = HEADER_FRAME.unpack(start[len(MAGIC) :])
    text = file.read(min(length, MAX_HEADER_BYTES))
    if zlib.crc32(text) != crc:
        raise InvalidSplitFile("damaged header")
    try:
        values = json.loads(text)
        values["bad"] = {reason: BadRows(**row) for reason, row in values["bad"].items()}
        header = SplitHeader(**values)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidSplitFile(f"unknown header: {error}") from error
    # A header with a correct CRC can still have invalid counts; check them before use.
    counts = (header.num_users, header.num_items, header.num_positives, header.num_negatives)
    if not all(type(count) is int and 0 <= count < 2**31 for count in counts) or not counts[0]:
        raise InvalidSplitFile("impossible counts")
    if header.format_version != FORMAT_VERSION:
        raise InvalidSplitFile(f"format {header.format_version}, not {FORMAT_VERSION}")
    return header


def read_split_file(path: Path) -> tuple[SplitHeader, Split]:
    """Reads a prepared split and verifies its digest.

    Returns:
      The header and the split.

    Raises:
      InvalidSplitFile: the file cannot be read or does not match its header.
    """
    try:
        with path.open("rb") as file:
            header = read_split_header(file)
            # Check the length before allocating memory: the lengths in a damaged header may exceed
            # the file.
            if path.stat().st_size - file.tell() != 4 * sum(header.array_lengths):
                raise InvalidSplitFile("wrong length")
            arrays = [_read_array(file, n) for n in header.array_lengths]
    except OSError as error:
        raise InvalidSplitFile(error.strerror or str(error)) from error
    counts, train_item, test_item, negatives = arrays
    if len(counts) and (counts.min() < 0 or counts.sum(dtype=np.int64) != header.num_positives):
        raise InvalidSplitFile("damaged arrays")
    split = Split(
        header.num_users,
        header.num_items,
        _repeat_indices(counts, header.num_positives),
        train_item,
        test_item,
        negatives.reshape(header.num_users, -1) if header.num_negatives else None,
    )
    if split.digest != header.digest:
        raise InvalidSplitFile("digest differs")
    return header, split


def _read_array(file: BinaryIO, length: int) -> np.ndarray:
    """Reads int32 [length] at the file position; maps a large array instead."""
    if 4 * length <= MAX_READ_BYTES:
        array = aligned_empty(length, "<i4")
        if file.readinto(array) != array.nbytes:
            raise InvalidSplitFile("wrong length")
        return array
    # Mode "c" (copy on write) makes the array writable, which DLPack requires.
    start = file.tell()
    array = np.memmap(file, "<i4", "c", start, (length,))
    file.seek(start + 4 * length)
    return array


def _repeat_indices(counts: np.ndarray, total: int) -> np.ndarray:
    """Returns k repeated counts[k] times for each k, int32 [total].

    Equivalent to np.repeat, but with aligned memory and some users at a time.
    """
    repeated, filled = aligned_empty(total, np.int32), 0
    for low in range(0, len(counts), _BLOCK_USERS):
        part = counts[low : low + _BLOCK_USERS]
        users = np.repeat(np.arange(low, low + len(part), dtype=np.int32), part)
        repeated[filled : filled + len(users)] = users
        filled += len(users)
    return repeated
