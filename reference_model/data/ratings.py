"""Reads raw ratings files: `ratings.dat`, `ratings.csv`, `u.data`, `.inter`.

The first three are MovieLens' formats, the last is RecBole's. The format is detected from
the content, not from the file's name. Users and items are numbered by first appearance, so
files with the same rows in the same order give the same arrays, whatever ids they use.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping

import numpy as np
import pandas as pd

from reference_model.base.errors import DataError
from reference_model.base.progress import Progress, no_progress
from reference_model.data.delimited_text import (
    DUPLICATE,
    BadRows,
    Block,
    Layout,
    Tally,
    read_blocks,
)
from reference_model.data.split import MIN_RATINGS

# Names of the columns in the headers of known formats, in lower case.
_USER_NAMES = {"userid", "user_id", "user"}
_ITEM_NAMES = {"movieid", "movie_id", "itemid", "item_id", "item", "movie"}
# The columns that `DatasetSpec.columns` may name.
COLUMN_KEYS = ("user", "item", "timestamp")
_SEPARATORS = ("::", "\t", ",")
# The beginning of a file from which its format is detected.
_SAMPLE_BYTES = 1 << 16
_SAMPLE_LINES = 100


@dataclass(frozen=True)
class ReadReport:
    """The number of rows in a ratings file, and of the bad rows among them.

    A bad row is one that the split will not contain. It has missing columns, text where a
    number belongs, or a negative id; or it repeats the pair of an earlier row; or its user has
    too few ratings. `read_ratings` drops bad rows of all kinds but the last, which is dropped
    only when the split is made.

    Attributes:
      path: the file's name.
      rows: data rows in the file, bad ones included.
      bad: number and first line of the bad rows, by reason.
    """

    path: str
    rows: int
    bad: dict[str, BadRows] = field(default_factory=dict)

    def notices(self) -> list[str]:
        """Describes each kind of bad row in one line; the list is empty for a clean file."""
        return [
            f"{self.path}: {entry.count:,} rows left out: {reason} (first in line "
            f"{entry.first_line:,})"
            for reason, entry in self.bad.items()
        ]


@dataclass(frozen=True, eq=False)
class Ratings:
    """The R rows of a ratings file that could be parsed, without duplicates, in file order.

    Attributes:
      user: int32 [R], user indices by first appearance.
      item: int32 [R], item indices by first appearance.
      timestamp: int64 [R], as in the file; zeros where the file has none.
      report: counts the rows of the file and the bad ones among them.
    """

    user: np.ndarray = field(repr=False)
    item: np.ndarray = field(repr=False)
    timestamp: np.ndarray = field(repr=False)
    report: ReadReport


def detect_layout(path: Path, columns: Mapping[str, str | None] | None = None) -> Layout:
    """Detects the layout of a ratings file from its first lines.

    Args:
      path: the file.
      columns: the names of the columns "user", "item" and "timestamp" in the file's header;
        None where the file has a known format. If "timestamp" is None, the file has no
        timestamps: all ratings of a user then tie for the latest one, and the fixed
        pseudo-random order of ties decides which of them is held out.

    Raises:
      DataError: the file cannot be read or is not a ratings file.
    """
    try:
        with Path(path).open("rb") as file:
            sample = file.read(_SAMPLE_BYTES)
            if len(sample) == _SAMPLE_BYTES:  # the last line may be cut off
                sample = sample[: sample.rfind(b"\n") + 1]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    layout = None
    if b"\0" not in sample:  # a zero byte would show a binary file
        # Latin-1 can decode any bytes. The encoding of other text does not matter here, since
        # separators and numbers are ASCII.
        lines = sample.removeprefix(b"\xef\xbb\xbf").decode("latin-1").splitlines()
        lines = lines[:_SAMPLE_LINES]
        if columns:
            layout = _layout_from_columns(lines, columns)
        else:
            layout = _layout_from_header(lines[0] if lines else "") or _layout_from_rows(lines)
    if layout is None and columns:
        wanted = ", ".join(name for name in columns.values() if name)
        raise DataError(
            f"{path} has no header with the columns {wanted}, separated by tabs, commas "
            "or '::'; write its own names under dataset.columns of the track file"
        )
    if layout is None:
        raise DataError(
            f"{path} is not a ratings file: expected lines of user, item, rating and "
            "timestamp, separated by '::', tabs or commas, as in MovieLens' "
            "ratings.dat, u.data or ratings.csv, or RecBole's .inter"
        )
    return layout


def _layout_from_header(line: str) -> Layout | None:
    """Reads the layout from a known header such as `userId,movieId,rating,timestamp`."""
    for separator in ("\t", ",", "::"):
        cells = [cell.strip().strip('"').lower() for cell in line.split(separator)]
        # RecBole appends the type to the name: `user_id:token`.
        names = [cell.partition(":")[0] for cell in cells]
        # The first column of each name.
        column_of = {name: column for column, name in reversed(list(enumerate(names)))}
        user = next((column_of[n] for n in names if n in _USER_NAMES), None)
        item = next((column_of[n] for n in names if n in _ITEM_NAMES), None)
        if user is None or item is None or "timestamp" not in column_of:
            continue
        return Layout(
            separator,
            user,
            item,
            column_of.get("rating"),
            column_of["timestamp"],
            ids_are_text=cells[user].endswith(":token"),
            header_lines=1,
        )
    return None


def _layout_from_columns(lines: list[str], columns: Mapping[str, str | None]) -> Layout | None:
    """Reads the layout from a header with the given names.

    Ids are text unless most of them are numbers.
    """
    for separator in ("\t", ",", "::"):
        rows = [line.split(separator) for line in lines]
        names = [cell.strip().strip('"') for cell in rows[0]] if rows else []
        if not all(name in names for name in columns.values() if name):
            continue
        user, item, timestamp = (
            names.index(columns[key]) if columns.get(key) else None for key in COLUMN_KEYS
        )
        rows = [row for row in rows[1:] if len(row) > max(user, item)]
        numbers = sum(row[user].isdecimal() and row[item].isdecimal() for row in rows)
        ids_are_text = 2 * numbers < len(rows)
        return Layout(separator, user, item, None, timestamp, ids_are_text, header_lines=1)
    return None


def _layout_from_rows(lines: list[str]) -> Layout | None:
    """Detects a file without header: at least half of the lines begin with four numbers."""
    lines = [line for line in lines if line.strip()]
    for separator in _SEPARATORS:
        matching = sum(_starts_with_four_numbers(line.split(separator)) for line in lines)
        if matching and 2 * matching >= len(lines):
            return Layout(separator)
    return None


def _starts_with_four_numbers(cells: list[str]) -> bool:
    """Whether the first four cells of a line are finite numbers."""
    try:
        return len(cells) >= 4 and all(np.isfinite(float(cell)) for cell in cells[:4])
    except ValueError:
        return False


def read_ratings(
    path: Path | str,
    min_ratings: int = MIN_RATINGS,
    progress: Progress = no_progress,
    columns: Mapping[str, str | None] | None = None,
) -> Ratings:
    """Reads a ratings file of a known format, or one whose columns are named.

    Args:
      path: the file.
      min_ratings: the report counts the ratings of users with fewer; they stay in the
        result.
      progress: gets the bytes read so far.
      columns: as for `detect_layout`.

    Raises:
      DataError: the file cannot be read, is not a ratings file, or holds no ratings.
    """
    path = Path(path)
    layout, tally = detect_layout(path, columns), Tally()
    users, items = _IdNumbering(), _IdNumbering()
    parts_of: tuple[list[np.ndarray], ...] = [], [], []  # user, item, timestamp
    lines = _LineIndex()
    for block in read_blocks(path, layout, tally, progress):
        values = users.add(block.user), items.add(block.item), block.timestamp
        for parts, part in zip(parts_of, values):
            parts.append(part)
        lines.add(block)
    if not sum(map(len, parts_of[0])):
        raise DataError(f"{path} holds no ratings")
    user, item, timestamp = map(_concatenate_and_clear, parts_of)
    duplicates = _find_duplicate_rows(user, item, len(items))
    if len(duplicates):
        tally.add(DUPLICATE, lines.line_of(int(duplicates[0])), len(duplicates))
    _count_rare_users(user, duplicates, min_ratings, lines, tally)
    if len(duplicates):
        user, item, timestamp = (np.delete(a, duplicates) for a in (user, item, timestamp))
    report = ReadReport(path.name, tally.rows, tally.bad)
    return Ratings(user, item, timestamp, report)


def _concatenate_and_clear(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenates all parts and empties the list, so that memory holds them only once."""
    joined = np.concatenate(parts)
    parts.clear()
    return joined


