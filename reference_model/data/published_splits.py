"""Reads published splits: training pairs, held-out items and evaluation negatives.

A published split is a fixed split from another source, for example the authors of a paper.

There are three forms:

* `<name>-train-ratings.csv`, `-test-ratings.csv` and `-test-negative.csv` of the MLPerf v0.5
  reference: tab-separated, without header; line k of the third file contains the negatives for
  the held-out pair in line k of the second file;
* `<name>.train.rating`, `.test.rating` and `.test.negative` of the NCF paper: the same, but each
  line of the third file starts with its held-out pair;
* an npz with the arrays `train_user`, `train_item`, `test_user`, `test_item` and
  `test_negative`.

The ids in the files are used as indices. Negatives are kept as published, including those equal
to the held-out item, which the evaluation masks.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reference_model.base.errors import DataError
from reference_model.base.progress import Progress, no_progress
from reference_model.data.split import Split
from reference_model.ratings.cells import DUPLICATE, Tally
from reference_model.ratings.delimited_text import Layout, read_blocks
from reference_model.ratings.reader import ReadReport

NPZ_ARRAYS = ("train_user", "train_item", "test_user", "test_item", "test_negative")
# The suffixes of the three files of each text form: training pairs, held-out pairs, negatives.
ENDINGS = (
    ("-train-ratings.csv", "-test-ratings.csv", "-test-negative.csv"),
    (".train.rating", ".test.rating", ".test.negative"),
)
_PAIR_PATTERN = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*\)")
# Ids are below 2^31. Longer digit strings are rejected before conversion, because the number may
# not fit into int64.
_MAX_DIGITS = 18


@dataclass(frozen=True)
class PublishedSplitFiles:
    """The files of one published split.

    Attributes:
      files: one npz, or the three text files in the order of ENDINGS.
    """

    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The common prefix of the file names, e.g. `ml-1m`."""
        first = self.files[0].name
        for endings in ENDINGS:
            first = first.removesuffix(endings[0])
        return first.removesuffix(".npz")


def find_published_splits(folder: Path) -> list[PublishedSplitFiles]:
    """Finds the published splits in a folder, in the order of the file names.

    An npz must contain the arrays of a split, and of text files all three must exist. If
    `folder` is not a folder, the list is empty.
    """
    found = []
    if not folder.is_dir():
        return []
    for path in sorted(folder.iterdir()):
        for train, test, negative in ENDINGS:
            if path.name.endswith(train):
                stem = path.name.removesuffix(train)
                rest = [path.with_name(stem + ending) for ending in (test, negative)]
                if all(other.is_file() for other in rest):
                    found.append(PublishedSplitFiles((path, *rest)))
        if path.suffix == ".npz" and _has_split_arrays(path):
            found.append(PublishedSplitFiles((path,)))
    return found


