"""Reads a file in blocks of whole lines, or of pieces of a line that is very long.

Memory stays bounded whatever the file holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Iterator

# The beginning of a record of any dialect.
MARK = b":::ML"
CHUNK_BYTES = 1 << 18
# An unfinished line is kept, from its first mark on, up to this size; no honest record comes
# near it.
MAX_RECORD_BYTES = 1 << 21


@dataclass(frozen=True)
class Block:
    """Bytes of the file that hold at least one mark.

    Attributes:
      line: The number of their first line, from 1.
      data: Whole lines, or a piece of a very long line.
      is_too_long: Whether `data` is only the beginning of a record that is longer than
        MAX_RECORD_BYTES and is not read.
    """

    line: int
    data: bytes
    is_too_long: bool = False


def read_blocks(stream: BinaryIO) -> Iterator[Block]:
    """Yields the blocks of a file that hold marks.

    Text without a mark is searched, its lines are counted, and it is dropped.  Of a line
    that has not ended the text before its first mark is dropped, too.  A line that grows
    beyond MAX_RECORD_BYTES is cut before its last mark; if that is its first mark, the
    record there is given up.

    Args:
      stream: The text of the file, as bytes.
    """
    line, has_mark = 1, False
    # The pieces of the line that has not ended: from its first mark on, if it has one.
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
            # Without a mark only the bytes in which one may have begun are kept.
            unfinished = [data[at if has_mark else 1 - len(MARK):]]
        if sum(map(len, unfinished)) >= MAX_RECORD_BYTES:
            data = b"".join(unfinished)
            at = data.rfind(MARK)
            if at > 0:
                # Several records stand on this line: all but the last one can be read.
                yield Block(line, data[:at])
                unfinished = [data[at:]]
            else:
                yield Block(line, data[:64], is_too_long=True)
                unfinished, has_mark = [data[1 - len(MARK):]], False
    data = b"".join(unfinished)
    if MARK in data:
        yield Block(line, data)
