"""`--new_track` writes a track file that the harness can run, or reports what is missing."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from compliance.tracks import load_track
from harness.__main__ import main
from harness.config.trial_spec import dataset_spec
from reference_model.base.errors import DataError
from reference_model.data.prepare import prepare_split
from tests.support.paths import ROOT

HEADER = "user_id,book_id,is_read"
ROWS = [f"u{k % 30},b{k % 47},{k}" for k in range(30 * 25)]


def ratings(folder, header=HEADER, name="books.csv"):
    path = folder / name
    path.write_text("\n".join([*([header] if header else []), *ROWS]) + "\n")
    return path


def test_the_track_file_describes_the_ratings_beside_it(tmp_path, capsys):
    path = ratings(tmp_path)
    assert main([f"--new_track={path}", "--columns=timestamp=is_read", "--quiet"]) == 0
    track = load_track(tmp_path / "books.yaml")
    assert track.dataset.columns == {"user": "user_id", "item": "book_id", "timestamp": "is_read"}
    assert track.target is None and track.division_default == "open"
    assert (track.dataset.num_users, track.dataset.num_items) == (30, 47)
    # The split prepared from the track file matches its description.
    header = prepare_split(dataset_spec(track), tmp_path / "data")
    assert header.digest == track.dataset.split_digest
    assert header.num_positives == track.dataset.num_positives
    out = capsys.readouterr().out
    assert f"--track={tmp_path / 'books.yaml'} --num_runs=1\n" in out and "harness.calibrate" in out


def test_a_known_format_needs_no_columns(tmp_path):
    path = tmp_path / "mine.csv"
    rows = [f"{k % 30},{k % 47},5,{k}" for k in range(30 * 25)]
    path.write_text("\n".join(["userId,movieId,rating,timestamp", *rows]) + "\n")
    assert main([f"--new_track={path}", "--quiet"]) == 0
    assert load_track(tmp_path / "mine.yaml").dataset.columns is None


def test_a_file_without_header_is_named_by_positions(tmp_path, capsys):
    path = ratings(tmp_path, header="")
    assert main([f"--new_track={path}"]) == 1
    assert "--columns=user=NUMBER,item=NUMBER,timestamp=NUMBER by position" in capsys.readouterr().err
    assert main([f"--new_track={path}", "--columns=user=1,item=2,timestamp=3", "--name=b"]) == 0
    assert load_track(tmp_path / "b.yaml").dataset.columns == {"user": 1, "item": 2, "timestamp": 3}


@pytest.mark.parametrize("flags, words", [
    ([], "column is timestamp.*--columns=user=user_id,item=book_id,timestamp=NAME"),
    (["--columns=timestamp=when"], "has no column when: its first line has user_id, book_id, is_read"),
    (["--columns=user=null,timestamp=null"], "user must be a column"),
    (["--columns=user=book_id,timestamp=null"], "must be different columns"),
    (["--name="], "--name is empty"),
    (["--columns=time=is_read"], "'time=is_read' is invalid"),
    (["--columns=timestamp=null", "--name=/nowhere/at/all.yaml"], "/nowhere/at is not a folder"),
    (["--columns=timestamp=null", "--seed=1"], "cannot be combined with --seed")])
def test_what_cannot_be_guessed_or_done_is_said_in_one_line(tmp_path, capsys, flags, words):
    path = ratings(tmp_path)
    assert main([f"--new_track={path}", *flags]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search(words, err), err
    assert [p.name for p in tmp_path.iterdir()] == ["books.csv"]


def test_an_interrupt_writes_nothing(tmp_path):
    path = tmp_path / "big.csv"
    path.write_text("user,item,timestamp\n" + "".join(
        f"u{k % 5000},i{k % 977},{k}.5\n" for k in range(600_000)))
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", f"--new_track={path}"], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("reading")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (3, "neumf-bench: INTERRUPTED; nothing was written\n")
    assert [p.name for p in tmp_path.iterdir()] == ["big.csv"]


def test_a_name_that_a_track_file_cannot_hold_is_refused(tmp_path, capsys):
    path = ratings(tmp_path, name="two\nlines.csv")
    assert main([f"--new_track={path}", "--columns=timestamp=null"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_is_overwritten(tmp_path, capsys):
    path = ratings(tmp_path)
    (tmp_path / "books.yaml").write_text("mine")
    assert main([f"--new_track={path}", "--columns=timestamp=null"]) == 1
    assert "exists" in capsys.readouterr().err
    assert (tmp_path / "books.yaml").read_text() == "mine"


def test_columns_alone_are_refused(capsys):
    assert main(["--columns=user=a"]) == 1
    assert "--new_track" in capsys.readouterr().err


def test_ratings_that_are_gone_are_named(tmp_path):
    path = ratings(tmp_path)
    assert main([f"--new_track={path}", "--columns=timestamp=null", "--quiet"]) == 0
    path.unlink()
    with pytest.raises(DataError, match="books.csv, the file of dataset books, is not a file"):
        prepare_split(dataset_spec(load_track(tmp_path / "books.yaml")), tmp_path / "data")