def _has_split_arrays(path: Path) -> bool:
    """Whether an npz contains all arrays of a split, by name."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{name}.npy" for name in NPZ_ARRAYS} <= set(archive.namelist())
    except Exception:  # zipfile raises various errors for files that are not archives
        return False


def resolve_published_split(path: Path | str) -> PublishedSplitFiles:
    """Finds the files of the split that `path` belongs to.

    Args:
      path: an npz, one of the three text files, or a folder with one split.

    Raises:
      DataError: there is no split, or the folder contains more than one.
    """
    path = Path(path)
    if path.is_dir():
        found = find_published_splits(path)
        if len(found) == 1:
            return found[0]
        problem = "no split" if not found else "more than one split"
        names = ", ".join(files.files[0].name for files in found)
        raise DataError(
            f"{path} contains {problem}{': ' + names if names else ''}; expected one npz, or "
            f"three files <name>{', <name>'.join(ENDINGS[1])} (or {ENDINGS[0][0]} ...)"
        )
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    if path.suffix == ".npz":
        return PublishedSplitFiles((path,))
    for endings in ENDINGS:
        for ending in endings:
            if path.name.endswith(ending):
                stem = path.name.removesuffix(ending)
                return PublishedSplitFiles(tuple(path.with_name(stem + e) for e in endings))
    raise DataError(
        f"{path} is not part of a published split: expected an npz, or a name that ends "
        f"in {' or '.join(ENDINGS[0] + ENDINGS[1])}"
    )


def read_published_split(
    published: PublishedSplitFiles, progress: Progress = no_progress
) -> tuple[Split, ReadReport]:
    """Reads and checks a published split.

    Args:
      published: the files of the split.
      progress: receives the bytes read so far.

    Returns:
      The split, and a report on bad training pairs, which are excluded from the split.

    Raises:
      DataError: the split has a defect other than bad training pairs; the message is one line.
    """
    if len(published.files) == 1:
        arrays, tally = _read_npz(published.files[0]), Tally()
        tally.rows = len(arrays["train_user"])
    else:
        arrays, tally = _read_text_files(published.files, progress)
    split = _make_split(published.files[0], arrays, tally)
    return split, ReadReport(published.files[0].name, tally.rows, tally.bad)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays NPZ_ARRAYS of an npz as int64; returns them by name."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in NPZ_ARRAYS}
    except KeyError as error:
        raise DataError(
            f"{path} is not a split: array {error.args[0]} is missing; expected "
            f"{', '.join(NPZ_ARRAYS)}"
        ) from error
    except Exception as error:  # zipfile and NumPy raise various errors for damaged files
        reason = " ".join(f"{error or type(error).__name__}".split())
        raise DataError(f"{path} cannot be read as an npz of arrays: {reason}") from error
    for name, array in arrays.items():
        dimensions = 2 if name == "test_negative" else 1
        if array.dtype.kind not in "iu" or array.ndim != dimensions:
            raise DataError(
                f"{path}: array {name} is {array.dtype} {list(array.shape)}; expected "
                f"a {dimensions}-dimensional array of whole numbers"
            )
        arrays[name] = array.astype(np.int64)
    return arrays


def _read_text_files(
    files: tuple[Path, ...], progress: Progress
) -> tuple[dict[str, np.ndarray], Tally]:
    """Reads the three text files; returns arrays as `_read_npz`, and a tally of bad rows."""
    train_path, test_path, negative_path = files
    for path in files:
        if not path.is_file():
            raise DataError(f"{path} does not exist; a published split has three files")
    tally = Tally()
    train_user, train_item = _read_pairs(train_path, tally, progress)
    test_tally = Tally()
    test_user, test_item = _read_pairs(test_path, test_tally, progress)
    # Bad training rows are dropped and counted. A bad held-out row is an error, because its user
    # would have no held-out item.
    for reason, entry in test_tally.bad.items():
        raise DataError(f"{test_path}: line {entry.first_line}: {reason}")
    pairs, negatives = _read_negatives(negative_path)
    if len(negatives) != len(test_user):
        raise DataError(
            f"{negative_path} has {len(negatives)} lines for the {len(test_user)} "
            f"held-out pairs of {test_path.name}"
        )
    if pairs is not None:
        differ = np.flatnonzero((pairs[:, 0] != test_user) | (pairs[:, 1] != test_item))
        if len(differ):
            raise DataError(
                f"{negative_path}: line {differ[0] + 1}: its pair "
                f"({pairs[differ[0], 0]},{pairs[differ[0], 1]}) differs from that in the same "
                f"line of {test_path.name}"
            )
    columns = (train_user, train_item, test_user, test_item, negatives)
    return dict(zip(NPZ_ARRAYS, columns)), tally


def _read_pairs(
    path: Path, tally: Tally, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Reads the user and item columns, int64, of a tab-separated file without header."""
    layout = Layout("\t", rating=None, timestamp=None, num_cells=_count_cells(path))
    blocks = list(read_blocks(path, layout, tally, progress))
    if not tally.rows:
        raise DataError(f"{path} contains no pairs")
    user = np.concatenate([block.user for block in blocks])
    return user, np.concatenate([block.item for block in blocks])


def _count_cells(path: Path) -> int:
    """Returns the number of cells of the first nonblank line."""
    try:
        with path.open("rb") as file:
            first = next((line for line in file if line.strip()), b"")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return max(first.count(b"\t") + 1, 2)


