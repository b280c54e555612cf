"""The columns of a ratings file: layouts that are read unchanged, and layouts that are refused."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from reference_model.base.errors import DataError
from reference_model.ratings import delimited_text
from reference_model.ratings.reader import Ratings, read_ratings
from reference_model.data.split import leave_one_out

NAMED = {"user": "who", "item": "what", "timestamp": "when"}


def bad_of(ratings):
    """Returns number and first line of bad rows by reason, except users with few ratings."""
    return {reason: (entry.count, entry.first_line)
            for reason, entry in ratings.report.bad.items() if not reason.startswith("users with")}


def named(path, *rows, header="when\twhat\twho"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_header_with_other_names_is_read_by_the_names_that_the_track_gives(tmp_path):
    path = named(tmp_path / "x.tab", "100\t30\t7", "105\t9\t2", "90\t9\t7")
    ratings = read_ratings(path, columns=NAMED)
    assert ratings.user.tolist() == [0, 1, 0] and ratings.item.tolist() == [0, 1, 1]
    assert ratings.timestamp.tolist() == [100, 105, 90]
    with pytest.raises(DataError, match="its columns are when, what, who,.*dataset.columns"):
        read_ratings(path)


def test_ids_under_given_names_are_text(tmp_path):
    text = named(tmp_path / "a", "1\tfilm\tann", "2\tbook\tbob", "3\t9\tann")
    assert read_ratings(text, columns=NAMED).item.tolist() == [0, 1, 2]
    # A second header line, as in Orange's .tab files, is left out and reported.
    numbers = named(tmp_path / "b", "continuous\tcontinuous\tcontinuous", "1\t8\t3", "2\t9\t3")
    assert read_ratings(numbers, columns=NAMED).item.tolist() == [0, 1]
    assert bad_of(read_ratings(numbers, columns=NAMED)) == {"text where a number belongs": (1, 2)}


def test_a_file_without_timestamps_is_read_only_if_the_track_says_so(tmp_path):
    path = named(tmp_path / "r.csv", "7,30", "2,9", header="user,item")
    columns = {"user": "user", "item": "item", "timestamp": None}
    assert read_ratings(path, columns=columns).timestamp.tolist() == [0, 0]
    with pytest.raises(DataError, match="timestamp: null"):
        read_ratings(path)


@pytest.mark.parametrize("header", ["when\twhat\tsomebody", "", "when|what|who"])
def test_a_header_without_the_given_names_is_refused_with_a_remedy(tmp_path, header):
    path = named(tmp_path / "x.tab", "1\t2\t3", header=header)
    with pytest.raises(DataError, match="no column who") as found:
        read_ratings(path, columns=NAMED)
    assert "\n" not in str(found.value)


# --- files that are refused, and files that are read unchanged -------------------------------


HEADERS = {
    "Goodreads": "user_id,book_id,is_read,rating,is_reviewed",
    "HetRec": "userID\tmovieID\trating\tdate_day\tdate_month\tdate_year",
    "KuaiRec without its timestamp": "user_id,video_id,play_duration,video_duration,time,date",
    "Book-Crossing": '"User-ID";"ISBN";"Book-Rating"',
    "five numbers": "7\t30\t4\t100\t1",
    "three numbers": "7,30,4",
    "Last.fm 1K, no header": "user_000001\t2009-05-04T23:08:57Z\tf1b1\tAn Artist",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_first_line_that_does_not_say_what_its_columns_are_is_refused(tmp_path, name):
    """No position is guessed; the message lists the columns and the track file keys."""
    header = HEADERS[name]
    separator = next(c for c in "\t;," if c in header)
    rows = [separator.join(str(k + n) for n in range(len(header.split(separator))))
            for k in range(30)]
    with pytest.raises(DataError) as found:
        read_ratings(named(tmp_path / "x", *rows, header=header))
    message = str(found.value)
    assert header.split(separator)[0].strip('"') in message and "dataset.columns" in message
    assert "timestamp: null" in message and "\n" not in message


@pytest.mark.parametrize("header, user, item, time", [
    ("user_id,video_id,play_duration,time,date,timestamp,watch_ratio", 0, 1, 5),  # KuaiRec
    ("user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type", 0, 1, 5),  # Tmall
    ("reviewerID,asin,overall,unixReviewTime", 0, 1, 3),  # Amazon reviews
    ("rating,parent_asin,timestamp,user_id", 3, 1, 2)])
def test_a_header_whose_names_say_what_they_are_is_read(tmp_path, header, user, item, time):
    width = len(header.split(","))
    rows = [[f"{9 - k}{n}" for n in range(width)] for k in range(9)]
    for k, row in enumerate(rows):
        row[user] = "someone"
        row[time] = str(k)
    ratings = read_ratings(named(tmp_path / "x", *map(",".join, rows), header=header))
    assert ratings.timestamp.tolist() == list(range(9))
    assert ratings.user.tolist() == [0] * 9 and ratings.item.tolist() == list(range(9))


def test_a_file_without_header_is_read_by_the_positions_that_the_track_gives(tmp_path):
    """As in Amazon's "ratings only" files: item, user, rating, time."""
    path = named(tmp_path / "x", "B001,A9X,5.0,20", "B002,A9X,3.0,10", header="0001,A8X,1.0,30")
    ratings = read_ratings(path, columns={"user": 2, "item": 1, "timestamp": 4})
    assert ratings.user.tolist() == [0, 1, 1] and ratings.timestamp.tolist() == [30, 20, 10]
    with pytest.raises(DataError, match="its first line has 0001, A8X, 1.0, 30"):
        read_ratings(path, columns={"user": 2, "item": 1, "timestamp": 5})


