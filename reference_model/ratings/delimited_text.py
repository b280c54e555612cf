"""Reads delimited ratings files with pandas' C reader, block by block, with line numbers.

There is a single code path: all cells are read as text. Each distinct id and rating of a block is
parsed once. Bad rows are dropped and counted without slowing down the others, and the memory for
text does not depend on the file size.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Iterator

import numpy as np

from reference_model.base.errors import DataError
from reference_model.base.lazy_modules import pd
from reference_model.base.progress import Progress, no_progress
from reference_model.ratings.cells import (
    PROBLEMS,
    TOO_MANY,
    Tally,
    empty_cells,
    find_good_rows,
    id_cells,
    number_cells,
    time_cells,
)
from reference_model.ratings.times import Times, parse_times

# Rows that pandas reads at a time.
CHUNK_ROWS = 1 << 19
_SKIPPED_LINE = re.compile(r"Skipping line (\d+): expected")
_QUOTE_MINIMAL, _QUOTE_NONE = 0, 3  # constants of the csv module, as used by pandas


@dataclass(frozen=True)
class Layout:
    """The layout of a delimited file.

    Attributes:
      separator: "::", a tab, a comma or a semicolon.
      user: index of the user column, from 0.
      item: index of the item column.
      rating: index of the rating column; None if there is no such column.
      timestamp: index of the timestamp column; None if there is no such column.
      ids_are_numbers: whether the format defines ids as integers, so that 01 equals 1; otherwise
        ids are text.
      num_cells: maximum number of cells per row.
      ends_with_separator: whether most rows end with a separator; the last cell must then be
        empty.
      header_lines: number of lines before the data; the last one is the header.
      times_are_dates: whether times are ISO 8601 dates; otherwise they are numbers.
      has_quotes: whether cells may be enclosed in double quotes.
      encoding: "utf-16", or "latin-1" for any encoding that is a superset of ASCII. Decoding as
        latin-1 keeps distinct ids distinct, and separators and numbers are ASCII.
      num_header_bytes: number of bytes of a byte order mark to skip.
    """

    separator: str
    user: int = 0
    item: int = 1
    rating: int | None = 2
    timestamp: int | None = 3
    ids_are_numbers: bool = True
    num_cells: int = 4
    ends_with_separator: bool = False
    header_lines: int = 0
    times_are_dates: bool = False
    has_quotes: bool = False
    encoding: str = "latin-1"
    num_header_bytes: int = 0


@dataclass(frozen=True)
class Block:
    """The n valid rows of one block of a file.

    Attributes:
      user: [n], int64 if `Layout.ids_are_numbers`, otherwise str objects.
      item: [n], the same type.
      lines: int64 [n], the line of each row, from 1.
      times: the times of the n rows; None if the file has no times.
    """

    user: np.ndarray
    item: np.ndarray
    lines: np.ndarray
    times: Times | None = None


def read_blocks(
    path: Path, layout: Layout, tally: Tally, progress: Progress = no_progress
) -> Iterator[Block]:
    """Reads the valid rows of a file, block by block.

    Args:
      path: the file.
      layout: the layout of the file.
      tally: counts all rows and the bad rows.
      progress: receives the bytes read so far.

    Yields:
      The valid rows of each block.

    Raises:
      DataError: the file cannot be read, or most of its rows are bad.
    """
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            file.seek(layout.num_header_bytes)
            # pandas takes the number of columns from the first row.
            first_row = _first_row(layout)
            stream = _CountedStream(file, first_row)
            numbering = _LineNumbers(0 if first_row else 1)
            for frame, lines in _read_frames(stream, layout, numbering, tally):
                yield _parse(frame, lines, layout, tally)
                _reject_unreadable_file(path, tally)
                progress(f"reading {path.name}", stream.num_bytes, before.st_size)
            after = os.fstat(file.fileno())
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # the base class of pandas' errors
        raise DataError(f"{path} cannot be read: {_describe(error, layout)}") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise DataError(f"{path} was changed while it was read; try again")
    # Line breaks in quotes do not end rows. Rows end with "\n", except in classic Mac OS files.
    if layout.has_quotes and stream.num_line_feeds > numbering.last:
        tally.forget_lines(stream.num_line_feeds - numbering.last)


def _first_row(layout: Layout) -> bytes:
    """Returns a row of empty cells to read before the file.

    For UTF-16 it is empty, because the byte order mark of the file must come first.
    """
    if layout.encoding == "utf-16":
        return b""
    return layout.separator.encode() * (layout.num_cells - 1) + b"\n"


class _CountedStream(io.RawIOBase):
    """A stream of an extra first row followed by a file, with counts of the file's data.

    Attributes:
      num_bytes: number of bytes of the file read so far.
      num_line_feeds: number of line feeds in these bytes.
    """

    def __init__(self, file: BinaryIO, first_row: bytes) -> None:
        super().__init__()
        self._file, self._first_row = file, first_row
        self.num_bytes = self.num_line_feeds = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._first_row:
            data, self._first_row = self._first_row, b""
            return data
        data = self._file.read(size)
        self.num_bytes += len(data)
        self.num_line_feeds += data.count(b"\n")
        return data

    def readinto(self, buffer) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def __iter__(self):  # pandas requires the method, but does not call it
        return self


def _separator_step(layout: Layout) -> int:
    """Returns the column stride: 2 for "::", which pandas' C reader splits at each colon."""
    return len(layout.separator)


