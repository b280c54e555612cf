"""A file in blocks of whole lines, or of pieces of a line that is very long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Callable, Iterator

# What begins a record of any dialect.
MARK = b":::ML"
CHUNK = 1 << 18
# An unfinished line is kept from its first mark on up to this; no honest record comes near it.
MAX_LINE = 1 << 21


@dataclass(frozen=True)
class Block:
    """Bytes of the file that hold a mark; `line` is the number of their first line.

    too_long: it is the beginning of one record that is too long to be read.
    """

    line: int
    data: bytes
    too_long: bool = False


def blocks_of(stream: BinaryIO, update: Callable[[bytes], object]) -> Iterator[Block]:
    """The blocks that hold marks; `update` is given every byte.

    Text without a mark is searched and counted, and dropped.  Of a line without an
    end the text before its first mark is dropped as well; what is longer than
    MAX_LINE is cut before its last mark, or, where that is its first, given up.
    """
    line, marked = 1, False
    rest: list[bytes] = []  # of a line that has not ended; from a mark on, if `marked`
    while chunk := stream.read(CHUNK):
        update(chunk)
        cut = chunk.rfind(b"\n") + 1
        if cut:
            rest.append(chunk[:cut])
            data = b"".join(rest)
            if MARK in data:
                yield Block(line, data)
            line += data.count(b"\n")
            rest, marked = [chunk[cut:]], False
            continue
        rest.append(chunk)
        if not marked:
            data = b"".join(rest)
            at = data.find(MARK)
            marked = at >= 0
            rest = [data[at if marked else 1 - len(MARK):]]
        if sum(map(len, rest)) >= MAX_LINE:
            data = b"".join(rest)
            at = data.rfind(MARK)
            if at > 0:
                yield Block(line, data[:at])
                rest = [data[at:]]
            else:
                yield Block(line, data[:64], too_long=True)
                rest, marked = [data[1 - len(MARK):]], False
    data = b"".join(rest)
    if MARK in data:
        yield Block(line, data)
