"""Published splits in every form give the same split; defects are reported in one line."""

from __future__ import annotations

import numpy as np
import pytest

from reference_model.base.errors import DataError
from reference_model.data.published_splits import (
    ENDINGS,
    NPZ_ARRAYS,
    read_published_split,
    resolve_published_split,
)
from reference_model.data.split import Split


def small_split() -> Split:
    users, items = [0, 0, 0, 1, 1, 2], [0, 1, 4, 1, 2, 3]
    return Split(
        3,
        6,
        np.array(users, np.int32),
        np.array(items, np.int32),
        np.array([5, 0, 1], np.int32),
        np.array([[2, 3], [0, 4], [0, 5]], np.int32),
    )


def published_split(path) -> Split:
    return read_published_split(resolve_published_split(path))[0]


def write_mlperf_form(folder, split, ending=ENDINGS[0]):
    stem = str(folder / "ml-x")
    pairs = list(zip(split.train_user, split.train_item))[::-1]
    order = range(split.num_users)[::-1]
    with open(stem + ending[0], "w") as file:
        file.writelines(f"{u}\t{i}\t1\n" for u, i in pairs)
    with open(stem + ending[1], "w") as file:
        file.writelines(f"{u}\t{split.test_item[u]}\t1\n" for u in order)
    with open(stem + ending[2], "w") as file:
        file.writelines("\t".join(map(str, split.eval_negatives[u])) + "\n" for u in order)
    return folder


def write_paper_form(folder, split):
    write_mlperf_form(folder, split, ENDINGS[1])
    path = folder / "ml-x.test.negative"
    heads = [f"({u},{split.test_item[u]})" for u in range(split.num_users)[::-1]]
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{h}\t{line}\n" for h, line in zip(heads, lines)))
    return folder


def write_npz(folder, split):
    np.savez(
        folder / "split.npz",
        train_user=split.train_user.astype(np.uint16),
        train_item=split.train_item.astype(np.uint16),
        test_user=np.arange(split.num_users),
        test_item=split.test_item,
        test_negative=split.eval_negatives,
    )
    return folder


WRITERS = [write_mlperf_form, write_paper_form, write_npz]


@pytest.mark.parametrize("writer", WRITERS)
def test_each_published_form_gives_the_same_split(tmp_path, writer):
    assert published_split(writer(tmp_path, small_split())).digest == small_split().digest


@pytest.mark.parametrize("writer", WRITERS)
def test_any_of_its_files_identifies_a_published_split(tmp_path, writer):
    for path in sorted(writer(tmp_path, small_split()).iterdir()):
        assert published_split(path).digest == small_split().digest


def test_a_negative_equal_to_the_held_out_item_stays(tmp_path):
    split = small_split()
    split.eval_negatives[1] = [0, 0]
    assert published_split(write_paper_form(tmp_path, split)).eval_negatives[1].tolist() == [0, 0]


def test_bad_training_rows_are_counted(tmp_path):
    write_paper_form(tmp_path, small_split())
    path = tmp_path / "ml-x.train.rating"
    path.write_text(path.read_text() + "0\tx\t1\n0\t0\t1\n")
    split, report = read_published_split(resolve_published_split(tmp_path))
    assert split.digest == small_split().digest
    assert {k: v.count for k, v in report.bad.items()} == {
        "text where a number belongs": 1,
        "duplicate pairs": 1,
    }


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("test.negative", lambda text: text.replace("(1,0)", "(1,1)"), "line 2"),
        ("test.negative", lambda text: text.replace("\t4\n", "\n"), "line 2"),
        ("test.negative", lambda text: text.replace("\t4\n", "\tx\n"), "line 2"),
        ("test.negative", lambda text: text.replace("\t4\n", "\t1\n"), "training positives"),
        ("test.negative", lambda text: "", "no negatives"),
        ("test.rating", lambda text: text.replace("1\t0", "1\tx"), "line 2"),
        ("test.rating", lambda text: text.replace("2\t1\t1\n", ""), "3 lines for the 2"),
        ("train.rating", lambda text: text + "7\t0\t1\n", "one for each of the 8 users"),
        ("train.rating", lambda text: text + "1\t0\t1\n", "also training positives"),
        ("train.rating", lambda text: "", "no pairs"),
    ],
)
def test_a_defect_of_a_published_split_is_named(tmp_path, name, change, message):
    write_paper_form(tmp_path, small_split())
    path = tmp_path / f"ml-x.{name}"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message) as error:
        published_split(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "arrays",
    [
        {"train_user": np.zeros(3, int)},
        {name: np.zeros(2) for name in NPZ_ARRAYS},
    ],
)
def test_an_npz_that_is_no_split_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError):
        published_split(tmp_path / "x.npz")


def test_a_pickle_in_an_npz_is_never_loaded(tmp_path):
    arrays = {name: np.array([{}], dtype=object) for name in NPZ_ARRAYS}
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match="cannot be read"):
        published_split(tmp_path / "x.npz")


# --- the paper's split --------------------------------------------------------


def test_the_paper_split_has_its_published_counts(shared_dir):
    split = published_split(shared_dir / "data" / "ml-1m-ncf-split.npz")
    assert (split.num_users, split.num_items, split.num_positives) == (6040, 3706, 994_169)
    assert split.eval_negatives.shape == (6040, 99)
    assert (split.eval_negatives == split.test_item[:, None]).sum() == 156


def test_the_paper_split_is_the_same_from_the_authors_files(shared_dir, tmp_path):
    split = published_split(shared_dir / "data" / "ml-1m-ncf-split.npz")
    assert published_split(write_paper_form(tmp_path, split)).digest == split.digest