def _read_frames(
    stream: _CountedStream, layout: Layout, numbering: _LineNumbers, tally: Tally
) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Reads the rows, block by block; counts rows with too many cells, which pandas skips.

    Yields:
      (a nonempty block, int64: the line of each of its rows).
    """
    step = _separator_step(layout)
    with pd.read_csv(
        stream,
        sep=layout.separator[0],
        header=None,
        names=range(step * (layout.num_cells - 1) + 1),
        dtype=object,
        index_col=False,
        quoting=_QUOTE_MINIMAL if layout.has_quotes else _QUOTE_NONE,
        na_filter=False,
        skip_blank_lines=False,
        on_bad_lines="warn",
        encoding=layout.encoding,
        engine="c",
        chunksize=CHUNK_ROWS,
    ) as frames:
        while True:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                frame = next(frames, None)
            skipped = [int(n) for warning in caught
                       for n in _SKIPPED_LINE.findall(str(warning.message))]
            if numbering.starts_before_file:  # pandas counts the extra first row
                skipped = [line - 1 for line in skipped]
            if skipped:
                tally.rows += len(skipped)
                tally.add(TOO_MANY, skipped[0], len(skipped))
            if frame is None:
                numbering.take(0, skipped)
                return
            lines = numbering.take(len(frame), skipped)
            if len(lines) and lines[0] <= layout.header_lines:
                is_data = lines > layout.header_lines
                frame, lines = frame[is_data], lines[is_data]
            if len(frame):
                yield frame, lines


class _LineNumbers:
    """Assigns line numbers to the rows that pandas returns, given the lines that it skips.

    Attributes:
      starts_before_file: whether there is an extra row before the first line of the file.
      last: the last line so far, returned or skipped.
    """

    def __init__(self, first: int) -> None:
        self.starts_before_file = first == 0
        self._next = first
        self.last = 0
        self._skipped = np.zeros(0, np.int64)  # skipped lines after the last returned row

    def take(self, count: int, skipped: list[int]) -> np.ndarray:
        """Returns the lines of the next rows, int64 [count].

        Args:
          count: number of rows.
          skipped: lines skipped since the last call.
        """
        self._skipped = np.append(self._skipped, np.array(skipped, np.int64))
        lines = np.arange(self._next, self._next + count + len(self._skipped))
        lines = lines[~np.isin(lines, self._skipped)][:count]
        if count:
            self._next = int(lines[-1]) + 1
            self._skipped = self._skipped[self._skipped >= self._next]
        self.last = max([self._next - 1, *self._skipped.tolist()[-1:]])
        return lines


def _describe(error: ValueError, layout: Layout) -> str:
    """Describes a pandas error in one line."""
    text = " ".join(str(error).split())
    if "Too many columns specified" in text:
        return f"no row has {layout.num_cells} columns"
    if "EOF inside string" in text:
        return "a double quote that opens a cell is never closed"
    if isinstance(error, pd.errors.EmptyDataError):
        return "it is empty"
    if isinstance(error, UnicodeError):
        return f"it is not {layout.encoding} text"
    return text.removeprefix("Error tokenizing data. C error: ")


def _reject_unreadable_file(path: Path, tally: Tally) -> None:
    """Raises DataError if more than half of the rows so far are malformed."""
    if tally.malformed * 2 > tally.rows:
        malformed = {reason: tally.bad[reason] for reason in PROBLEMS if reason in tally.bad}
        reason, first = max(malformed.items(), key=lambda entry: entry[1].count)
        raise DataError(
            f"{path} is not a ratings file: {tally.malformed} of its first {tally.rows} "
            f"rows cannot be read ({reason}" + (
                f", first in line {first.first_line})" if first.first_line else ")")
        )


def _parse(frame: pd.DataFrame, lines: np.ndarray, layout: Layout, tally: Tally) -> Block:
    """Parses a block of the file; returns the valid rows and counts the others in `tally`."""
    step = _separator_step(layout)
    user, item = (id_cells(frame[step * column], layout.ids_are_numbers)
                  for column in (layout.user, layout.item))
    cells, times = [user, item], None
    if layout.rating is not None:
        cells.append(number_cells(frame[step * layout.rating]))
    if layout.timestamp is not None:
        times = parse_times(frame[step * layout.timestamp].to_numpy(), layout.times_are_dates)
        cells.append(time_cells(frame[step * layout.timestamp], times, layout.times_are_dates))
    cells += [empty_cells(frame[column]) for column in frame.columns if column % step]
    if layout.ends_with_separator:
        cells.append(empty_cells(frame.iloc[:, -1], TOO_MANY))
    keep = find_good_rows(cells, lines, tally)
    if keep is None:
        return Block(user.values, item.values, lines, times)
    if times is not None:
        fraction = None if times.fraction is None else times.fraction[keep]
        times = Times(times.whole[keep], fraction)
    return Block(user.values[keep], item.values[keep], lines[keep], times)
