"""Ratings files of every known format give the same arrays; bad rows are reported."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_model.base.errors import DataError
from reference_model.ratings import delimited_text
from reference_model.ratings.reader import read_ratings
from reference_model.data.split import leave_one_out

ROWS = [(7, 30, 4.5, 100), (2, 9, 3, 105), (7, 9, 1, 90), (2, 30, 5, 120), (11, 9, 2, 1)]
FORMATS = {
    "ratings.dat": ("", "{}::{}::{}::{}\n"),
    "u.data": ("", "{}\t{}\t{}\t{}\n"),
    "ratings.csv": ("userId,movieId,rating,timestamp\n", "{},{},{},{}\n"),
    "x.inter": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n",
        "{}\t{}\t{}\t{}\n",
    ),
}
BAD_ROWS = {
    "missing columns": "5,6,1\n",
    "text where a number belongs": "5,six,1,100\n",
    "negative ids": "-5,6,1,100\n",
}


def write(path, rows=ROWS, kind=None):
    header, line = FORMATS[kind or path.name]
    path.write_text(header + "".join(line.format(*row) for row in rows))
    return path


def bad_of(ratings):
    return {k: dataclasses.astuple(v) for k, v in ratings.report.bad.items()
            if not k.startswith("users with")}


# --- formats ----------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_the_same_indices_by_first_appearance(tmp_path, name):
    ratings = read_ratings(write(tmp_path / name))
    assert ratings.user.tolist() == [0, 1, 0, 1, 2]
    assert ratings.item.tolist() == [0, 1, 1, 0, 1]
    assert ratings.timestamp.tolist() == [100, 105, 90, 120, 1]
    assert ratings.report.rows == 5


@pytest.mark.parametrize("name", FORMATS)
def test_the_name_of_the_file_does_not_matter(tmp_path, name):
    assert len(read_ratings(write(tmp_path / "anything", kind=name)).user) == 5


def test_windows_line_ends_byte_order_mark_blank_lines_and_a_missing_last_newline(tmp_path):
    path = tmp_path / "ratings.csv"
    text = "\ufeffuserId,movieId,rating,timestamp\r\n1,2,3,4\r\n\r\n1,3,3.5,5\r\n2,2,1,6"
    path.write_bytes(text.encode())
    ratings = read_ratings(path)
    assert ratings.user.tolist() == [0, 0, 1] and ratings.timestamp.tolist() == [4, 5, 6]
    assert bad_of(ratings) == {}


def test_columns_are_found_by_the_header_not_by_position(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("timestamp,item_id,extra,user_id\n4,30,x,7\n5,31,y,7\n")
    ratings = read_ratings(path)
    assert ratings.user.tolist() == [0, 0] and ratings.item.tolist() == [0, 1]
    assert ratings.timestamp.tolist() == [4, 5]


def test_tokens_may_be_titles_with_quotes_commas_and_accents(tmp_path):
    path = tmp_path / "ml.inter"
    titles = ['"Great" Cats (1998)', "Bug's Life, A (1998)", "Misérables, Les", "NA", "null", '"']
    rows = "".join(f"1m_{k}\t{title}\t5\t{k}\r\n" for k, title in enumerate(titles))
    path.write_bytes((FORMATS["x.inter"][0].replace("\n", "\r\n") + rows).encode("utf-8"))
    ratings = read_ratings(path)
    assert ratings.item.tolist() == list(range(len(titles)))
    assert bad_of(ratings) == {}


def test_an_inter_file_without_ratings_is_implicit_feedback(tmp_path):
    path = tmp_path / "x.inter"
    path.write_text("user_id:token\titem_id:token\ttimestamp:float\na\tb\t3\na\tc\t4.0\n")
    assert read_ratings(path).timestamp.tolist() == [3, 4]


# --- bad rows -----------------------------------------------------------------


@pytest.mark.parametrize("reason", BAD_ROWS)
@pytest.mark.parametrize("block", [40, 1 << 20])
def test_bad_rows_are_left_out_counted_and_the_first_line_is_named(
    tmp_path, monkeypatch, reason, block
):
    monkeypatch.setattr(delimited_text, "CHUNK_ROWS", block)
    good = [f"1,{k},5,{k}\n" for k in range(1, 31)]
    lines = good[:10] + [BAD_ROWS[reason]] + good[10:20] + [BAD_ROWS[reason]] + good[20:]
    path = tmp_path / "ratings.csv"
    path.write_text(FORMATS["ratings.csv"][0] + "".join(lines))
    ratings = read_ratings(path)
    assert bad_of(ratings) == {reason: (2, 12)}
    assert ratings.item.tolist() == list(range(30))
    assert ratings.report.rows == 32
    assert any(f"2 rows left out: {reason} (first in line 12)" in n for n in ratings.report.notices())


@pytest.mark.parametrize(
    "cell", ["", " ", "nan", "inf", "x", "1_0", "0x1", "99999999999999999999", "4.5", "1\r2"]
)
def test_an_id_that_is_not_a_whole_number_is_a_bad_row(tmp_path, cell):
    path = tmp_path / "ratings.csv"
    rows = ["1,2,3,4\n", f"1,{cell},3,4\n", "1,3,3,4\n", "1,4,3,4\n"]
    path.write_text(FORMATS["ratings.csv"][0] + "".join(rows), newline="")
    ratings = read_ratings(path)
    assert len(ratings.user) == 3
    assert [entry[1] for entry in bad_of(ratings).values()] == [3]


@pytest.mark.parametrize("cell", ["5", "5.0", " 5 ", "+5", "5e0"])
@pytest.mark.parametrize("careful", [False, True])
def test_both_readers_take_the_same_spellings_of_a_number(tmp_path, cell, careful):
    path = tmp_path / "ratings.csv"
    broken = "1,x,3,4\n" if careful else ""
    path.write_text(FORMATS["ratings.csv"][0] + f"1,5,3,4\n2,{cell},3,4\n3,7,3,4\n" + broken)
    assert read_ratings(path).item.tolist() == [0, 0, 1]


def test_of_duplicate_pairs_the_earliest_time_stays_and_then_the_first_row(tmp_path):
    rows = [(1, 1, 5, 10), (1, 2, 5, 11), (1, 1, 4, 12), (1, 3, 4, 13), (1, 1, 4, 14)]
    ratings = read_ratings(write(tmp_path / "u.data", rows))
    assert ratings.timestamp.tolist() == [10, 11, 13]
    assert bad_of(ratings) == {"duplicate pairs": (2, 3)}
    ratings = read_ratings(write(tmp_path / "u.data", rows[::-1]))
    assert ratings.timestamp.tolist() == [13, 11, 10]
    assert bad_of(ratings) == {"duplicate pairs": (2, 1)}
    same_time = [(1, 1, 5, 10), (1, 2, 5, 10), (1, 1, 4, 10)]
    ratings = read_ratings(write(tmp_path / "u.data", same_time))
    assert bad_of(ratings) == {"duplicate pairs": (1, 3)}


def test_users_with_few_ratings_are_counted_but_kept_for_the_split(tmp_path):
    rows = [(1, k, 5, k) for k in range(20)] + [(2, k, 5, k) for k in range(19)]
    ratings = read_ratings(write(tmp_path / "ratings.csv", rows))
    entry = ratings.report.bad["users with fewer than 20 ratings"]
    assert (entry.count, entry.first_line) == (19, 22)
    assert len(ratings.user) == 39
    assert leave_one_out(ratings.user, ratings.item, ratings.timestamp).num_users == 1


def test_a_row_cut_off_at_the_end_of_the_file_is_counted(tmp_path):
    path = write(tmp_path / "ratings.dat")
    path.write_text(path.read_text() + "8::12")
    assert bad_of(read_ratings(path)) == {"missing columns": (1, 6)}


def test_a_single_colon_does_not_pass_for_a_separator(tmp_path):
    path = write(tmp_path / "ratings.dat")
    path.write_text(path.read_text() + "1:2:3:::5::6\n")
    assert read_ratings(path).report.rows == 6
    assert len(read_ratings(path).user) == 5


CELLS = st.sampled_from(["1", "2", "33", "-4", "", "x", "7.0", "1:2", "a b"])
LINES = st.lists(CELLS, min_size=0, max_size=5).map(",".join)


@settings(deadline=None, max_examples=25)
@given(lines=st.lists(LINES, max_size=30), block=st.integers(1, 12))
def test_the_block_size_does_not_change_the_result(tmp_path_factory, lines, block):
    path = tmp_path_factory.mktemp("r") / "ratings.csv"
    good = "".join(f"{k},{k},1,1\n" for k in range(100, 140))
    path.write_text(FORMATS["ratings.csv"][0] + good + "\n".join(lines))
    whole, patch = read_ratings(path), pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(delimited_text, "CHUNK_ROWS", block)
        parts = read_ratings(path)
    assert whole.report == parts.report
    for name in ("user", "item", "timestamp"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"<html><body>Not found</body></html>\n" * 30,
        b'{"a": 1, "b": [1, 2, 3, 4]}\n',
        b"PK\x03\x04" + bytes(range(256)) * 20,
        b"1 2 3 4\n" * 30,
        b"1,2\n" * 30,
        b"userId,movieId,rating,timestamp\n",
        b"userId,movieId,rating,timestamp\n" + b"1,a,b,c\n" * 30,
        b"userId,movieId,rating,timestamp\n1,2,3,4\n" + b"a,b,c,d\n" * 30,
        b"user,item\n1,2\n",
    ],
)
def test_a_file_without_ratings_is_refused_with_a_one_line_error(tmp_path, content):
    path = tmp_path / "ratings.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_ratings(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["absent.csv", "."])
def test_a_file_that_cannot_be_opened_gives_a_one_line_error(tmp_path, name):
    with pytest.raises(DataError, match="cannot read"):
        read_ratings(tmp_path / name)



# --- real data ------------------------------------------------------------


def split_of(path):
    ratings = read_ratings(path)
    return leave_one_out(ratings.user, ratings.item, ratings.timestamp), ratings


@pytest.mark.parametrize(
    ("name", "users", "items", "rows"),
    [("ml_100k_file", 943, 1682, 100_000), ("ml_1m_file", 6040, 3706, 1_000_209)],
)
def test_the_real_files_have_their_published_counts(request, name, users, items, rows):
    split, ratings = split_of(request.getfixturevalue(name))
    assert (split.num_users, split.num_items, ratings.report.rows) == (users, items, rows)
    assert split.num_positives == rows - users
    assert ratings.report.bad == {}


def test_ml_1m_begins_as_the_official_file_does(ml_1m_file):
    with ml_1m_file.open("rb") as file:
        lines = [file.readline() for _ in range(2)]
    if ml_1m_file.suffix == ".inter":
        assert lines[1].startswith(b"1m_1\tOne Flew Over the Cuckoo's Nest (1975)\t5\t978300760")
    else:
        assert lines[0] == b"1::1193::5::978300760\n"
    assert read_ratings(ml_1m_file).timestamp[0] == 978300760


@pytest.mark.parametrize(
    ("fixture", "layouts"),
    [("ml_100k_file", ["u.data", "ratings.csv", "x.inter"]), ("ml_1m_file", ["ratings.dat"])],
)
def test_the_digest_is_the_same_from_the_official_layout(request, tmp_path, fixture, layouts):
    """Rebuilds the official file from the packaged copy: the same rows with other ids."""
    split, ratings = split_of(request.getfixturevalue(fixture))
    # Official ids are whole numbers in no particular order.
    user = np.random.default_rng(0).permutation(split.num_users)[ratings.user] + 1
    item = np.random.default_rng(1).permutation(2 * split.num_items)[ratings.item] + 1
    columns = (user.tolist(), item.tolist(), ratings.timestamp.tolist())
    for name in layouts:
        write(tmp_path / name, [(u, i, 4, t) for u, i, t in zip(*columns)])
        assert split_of(tmp_path / name)[0].digest == split.digest
