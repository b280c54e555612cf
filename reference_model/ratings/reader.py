"""Reads raw ratings files: `ratings.dat`, `ratings.csv`, `u.data`, `.inter`, and others.

The first three are MovieLens formats, the fourth is that of RecBole; see `file_layout` for the
others. The format is detected from the content, not from the file name. Users and items are
numbered by first appearance, so files with the same rows in the same order yield the same arrays,
regardless of their ids.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping

import numpy as np

from reference_model.base.errors import DataError
from reference_model.base.lazy_modules import pd
from reference_model.base.progress import Progress, no_progress
from reference_model.ratings.cells import CONTINUED, DUPLICATE, BadRows, Tally
from reference_model.ratings.delimited_text import read_blocks
from reference_model.ratings.file_layout import Column, detect_layout
from reference_model.ratings.times import TimeColumn

# Users with fewer ratings are excluded from a split.
MIN_RATINGS = 20


@dataclass(frozen=True)
class ReadReport:
    """The number of rows of a ratings file and of its bad rows.

    A bad row is excluded from the split. It cannot be parsed (see `cells.PROBLEMS`); or its pair
    has a row with an earlier time, or an earlier row with the same time; or its user has too few
    ratings. `read_ratings` drops all bad rows except those of users with too few ratings, which
    are dropped when the split is made.

    Attributes:
      path: file name.
      rows: data rows in the file, including bad ones.
      bad: number and first line of the bad rows, by reason.
    """

    path: str
    rows: int
    bad: dict[str, BadRows] = field(default_factory=dict)

    def notices(self) -> list[str]:
        """Returns one line for each kind of bad row."""
        return [f"{self.path}: {_describe_bad(reason, entry)}"
                for reason, entry in self.bad.items()]


def _describe_bad(reason: str, entry: BadRows) -> str:
    if reason == CONTINUED:
        return (f"{reason}: {entry.count:,}; if no cell contains a line break, a quote is "
                "misplaced and rows are lost")
    rows = "1 row" if entry.count == 1 else f"{entry.count:,} rows"
    where = f" (first in line {entry.first_line:,})" if entry.first_line else ""
    return f"{rows} left out: {reason}{where}"


@dataclass(frozen=True, eq=False)
class Ratings:
    """The R parsable rows of a ratings file, without duplicates, in file order.

    Attributes:
      user: int32 [R], user indices by first appearance.
      item: int32 [R], item indices by first appearance.
      timestamp: int64 [R], as in the file if all times are integers, otherwise order-preserving
        values (see `times`); zeros if the file has no times.
      report: the number of rows and bad rows in the file.
    """

    user: np.ndarray = field(repr=False)
    item: np.ndarray = field(repr=False)
    timestamp: np.ndarray = field(repr=False)
    report: ReadReport


def read_ratings(
    path: Path | str,
    min_ratings: int = MIN_RATINGS,
    progress: Progress = no_progress,
    columns: Mapping[str, Column] | None = None,
) -> Ratings:
    """Reads a ratings file of a known format or with given columns.

    Args:
      path: the file.
      min_ratings: the report counts the ratings of users with fewer ratings; the result
        includes these ratings.
      progress: receives the bytes read so far.
      columns: as for `detect_layout`.

    Raises:
      DataError: the file cannot be read, is not a ratings file, or has no ratings.
    """
    path = Path(path)
    layout, tally = detect_layout(path, columns), Tally()
    users, items = _IdNumbering(), _IdNumbering()
    parts_of: tuple[list[np.ndarray], ...] = [], []  # user, item
    lines, times = _LineIndex(), TimeColumn()
    for block in read_blocks(path, layout, tally, progress):
        for parts, numbering, ids in zip(parts_of, (users, items), (block.user, block.item)):
            parts.append(numbering.add(ids))
        if block.times is not None:
            times.add(block.times)
        lines.add(block.lines)
    if not sum(map(len, parts_of[0])):
        raise DataError(f"{path} has no ratings")
    user, item = map(_concatenate_and_clear, parts_of)
    timestamp = times.join() if layout.timestamp is not None else np.zeros(len(user), np.int64)
    duplicates = _find_duplicate_rows(user, item, timestamp, len(items))
    if len(duplicates):
        tally.add(DUPLICATE, lines.line_of(int(duplicates[0])), len(duplicates))
    _count_rare_users(user, duplicates, min_ratings, lines, tally)
    if len(duplicates):
        user, item, timestamp = (np.delete(a, duplicates) for a in (user, item, timestamp))
    report = ReadReport(path.name, tally.rows, tally.bad)
    return Ratings(user, item, timestamp, report)


def _concatenate_and_clear(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenates all parts and clears the list, to free the memory of the parts."""
    joined = np.concatenate(parts)
    parts.clear()
    return joined


