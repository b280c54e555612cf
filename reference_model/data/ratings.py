"""Raw ratings files to arrays: `ratings.dat`, `ratings.csv`, `u.data`, `.inter`.

The format is recognised by content, not by name. Users and items come out as
indices in order of first appearance, so files with the same rows in the same
order give the same arrays whatever they call their users and items.
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

_USER_NAMES = {"userid", "user_id", "user"}
_ITEM_NAMES = {"movieid", "movie_id", "itemid", "item_id", "item", "movie"}
COLUMN_KEYS = ("user", "item", "timestamp")  # what `columns` of a dataset may name
_SEPARATORS = ("::", "\t", ",")
_SAMPLE_BYTES = 1 << 16
_SAMPLE_LINES = 100


@dataclass(frozen=True)
class ReadReport:
    """What was read: data rows in the file, and by reason what is wrong with them.

    Rows with missing columns, text where a number belongs or negative ids and
    all but the first of duplicate pairs are left out. Ratings of users with too
    few of them are counted here and left out when the split is made.
    """

    path: str
    rows: int
    bad: dict[str, BadRows] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """One line for each kind of bad row; none for a clean file."""
        return [
            f"{self.path}: {entry.count:,} rows left out: {reason} (first in line "
            f"{entry.first_line:,})"
            for reason, entry in self.bad.items()
        ]


@dataclass(frozen=True, eq=False)
class Ratings:
    """The good rows [R] of a file in its order.

    user, item: int32 indices by first appearance; timestamp: int64, as given.
    """

    user: np.ndarray = field(repr=False)
    item: np.ndarray = field(repr=False)
    timestamp: np.ndarray = field(repr=False)
    report: ReadReport


def recognise(path: Path, columns: Mapping[str, str | None] | None = None) -> Layout:
    """The layout of a ratings file. Raises DataError if it is none.

    `columns`: what the header calls "user", "item" and "timestamp", for files with
    other names; "timestamp" None: the file has none, and which rating of a user is
    held out falls to the fixed pseudo-random order alone.
    """
    try:
        with Path(path).open("rb") as file:
            sample = file.read(_SAMPLE_BYTES)
            if len(sample) == _SAMPLE_BYTES:
                sample = sample[: sample.rfind(b"\n") + 1]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    layout = None
    if b"\0" not in sample:
        lines = sample.removeprefix(b"\xef\xbb\xbf").decode("latin-1").splitlines()
        lines = lines[:_SAMPLE_LINES]
        if columns:
            layout = _from_columns(lines, columns)
        else:
            layout = _from_header(lines[0] if lines else "") or _from_rows(lines)
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


def _from_header(line: str) -> Layout | None:
    """The layout named by a header such as `userId,movieId,rating,timestamp`."""
    for separator in ("\t", ",", "::"):
        cells = [cell.strip().strip('"').lower() for cell in line.split(separator)]
        names = [cell.partition(":")[0] for cell in cells]
        place = {name: column for column, name in reversed(list(enumerate(names)))}
        user = next((place[n] for n in names if n in _USER_NAMES), None)
        item = next((place[n] for n in names if n in _ITEM_NAMES), None)
        if user is None or item is None or "timestamp" not in place:
            continue
        return Layout(
            separator,
            user,
            item,
            place.get("rating"),
            place["timestamp"],
            tokens=cells[user].endswith(":token"),
            header_lines=1,
        )
    return None


def _from_columns(lines: list[str], columns: Mapping[str, str | None]) -> Layout | None:
    """The layout where the header has the given names; ids are text unless most are numbers."""
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
        tokens = 2 * numbers < len(rows)
        return Layout(separator, user, item, None, timestamp, tokens, header_lines=1)
    return None


def _from_rows(lines: list[str]) -> Layout | None:
    """The separator under which at least half of the lines are four numbers."""
    lines = [line for line in lines if line.strip()]
    for separator in _SEPARATORS:
        good = sum(_four_numbers(line.split(separator)) for line in lines)
        if good and 2 * good >= len(lines):
            return Layout(separator)
    return None


def _four_numbers(cells: list[str]) -> bool:
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
    """Reads a ratings file of any of the known formats, or one with named columns.

    `min_ratings` is only for the report: it counts the ratings of users with
    fewer. `columns`: see `recognise`. Raises DataError for what is not a ratings file.
    """
    path = Path(path)
    layout, tally = recognise(path, columns), Tally()
    users, items = _Index(), _Index()
    columns_of: tuple[list[np.ndarray], ...] = [], [], []
    lines = _Lines()
    for block in read_blocks(path, layout, tally, progress):
        part = users.add(block.user), items.add(block.item), block.timestamp
        for column, values in zip(columns_of, part):
            column.append(values)
        lines.add(block)
    if not sum(map(len, columns_of[0])):
        raise DataError(f"{path} holds no ratings")
    user, item, timestamp = map(_joined, columns_of)
    repeated = _repeated_rows(user, item, len(items))
    if len(repeated):
        tally.add(DUPLICATE, lines.of_row(int(repeated[0])), len(repeated))
    _count_small_users(user, repeated, min_ratings, lines, tally)
    if len(repeated):
        user, item, timestamp = (np.delete(a, repeated) for a in (user, item, timestamp))
    report = ReadReport(path.name, tally.rows, tally.bad)
    return Ratings(user, item, timestamp, report)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """All parts as one array; the list is emptied, so that they are not kept twice."""
    joined = np.concatenate(parts)
    parts.clear()
    return joined


class _Index:
    """Numbers ids by first appearance, block after block."""

    def __init__(self) -> None:
        self._number: dict = {}

    def __len__(self) -> int:
        return len(self._number)

    def add(self, ids: np.ndarray) -> np.ndarray:
        """int32 numbers of `ids`, an array of int64 or str."""
        codes, uniques = pd.factorize(ids)
        number = self._number
        table = [number.setdefault(name, len(number)) for name in uniques.tolist()]
        return np.array(table, dtype=np.int32)[codes]


class _Lines:
    """Finds the line of a row of the whole file."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._lines: list[tuple[int, np.ndarray | None]] = []
        self._rows = 0

    def add(self, block: Block) -> None:
        self._starts.append(self._rows)
        self._lines.append((block.first_line, block.lines))
        self._rows += len(block.user)

    def of_row(self, row: int) -> int:
        place = bisect_right(self._starts, row) - 1
        first_line, lines = self._lines[place]
        row -= self._starts[place]
        return first_line + row if lines is None else int(lines[row])


def _repeated_rows(user: np.ndarray, item: np.ndarray, num_items: int) -> np.ndarray:
    """int64, rising: the rows whose pair stands in an earlier row already."""
    key = _pair_keys(user, item, num_items)
    key.sort()
    if not (key[1:] == key[:-1]).any():
        return np.zeros(0, np.int64)
    key = _pair_keys(user, item, num_items)
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    return np.sort(order[1:][ordered[1:] == ordered[:-1]])


def _pair_keys(user: np.ndarray, item: np.ndarray, num_items: int) -> np.ndarray:
    """int64 [R]: a number of its own for each pair."""
    key = user.astype(np.int64)
    key *= num_items
    key += item
    return key


def _count_small_users(
    user: np.ndarray, repeated: np.ndarray, min_ratings: int, lines: _Lines, tally: Tally
) -> None:
    counts = np.bincount(user) - np.bincount(user[repeated], minlength=user.max() + 1)
    small = counts < min_ratings
    if small.any():
        first = int(np.argmax(small[user]))
        reason = f"users under {min_ratings} ratings"
        tally.add(reason, lines.of_row(first), int(counts[small].sum()))
