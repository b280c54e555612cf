"""Reads delimited ratings files with pandas' C reader, part by part, with line numbers.

There is one way through the file: all cells are read as text. Of ids and ratings each distinct
text of a part is looked at once. A bad row is left out and counted without slowing down the
others, and the memory used for text does not depend on the file's size.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Callable, Iterator

import numpy as np
import pandas as pd

from reference_model.base.errors import DataError
from reference_model.base.progress import Progress, no_progress
from reference_model.ratings.times import Times, parse_number, parse_times

# Rows that pandas reads at a time.
CHUNK_ROWS = 1 << 19
MISSING = "missing columns"
NOT_A_NUMBER = "text where a number belongs"
NOT_A_TIME = "a time that is no ISO 8601 date, unlike the first ones"
NEGATIVE = "negative ids"
LINE_BREAK = "a line break inside an id"
DUPLICATE = "duplicate pairs"
# The kinds of bad rows that cannot be read, by their code in `_Cells.problem`; 0 is a good row.
_PROBLEMS = ("", MISSING, NOT_A_NUMBER, NOT_A_TIME, NEGATIVE, LINE_BREAK)
_CODES = {reason: np.int8(code) for code, reason in enumerate(_PROBLEMS)}
_QUOTE_MINIMAL, _QUOTE_NONE = 0, 3  # of the module csv, as pandas takes them


@dataclass(frozen=True)
class Layout:
    """The layout of a delimited file.

    Attributes:
      separator: "::", a tab, a comma or a semicolon.
      user: number of the user column, from 0.
      item: number of the item column.
      rating: number of the rating column; None if there is none.
      timestamp: number of the timestamp column; None if there is none.
      ids_are_numbers: whether the format says that ids are whole numbers, so that 01 is 1; else
        they are any text.
      header_lines: number of lines before the data.
      times_are_dates: whether times are ISO 8601 dates; else they are numbers.
      has_quotes: whether a cell may stand in double quotes.
      encoding: "utf-16", or "latin-1" for all encodings in which ASCII is ASCII: it keeps
        different ids different, and separators and numbers are ASCII.
      num_header_bytes: bytes of a byte order mark to pass over.
    """

    separator: str
    user: int = 0
    item: int = 1
    rating: int | None = 2
    timestamp: int | None = 3
    ids_are_numbers: bool = True
    header_lines: int = 0
    times_are_dates: bool = False
    has_quotes: bool = False
    encoding: str = "latin-1"
    num_header_bytes: int = 0

    @property
    def columns(self) -> list[int]:
        """Numbers of the columns that are read."""
        wanted = (self.user, self.item, self.rating, self.timestamp)
        return [column for column in wanted if column is not None]


@dataclass(frozen=True)
class BadRows:
    """The rows that are bad for one reason; `reader.ReadReport` says what a bad row is.

    Attributes:
      count: their number.
      first_line: the line of the first of them, from 1; 0 where it is unknown, because quoted
        cells with line breaks stand in the file.
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

    def forget_lines(self) -> None:
        """Lines are not known after all."""
        self.bad = {reason: BadRows(entry.count, 0) for reason, entry in self.bad.items()}

    @property
    def malformed(self) -> int:
        """Number of bad rows that could not be parsed."""
        return sum(self.bad[reason].count for reason in _PROBLEMS if reason in self.bad)


@dataclass(frozen=True)
class Block:
    """The n valid rows of one part of a file.

    Attributes:
      first_line: the first line of the part, from 1.
      user: [n], int64 if `Layout.ids_are_numbers`, else str objects.
      item: [n], the same type.
      times: the times of the n rows; None where the file has none.
      lines: int64 [n], the line of each row; None if every line of the part is a valid row,
        so that row k is in line `first_line` + k.
    """

    first_line: int
    user: np.ndarray
    item: np.ndarray
    times: Times | None = None
    lines: np.ndarray | None = None


