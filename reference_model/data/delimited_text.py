"""Reads delimited ratings files block by block, strictly and with line numbers.

A block of about 16 MB is parsed by pandas' C reader with fixed types. If that fails, or if the
result has an invalid value, the block is parsed again line by line, which finds the bad rows
and their lines. So a clean file is read at full speed, a bad line slows down only its own
block, and the memory used does not depend on the size of the file.
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
    """The layout of a delimited file.

    Attributes:
      separator: "::", a tab or a comma.
      user: number of the user column, from 0.
      item: number of the item column.
      rating: number of the rating column; None if there is none.
      timestamp: number of the timestamp column; None if there is none.
      ids_are_text: whether ids are any text (RecBole's `token` type); else they are
        whole numbers.
      header_lines: number of lines before the data.
    """

    separator: str
    user: int = 0
    item: int = 1
    rating: int | None = 2
    timestamp: int | None = 3
    ids_are_text: bool = False
    header_lines: int = 0

    @property
    def columns(self) -> list[int]:
        """Numbers of the columns that are read."""
        wanted = (self.user, self.item, self.rating, self.timestamp)
        return [column for column in wanted if column is not None]


@dataclass(frozen=True)
class BadRows:
    """The rows that are bad for one reason; `ratings.ReadReport` says what a bad row is.

    Attributes:
      count: their number.
      first_line: the line of the first of them, from 1.
    """

    count: int
    first_line: int


@dataclass
class Tally:
    """Counts rows and bad rows while a file is read.

    Attributes:
      rows: data rows so far, bad ones included.
      bad: bad rows so far, by reason.
    """

    rows: int = 0
    bad: dict[str, BadRows] = field(default_factory=dict)

    def add(self, reason: str, line: int, count: int = 1) -> None:
        """Counts `count` bad rows, the first of them in `line`."""
        known = self.bad.get(reason)
        if known is None:
            self.bad[reason] = BadRows(count, line)
        else:
            first = min(known.first_line, line)
            self.bad[reason] = BadRows(known.count + count, first)

    @property
    def malformed(self) -> int:
        """Number of bad rows that could not be parsed."""
        return sum(self.bad[r].count for r in (MISSING, NOT_A_NUMBER, NEGATIVE) if r in self.bad)


@dataclass(frozen=True)
class Block:
    """The n valid rows of one block.

    Attributes:
      first_line: the block's first line, from 1.
      user: [n], int64, or str objects if `Layout.ids_are_text`.
      item: [n], the same type.
      timestamp: int64 [n]; zeros where the file has none.
      lines: int64 [n], the line of each row; None if every line of the block is a valid row,
        so that row k is in line `first_line` + k.
    """

    first_line: int
    user: np.ndarray
    item: np.ndarray
    timestamp: np.ndarray
    lines: np.ndarray | None = None


def read_blocks(
    path: Path, layout: Layout, tally: Tally, progress: Progress = no_progress
) -> Iterator[Block]:
    """Reads the valid rows of a file, block by block.

    Args:
      path: the file.
      layout: its layout.
      tally: counts all rows and the bad ones.
      progress: gets the bytes read so far.

    Yields:
      The valid rows of each block.

    Raises:
      DataError: the file cannot be read, or most of its rows are bad.
    """
    try:
        total = path.stat().st_size
        with path.open("rb") as file:
            done, line = 0, 1
            while text := _read_block(file):
                done += len(text)
                if line == 1:
                    text = text.removeprefix(b"\xef\xbb\xbf")
                    for _ in range(layout.header_lines):
                        text = text.partition(b"\n")[2]
                        line += 1
                block = _parse(text, layout, line, tally)
                line += text.count(b"\n")
                _reject_unreadable_file(path, tally)
                yield block
                progress(f"reading {path.name}", done, total)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _read_block(file: io.BufferedReader) -> bytes:
    """Reads about BLOCK_BYTES up to the end of a line; empty at the end of the file."""
    text = file.read(BLOCK_BYTES)
    if len(text) == BLOCK_BYTES:
        text += file.readline()
    return text


def _reject_unreadable_file(path: Path, tally: Tally) -> None:
    """Raises DataError if more than half of the rows so far are malformed."""
    if tally.malformed * 2 > tally.rows:
        reason, first = max(tally.bad.items(), key=lambda entry: entry[1].count)
        raise DataError(
            f"{path} is not a ratings file: {tally.malformed} of its first {tally.rows} "
            f"rows cannot be read ({reason}, first in line {first.first_line})"
        )


def _parse(text: bytes, layout: Layout, first_line: int, tally: Tally) -> Block:
    """Parses a block with pandas, or line by line if pandas refuses it."""
    text = text.replace(b"\r\n", b"\n")
    try:
        # Converting a text such as "inf" to a whole number may warn. The warning is not needed,
        # because the line parser reports such a row.
        with np.errstate(invalid="ignore"):
            block = _parse_with_pandas(text, layout, first_line)
    except (ValueError, OverflowError):  # pandas' ParserError is a ValueError
        return _parse_line_by_line(text, layout, first_line, tally)
    tally.rows += len(block.user)
    return block


def _parse_with_pandas(text: bytes, layout: Layout, first_line: int) -> Block:
    """Parses a block with pandas' C reader. Raises ValueError if any row is unusual."""
    if not text:
        return _make_block(layout, first_line, [], [], [], None)
    # pandas' C reader splits at single characters. A "::" is split at each colon, so that
    # every second column is empty.
    step = 1
    if layout.separator == "::":
        if text.count(b":") != 2 * text.count(b"::"):
            raise ValueError("a single colon")
        step = 2
    if b"\r" in text or b"\0" in text:
        raise ValueError("a stray control character")
    ids = object if layout.ids_are_text else np.int64
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
    _check_ids(user, layout.ids_are_text)
    _check_ids(item, layout.ids_are_text)
    return Block(first_line, user, item, timestamp)


def _check_ids(ids: np.ndarray, ids_are_text: bool) -> None:
    """Raises ValueError if an id is negative or empty."""
    if not ids_are_text:
        bad = len(ids) and ids.min() < 0
    else:
        bad = any(_token_problem(token) for token in pd.unique(ids))
    if bad:
        raise ValueError("a negative or an empty id")


def _token_problem(token: str) -> str | None:
    """Returns the reason why a text cannot be an id; None if it can."""
    if not token.strip():
        return MISSING
    return NEGATIVE if _NEGATIVE_TOKEN.fullmatch(token) else None


def _parse_line_by_line(text: bytes, layout: Layout, first_line: int, tally: Tally) -> Block:
    """Parses a block line by line; skips blank lines and counts bad rows."""
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
    return _make_block(layout, first_line, users, items, timestamps, lines)


def _make_block(layout, first_line, users, items, timestamps, lines) -> Block:
    """Converts lists of values to the arrays of a block."""
    kind = object if layout.ids_are_text else np.int64
    return Block(
        first_line,
        np.array(users, dtype=kind),
        np.array(items, dtype=kind),
        np.array(timestamps, dtype=np.int64),
        None if lines is None else np.array(lines, dtype=np.int64),
    )


def _parse_row(fields: list[bytes], layout: Layout) -> tuple | str:
    """Parses one row to (user, item, timestamp), or returns the reason why it is bad."""
    if len(fields) <= max(layout.columns):
        return MISSING
    if any(not fields[column].strip() for column in layout.columns):
        return MISSING
    if layout.ids_are_text:
        user, item = (fields[c].decode("latin-1") for c in (layout.user, layout.item))
        wrong = _token_problem(user) or _token_problem(item)
        if wrong:
            return wrong
    else:
        user, item = _parse_integer(fields[layout.user]), _parse_integer(fields[layout.item])
        if user is None or item is None:
            return NOT_A_NUMBER
        if user < 0 or item < 0:
            return NEGATIVE
    if layout.rating is not None and _parse_number(fields[layout.rating]) is None:
        return NOT_A_NUMBER
    timestamp = 0 if layout.timestamp is None else _parse_integer(fields[layout.timestamp])
    return NOT_A_NUMBER if timestamp is None else (user, item, timestamp)


def _parse_number(text: bytes) -> float | None:
    """Parses a finite number; None if the text is no number."""
    if b"_" in text:  # Python accepts 1_000, but ratings files do not use it
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _parse_integer(text: bytes) -> int | None:
    """Parses a whole number, which may be written as a float; None for any other text."""
    if _INTEGER.fullmatch(text):
        return int(text)
    value = _parse_number(text)  # "978300760.0" is a whole number too
    if value is None or value != int(value) or abs(value) >= 2**53:
        return None
    return int(value)
