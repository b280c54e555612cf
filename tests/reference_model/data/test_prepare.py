"""Prepared splits load quickly and are never trusted unseen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from reference_model.base.errors import DataError
from reference_model.data import prepare as prepare_module
from reference_model.data import split_file
from reference_model.data.prepare import load_split, prepare, read_header
from reference_model.data.ratings import read_ratings
from reference_model.data.sources import DatasetSpec
from reference_model.data.split import leave_one_out
from reference_model.events import NullSink
from tests.conftest import ROOT, track_spec

SPEC = DatasetSpec("toy", archive_member="toy/ratings.csv")


def write_ratings(folder: Path, users: int = 6, extra: str = "", seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    path = folder / "toy" / "ratings.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        f"{user},{item},3.5,{rng.integers(1000, 9999)}\n"
        for user in range(1, users + 1)
        for item in rng.permutation(40)[:25]
    ]
    path.write_text("userId,movieId,rating,timestamp\n" + "".join(rows) + extra)
    return path


def expected(path: Path):
    ratings = read_ratings(path)
    return leave_one_out(ratings.user, ratings.item, ratings.timestamp)


def prepared(folder: Path) -> list[Path]:
    return sorted((folder / prepare_module.FOLDER).glob("*.split"))


class RecordingSink(NullSink):
    def __init__(self):
        self.events = []

    def point(self, key, value=None, **metadata):
        self.events.append((key, value))


class Notices(list):
    """Keeps the notices of a progress callback."""

    def __call__(self, text, done, total):
        if done is None:
            self.append(text)


# --- what comes back -----------------------------------------------------------------


def test_the_split_is_that_of_the_raw_file_each_time(tmp_path):
    split = expected(write_ratings(tmp_path))
    for _ in range(2):
        loaded = load_split(SPEC, tmp_path)
        assert loaded.digest == split.digest
        for name in ("train_user", "train_item", "test_item"):
            array = getattr(loaded, name)
            assert array.dtype == np.int32 and np.array_equal(array, getattr(split, name))
    assert len(prepared(tmp_path)) == 1


def test_what_was_loaded_is_said_to_the_sink_the_same_both_times(tmp_path):
    split = expected(write_ratings(tmp_path))
    for _ in range(2):
        sink = RecordingSink()
        load_split(SPEC, tmp_path, sink)
        assert sink.events == [
            ("dataset_name", "toy"),
            ("dataset_digest", split.digest),
            ("dataset_min_ratings", 20),
            ("dataset_num_users", 6),
            ("dataset_num_items", split.num_items),
            ("dataset_num_positives", 6 * 24),
        ]


def test_the_header_alone_gives_the_counts(tmp_path):
    split = expected(write_ratings(tmp_path))
    header = prepare(SPEC, tmp_path)
    assert read_header(SPEC, tmp_path) == header
    assert (header.num_users, header.num_items) == (split.num_users, split.num_items)
    assert (header.num_positives, header.digest) == (split.num_positives, split.digest)
    assert header.num_negatives == 0 and header.rows == 150


def test_without_preparation_there_is_no_header(tmp_path):
    with pytest.raises(DataError, match="is not prepared"):
        read_header(SPEC, tmp_path)
    path = write_ratings(tmp_path)
    prepare(SPEC, tmp_path)
    path.write_text(path.read_text() + "1,999,3,1\n")
    with pytest.raises(DataError, match="is not prepared"):
        read_header(SPEC, tmp_path)


def test_bad_rows_are_said_each_time_and_kept_in_the_header(tmp_path):
    write_ratings(tmp_path, extra="7,x,3,1\n8,1,3,1\n")
    for _ in range(2):
        notices = Notices()
        header = prepare(SPEC, tmp_path, progress=notices)
        assert any("1 rows left out: text where a number belongs" in text for text in notices)
        assert any("users under 20 ratings (first in line 153)" in text for text in notices)
    assert header.bad["text where a number belongs"].first_line == 152


def test_a_digest_that_is_not_the_tracks_is_said(tmp_path):
    write_ratings(tmp_path)
    spec = DatasetSpec("toy", archive_member="toy/ratings.csv", split_digest="0" * 64)
    notices = Notices()
    prepare(spec, tmp_path, progress=notices)
    assert any("not the canonical toy" in text for text in notices)


def test_other_columns_of_the_same_file_are_another_split(tmp_path):
    path = tmp_path / "toy" / "ratings.csv"
    path.parent.mkdir()
    rows = [f"{u},{i},{u + 7 * i % 60}\n" for u in range(30) for i in range(25)]
    path.write_text("a,b,c\n" + "".join(rows))
    digests = set()
    for item in ("b", "c"):
        columns = {"user": "a", "item": item, "timestamp": None}
        spec = DatasetSpec("toy", archive_member="toy/ratings.csv", columns=columns)
        assert prepare(spec, tmp_path).digest == read_header(spec, tmp_path).digest
        digests.add(read_header(spec, tmp_path).digest)
    assert len(digests) == 2


def test_given_negatives_are_kept(tmp_path):
    arrays = {
        "train_user": np.repeat(np.arange(3), 2),
        "train_item": np.array([0, 1, 1, 2, 2, 3]),
        "test_user": np.arange(3),
        "test_item": np.array([4, 4, 0]),
        "test_negative": np.array([[2, 3], [0, 4], [1, 1]]),
    }
    np.savez(tmp_path / "any.npz", **arrays)
    spec = DatasetSpec("paper", kind="given_split")
    for _ in range(2):
        split = load_split(spec, tmp_path)
        assert split.eval_negatives.tolist() == arrays["test_negative"].tolist()
    assert read_header(spec, tmp_path).num_negatives == 2


def test_generated_data_is_cached_too(tmp_path, monkeypatch):
    shape = {"num_users": 30, "num_items": 50, "num_ratings": 900, "seed": 1}
    spec = DatasetSpec("made", kind="synthetic", synthetic=shape)
    header = prepare(spec, tmp_path)
    monkeypatch.setattr(prepare_module, "generate_split", None)
    assert load_split(spec, tmp_path).digest == header.digest
    assert read_header(spec, tmp_path).rows == 900


@pytest.mark.parametrize(
    "shape",
    [
        None,
        {},
        {"num_users": 3, "colour": 1},
        {"num_users": -1, "num_items": 50, "num_ratings": 1},
    ],
)
def test_a_shape_that_cannot_be_is_one_line(tmp_path, shape):
    with pytest.raises(DataError, match="made: synthetic data cannot be made"):
        load_split(DatasetSpec("made", kind="synthetic", synthetic=shape), tmp_path)


def test_an_unusable_file_is_named(tmp_path):
    path = tmp_path / "toy" / "ratings.csv"
    path.parent.mkdir()
    path.write_text("1,1,3,4\n")
    with pytest.raises(DataError, match="ratings.csv: no user has at least 20"):
        load_split(SPEC, tmp_path)
    assert prepared(tmp_path) == []


# --- stale and damaged -------------------------------------------------------------------


def test_changed_content_is_prepared_anew(tmp_path):
    load_split(SPEC, write_ratings(tmp_path).parents[1])
    path = write_ratings(tmp_path, seed=1)
    assert load_split(SPEC, tmp_path).digest == expected(path).digest
    assert len(prepared(tmp_path)) == 2


def test_content_that_only_moved_is_not(tmp_path):
    load_split(SPEC, write_ratings(tmp_path).parents[1])
    os.utime(tmp_path / "toy/ratings.csv", (1, 1))
    load_split(SPEC, tmp_path)
    assert len(prepared(tmp_path)) == 1


def test_another_minimum_or_format_version_is_another_file(tmp_path, monkeypatch):
    write_ratings(tmp_path)
    load_split(SPEC, tmp_path)
    load_split(DatasetSpec("toy", archive_member="toy/ratings.csv", min_ratings=5), tmp_path)
    assert len(prepared(tmp_path)) == 2
    monkeypatch.setattr(prepare_module, "FORMAT_VERSION", 999)
    load_split(SPEC, tmp_path)
    assert len(prepared(tmp_path)) == 3


def flip(place):
    def damage(data: bytes) -> bytes:
        data = bytearray(data)
        data[place if place >= 0 else len(data) + place] ^= 0x10
        return bytes(data)

    return damage


DAMAGES = {
    "magic": flip(3),
    "header": flip(60),
    "counts": flip(-4 * 6 - 4 * 144 - 4 * 6),
    "items": flip(-4 * 6 - 8),
    "held out": flip(-2),
    "truncated": lambda data: data[:-1],
    "half": lambda data: data[: len(data) // 2],
    "longer": lambda data: data + b"\0",
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("entry", ["load", "prepare"])
def test_a_damaged_file_is_made_anew(tmp_path, damage, entry):
    split = load_split(SPEC, write_ratings(tmp_path).parents[1])
    [path] = prepared(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](whole))
    if entry == "load":
        assert load_split(SPEC, tmp_path).digest == split.digest
    else:
        notices = Notices()
        assert prepare(SPEC, tmp_path, progress=notices).digest == split.digest
        assert any("not usable" in text for text in notices)
    assert path.read_bytes() == whole


def test_a_header_of_the_future_is_not_understood(tmp_path):
    load_split(SPEC, write_ratings(tmp_path).parents[1])
    [path] = prepared(tmp_path)
    data = path.read_bytes()
    start = len(split_file.MAGIC) + split_file.FRAME.size
    length = split_file.FRAME.unpack(data[start - split_file.FRAME.size : start])[0]
    header = json.loads(data[start : start + length]) | {"format_version": 2}
    text = json.dumps(header).encode()
    frame = split_file.FRAME.pack(len(text), zlib.crc32(text))
    path.write_bytes(split_file.MAGIC + frame + text + data[start + length :])
    with pytest.raises(DataError, match="is not prepared"):
        read_header(SPEC, tmp_path)
    load_split(SPEC, tmp_path)
    assert path.read_bytes() == data


def test_a_note_of_a_checksum_that_makes_no_sense_is_passed_over(tmp_path):
    split = load_split(SPEC, write_ratings(tmp_path).parents[1])
    [note] = (tmp_path / prepare_module.FOLDER).glob("*.json")
    for text in ("", "[]", "{}", '{"path": 1'):
        note.write_text(text)
        assert load_split(SPEC, tmp_path).digest == split.digest


# --- several at once, and disks that are full -----------------------------------------------

SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from reference_model.cache import load_split
from reference_model.sources import DatasetSpec
print(load_split(DatasetSpec("toy", archive_member="toy/ratings.csv"), sys.argv[1]).digest)
"""


