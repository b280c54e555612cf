"""Parses the cells of a ratings file column by column and finds bad rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable

import numpy as np

from reference_model.base.lazy_modules import pd
from reference_model.ratings.times import Times, parse_number

MISSING = "missing columns"
TOO_MANY = "more columns than the header"
NOT_A_NUMBER = "text where a number belongs"
NOT_A_TIME = "a time that is not an ISO 8601 date, unlike the first ones"
NEGATIVE = "negative ids"
LINE_BREAK = "a line break inside an id"
DUPLICATE = "duplicate pairs"
CONTINUED = "lines that continue a quoted cell"
# The reasons for unparsable rows, by their code in `Cells.problem`; 0 is a good row.
PROBLEMS = ("", MISSING, TOO_MANY, NOT_A_NUMBER, NOT_A_TIME, NEGATIVE, LINE_BREAK)
_CODES = {reason: np.int8(code) for code, reason in enumerate(PROBLEMS)}


@dataclass(frozen=True)
class BadRows:
    """The rows that are bad for one reason; `reader.ReadReport` defines bad rows.

    Attributes:
      count: number of these rows.
      first_line: line of the first of these rows, from 1; 0 if unknown because the file has
        quoted cells with line breaks.
    """

    count: int
    first_line: int


@dataclass
class Tally:
    """Counts rows and bad rows while a file is read.

    Attributes:
      rows: data rows so far, including bad ones.
      bad: bad rows so far, by reason.
    """

    rows: int = 0
    bad: dict[str, BadRows] = field(default_factory=dict)

    def add(self, reason: str, line: int, count: int = 1) -> None:
        """Counts `count` bad rows, the first of them in `line`."""
        if CONTINUED in self.bad:  # line numbers are unknown
            line = 0
        known = self.bad.get(reason)
        if known is None:
            self.bad[reason] = BadRows(count, line)
        else:
            first = min(known.first_line, line)
            self.bad[reason] = BadRows(known.count + count, first)

    def forget_lines(self, num_continued: int) -> None:
        """Clears all line numbers, because `num_continued` lines continue a quoted cell."""
        self.bad = {reason: BadRows(entry.count, 0) for reason, entry in self.bad.items()}
        self.bad[CONTINUED] = BadRows(num_continued, 0)

    @property
    def malformed(self) -> int:
        """Number of bad rows that could not be parsed."""
        return sum(self.bad[reason].count for reason in PROBLEMS if reason in self.bad)


@dataclass
class Cells:
    """The cells of one column.

    Attributes:
      problem: int8 [n], an index into PROBLEMS for each row; None if all are good.
      is_blank: bool [n], whether the cell is blank; None if none is.
      values: int64 or object [n]; None if the values are not needed.
    """

    problem: np.ndarray | None
    is_blank: np.ndarray | None
    values: np.ndarray | None = None


def find_good_rows(
    cells: list[Cells], lines: np.ndarray, tally: Tally
) -> np.ndarray | None:
    """Counts the rows, excluding blank lines, and the bad rows.

    Returns:
      int64, the indices of the good rows; None if all are good.
    """
    num_rows = len(lines)
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
            # A row has the reason of its first problem, but a missing column has precedence.
            is_new = (problem == 0) | (column.problem == _CODES[MISSING])
            problem = np.where(is_new & (column.problem != 0), column.problem, problem)
    tally.rows += int(is_row.sum())
    for code in np.unique(problem[is_row & (problem != 0)]):
        rows = np.flatnonzero(is_row & (problem == code))
        tally.add(PROBLEMS[code], int(lines[rows[0]]), len(rows))
    return np.flatnonzero(problem == 0)


def _judge_texts(
    column: pd.Series, problem_of: Callable[[str], int]
) -> tuple[Cells, np.ndarray, np.ndarray]:
    """Classifies each distinct text of a column once.

    Args:
      column: str objects [n].
      problem_of: returns the code in PROBLEMS of a nonblank text.

    Returns:
      (the cells, without values; int64 [n], the index of each cell's text; object [m], the
      distinct texts).
    """
    codes, texts = pd.factorize(column.to_numpy(dtype=object))
    blank = np.fromiter((not text.strip() for text in texts), bool, len(texts))
    problems = np.fromiter(
        (_CODES[MISSING] if is_blank else problem_of(text)
         for text, is_blank in zip(texts, blank)), np.int8, len(texts))
    return Cells(
        problems[codes] if problems.any() else None, blank[codes] if blank.any() else None
    ), codes, texts


def id_cells(column: pd.Series, are_numbers: bool) -> Cells:
    number_of: dict[str, int] = {}  # the nonnegative integers by text

    def problem_of(text: str) -> int:
        if not are_numbers:
            return _CODES[LINE_BREAK if "\n" in text or "\r" in text else ""]
        number = parse_number(text)
        if number is None or number[1]:
            return _CODES[NOT_A_NUMBER]
        if number[0] < 0:
            return _CODES[NEGATIVE]
        number_of[text] = number[0]
        return _CODES[""]

    cells, codes, texts = _judge_texts(column, problem_of)
    if are_numbers:
        texts = np.array([number_of.get(text, 0) for text in texts], np.int64)
    cells.values = texts[codes]
    return cells


def number_cells(column: pd.Series) -> Cells:
    return _judge_texts(column, lambda text: _CODES[
        NOT_A_NUMBER if parse_number(text) is None else ""])[0]


def empty_cells(column: pd.Series, problem: str = MISSING) -> Cells:
    """Checks cells that must be empty, such as those between the two colons of "::".

    Args:
      column: str objects [n].
      problem: the reason for a row with a nonempty cell.
    """
    cells = _judge_texts(column, lambda text: _CODES[problem])[0]
    # Here empty cells are good.
    if cells.problem is not None and cells.is_blank is not None:
        cells.problem[cells.is_blank] = 0
        if not cells.problem.any():
            cells.problem = None
    return cells


def time_cells(column: pd.Series, times: Times, are_dates: bool) -> Cells:
    if times.is_valid is None:
        return Cells(None, None)
    bad = np.flatnonzero(~times.is_valid)
    problem, is_blank = np.zeros(len(column), np.int8), np.zeros(len(column), bool)
    problem[bad] = _CODES[NOT_A_TIME if are_dates else NOT_A_NUMBER]
    is_blank[bad] = [not text.strip() for text in column.to_numpy()[bad]]
    problem[is_blank] = _CODES[MISSING]
    return Cells(problem, is_blank)
