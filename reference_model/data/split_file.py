"""The file of a prepared split: a header that alone gives the counts, and the arrays.

Written once, by `cache.prepare`; reading recomputes the split's digest from the arrays,
and a file that does not agree with its header is none.
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
from reference_model.base.atomic_files import replacing
from reference_model.data.delimited_text import BadRows
from reference_model.data.ratings import ReadReport
from reference_model.data.split import Split

# Raise it whenever the meaning of the file, the readers or the split changes.
FORMAT_VERSION = 1
MAGIC = b"neumf-bench split\n"
FRAME = struct.Struct("<II")  # length and CRC-32 of the header
MAX_HEADER = 1 << 20
# Items that take more are mapped from the file, not read; where they begin is a multiple
# of ALIGNMENT, and so is memory they are read to, which lets an engine on this machine use
# them where they lie.
MAPPED_BYTES = 1 << 26
_BLOCK_USERS = 1 << 10


@dataclass(frozen=True)
class CacheHeader:
    """What is known of a prepared split without reading its arrays.

    `num_negatives` is the number of given evaluation negatives per user, 0 where
    they are drawn. `rows` and `bad` are those of the `ReadReport`.
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
        return ReadReport(self.source, self.rows, self.bad)

    @property
    def array_lengths(self) -> list[int]:
        """int32 values in the file: positives per user, items, held-out, negatives."""
        users = self.num_users
        return [users, self.num_positives, users, users * self.num_negatives]


class Unusable(Exception):
    """A prepared file that is damaged or of another version."""


def write_prepared(path: Path, header: CacheHeader, arrays: Iterable[np.ndarray]) -> None:
    """Writes the arrays, which may come in parts, in the order of `array_lengths`."""
    text = json.dumps(asdict(header)).encode()
    before_items = len(MAGIC) + FRAME.size + len(text) + 4 * header.num_users
    text += b" " * (-before_items % ALIGNMENT)
    with replacing(path) as file:
        file.write(MAGIC + FRAME.pack(len(text), zlib.crc32(text)) + text)
        for array in arrays:
            file.write(np.ascontiguousarray(array, dtype="<i4").data)


def read_prepared_header(file: BinaryIO) -> CacheHeader:
    """Leaves the file at the first array. Raises Unusable."""
    start = file.read(len(MAGIC) + FRAME.size)
    if len(start) != len(MAGIC) + FRAME.size or not start.startswith(MAGIC):
        raise Unusable("no header")
    length, crc = FRAME.unpack(start[len(MAGIC) :])
    text = file.read(min(length, MAX_HEADER))
    if zlib.crc32(text) != crc:
        raise Unusable("damaged header")
    try:
        values = json.loads(text)
        values["bad"] = {reason: BadRows(**row) for reason, row in values["bad"].items()}
        header = CacheHeader(**values)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Unusable(f"unknown header: {error}") from error
    counts = (header.num_users, header.num_items, header.num_positives, header.num_negatives)
    if not all(type(count) is int and 0 <= count < 2**31 for count in counts) or not counts[0]:
        raise Unusable("impossible counts")
    if header.format_version != FORMAT_VERSION:
        raise Unusable(f"format {header.format_version}, not {FORMAT_VERSION}")
    return header


def read_prepared(path: Path) -> tuple[CacheHeader, Split]:
    """Header and split, its digest recomputed. Raises Unusable."""
    try:
        with path.open("rb") as file:
            header = read_prepared_header(file)
            # Before anything is allocated: a header may promise what is not there.
            if path.stat().st_size - file.tell() != 4 * sum(header.array_lengths):
                raise Unusable("wrong length")
            arrays = [_read_array(file, n) for n in header.array_lengths]
    except OSError as error:
        raise Unusable(error.strerror or str(error)) from error
    counts, train_item, test_item, negatives = arrays
    if len(counts) and (counts.min() < 0 or counts.sum(dtype=np.int64) != header.num_positives):
        raise Unusable("damaged arrays")
    split = Split(
        header.num_users,
        header.num_items,
        _repeated(counts, header.num_positives),
        train_item,
        test_item,
        negatives.reshape(header.num_users, -1) if header.num_negatives else None,
    )
    if split.digest != header.digest:
        raise Unusable("digest differs")
    return header, split


def _read_array(file: BinaryIO, length: int) -> np.ndarray:
    """int32 [length] from where the file stands; mapped where it is large."""
    if 4 * length <= MAPPED_BYTES:
        array = aligned_empty(length, "<i4")
        if file.readinto(array) != array.nbytes:
            raise Unusable("wrong length")
        return array
    # Mode c lets it be handed to whoever wants memory that may be written.
    start = file.tell()
    array = np.memmap(file, "<i4", "c", start, (length,))
    file.seek(start + 4 * length)
    return array


def _repeated(counts: np.ndarray, total: int) -> np.ndarray:
    """int32 [total]: 0 counts[0] times, and so on."""
    found, filled = aligned_empty(total, np.int32), 0
    for low in range(0, len(counts), _BLOCK_USERS):
        part = counts[low : low + _BLOCK_USERS]
        users = np.repeat(np.arange(low, low + len(part), dtype=np.int32), part)
        found[filled : filled + len(users)] = users
        filled += len(users)
    return found