def test_ids_are_text_unless_the_format_says_that_they_are_numbers(tmp_path):
    rows = ("1,001,5,1", "1,1,5,2", "1,1.0,5,3")
    text = named(tmp_path / "a", *rows, header="user,item,rating,timestamp")
    assert read_ratings(text).item.tolist() == [0, 1, 2]
    numbers = named(tmp_path / "b", *rows, header="userId,movieId,rating,timestamp")
    assert read_ratings(numbers).item.tolist() == [0]
    assert bad_of(read_ratings(numbers)) == {"duplicate pairs": (2, 3)}


@pytest.mark.parametrize("times, order", [
    (["1325376000123456789", "1325376000123456788", "7"], [2, 1, 0]),  # 19 digits
    (["10.5", "10.25", "9", "11"], [2, 1, 0, 3]),
    (["978300760.0", "978300759", "9.7e8"], [2, 1, 0]),
    (["2014-02-01", "2014-01-31T23:59:59Z", "2014-01-31 23:59:59.5+00:00"], [1, 2, 0]),
    (["2014-01-31T23:00:00-02:00", "2014-02-01T00:30:00Z"], [1, 0]),
    # More digits than float64 or microseconds can store.
    (["0.99999999999", "0.99999999998", "4e-7", "3e-7"], [3, 2, 1, 0]),
    (["1700000000123456.3", "1700000000123456.2"], [1, 0]),
    (["1325376000123456789.0", "1325376000123456788"], [1, 0]),
    (["9223372036854775807", "1.75", "1.5", "-0.5", "-0.75"], [4, 3, 2, 1, 0]),
    (["2020-01-01T00:00:00.000000002Z", "2020-01-01T00:00:00.000000001Z"], [1, 0])])
def test_times_of_any_form_keep_their_order_wherever_they_stand(tmp_path, times, order):
    late = 1500  # after the lines that are used to detect the layout
    filler = [f"u,f{k},{times[0]}" for k in range(late)]
    path = named(tmp_path / "x", *filler, *(f"v,{k},{t}" for k, t in enumerate(times)),
                 header="user,item,timestamp")
    found = read_ratings(path)
    assert np.argsort(found.timestamp[late:], kind="stable").tolist() == order
    assert bad_of(found) == {}


def test_whole_times_are_kept_as_they_are(tmp_path):
    path = named(tmp_path / "x", "u,a,1325376000123456789", "u,b,-5", header="user,item,timestamp")
    assert read_ratings(path).timestamp.tolist() == [1325376000123456789, -5]


def test_times_of_another_kind_are_bad_rows_or_refused(tmp_path):
    dates = [f"u,{k},2014-01-{k:02}" for k in range(1, 9)]
    path = named(tmp_path / "x", *dates, "u,9,nine", header="user,item,timestamp")
    (reason,) = bad_of(read_ratings(path))
    assert reason.startswith("a time that is not an ISO 8601 date")
    path = named(tmp_path / "x", "u,1,Tue Apr 02 2013", header="user,item,timestamp")
    with pytest.raises(DataError, match="such as 'Tue Apr 02 2013'.*timestamp: null"):
        read_ratings(path)


