"""Detects the layout of a ratings file: separator, columns, kind of ids and times.

The formats of MovieLens (`ratings.dat`, `ratings.csv`, `u.data`) and RecBole (`.inter`) are
recognized, and headers with unambiguous column names. Any other file is rejected, and the error
lists its columns, unless the track file assigns the columns. Column positions are never used to
guess the meaning of a column.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping, Sequence

from reference_model.base.errors import DataError
from reference_model.ratings.delimited_text import Layout
from reference_model.ratings.times import looks_like_date, parse_number

# The keys of `DatasetSpec.columns`, also used in messages.
COLUMN_KEYS = ("user", "item", "timestamp")
# A column: its name in the header or, in a file without a header, its position, from 1.
Column = str | int | None
# The recognized column names, in lower case.
_NAMES: dict[str, tuple[str, ...]] = {
    "user": ("userid", "user_id", "user", "reviewerid", "reviewer_id", "listener_id"),
    "item": ("movieid", "movie_id", "itemid", "item_id", "item", "movie", "asin",
             "parent_asin", "bookid", "book_id", "video_id", "artistid", "artist_id", "isbn",
             "business_id"),
    "timestamp": ("timestamp", "time_stamp", "unixreviewtime", "unix_timestamp", "unix_time"),
    "rating": ("rating",),
}
# The header of MovieLens CSV files, in which ids are numbers.
_MOVIELENS_HEADER = ("userId", "movieId", "rating", "timestamp")
# In the order of trial. Commas come last, because they are the most frequent in text.
_SEPARATORS = ("::", "\t", ";", ",")
# The layout is detected from this many bytes at the start of a file.
_SAMPLE_BYTES = 1 << 16
_SAMPLE_LINES = 100
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"PK\x03\x04": "zip", b"\xfd7zXZ": "xz"}
_MAX_NAMES_SHOWN, _MAX_NAME_LENGTH = 12, 30


@dataclass(frozen=True)
class _Sample:
    """The first lines of a file.

    Attributes:
      path: the file.
      lines: its first lines without their ends.
      encoding: see `Layout`.
      num_header_bytes: see `Layout`.
    """

    path: Path
    lines: list[str]
    encoding: str
    num_header_bytes: int

    def rows(self, separator: str) -> tuple[list[list[str]], bool]:
        """Returns the cells of the nonblank lines, and whether cells may be quoted."""
        lines = [line for line in self.lines if line.strip()]
        # In tab-separated files quotes are part of the text, unless the header itself is quoted.
        has_quotes = separator in ",;" or bool(lines) and lines[0].startswith('"')
        if not has_quotes or len(separator) > 1:
            return [line.split(separator) for line in lines], False
        try:
            return list(csv.reader(lines, delimiter=separator)), True
        except csv.Error:  # for example, a cell exceeds the size limit of the csv module
            return [line.split(separator) for line in lines], True


def detect_layout(path: Path, columns: Mapping[str, Column] | None = None) -> Layout:
    """Detects the layout of a ratings file from its first lines.

    Args:
      path: the file.
      columns: the columns "user", "item" and "timestamp", as names in the header or, in a file
        without a header, as positions, from 1; None to detect a known format. If "timestamp" is
        None, the file has no timestamps: all ratings of a user then tie for the latest, and the
        fixed pseudo-random tie order determines the held-out item.

    Raises:
      DataError: the file cannot be read, is not a ratings file, or its columns are ambiguous.
    """
    sample = _read_sample(Path(path))
    layout = _layout_from_columns(sample, columns) if columns else (
        _layout_from_header(sample) or _layout_from_numbers(sample))
    if layout is None:
        raise DataError(_describe_unknown(sample, columns))
    layout = replace(layout, encoding=sample.encoding, num_header_bytes=sample.num_header_bytes)
    return _with_kind_of_times(sample, layout)


def _read_sample(path: Path) -> _Sample:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise DataError(f"{path} is not a regular file; write the ratings to a regular file")
        with path.open("rb") as file:
            data = file.read(_SAMPLE_BYTES)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    for magic, name in _COMPRESSED.items():
        if data.startswith(magic):
            raise DataError(f"{path} is a {name} file, not a text file; unpack it first")
    encoding, mark = "latin-1", 0
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif data.startswith(codecs.BOM_UTF8):
        mark = len(codecs.BOM_UTF8)
    is_cut = len(data) == _SAMPLE_BYTES
    text = _decode(data[mark:], encoding)
    # A null character indicates a binary file.
    lines = [] if "\0" in text else re.split(r"\r\n|\r|\n", text)
    return _Sample(path, lines[: -1 if is_cut and len(lines) > 1 else None][:_SAMPLE_LINES],
                   encoding, mark)


def _decode(data: bytes, encoding: str) -> str:
    """Decodes the sample; its last character may be incomplete."""
    if encoding == "utf-16":
        return data.decode("utf-16", "replace")
    try:  # decode as UTF-8, so that column names match those in a track file
        return codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _find_roles(header: Sequence[str]) -> dict[str, list[int]]:
    """Finds the columns with recognized names; returns column numbers by role."""
    # RecBole appends the type to the name: `user_id:token`.
    names = [cell.strip().lower().partition(":")[0] for cell in header]
    return {role: found for role, known in _NAMES.items()
            if (found := [n for n, name in enumerate(names) if name in known])}


def _single_roles(header: Sequence[str]) -> dict[str, int]:
    """Like `_find_roles`, but only for roles with exactly one column."""
    return {role: found[0] for role, found in _find_roles(header).items() if len(found) == 1}


def _layout_from_header(sample: _Sample) -> Layout | None:
    """Reads the layout from a known header such as `userId,movieId,rating,timestamp`."""
    for separator in _SEPARATORS:
        rows, has_quotes = sample.rows(separator)
        header = rows[0] if rows else []
        roles = _single_roles(header)
        if not all(role in roles for role in COLUMN_KEYS):
            continue
        return Layout(
            separator,
            *(roles.get(role) for role in ("user", "item", "rating", "timestamp")),
            **_row_width(rows),
            ids_are_numbers=tuple(cell.strip() for cell in header) == _MOVIELENS_HEADER,
            header_lines=_header_lines(sample),
            has_quotes=has_quotes,
        )
    return None


def _row_width(rows: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Returns the maximum number of cells per row, that of the header.

    If most rows end with a separator and the header does not, the maximum is one more.
    """
    num_cells = len(rows[0])
    num_longer = sum(len(row) == num_cells + 1 and not row[-1].strip() for row in rows[1:])
    is_longer = 2 * num_longer > len(rows) - 1
    return {"num_cells": num_cells + is_longer, "ends_with_separator": is_longer}


