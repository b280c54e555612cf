"""Log dialects: bytes of a file in, `Event`s and `Problem`s out.

The dialect of a file is that of its first record.  Reading streams line by line:
nothing of a record outlives the caller's use of it, so memory does not grow with
the log.  Lines end at `\\n` only (a carriage return is text) and count from 1.
A new dialect is one module with a `Dialect`, listed in `_DIALECTS`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO, Iterator

from compliance.dialects import mllog, v05
from compliance.dialects.event import Dialect, Event, Item, Problem

__all__ = ["Dialect", "Event", "Item", "LogReader", "Problem"]

_DIALECTS: tuple[Dialect, ...] = (mllog.DIALECT, v05.DIALECT)
_MARK = b":::ML"
# A piece of a line is never longer than this; no honest record comes near it.
MAX_LINE = 1 << 24
_TOO_LONG = "a record longer than 16 MiB cannot be read"


class LogReader:
    """One pass over a log file: iterate for its events and problems.

    `dialect` is None until the first record of a known dialect; `sha256`, of the
    whole file's bytes, is complete when the iteration has ended.  Raises OSError
    as the file does.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.dialect: Dialect | None = None
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Hex digest of what has been read so far."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[Item]:
        with open(self.path, "rb") as stream:
            for number, piece in self._pieces(stream):
                yield from self._records(number, piece)

    def _pieces(self, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
        """(line number, bytes) of what may hold records; long lines in pieces."""
        update, number, rest = self._hash.update, 1, b""
        while piece := stream.readline(MAX_LINE):
            update(piece)
            ended = piece.endswith(b"\n")
            if rest:
                piece, rest = rest + piece, b""
            if not ended and len(piece) >= MAX_LINE:
                # An unfinished line: keep from its last mark on, if that is not too much.
                cut = piece.rfind(_MARK)
                cut = cut if cut >= 0 else len(piece) - len(_MARK)
                if len(piece) - cut < MAX_LINE:
                    piece, rest = piece[:cut], piece[cut:]
            if _MARK in piece:
                yield number, piece
            number += ended
        if rest and _MARK in rest:
            yield number, rest

    def _records(self, number: int, line: bytes) -> Iterator[Item]:
        if self.dialect is None:
            found = [(at, d) for d in _DIALECTS if (at := line.find(d.token)) >= 0]
            if not found:
                return
            self.dialect = min(found, key=lambda pair: pair[0])[1]
        start = line.find(self.dialect.token)
        if start < 0:
            return
        if len(line) >= MAX_LINE:
            yield Problem(number, "json", _TOO_LONG)
            return
        text = line[start:].decode("utf-8", "replace")
        yield from self.dialect.read(number, text.rstrip("\r\n"))