def read_blocks(
    path: Path, layout: Layout, tally: Tally, progress: Progress = no_progress
) -> Iterator[Block]:
    """Reads the valid rows of a file, part by part.

    Args:
      path: the file.
      layout: its layout.
      tally: counts all rows and the bad ones.
      progress: gets the bytes read so far.

    Yields:
      The valid rows of each part.

    Raises:
      DataError: the file cannot be read, or most of its rows are bad.
    """
    line = layout.header_lines + 1
    try:
        total = path.stat().st_size
        with path.open("rb") as file:
            file.seek(layout.num_header_bytes)
            stream = _CountedStream(file)
            for frame in _read_frames(stream, layout):
                block = _parse(frame, layout, line, tally)
                line += len(frame)
                _reject_unreadable_file(path, tally)
                yield block
                progress(f"reading {path.name}", stream.num_bytes, total)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # as pandas' errors are
        raise DataError(f"{path} cannot be read: {_describe(error, layout)}") from error
    # Line breaks in quotes are no ends of rows. Rows end at "\n" except in old files of Macs.
    if layout.has_quotes and stream.num_line_feeds > line - 1:
        tally.forget_lines()


class _CountedStream(io.RawIOBase):
    """A file that counts what is read from it.

    Attributes:
      num_bytes: bytes read so far.
      num_line_feeds: line feeds among them.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.num_bytes = self.num_line_feeds = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.num_bytes += len(data)
        self.num_line_feeds += data.count(b"\n")
        return data

    def readinto(self, buffer) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def __iter__(self):  # pandas asks for it, and does not use it
        return self


def _separator_step(layout: Layout) -> int:
    """pandas' C reader splits at single characters: at "::" every second column is empty."""
    return len(layout.separator)


def _read_frames(stream: _CountedStream, layout: Layout) -> Iterator[pd.DataFrame]:
    """Reads the columns of the layout and, between them, those that must be empty."""
    step = _separator_step(layout)
    last = step * max(layout.columns)
    wanted = {step * column for column in layout.columns}
    if step > 1:
        wanted |= set(range(1, last, step))
    with pd.read_csv(
        stream,
        sep=layout.separator[0],
        header=None,
        names=range(last + 1),
        usecols=sorted(wanted),
        dtype=object,
        index_col=False,
        quoting=_QUOTE_MINIMAL if layout.has_quotes else _QUOTE_NONE,
        na_filter=False,
        skiprows=layout.header_lines,
        skip_blank_lines=False,
        encoding=layout.encoding,
        engine="c",
        chunksize=CHUNK_ROWS,
    ) as frames:
        yield from frames


def _describe(error: ValueError, layout: Layout) -> str:
    """Describes an error of pandas in one line."""
    text = " ".join(str(error).split())
    if "Too many columns specified" in text:
        return f"no row has {max(layout.columns) + 1} columns"
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
        malformed = {reason: tally.bad[reason] for reason in _PROBLEMS if reason in tally.bad}
        reason, first = max(malformed.items(), key=lambda entry: entry[1].count)
        raise DataError(
            f"{path} is not a ratings file: {tally.malformed} of its first {tally.rows} "
            f"rows cannot be read ({reason}, first in line {first.first_line})"
        )


@dataclass
class _Cells:
    """The cells of one column.

    Attributes:
      problem: int8 [n], an index into _PROBLEMS for each row; None where all are good.
      is_blank: bool [n], whether the cell is empty; None where none is.
      values: int64 or object [n]; None where the values do not matter.
    """

    problem: np.ndarray | None
    is_blank: np.ndarray | None
    values: np.ndarray | None = None


def _parse(frame: pd.DataFrame, layout: Layout, first_line: int, tally: Tally) -> Block:
    """Takes a part of the file apart: the valid rows, and the number of the others."""
    step = _separator_step(layout)
    user, item = (_id_cells(frame[step * column], layout.ids_are_numbers)
                  for column in (layout.user, layout.item))
    cells, times = [user, item], None
    if layout.rating is not None:
        cells.append(_number_cells(frame[step * layout.rating]))
    if layout.timestamp is not None:
        times = parse_times(frame[step * layout.timestamp].to_numpy(), layout.times_are_dates)
        cells.append(_time_cells(frame[step * layout.timestamp], times, layout.times_are_dates))
    cells += [_empty_cells(frame[column]) for column in frame.columns if column % step]
    keep = _find_good_rows(cells, len(frame), first_line, tally)
    if keep is None:
        return Block(first_line, user.values, item.values, times)
    if times is not None:
        fraction = None if times.fraction is None else times.fraction[keep]
        times = Times(times.whole[keep], fraction)
    return Block(first_line, user.values[keep], item.values[keep], times, keep + first_line)