def _header_lines(sample: _Sample) -> int:
    """Returns the number of lines up to and including the header; blank lines may precede it."""
    return 1 + next(k for k, line in enumerate(sample.lines) if line.strip())


def _layout_from_columns(sample: _Sample, columns: Mapping[str, Column]) -> Layout | None:
    """Finds the columns named in a track file; their ids are text."""
    given = [columns.get(key) for key in COLUMN_KEYS]
    if any(isinstance(column, str) for column in given):
        return _layout_from_names(sample, given)
    # Without a header, use the separator for which most rows have the same number of cells.
    width = max(n for n in given if n is not None)
    best: tuple[float, Layout] | None = None
    for separator in _SEPARATORS:
        rows, has_quotes = sample.rows(separator)
        lengths = Counter(map(len, rows))
        usual, count = lengths.most_common(1)[0] if rows else (0, 0)
        if usual >= width and (best is None or count / len(rows) > best[0]):
            best = count / len(rows), _make_layout(
                separator, [None if n is None else n - 1 for n in given], 0,
                {"num_cells": max(lengths)}, has_quotes)
    return best[1] if best else None


def _layout_from_names(sample: _Sample, given: Sequence[str | None]) -> Layout | None:
    for separator in _SEPARATORS:
        rows, has_quotes = sample.rows(separator)
        names = [cell.strip() for cell in rows[0]] if rows else []
        if not all(name in names for name in given if name is not None):
            continue
        twice = next((name for name in given if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{sample.path}: its header has the column {_shorten(twice)} twice; "
                            "rename one of them")
        found = [None if name is None else names.index(name) for name in given]
        return _make_layout(separator, found, _header_lines(sample), _row_width(rows), has_quotes)
    return None


def _make_layout(separator: str, found: Sequence[int | None], header_lines: int, width: Mapping[str, Any],
                 has_quotes: bool) -> Layout:
    user, item, timestamp = found
    assert user is not None and item is not None
    return Layout(separator, user, item, None, timestamp, ids_are_numbers=False,
                  header_lines=header_lines, has_quotes=has_quotes, **width)


def _layout_from_numbers(sample: _Sample) -> Layout | None:
    """Detects MovieLens files without a header: user, item, rating, timestamp, all numbers."""
    for separator in ("::", "\t", ","):
        rows, has_quotes = sample.rows(separator)
        if rows and len(rows[0]) == 4 and all(map(parse_number, rows[0])):
            return Layout(separator, has_quotes=has_quotes)
    return None


def _with_kind_of_times(sample: _Sample, layout: Layout) -> Layout:
    """Returns the layout with the kind of times found in most of the first lines."""
    if layout.timestamp is None:
        return layout
    rows = sample.rows(layout.separator)[0][1 if layout.header_lines else 0 :]
    times = [row[layout.timestamp] for row in rows if len(row) > layout.timestamp]
    num_numbers = sum(parse_number(time) is not None for time in times)
    num_dates = sum(map(looks_like_date, times))
    times = [time for time in times if time.strip()]
    if times and not num_numbers and not num_dates:
        raise DataError(
            f"{sample.path}: its times, such as {_shorten(times[0])!r}, are neither numbers nor "
            "ISO 8601 dates (2014-01-31T12:00:00Z); convert them, or set timestamp: null under "
            "dataset.columns in the track file to ignore them"
        )
    return replace(layout, times_are_dates=num_dates > num_numbers)


# --- messages about files with an unknown layout -------------------------------


def _shorten(text: str) -> str:
    text = "".join(c if c.isprintable() else "?" for c in text.strip())
    return text if len(text) <= _MAX_NAME_LENGTH else f"{text[:_MAX_NAME_LENGTH]}..."


def suggest_columns(path: Path) -> tuple[dict[str, Column], list[str], bool]:
    """Suggests columns from the first line of a file.

    Returns:
      (columns by role, as far as their names are recognized; the names or first cells of all
      columns; whether there is a header).

    Raises:
      DataError: the file cannot be read or has no columns.
    """
    sample = _read_sample(Path(path))
    header = _first_row(sample)
    if len(header) < 2:
        raise DataError(_describe_unknown(sample, None))
    has_header = not _is_data(header)
    roles = _single_roles(header) if has_header else {}
    found: dict[str, Column] = {role: header[n].strip() for role, n in roles.items()
                                if role in COLUMN_KEYS}
    return found, [cell.strip() for cell in header], has_header


def _is_data(cells: Sequence[str]) -> bool:
    """Whether a line is data, not a header: it has a number or a date."""
    return any(parse_number(cell) is not None or looks_like_date(cell) for cell in cells)


def _first_row(sample: _Sample) -> list[str]:
    """Returns the cells of the first line, split by the separator that yields the most cells."""
    rows = [sample.rows(separator)[0] for separator in _SEPARATORS]
    return max((found[0] for found in rows if found), key=len, default=[])


def _describe_unknown(sample: _Sample, columns: Mapping[str, Column] | None) -> str:
    """Returns a one-line error with the columns of a file and the required track file entry."""
    header = _first_row(sample)
    shown = ", ".join(map(_shorten, header[:_MAX_NAMES_SHOWN]))
    shown += f" and {len(header) - _MAX_NAMES_SHOWN} more" * (len(header) > _MAX_NAMES_SHOWN)
    if columns:
        names = {cell.strip() for cell in header}
        wanted = [str(name) for name in columns.values() if name is not None and name not in names]
        return (
            f"{sample.path} has no column {' and no column '.join(wanted)}: its first line has "
            f"{shown or 'nothing'} (separators are '::', tabs, commas and semicolons; "
            "numbers are positions in a file without a header)"
        )
    if len(header) < 2:
        return (
            f"{sample.path} is not a ratings file: expected lines of user, item, rating and "
            "timestamp, separated by '::', tabs, commas or semicolons"
        )
    if _is_data(header):
        example = "{user: 1, item: 2, timestamp: 4}, by position, or timestamp: null"
        return (
            f"{sample.path}: its first line ({shown}) is neither a header nor the four numbers "
            "user, item, rating and timestamp; assign the columns in the track file, as in "
            f"dataset.columns: {example} if there are no times"
        )
    roles = _single_roles(header)
    for role, several in _find_roles(header).items():
        if len(several) > 1 and role in COLUMN_KEYS:
            shown += f"; {' and '.join(_shorten(header[n]) for n in several)} may both be the {role}"
    names = {key: _shorten(header[roles[key]]) if key in roles else "NAME" for key in COLUMN_KEYS}
    example = ", ".join(f"{key}: {name}" for key, name in names.items())
    return (
        f"{sample.path}: its columns are {shown}, and the names do not identify user, item and "
        f"time; assign them in the track file, as in dataset.columns: {{{example}}}, or timestamp: "
        "null if there are no times"
    )