def test_quoted_cells_may_hold_commas_quotes_and_line_breaks(tmp_path):
    path = named(tmp_path / "x", 'u,"A, B","long\ntext",1', 'u,"A, ""C""",short,2',
                 header="user,item,review,timestamp")
    ratings = read_ratings(path)
    assert ratings.item.tolist() == [0, 1] and ratings.timestamp.tolist() == [1, 2]
    with path.open("a") as file:
        file.write("u,D,short,never\n")
    # The line is unknown, because a cell contains a line break.
    assert bad_of(read_ratings(path)) == {
        "text where a number belongs": (1, 0), "lines that continue a quoted cell": (1, 0)}
    assert read_ratings(path).report.notices()[0] == \
        "x: 1 row left out: text where a number belongs"
    with path.open("a") as file:
        file.write('u,"D,short,3\n')
    with pytest.raises(DataError, match="never closed"):
        read_ratings(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_make_no_difference(tmp_path, encoding, end):
    text = end.join(["Käufer,item,timestamp", "Zoë,é,3", "Zoé,é,4", "Zoé,è,5", ""])
    (tmp_path / "x").write_bytes(text.encode(encoding))
    columns = {"user": "Käufer", "item": "item", "timestamp": "timestamp"}
    ratings = read_ratings(tmp_path / "x", columns=columns)
    assert ratings.user.tolist() == [0, 1, 1] and ratings.item.tolist() == [0, 0, 1]
    assert ratings.timestamp.tolist() == [3, 4, 5] and bad_of(ratings) == {}


def test_times_are_equal_where_they_are_equal_in_the_file(tmp_path):
    path = named(tmp_path / "x", "u,a,1.50", "u,b,15e-1", "u,c,1.5000000001", header="user,item,timestamp")
    assert read_ratings(path).timestamp.tolist() == [0, 0, 1]


def test_a_row_with_more_cells_than_the_header_is_bad(tmp_path):
    """A comma in a title would shift the columns after it."""
    rows = ["u,a,Heat,10", "u,b,Heat, 1995,20", "u,c,Up,30", "u,d,a, b, c,40"]
    path = named(tmp_path / "x", *rows, header="user,item,title,timestamp")
    ratings = read_ratings(path)
    assert ratings.timestamp.tolist() == [10, 30] and ratings.report.rows == 4
    assert bad_of(ratings) == {"more columns than the header": (2, 3)}


def test_a_separator_at_the_end_of_the_rows_adds_no_column(tmp_path):
    rows = ["u,a,10,", "u,b,20,", "u,c,30", "u,d,40,50", "u,e,50,"]
    path = named(tmp_path / "x", *rows, header="user,item,timestamp")
    ratings = read_ratings(path)
    assert ratings.timestamp.tolist() == [10, 20, 30, 50]
    assert bad_of(ratings) == {"more columns than the header": (1, 5)}


def test_lines_are_right_behind_rows_that_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited_text, "CHUNK_ROWS", 3)
    good = [f"u,{k},1" for k in range(9)]
    rows = [*good, "u,b,1,1", "u,c,1,1", "u,d,1", "u,e,1", "u,f,1,1", "u,g,x", "u,h,1", "u,i,1,1"]
    ratings = read_ratings(named(tmp_path / "x", *rows, header="user,item,timestamp"))
    assert len(ratings.item) == 12
    assert bad_of(ratings) == {"more columns than the header": (4, 11),
                               "text where a number belongs": (1, 16)}


def test_without_header_the_separator_is_the_one_that_fits_every_line(tmp_path):
    rows = ["1;u0;i14;Action, Drama, 1973", "2;u1;i2;Western", "3;u2;i3;Drama, War, Love, 1980"]
    path = named(tmp_path / "x", *rows[1:], header=rows[0])
    ratings = read_ratings(path, columns={"user": 2, "item": 3, "timestamp": 1})
    assert ratings.user.tolist() == [0, 1, 2] and ratings.timestamp.tolist() == [1, 2, 3]


@pytest.mark.parametrize("header, words", [
    ("user_id,item_id,timestamp,userId", "user_id and userId may both be the user"),
    ("item_id,user_id,movie_id,timestamp", "item_id and movie_id may both be the item"),
    ("user_id,user_id,item_id,timestamp", "user_id and user_id may both be the user")])
def test_two_columns_that_may_be_one_are_refused(tmp_path, header, words):
    with pytest.raises(DataError, match=words):
        read_ratings(named(tmp_path / "x", "1,2,3,4", header=header))


