"""Splits that others have made and published: training pairs, held-out items, negatives.

Three forms: the first ancestor's `<name>-train-ratings.csv`,
`-test-ratings.csv` and `-test-negative.csv` (tab-separated, no header; line k of
the last belongs to line k of the second); the NCF paper's `<name>.train.rating`,
`.test.rating` and `.test.negative` (each line of the last begins with the pair
it belongs to); and an npz with the arrays `train_user`, `train_item`,
`test_user`, `test_item` and `test_negative`. Ids are taken as they stand: they
are indices already, and negatives are kept as published, also where one equals
the held-out item (the evaluation masks it).
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reference_model.base.errors import DataError
from reference_model.base.progress import Progress, no_progress
from reference_model.data.delimited_text import DUPLICATE, Layout, Tally, read_blocks
from reference_model.data.ratings import ReadReport
from reference_model.data.split import Split

NPZ_ARRAYS = ("train_user", "train_item", "test_user", "test_item", "test_negative")
# The endings of one set of files: training pairs, held-out pairs, negatives.
ENDINGS = (
    ("-train-ratings.csv", "-test-ratings.csv", "-test-negative.csv"),
    (".train.rating", ".test.rating", ".test.negative"),
)
_PAIR = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*\)")
# An id is below 2^31; what is much longer need not be read as a number.
_MOST_DIGITS = 18


@dataclass(frozen=True)
class GivenSplitFiles:
    """One npz, or the three files in the order of ENDINGS."""

    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """What the files' names have in common, e.g. `ml-1m`."""
        first = self.files[0].name
        for endings in ENDINGS:
            first = first.removesuffix(endings[0])
        return first.removesuffix(".npz")