def _read_negatives(path: Path) -> tuple[np.ndarray | None, np.ndarray]:
    """Reads the leading pairs, int64 [L, 2] or None, and the negatives, int64 [L, N]."""
    try:
        lines = path.read_text(encoding="latin-1").split("\n")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    pairs, rows = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        cells = line.strip().split("\t")
        pair = _PAIR_PATTERN.fullmatch(cells[0])
        numbers = [*cells[1:], *(pair.groups() if pair else cells[:1])]
        if max(map(len, numbers)) > _MAX_DIGITS:
            raise DataError(f"{path}: line {number}: a number is too large for an id")
        if pair:
            pairs.append((int(pair[1]), int(pair[2])))
            del cells[0]
        if not all(cell.isdecimal() for cell in cells):
            raise DataError(f"{path}: line {number}: text where a number belongs")
        rows.append([int(cell) for cell in cells])
        # All lines must have the same number of negatives, and all or none must start with a pair.
        if len(rows[-1]) != len(rows[0]) or bool(pairs) != bool(pair):
            raise DataError(
                f"{path}: line {number}: number of negatives {len(rows[-1])}, in the first line "
                f"{len(rows[0])}; it must be the same, and all or no lines must start with a pair"
            )
    if not rows or not rows[0]:
        raise DataError(f"{path} contains no negatives")
    return (np.array(pairs) if pairs else None), np.array(rows, dtype=np.int64)


def _make_split(path: Path, arrays: dict[str, np.ndarray], tally: Tally) -> Split:
    """Checks the consistency of the arrays and builds the split.

    Duplicate training pairs are dropped and counted in `tally`.
    """
    train_user, train_item = arrays["train_user"], arrays["train_item"]
    test_user, test_item, negatives = (arrays[name] for name in NPZ_ARRAYS[2:])
    for name, array in arrays.items():
        if not array.size or array.min() < 0 or array.max() >= 2**31 - 1:
            raise DataError(f"{path}: {name} is empty or contains an id outside 0 to 2^31 - 2")
    if len(train_user) != len(train_item) or not len(test_user) == len(test_item) == len(negatives):
        raise DataError(f"{path}: the columns of the split differ in length")
    # Every user from 0 to the largest must have exactly one held-out item.
    num_users = int(max(train_user.max(), test_user.max())) + 1
    if len(test_user) != num_users or len(np.unique(test_user)) != num_users:
        raise DataError(
            f"{path}: {len(np.unique(test_user))} users have a held-out item in "
            f"{len(test_user)} lines; there must be one for each of the {num_users} users"
        )
    num_items = int(max(train_item.max(), test_item.max(), negatives.max())) + 1
    # Sort the training pairs and remove duplicates.
    key, first = np.unique(train_user * num_items + train_item, return_index=True)
    if len(key) < len(train_user):
        duplicates = np.setdiff1d(np.arange(len(train_user)), first)
        tally.add(DUPLICATE, int(duplicates[0]) + 1, len(duplicates))
    order = np.argsort(test_user)
    split = Split(
        num_users,
        num_items,
        (key // num_items).astype(np.int32),
        (key % num_items).astype(np.int32),
        test_item[order].astype(np.int32),
        negatives[order].astype(np.int32),
    )
    try:
        split.validate()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    _check_negatives(path, key, split)
    return split


def _check_negatives(path: Path, train_keys: np.ndarray, split: Split) -> None:
    """Raises DataError if an evaluation negative is a training positive of its user.

    Args:
      path: the path to report in the message.
      train_keys: int64, sorted, user * num_items + item of the training pairs.
      split: the split.
    """
    users = np.arange(split.num_users, dtype=np.int64)[:, None]
    keys = (users * split.num_items + split.eval_negatives).ravel()
    position = np.minimum(np.searchsorted(train_keys, keys), len(train_keys) - 1)
    hits = np.flatnonzero(train_keys[position] == keys)
    if len(hits):
        user = int(hits[0]) // split.eval_negatives.shape[1]
        raise DataError(
            f"{path}: evaluation negatives that are training positives of their user: {len(hits)} "
            f"(first: user {user}, item {int(keys[hits[0]]) % split.num_items})"
        )