def test_processes_that_prepare_at_once_agree(tmp_path):
    path = write_ratings(tmp_path, users=400)
    command = [sys.executable, "-c", SCRIPT.format(root=str(ROOT)), str(tmp_path)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {run.communicate()[0].strip() for run in runs} == {expected(path).digest}
    left = {p.suffix for p in (tmp_path / prepare_module.FOLDER).iterdir()}
    assert left == {".split", ".json", ".lock"} and len(prepared(tmp_path)) == 1


def test_what_a_killed_process_left_is_removed(tmp_path):
    load_split(SPEC, write_ratings(tmp_path).parents[1])
    [path] = prepared(tmp_path)
    leftover = path.with_name(f".{path.name}.abc.part")
    leftover.write_bytes(b"half")
    path.unlink()
    load_split(SPEC, tmp_path)
    assert not leftover.exists()


LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
"""


def test_a_file_that_does_not_fit_is_one_line_and_leaves_nothing(tmp_path):
    """A limit on the size of files, which the system reports like a full disk."""
    pytest.importorskip("resource")
    write_ratings(tmp_path, users=400)
    code = LIMITED + SCRIPT.format(root=str(ROOT))
    command = [sys.executable, "-c", code, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert "StorageError: no space left" in run.stderr.splitlines()[-1].split(".", 2)[-1]
    assert not [p for p in (tmp_path / prepare_module.FOLDER).iterdir() if p.suffix in (".split", ".part")]


# --- the real ones -----------------------------------------------------------------------------


@pytest.mark.parametrize("fixture", ["ml_100k_file", "ml_1m_file"])
def test_the_tracks_pin_the_digest_of_the_real_split(request, tmp_path, fixture):
    path = request.getfixturevalue(fixture)
    name = fixture.removesuffix("_file").replace("_", "-")
    spec = track_spec(name)
    (tmp_path / name).mkdir()
    (tmp_path / name / path.name).symlink_to(path)
    header = prepare(spec, tmp_path)
    if spec.split_digest is None:
        pytest.skip(f"track {name} pins no digest yet: {header.digest}")
    assert header.digest == spec.split_digest


def test_the_paper_track_pins_its_digest(shared_dir, tmp_path):
    spec = track_spec("ml-1m-paper")
    (tmp_path / "s.npz").symlink_to(shared_dir / "data" / "ml-1m-ncf-split.npz")
    header = prepare(spec, tmp_path)
    if spec.split_digest is None:
        pytest.skip(f"the track pins no digest yet: {header.digest}")
    assert header.digest == spec.split_digest
