"""Reads delimited files of ratings block by block, strictly and with line numbers.

A block of about 16 MB is parsed by pandas' C reader with fixed types. Only
where that refuses, or where the result holds a value that cannot be, is the
block read again line by line, which finds what is wrong and where. So a clean
file is read at full speed, one bad line costs one slow block, and memory does
not depend on the size of the text.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator

import numpy as np
import pandas as pd

from reference_model.base.errors import DataError
from reference_model.base.progress import Progress, no_progress

BLOCK_BYTES = 16 << 20
MISSING = "missing columns"
NOT_A_NUMBER = "text where a number belongs"
NEGATIVE = "negative ids"
DUPLICATE = "duplicate pairs"
_INTEGER = re.compile(rb"\s*[+-]?\d{1,18}\s*")
_NEGATIVE_TOKEN = re.compile(r"-\d+")


@dataclass(frozen=True)
class Layout:
    """How the lines of a file are to be read.

    `separator` is one of "::", tab and comma; `user`, `item`, `rating` and
    `timestamp` are column numbers, the last two None where a file has none.
    `tokens`: ids are any text (RecBole's `token` type), else whole numbers.
    `header_lines` lines at the start are no data.
    """

    separator: str
    user: int = 0
    item: int = 1
    rating: int | None = 2
    timestamp: int | None = 3
    tokens: bool = False
    header_lines: int = 0

    @property
    def columns(self) -> list[int]:
        wanted = (self.user, self.item, self.rating, self.timestamp)
        return [column for column in wanted if column is not None]


@dataclass(frozen=True)
class BadRows:
    """How often one thing was wrong, and the line (from 1) of the first time."""

    count: int
    first_line: int


@dataclass
class Tally:
    """Counts rows and what is wrong with them while a file is read."""

    rows: int = 0
    bad: dict[str, BadRows] = field(default_factory=dict)

    def add(self, reason: str, line: int, count: int = 1) -> None:
        known = self.bad.get(reason)
        if known is None:
            self.bad[reason] = BadRows(count, line)
        else:
            first = min(known.first_line, line)
            self.bad[reason] = BadRows(known.count + count, first)

    @property
    def malformed(self) -> int:
        return sum(self.bad[r].count for r in (MISSING, NOT_A_NUMBER, NEGATIVE) if r in self.bad)


@dataclass(frozen=True)
class Block:
    """Clean rows of one block: arrays [n]; ids int64, or str objects for tokens.

    `timestamp` is int64, zeros where the file has none. `lines` gives each
    row's line where the block had lines without a row, else None: then row k
    stands in line `first_line + k`.
    """

    first_line: int
    user: np.ndarray
    item: np.ndarray
    timestamp: np.ndarray
    lines: np.ndarray | None = None

    def line_of(self, row: int) -> int:
        return int(self.lines[row]) if self.lines is not None else self.first_line + row


def read_blocks(
    path: Path, layout: Layout, tally: Tally, progress: Progress = no_progress
) -> Iterator[Block]:
    """Yields the good rows of a file in order; bad rows go into `tally`.

    Raises DataError where the file cannot be read, or where most of it is bad.
    """
    try:
        total = path.stat().st_size
        with path.open("rb") as file:
            done, line = 0, 1
            while text := _next_block(file):
                done += len(text)
                if line == 1:
                    text = text.removeprefix(b"\xef\xbb\xbf")
                    for _ in range(layout.header_lines):
                        text = text.partition(b"\n")[2]
                        line += 1
                block = _parse(text, layout, line, tally)
                line += text.count(b"\n")
                _refuse_rubbish(path, tally)
                yield block
                progress(f"reading {path.name}", done, total)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _next_block(file: io.BufferedReader) -> bytes:
    """About BLOCK_BYTES, ending with a whole line; empty at the end."""
    text = file.read(BLOCK_BYTES)
    if len(text) == BLOCK_BYTES:
        text += file.readline()
    return text


def _refuse_rubbish(path: Path, tally: Tally) -> None:
    if tally.malformed * 2 > tally.rows:
        reason, first = max(tally.bad.items(), key=lambda entry: entry[1].count)
        raise DataError(
            f"{path} is not a ratings file: {tally.malformed} of its first {tally.rows} "
            f"rows cannot be read ({reason}, first in line {first.first_line})"
        )


def _parse(text: bytes, layout: Layout, first_line: int, tally: Tally) -> Block:
    text = text.replace(b"\r\n", b"\n")
    try:
        with np.errstate(invalid="ignore"):  # "inf" among the ids is found by the second look
            block = _parse_fast(text, layout, first_line)
    except (ValueError, OverflowError):  # pandas' ParserError is a ValueError
        return _parse_slowly(text, layout, first_line, tally)
    tally.rows += len(block.user)
    return block


def _parse_fast(text: bytes, layout: Layout, first_line: int) -> Block:
    """The block by pandas' C reader. Raises ValueError if anything is odd."""
    if not text:
        return _block(layout, first_line, [], [], [], None)
    step = 1
    if layout.separator == "::":
        if text.count(b":") != 2 * text.count(b"::"):
            raise ValueError("a single colon")
        step = 2  # split at each colon, every second column is empty
    if b"\r" in text or b"\0" in text:
        raise ValueError("a stray control character")
    ids = object if layout.tokens else np.int64
    types = {layout.user: ids, layout.item: ids}
    if layout.rating is not None:
        types[layout.rating] = np.float32
    if layout.timestamp is not None:
        types[layout.timestamp] = np.int64
    frame = pd.read_csv(
        io.BytesIO(text),
        sep=layout.separator[0],
        header=None,
        names=range(step * (max(layout.columns) + 1)),
        usecols=[step * column for column in layout.columns],
        dtype={step * column: kind for column, kind in types.items()},
        index_col=False,
        quoting=3,
        na_filter=False,
        skip_blank_lines=False,
        encoding="latin-1",
        engine="c",
    )
    user = frame[step * layout.user].to_numpy()
    item = frame[step * layout.item].to_numpy()
    if layout.rating is not None and not np.isfinite(frame[step * layout.rating]).all():
        raise ValueError("a rating that is no number")
    if layout.timestamp is not None:
        timestamp = frame[step * layout.timestamp].to_numpy()
    else:
        timestamp = np.zeros(len(user), np.int64)
    _check_ids(user, layout.tokens)
    _check_ids(item, layout.tokens)
    return Block(first_line, user, item, timestamp)


def _check_ids(ids: np.ndarray, tokens: bool) -> None:
    if not tokens:
        bad = len(ids) and ids.min() < 0
    else:
        bad = any(_bad_token(token) for token in pd.unique(ids))
    if bad:
        raise ValueError("an id that cannot be")


def _bad_token(token: str) -> str | None:
    if not token.strip():
        return MISSING
    return NEGATIVE if _NEGATIVE_TOKEN.fullmatch(token) else None


def _parse_slowly(text: bytes, layout: Layout, first_line: int, tally: Tally) -> Block:
    """The block line by line; blank lines are skipped, bad rows are counted."""
    users, items, timestamps, lines = [], [], [], []
    separator = layout.separator.encode()
    rows = text.split(b"\n")
    for number, row in enumerate(rows, start=first_line):
        if not row.strip():
            continue
        tally.rows += 1
        values = _parse_row(row.split(separator), layout)
        if isinstance(values, str):
            tally.add(values, number)
            continue
        users.append(values[0])
        items.append(values[1])
        timestamps.append(values[2])
        lines.append(number)
    return _block(layout, first_line, users, items, timestamps, lines)


def _block(layout, first_line, users, items, timestamps, lines) -> Block:
    kind = object if layout.tokens else np.int64
    return Block(
        first_line,
        np.array(users, dtype=kind),
        np.array(items, dtype=kind),
        np.array(timestamps, dtype=np.int64),
        None if lines is None else np.array(lines, dtype=np.int64),
    )


def _parse_row(fields: list[bytes], layout: Layout) -> tuple | str:
    """(user, item, timestamp) of one row, or what is wrong with it."""
    if len(fields) <= max(layout.columns):
        return MISSING
    if any(not fields[column].strip() for column in layout.columns):
        return MISSING
    if layout.tokens:
        user, item = (fields[c].decode("latin-1") for c in (layout.user, layout.item))
        wrong = _bad_token(user) or _bad_token(item)
        if wrong:
            return wrong
    else:
        user, item = _integer(fields[layout.user]), _integer(fields[layout.item])
        if user is None or item is None:
            return NOT_A_NUMBER
        if user < 0 or item < 0:
            return NEGATIVE
    if layout.rating is not None and _number(fields[layout.rating]) is None:
        return NOT_A_NUMBER
    timestamp = 0 if layout.timestamp is None else _integer(fields[layout.timestamp])
    return NOT_A_NUMBER if timestamp is None else (user, item, timestamp)


def _number(text: bytes) -> float | None:
    if b"_" in text:  # Python's own spelling of numbers, not a file's
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _integer(text: bytes) -> int | None:
    if _INTEGER.fullmatch(text):
        return int(text)
    value = _number(text)  # "978300760.0" is a whole number too
    if value is None or value != int(value) or abs(value) >= 2**53:
        return None
    return int(value)