def _find_good_rows(
    cells: list[_Cells], num_rows: int, first_line: int, tally: Tally
) -> np.ndarray | None:
    """Counts the rows, blank lines left out, and the bad ones.

    Returns:
      int64, the good rows; None: all are.
    """
    if all(column.problem is None for column in cells):
        tally.rows += num_rows
        return None
    # A blank line is a row whose cells are all blank.
    is_row = np.ones(num_rows, bool)
    if all(column.is_blank is not None for column in cells):
        is_row = ~np.logical_and.reduce([column.is_blank for column in cells])
    problem = np.zeros(num_rows, np.int8)
    for column in cells:
        if column.problem is not None:
            # The kind of a row is that of its first problem, but a missing column comes first.
            is_new = (problem == 0) | (column.problem == _CODES[MISSING])
            problem = np.where(is_new & (column.problem != 0), column.problem, problem)
    tally.rows += int(is_row.sum())
    for code in np.unique(problem[is_row & (problem != 0)]):
        rows = np.flatnonzero(is_row & (problem == code))
        tally.add(_PROBLEMS[code], first_line + int(rows[0]), len(rows))
    return np.flatnonzero(problem == 0)


def _judge_texts(
    column: pd.Series, problem_of: Callable[[str], int]
) -> tuple[_Cells, np.ndarray, np.ndarray]:
    """Looks at each distinct text of a column once.

    Args:
      column: str objects [n].
      problem_of: finds the problem of a text that is not blank, a code of _PROBLEMS.

    Returns:
      (the cells, without values; int64 [n], the number of each cell's text; object [m], the
      distinct texts).
    """
    codes, texts = pd.factorize(column.to_numpy(dtype=object))
    blank = np.fromiter((not text.strip() for text in texts), bool, len(texts))
    problems = np.fromiter(
        (_CODES[MISSING] if is_blank else problem_of(text)
         for text, is_blank in zip(texts, blank)), np.int8, len(texts))
    return _Cells(
        problems[codes] if problems.any() else None, blank[codes] if blank.any() else None
    ), codes, texts


def _id_cells(column: pd.Series, are_numbers: bool) -> _Cells:
    def problem_of(text: str) -> int:
        if not are_numbers:
            return _CODES[LINE_BREAK if "\n" in text or "\r" in text else ""]
        number = parse_number(text)
        if number is None or number[1]:
            return _CODES[NOT_A_NUMBER]
        return _CODES[NEGATIVE if number[0] < 0 else ""]

    cells, codes, texts = _judge_texts(column, problem_of)
    if are_numbers:
        numbers = [(parse_number(text) or (0, 0.0))[0] for text in texts]
        texts = np.array(numbers, np.int64)
    cells.values = texts[codes]
    return cells


def _number_cells(column: pd.Series) -> _Cells:
    return _judge_texts(column, lambda text: _CODES[
        NOT_A_NUMBER if parse_number(text) is None else ""])[0]


def _empty_cells(column: pd.Series) -> _Cells:
    """Cells between two colons of "::", which must be empty."""
    cells = _judge_texts(column, lambda text: _CODES[MISSING])[0]
    # Here it is the empty cell that is right.
    if cells.problem is not None and cells.is_blank is not None:
        cells.problem[cells.is_blank] = 0
        if not cells.problem.any():
            cells.problem = None
    return cells


def _time_cells(column: pd.Series, times: Times, are_dates: bool) -> _Cells:
    if times.is_valid is None:
        return _Cells(None, None)
    bad = np.flatnonzero(~times.is_valid)
    problem, is_blank = np.zeros(len(column), np.int8), np.zeros(len(column), bool)
    problem[bad] = _CODES[NOT_A_TIME if are_dates else NOT_A_NUMBER]
    is_blank[bad] = [not text.strip() for text in column.to_numpy()[bad]]
    problem[is_blank] = _CODES[MISSING]
    return _Cells(problem, is_blank)