def find_given_splits(folder: Path) -> list[GivenSplitFiles]:
    """The given splits that lie in a folder, by name; none if it is no folder.

    An npz counts only if it holds the arrays of a split.
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
                    found.append(GivenSplitFiles((path, *rest)))
        if path.suffix == ".npz" and _holds_arrays(path):
            found.append(GivenSplitFiles((path,)))
    return found


def _holds_arrays(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{name}.npy" for name in NPZ_ARRAYS} <= set(archive.namelist())
    except Exception:  # zipfile has many ways to say that it is none
        return False


def given_split_files(path: Path | str) -> GivenSplitFiles:
    """The files of the split at `path`: an npz, one of three files, or a folder.

    Raises DataError where there is none, or more than one in a folder.
    """
    path = Path(path)
    if path.is_dir():
        found = find_given_splits(path)
        if len(found) == 1:
            return found[0]
        what = "no split" if not found else "more than one split"
        names = ", ".join(files.files[0].name for files in found)
        raise DataError(
            f"{path} holds {what}{': ' + names if names else ''}; expected one npz, or "
            f"three files <name>{', <name>'.join(ENDINGS[1])} (or {ENDINGS[0][0]} ...)"
        )
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    if path.suffix == ".npz":
        return GivenSplitFiles((path,))
    for endings in ENDINGS:
        for ending in endings:
            if path.name.endswith(ending):
                stem = path.name.removesuffix(ending)
                return GivenSplitFiles(tuple(path.with_name(stem + e) for e in endings))
    raise DataError(
        f"{path} is not part of a published split: expected an npz, or a name that ends "
        f"in {' or '.join(ENDINGS[0] + ENDINGS[1])}"
    )


def read_given_split(path: Path | str, progress: Progress = no_progress) -> Split:
    """The published split at `path` (a file or a folder). Raises DataError."""
    return read_given_split_files(given_split_files(path), progress)[0]


def read_given_split_files(
    given: GivenSplitFiles, progress: Progress = no_progress
) -> tuple[Split, ReadReport]:
    """The split and what was read. Raises DataError, one line, for any defect."""
    if len(given.files) == 1:
        arrays, tally = _read_npz(given.files[0]), Tally()
        tally.rows = len(arrays["train_user"])
    else:
        arrays, tally = _read_files(given.files, progress)
    split = _make_split(given.files[0], arrays, tally)
    return split, ReadReport(given.files[0].name, tally.rows, tally.bad)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in NPZ_ARRAYS}
    except KeyError as error:
        raise DataError(
            f"{path} is not a split: array {error.args[0]} is missing; expected "
            f"{', '.join(NPZ_ARRAYS)}"
        ) from error
    except Exception as error:  # zipfile and numpy have many ways to say that it is damaged
        reason = " ".join(f"{error or type(error).__name__}".split())
        raise DataError(f"{path} cannot be read as an npz of arrays: {reason}") from error
    for name, array in arrays.items():
        dimensions = 2 if name == "test_negative" else 1
        if array.dtype.kind not in "iu" or array.ndim != dimensions:
            raise DataError(
                f"{path}: array {name} is {array.dtype} {list(array.shape)}; expected "
                f"whole numbers with {dimensions} dimension(s)"
            )
        arrays[name] = array.astype(np.int64)
    return arrays


def _read_files(
    files: tuple[Path, ...], progress: Progress
) -> tuple[dict[str, np.ndarray], Tally]:
    train_path, test_path, negative_path = files
    for path in files:
        if not path.is_file():
            raise DataError(f"{path} does not exist; a published split is three files")
    tally = Tally()
    train_user, train_item = _read_pairs(train_path, tally, progress)
    test_tally = Tally()
    test_user, test_item = _read_pairs(test_path, test_tally, progress)
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
                f"({pairs[differ[0], 0]},{pairs[differ[0], 1]}) is not that of the same "
                f"line of {test_path.name}"
            )
    columns = (train_user, train_item, test_user, test_item, negatives)
    return dict(zip(NPZ_ARRAYS, columns)), tally


def _read_pairs(
    path: Path, tally: Tally, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """User and item columns, int64, of a tab-separated file without header."""
    layout = Layout("\t", rating=None, timestamp=None)
    blocks = list(read_blocks(path, layout, tally, progress))
    if not tally.rows:
        raise DataError(f"{path} holds no pairs")
    user = np.concatenate([block.user for block in blocks])
    return user, np.concatenate([block.item for block in blocks])


def _read_negatives(path: Path) -> tuple[np.ndarray | None, np.ndarray]:
    """The leading pairs int64 [L, 2] or None, and the negatives int64 [L, N]."""
    try:
        lines = path.read_text(encoding="latin-1").split("\n")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    pairs, rows = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        cells = line.strip().split("\t")
        pair = _PAIR.fullmatch(cells[0])
        if max(map(len, [*cells[1:], *(pair.groups() if pair else cells[:1])])) > _MOST_DIGITS:
            raise DataError(f"{path}: line {number}: a number that no id can be")
        if pair:
            pairs.append((int(pair[1]), int(pair[2])))
            del cells[0]
        if not all(cell.isdecimal() for cell in cells):
            raise DataError(f"{path}: line {number}: text where a number belongs")
        rows.append([int(cell) for cell in cells])
        if len(rows[-1]) != len(rows[0]) or bool(pairs) != bool(pair):
            raise DataError(
                f"{path}: line {number}: {len(rows[-1])} negatives; the first line has "
                f"{len(rows[0])}, and all must be alike"
            )
    if not rows or not rows[0]:
        raise DataError(f"{path} holds no negatives")
    return (np.array(pairs) if pairs else None), np.array(rows, dtype=np.int64)


def _make_split(path: Path, arrays: dict[str, np.ndarray], tally: Tally) -> Split:
    """Checks the ids against each other and puts users in order."""
    train_user, train_item = arrays["train_user"], arrays["train_item"]
    test_user, test_item, negatives = (arrays[name] for name in NPZ_ARRAYS[2:])
    for name, array in arrays.items():
        if not array.size or array.min() < 0 or array.max() >= 2**31 - 1:
            raise DataError(f"{path}: {name} is empty or holds an id outside 0 to 2^31 - 2")
    if len(train_user) != len(train_item) or not len(test_user) == len(test_item) == len(negatives):
        raise DataError(f"{path}: the columns of the split differ in length")
    num_users = int(max(train_user.max(), test_user.max())) + 1
    if len(test_user) != num_users or len(np.unique(test_user)) != num_users:
        raise DataError(
            f"{path}: {len(np.unique(test_user))} users have a held-out item in "
            f"{len(test_user)} lines; it must be one for each of the {num_users} users"
        )
    num_items = int(max(train_item.max(), test_item.max(), negatives.max())) + 1
    key, first = np.unique(train_user * num_items + train_item, return_index=True)
    if len(key) < len(train_user):
        repeated = np.setdiff1d(np.arange(len(train_user)), first)
        tally.add(DUPLICATE, int(repeated[0]) + 1, len(repeated))
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
    _refuse_positive_negatives(path, key, split)
    return split


def _refuse_positive_negatives(path: Path, train_keys: np.ndarray, split: Split) -> None:
    """`train_keys`: sorted int64 user * num_items + item."""
    users = np.arange(split.num_users, dtype=np.int64)[:, None]
    wanted = (users * split.num_items + split.eval_negatives).ravel()
    place = np.minimum(np.searchsorted(train_keys, wanted), len(train_keys) - 1)
    hits = np.flatnonzero(train_keys[place] == wanted)
    if len(hits):
        user = int(hits[0]) // split.eval_negatives.shape[1]
        raise DataError(
            f"{path}: {len(hits)} evaluation negatives are training positives of their "
            f"user (first: user {user}, item {int(wanted[hits[0]]) % split.num_items})"
        )