class _IdNumbering:
    """Numbers ids by first appearance, block by block."""

    def __init__(self) -> None:
        self._number_of: dict = {}

    def __len__(self) -> int:
        return len(self._number_of)

    def add(self, ids: np.ndarray) -> np.ndarray:
        """Returns the int32 numbers of `ids`, an array of int64 or str."""
        codes, uniques = pd.factorize(ids)
        number_of = self._number_of
        numbers = [number_of.setdefault(name, len(number_of)) for name in uniques.tolist()]
        return np.array(numbers, dtype=np.int32)[codes]


class _LineIndex:
    """Maps rows to lines, from 1, for a file that was read block by block."""

    def __init__(self) -> None:
        self._first_rows: list[int] = []  # the number of each block's first row
        # The first line of each block, and the lines of its rows if these have gaps.
        self._blocks: list[tuple[int, np.ndarray | None]] = []
        self._rows = 0

    def add(self, lines: np.ndarray) -> None:
        """Adds the lines of the rows of the next block."""
        if not len(lines):
            return
        first, last = int(lines[0]), int(lines[-1])
        self._first_rows.append(self._rows)
        self._blocks.append((first, None if last - first + 1 == len(lines) else lines))
        self._rows += len(lines)

    def line_of(self, row: int) -> int:
        """Returns the line (from 1) of a row (from 0) among the rows of all blocks."""
        block = bisect_right(self._first_rows, row) - 1
        first_line, lines = self._blocks[block]
        row -= self._first_rows[block]
        return first_line + row if lines is None else int(lines[row])


def _find_duplicate_rows(
    user: np.ndarray, item: np.ndarray, timestamp: np.ndarray, num_items: int
) -> np.ndarray:
    """Finds all rows of each pair except the earliest by (time, row): int64, ascending."""
    # A plain sort tests whether there are duplicates. Only if there are, a slower stable sort by
    # (pair, time) finds them: all rows of a pair after the first.
    key = _pair_keys(user, item, num_items)
    key.sort()
    if not (key[1:] == key[:-1]).any():
        return np.zeros(0, np.int64)
    key = _pair_keys(user, item, num_items)
    order = np.lexsort((timestamp, key))
    ordered = key[order]
    return np.sort(order[1:][ordered[1:] == ordered[:-1]])


def _pair_keys(user: np.ndarray, item: np.ndarray, num_items: int) -> np.ndarray:
    """Encodes pairs as int64 [R], user * num_items + item."""
    key = user.astype(np.int64)
    key *= num_items
    key += item
    return key


def _count_rare_users(
    user: np.ndarray, duplicates: np.ndarray, min_ratings: int, lines: _LineIndex, tally: Tally
) -> None:
    """Counts, excluding duplicates, the ratings of users with fewer than `min_ratings`."""
    counts = np.bincount(user) - np.bincount(user[duplicates], minlength=user.max() + 1)
    is_rare = counts < min_ratings
    if is_rare.any():
        first_row = int(np.argmax(is_rare[user]))
        reason = f"users with fewer than {min_ratings} ratings"
        tally.add(reason, lines.line_of(first_row), int(counts[is_rare].sum()))
