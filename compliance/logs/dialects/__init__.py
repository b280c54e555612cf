"""Log dialects: bytes of a file in, `Event`s and `Problem`s out.

The dialect of a file is that of its first record.  Reading streams in blocks:
nothing of a record outlives the caller's use of it, so memory does not grow with
the log.  Lines end at `
` only (a carriage return is text) and count from 1.
A new dialect is one module with a `Dialect`, listed in `_DIALECTS`.

Imports: nothing of this room; msgspec.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Iterator, Sequence

from compliance.logs.dialects import mllog, v05, v06
from compliance.logs.dialects.blocks import MAX_LINE, Block, blocks_of
from compliance.logs.dialects.event import Dialect, Event, Item, Problem

__all__ = ["Dialect", "Event", "Item", "LogReader", "Problem"]

_DIALECTS: tuple[Dialect, ...] = (mllog.DIALECT, v05.DIALECT, v06.DIALECT)
DIALECT_NAMES: tuple[str, ...] = tuple(dialect.name for dialect in _DIALECTS)
# A list of items that is handed on is not much longer than this.
_MANY = 10_000


class LogReader:
    """One pass over a log file: iterate for its events and problems.

    `blocks` gives the same items as `iter`, in lists: many at a time is quicker.
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
        for items in self.blocks():
            yield from items

    def blocks(self) -> Iterator[list[Item]]:
        """The items in the order of the file, in lists of at most some thousands."""
        with open(self.path, "rb") as stream:
            for block in blocks_of(stream, self._hash.update):
                if block.too_long:
                    if self._begins(block):
                        yield [Problem(block.line, "json", "a record longer than "
                                       f"{MAX_LINE >> 20} MiB cannot be read")]
                elif self._begins(block):
                    yield from self._items(block)

    def _begins(self, block: Block) -> bool:
        """Whether the dialect is known, or this block tells it."""
        if self.dialect is None:
            found = [(at, d) for d in _DIALECTS if (at := block.data.find(d.token)) >= 0]
            if found:
                self.dialect = min(found, key=lambda pair: pair[0])[1]
        return self.dialect is not None

    def _items(self, block: Block) -> Iterator[list[Item]]:
        """The items of a block of lines."""
        dialect = self.dialect
        assert dialect is not None
        lines, texts = _rows(block, dialect.token)
        if not texts:
            return
        if dialect.bulk is not None:
            events = dialect.bulk(lines, texts)
            if events is not None:
                yield events
                return
        items: list[Item] = []
        for line, text in zip(lines, texts):
            quick = None if dialect.quick is None else dialect.quick(line, text)
            if quick is None:
                whole = (dialect.token + text).decode("utf-8", "replace").rstrip("\r\n")
                for item in dialect.read(line, whole):
                    items.append(item)
                    if len(items) >= _MANY:
                        yield items
                        items = []
            else:
                items += quick
        yield items


def _rows(block: Block, token: bytes) -> tuple[Sequence[int], list[bytes]]:
    """(line numbers, what follows the first token in each line that has one)."""
    data, line = block.data, block.line
    if data.startswith(token) and data.endswith(b"\n"):
        count = data.count(b"\n")
        if data.count(b"\n" + token) == count - 1:  # nothing but records, each on a line
            return range(line, line + count), data[len(token):-1].split(b"\n" + token)
    pieces = data.split(token)
    line += pieces[0].count(b"\n")
    lines: list[int] = []
    texts: list[bytes] = []
    begun: list[bytes] = []  # of a line that has not ended: it has several tokens
    for piece in pieces[1:]:
        end = piece.find(b"\n")
        if end < 0:
            begun.append(piece)
            continue
        lines.append(line)
        texts.append(token.join([*begun, piece[:end]]) if begun else piece[:end])
        begun.clear()
        line += 1 if end + 1 == len(piece) else piece.count(b"\n", end)
    if begun:  # the last line of the file, or a piece of a long one
        lines.append(line)
        texts.append(token.join(begun))
    return lines, texts
