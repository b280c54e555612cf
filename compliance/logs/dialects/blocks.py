"""Reads a file in blocks: whole lines, or pieces of a long line.

Memory is bounded for any file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Iterator

# The beginning of a record of any dialect.
MARK = b":::ML"
CHUNK_BYTES = 1 << 18
# An unfinished line is kept from its first mark, up to this size. Valid records are far smaller.
MAX_RECORD_BYTES = 1 << 21


@dataclass(frozen=True)
class Block:
    """Bytes of the file that contain at least one mark.

    Attributes:
      line: The number of the first line, from 1.
      data: Whole lines, or a piece of a long line.
      is_too_long: Whether `data` is only the beginning of a record that is longer than
        MAX_RECORD_BYTES and is not read.
    """

    line: int
    data: bytes
    is_too_long: bool = False


def read_blocks(stream: BinaryIO) -> Iterator[Block]:
    """Yields the blocks of a file that contain marks.

    Text without a mark is dropped after its lines are counted. In an unfinished line, the
    text before its first mark is dropped too. A line longer than MAX_RECORD_BYTES is cut
    before its last mark; if that is also its first mark, the record is not read.

    Args:
      stream: The text of the file, as bytes.
    """
    line, has_mark = 1, False
    # The pieces of the unfinished line, from its first mark if it has one.
    unfinished: list[bytes] = []
    while chunk := stream.read(CHUNK_BYTES):
        cut = chunk.rfind(b"\n") + 1
        if cut:
            # The usual case: everything up to the last newline is whole lines.
            unfinished.append(chunk[:cut])
            data = b"".join(unfinished)
            if MARK in data:
                yield Block(line, data)
            line += data.count(b"\n")
            unfinished, has_mark = [chunk[cut:]], False
            continue
        unfinished.append(chunk)
        if not has_mark:
            data = b"".join(unfinished)
            at = data.find(MARK)
            has_mark = at >= 0
            # Without a mark, keep only the last bytes, which may be the beginning of one.
            unfinished = [data[at if has_mark else 1 - len(MARK):]]
        if sum(map(len, unfinished)) >= MAX_RECORD_BYTES:
            data = b"".join(unfinished)
            at = data.rfind(MARK)
            if at > 0:
                # This line has several records; all but the last one can be read.
                yield Block(line, data[:at])
                unfinished = [data[at:]]
            else:
                yield Block(line, data[:64], is_too_long=True)
                unfinished, has_mark = [data[1 - len(MARK):]], False
    data = b"".join(unfinished)
    if MARK in data:
        yield Block(line, data)
