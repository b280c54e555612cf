"""Log dialects: convert the bytes of a log file into `Event`s and `Problem`s.

The first record determines the dialect of a file. The file is read in blocks, and no record
is kept after the caller has used it, so memory does not grow with the log.
Lines end only at "\\n" (a carriage return is text) and are numbered from 1.

To add a dialect, write a module with a `Dialect` and list it in `_DIALECTS`.

Imports: base; msgspec.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterator, Sequence

from compliance.logs.dialects import mllog, v05, v06
from compliance.logs.dialects.blocks import MAX_RECORD_BYTES, Block, read_blocks
from compliance.logs.dialects.event import Dialect, Event, Item, Problem
from compliance.logs.dialects.file_encodings import open_log

__all__ = ["Dialect", "Event", "Item", "LogReader", "Problem"]

_DIALECTS: tuple[Dialect, ...] = (mllog.DIALECT, v05.DIALECT, v06.DIALECT)
# ANSI colours after a record, at the end of its line; colours before a record are other text.
_COLOUR_START = b"\x1b["
_COLOURS_AT_LINE_END = re.compile(rb"(?:\x1b\[[0-9;]*[mK])+[ \t]*(?=\r?(?:\n|\Z))")
# A token followed by a tab or directly by the record. It is the first on its line, so there is
# no brace before it.
_TOKENS_WITHOUT_SPACE = (b":::MLLOG\t", b":::MLLOG{")
_TOKEN_WITHOUT_SPACE = re.compile(rb"(?m)(^[^\n{]*?:::MLLOG)(?:\t|(?={))")
# When a block is read record by record, a list is yielded once it has this many items.
_ITEMS_PER_LIST = 10_000
# The log of a run has one or two unusual records among many usual ones.
_RECORDS_PER_TRY = 16


class LogReader:
    """One pass over a log file: iterate over it for its events and problems.

    Reading raises OSError if the file cannot be read. The contents of the file never raise.

    Attributes:
      path: The file.
      dialect: The file's dialect; None until its first record has been read.
      wrappings: Descriptions of the file's wrapping, such as "compressed by gzip".
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.dialect: Dialect | None = None
        self.wrappings: list[str] = []
        self._hash = hashlib.sha256()
        self._content_hash: Any = None

    @property
    def content_sha256(self) -> str | None:
        """Hex digest of the unwrapped text of a wrapped file; None for a plain file."""
        return None if self._content_hash is None else self._content_hash.hexdigest()

    @property
    def sha256(self) -> str:
        """Hex digest of the bytes read so far; of the whole file after iteration has ended."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[Item]:
        for items in self.blocks():
            yield from items

    def blocks(self) -> Iterator[list[Item]]:
        """Yields the same items in lists of up to several thousand, which is faster.

        The items are in file order.
        """
        with open_log(self.path, self._hash.update) as (stream, self.wrappings):
            if self.wrappings:
                self._content_hash = hashlib.sha256()
                stream = _HashedStream(stream, self._content_hash.update)
            for block in read_blocks(stream):
                block = self._without_decoration(block)
                if block.is_too_long:
                    if self._detect_dialect(block):
                        yield [Problem(block.line, "json", "a record longer than "
                                       f"{MAX_RECORD_BYTES >> 20} MiB cannot be read")]
                elif self._detect_dialect(block):
                    yield from self._read_block(block)

    def _without_decoration(self, block: Block) -> Block:
        """Returns the block without colours after records and with a space after each token."""
        data, notes = block.data, []
        if _COLOUR_START in data and (plain := _COLOURS_AT_LINE_END.sub(b"", data)) != data:
            notes.append("decorated with ANSI colours")
            data = plain
        if any(token in data for token in _TOKENS_WITHOUT_SPACE):
            spaced = _TOKEN_WITHOUT_SPACE.sub(rb"\1 ", data)
            if spaced != data:
                notes.append("written without a space after :::MLLOG")
                data = spaced
        if not notes:
            return block
        self.wrappings += [note for note in notes if note not in self.wrappings]
        return replace(block, data=data)

    def _detect_dialect(self, block: Block) -> bool:
        """Sets the dialect from the first token of the block; returns whether it is known."""
        if self.dialect is None:
            found = [(at, d) for d in _DIALECTS if (at := block.data.find(d.token)) >= 0]
            if found:
                self.dialect = min(found, key=lambda pair: pair[0])[1]
        return self.dialect is not None

    def _read_block(self, block: Block) -> Iterator[list[Item]]:
        """Yields the items of a block, read by the dialect's fastest reader that can decode it."""
        dialect = self.dialect
        assert dialect is not None
        lines, texts = _split_records(block, dialect.token)
        if not texts:
            return
        # The usual case: one call decodes the whole block.
        if dialect.read_block is not None:
            events = dialect.read_block(lines, texts)
            if events is not None:
                yield events
                return
        # Something in the block is unusual: try a few records at a time, then record by record,
        # strictly if necessary.
        items: list[Item] = []
        for start in range(0, len(texts), _RECORDS_PER_TRY):
            tried = slice(start, start + _RECORDS_PER_TRY)
            events = None if dialect.read_block is None or len(texts) <= _RECORDS_PER_TRY \
                else dialect.read_block(lines[tried], texts[tried])
            for item in events or self._read_one_by_one(dialect, lines[tried], texts[tried]):
                items.append(item)
                # A line may contain thousands of records.
                if len(items) >= _ITEMS_PER_LIST:
                    yield items
                    items = []
        yield items

    @staticmethod
    def _read_one_by_one(dialect: Dialect, lines: Sequence[int], texts: Sequence[bytes]
                         ) -> Iterator[Item]:
        """Yields the items of records, each read by the fastest reader that can decode it."""
        for line, text in zip(lines, texts):
            found = None if dialect.read_record is None else dialect.read_record(line, text)
            if found is None:
                whole = (dialect.token + text).decode("utf-8", "replace").rstrip("\r\n")
                yield from dialect.read(line, whole)
            else:
                yield from found


class _HashedStream:
    """A stream whose bytes are passed to `update` as they are read."""

    def __init__(self, stream: BinaryIO, update: Callable[[bytes], object]) -> None:
        self._stream, self._update = stream, update

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._update(data)
        return data


def _split_records(block: Block, token: bytes) -> tuple[Sequence[int], list[bytes]]:
    """Splits a block at its records.

    Returns:
      (line numbers, texts): the number of each line with a token, and the text after its first
      token.
    """
    data, line = block.data, block.line
    if data.startswith(token) and data.endswith(b"\n"):
        count = data.count(b"\n")
        # The usual case: every line begins with a token; two C calls split them all.
        if data.count(b"\n" + token) == count - 1:
            return range(line, line + count), data[len(token):-1].split(b"\n" + token)
    pieces = data.split(token)
    line += pieces[0].count(b"\n")
    lines: list[int] = []
    texts: list[bytes] = []
    # Pieces of an unfinished line, which has several tokens.
    pending: list[bytes] = []
    for piece in pieces[1:]:
        end = piece.find(b"\n")
        if end < 0:
            pending.append(piece)
            continue
        lines.append(line)
        texts.append(token.join([*pending, piece[:end]]) if pending else piece[:end])
        pending.clear()
        line += 1 if end + 1 == len(piece) else piece.count(b"\n", end)
    if pending:  # the last line of the file, or a piece of a long one
        lines.append(line)
        texts.append(token.join(pending))
    return lines, texts