class _IdNumbering:
    """Numbers ids by first appearance, block after block."""

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
    """Finds the line of a row, from 1, in a file that was read block by block."""

    def __init__(self) -> None:
        self._first_rows: list[int] = []  # the number of each block's first row
        self._blocks: list[tuple[int, np.ndarray | None]] = []  # its `first_line`, `lines`
        self._rows = 0

    def add(self, block: Block) -> None:
        """Adds the rows of the next block."""
        self._first_rows.append(self._rows)
        self._blocks.append((block.first_line, block.lines))
        self._rows += len(block.user)

    def line_of(self, row: int) -> int:
        """Returns the line (from 1) of a row (from 0) among the rows of all blocks."""
        block = bisect_right(self._first_rows, row) - 1
        first_line, lines = self._blocks[block]
        row -= self._first_rows[block]
        return first_line + row if lines is None else int(lines[row])


def _find_duplicate_rows(user: np.ndarray, item: np.ndarray, num_items: int) -> np.ndarray:
    """Finds the rows whose pair occurs in an earlier row: int64, ascending."""
    # A plain sort shows whether there are any. Only if there are, a slower stable sort finds
    # the rows: it keeps the order of equal pairs, so all but the first of them are duplicates.
    key = _pair_keys(user, item, num_items)
    key.sort()
    if not (key[1:] == key[:-1]).any():
        return np.zeros(0, np.int64)
    key = _pair_keys(user, item, num_items)
    order = np.argsort(key, kind="stable")
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
    """Adds the ratings of users with fewer than `min_ratings` to `tally`, without duplicates."""
    counts = np.bincount(user) - np.bincount(user[duplicates], minlength=user.max() + 1)
    is_rare = counts < min_ratings
    if is_rare.any():
        first_row = int(np.argmax(is_rare[user]))
        reason = f"users under {min_ratings} ratings"
        tally.add(reason, lines.line_of(first_row), int(counts[is_rare].sum()))