def test_a_name_that_stands_twice_in_the_header_cannot_be_chosen(tmp_path):
    with pytest.raises(DataError, match="has the column who twice"):
        read_ratings(named(tmp_path / "x", "1,2,3,4", header="who,what,when,who"), columns=NAMED)


def test_stray_quotes_are_told_by_the_lines_that_they_swallow(tmp_path):
    rows = ["u,a,x,1", 'u,b,"x,2', "u,c,x,3", 'u,d,y",4', "u,e,x,5"]
    ratings = read_ratings(named(tmp_path / "x", *rows, header="user,item,title,timestamp"))
    assert bad_of(ratings) == {"lines that continue a quoted cell": (2, 0)}
    assert "x: lines that continue a quoted cell: 2; if no cell contains a line break, a quote " \
        "is misplaced and rows are lost" in ratings.report.notices()


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = named(tmp_path / "x", *(f"u,{k},1" for k in range(30)), header="user,item,timestamp")
    monkeypatch.setattr(delimited_text, "CHUNK_ROWS", 10)

    def grow(*_):
        with path.open("a") as file:
            file.write("u,more,1\n")

    with pytest.raises(DataError, match="was changed while it was read"):
        read_ratings(path, progress=grow)


@pytest.mark.parametrize("make, words", [
    (lambda p: p.write_bytes(gzip.compress(b"user,item\n")), "is a gzip file.*unpack"),
    (lambda p: p.write_bytes(b"PK\x03\x04..."), "is a zip file.*unpack"),
    (lambda p: os.mkfifo(p), "is not a regular file")])
def test_what_is_no_text_file_is_refused_at_once(tmp_path, make, words):
    make(tmp_path / "x")
    with pytest.raises(DataError, match=words):
        read_ratings(tmp_path / "x")


def test_blank_lines_cost_nothing(tmp_path):
    rows = [f"{k % 50},{k},5,{k}" for k in range(3000)]
    path = named(tmp_path / "x", *rows[:1000], "", *rows[1000:], "", " ", "",
                 header="userId,movieId,rating,timestamp")
    found = read_ratings(path)
    assert len(found.user) == found.report.rows == 3000 and bad_of(found) == {}


# --- files that were once read incorrectly -------------------------------------------


@pytest.fixture
def cases(shared_dir) -> Path:
    return shared_dir / "cases" / "data"


def held_out(path: Path, ratings: Ratings) -> dict[str, str]:
    """Returns the held-out item of each user, with the ids of the file."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    names = [list(dict.fromkeys(row[key] for row in rows)) for key in ("userId", "movieId")]
    split = leave_one_out(ratings.user, ratings.item, ratings.timestamp, min_ratings=1)
    # The split numbers users and items by first appearance among the remaining rows.
    users, items = (list(dict.fromkeys(ids.tolist())) for ids in (ratings.user, ratings.item))
    return {names[0][users[user]]: names[1][items[item]]
            for user, item in enumerate(split.test_item)}


def test_goodreads_interactions_are_refused_with_their_columns(cases):
    with pytest.raises(DataError, match="user_id, book_id, is_read, rating, is_reviewed.*"
                       "{user: user_id, item: book_id, timestamp: NAME}, or timestamp: null"):
        read_ratings(cases / "goodreads_interactions.csv")


def test_quoted_artists_with_commas_are_different_items(cases):
    columns = {"user": "listener", "item": "artist", "timestamp": None}
    ratings = read_ratings(cases / "quoted_artists.csv", columns=columns)
    assert ratings.item.max() == 59 and bad_of(ratings) == {}


def test_isbns_that_end_in_x_are_kept(cases):
    columns = {"user": "user", "item": "isbn", "timestamp": "time"}
    ratings = read_ratings(cases / "isbn.csv", columns=columns)
    assert len(ratings.user) == ratings.report.rows == 1000 and bad_of(ratings) == {}


def test_ids_of_19_digits_are_read_wherever_they_stand(cases):
    paths = cases / "id19_some.csv", cases / "id19_some_clean.csv"
    some, clean = map(read_ratings, paths)
    assert bad_of(some) == bad_of(clean) == {}
    digests = {leave_one_out(r.user, r.item, r.timestamp).digest for r in (some, clean)}
    assert len(digests) == 1


def test_repeated_pairs_give_one_split_whatever_the_order_of_the_file(cases):
    forward, reverse = (held_out(path, read_ratings(path))
                        for path in (cases / "dup_fwd.csv", cases / "dup_rev.csv"))
    assert len(forward) == 40 and forward == reverse
