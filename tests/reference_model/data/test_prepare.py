"""Prepared splits load quickly, and are always verified."""

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
from reference_model.data.prepare import load_split, prepare_split
from reference_model.ratings.reader import read_ratings
from reference_model.data.sources import DatasetSpec
from reference_model.data.split import leave_one_out
from tests.conftest import ROOT, track_spec
from tests.support.recording_sink import RecordingSink

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


def prepared_files(folder: Path) -> list[Path]:
    return sorted((folder / prepare_module.PREPARED_FOLDER).glob("*.split"))


def header_in_file(folder: Path) -> split_file.SplitHeader:
    [path] = prepared_files(folder)
    with path.open("rb") as file:
        return split_file.read_split_header(file)


class Notices(list):
    """Keeps the notices of a progress callback."""

    def __call__(self, text, done, total):
        if done is None:
            self.append(text)


# --- the loaded split -----------------------------------------------------------------


def test_the_loaded_split_equals_that_of_the_raw_file_each_time(tmp_path):
    split = expected(write_ratings(tmp_path))
    for _ in range(2):
        loaded = load_split(SPEC, tmp_path)
        assert loaded.digest == split.digest
        for name in ("train_user", "train_item", "test_item"):
            array = getattr(loaded, name)
            assert array.dtype == np.int32 and np.array_equal(array, getattr(split, name))
    assert len(prepared_files(tmp_path)) == 1


def test_the_same_facts_are_logged_with_and_without_preparation(tmp_path):
    split = expected(write_ratings(tmp_path))
    for _ in range(2):
        sink = RecordingSink()
        load_split(SPEC, tmp_path, sink)
        assert [(key, value) for key, value, _ in sink.said] == [
            ("dataset_name", "toy"),
            ("dataset_digest", split.digest),
            ("dataset_min_ratings", 20),
            ("dataset_num_users", 6),
            ("dataset_num_items", split.num_items),
            ("dataset_num_positives", 6 * 24),
        ]


def test_the_header_alone_gives_the_counts(tmp_path):
    split = expected(write_ratings(tmp_path))
    header = prepare_split(SPEC, tmp_path)
    assert header_in_file(tmp_path) == header
    assert (header.num_users, header.num_items) == (split.num_users, split.num_items)
    assert (header.num_positives, header.digest) == (split.num_positives, split.digest)
    assert header.num_negatives == 0 and header.rows == 150


def test_bad_rows_are_reported_each_time_and_kept_in_the_header(tmp_path):
    write_ratings(tmp_path, extra="7,x,3,1\n8,1,3,1\n")
    for _ in range(2):
        notices = Notices()
        header = prepare_split(SPEC, tmp_path, progress=notices)
        assert any("1 row left out: text where a number belongs" in text for text in notices)
        assert any("fewer than 20 ratings (first in line 153)" in text for text in notices)
    assert header.bad["text where a number belongs"].first_line == 152


def test_a_digest_other_than_the_tracks_is_reported(tmp_path):
    write_ratings(tmp_path)
    spec = DatasetSpec("toy", archive_member="toy/ratings.csv", split_digest="0" * 64)
    notices = Notices()
    prepare_split(spec, tmp_path, progress=notices)
    assert any("not the canonical toy" in text for text in notices)


def test_other_columns_of_the_same_file_give_another_split(tmp_path):
    path = tmp_path / "toy" / "ratings.csv"
    path.parent.mkdir()
    rows = [f"{u},{i},{u + 7 * i % 60}\n" for u in range(30) for i in range(25)]
    path.write_text("a,b,c\n" + "".join(rows))
    digests = set()
    for item in ("b", "c"):
        columns = {"user": "a", "item": item, "timestamp": None}
        spec = DatasetSpec("toy", archive_member="toy/ratings.csv", columns=columns)
        digests.add(prepare_split(spec, tmp_path).digest)
    assert len(digests) == 2


def test_published_negatives_are_kept(tmp_path):
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
    assert header_in_file(tmp_path).num_negatives == 2


def test_generated_data_is_loaded_from_its_file(tmp_path, monkeypatch):
    shape = {"num_users": 30, "num_items": 50, "num_ratings": 900, "seed": 1}
    spec = DatasetSpec("made", kind="synthetic", synthetic=shape)
    header = prepare_split(spec, tmp_path)
    monkeypatch.setattr(prepare_module, "generate_split", None)
    assert load_split(spec, tmp_path).digest == header.digest
    assert header_in_file(tmp_path).rows == 900


@pytest.mark.parametrize(
    "shape",
    [
        None,
        {},
        {"num_users": 3, "colour": 1},
        {"num_users": -1, "num_items": 50, "num_ratings": 1},
    ],
)
def test_an_impossible_shape_gives_a_one_line_error(tmp_path, shape):
    with pytest.raises(DataError, match="made: cannot generate synthetic data"):
        load_split(DatasetSpec("made", kind="synthetic", synthetic=shape), tmp_path)


def test_an_unusable_raw_file_is_named_in_the_error(tmp_path):
    path = tmp_path / "toy" / "ratings.csv"
    path.parent.mkdir()
    path.write_text("1,1,3,4\n")
    with pytest.raises(DataError, match="ratings.csv: no user has at least 20"):
        load_split(SPEC, tmp_path)
    assert prepared_files(tmp_path) == []


# --- stale and damaged -------------------------------------------------------------------


def test_a_changed_raw_file_is_prepared_anew(tmp_path):
    load_split(SPEC, write_ratings(tmp_path).parents[1])
    path = write_ratings(tmp_path, seed=1)
    assert load_split(SPEC, tmp_path).digest == expected(path).digest
    assert len(prepared_files(tmp_path)) == 2


def test_a_raw_file_with_only_new_times_is_not_prepared_anew(tmp_path):
    load_split(SPEC, write_ratings(tmp_path).parents[1])
    os.utime(tmp_path / "toy/ratings.csv", (1, 1))
    load_split(SPEC, tmp_path)
    assert len(prepared_files(tmp_path)) == 1


def test_another_minimum_or_format_version_gives_another_file(tmp_path, monkeypatch):
    write_ratings(tmp_path)
    load_split(SPEC, tmp_path)
    load_split(DatasetSpec("toy", archive_member="toy/ratings.csv", min_ratings=5), tmp_path)
    assert len(prepared_files(tmp_path)) == 2
    monkeypatch.setattr(prepare_module, "FORMAT_VERSION", 999)
    load_split(SPEC, tmp_path)
    assert len(prepared_files(tmp_path)) == 3


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
def test_a_damaged_split_file_is_made_anew(tmp_path, damage, entry):
    split = load_split(SPEC, write_ratings(tmp_path).parents[1])
    [path] = prepared_files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](whole))
    if entry == "load":
        assert load_split(SPEC, tmp_path).digest == split.digest
    else:
        notices = Notices()
        assert prepare_split(SPEC, tmp_path, progress=notices).digest == split.digest
        assert any("not usable" in text for text in notices)
    assert path.read_bytes() == whole


def test_a_header_of_another_format_version_is_refused(tmp_path):
    load_split(SPEC, write_ratings(tmp_path).parents[1])
    [path] = prepared_files(tmp_path)
    data = path.read_bytes()
    start = len(split_file.MAGIC) + split_file.HEADER_FRAME.size
    length = split_file.HEADER_FRAME.unpack(data[start - split_file.HEADER_FRAME.size : start])[0]
    header = json.loads(data[start : start + length]) | {"format_version": 99}
    text = json.dumps(header).encode()
    frame = split_file.HEADER_FRAME.pack(len(text), zlib.crc32(text))
    path.write_bytes(split_file.MAGIC + frame + text + data[start + length :])
    with pytest.raises(split_file.InvalidSplitFile, match="format 99, not 2"):
        header_in_file(tmp_path)
    load_split(SPEC, tmp_path)
    assert path.read_bytes() == data


def test_an_invalid_record_of_a_checksum_is_ignored(tmp_path):
    split = load_split(SPEC, write_ratings(tmp_path).parents[1])
    [record] = (tmp_path / prepare_module.PREPARED_FOLDER).glob("*.json")
    for text in ("", "[]", "{}", '{"path": 1'):
        record.write_text(text)
        assert load_split(SPEC, tmp_path).digest == split.digest


# --- concurrent processes and full disks -----------------------------------------------

SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from reference_model.data.prepare import load_split
from reference_model.data.sources import DatasetSpec
print(load_split(DatasetSpec("toy", archive_member="toy/ratings.csv"), sys.argv[1]).digest)
"""


def test_processes_that_prepare_at_the_same_time_agree(tmp_path):
    path = write_ratings(tmp_path, users=400)
    command = [sys.executable, "-c", SCRIPT.format(root=str(ROOT)), str(tmp_path)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {run.communicate()[0].strip() for run in runs} == {expected(path).digest}
    left = {p.suffix for p in (tmp_path / prepare_module.PREPARED_FOLDER).iterdir()}
    assert left == {".split", ".json", ".lock"} and len(prepared_files(tmp_path)) == 1


def test_temporary_files_of_a_killed_process_are_removed(tmp_path):
    load_split(SPEC, write_ratings(tmp_path).parents[1])
    [path] = prepared_files(tmp_path)
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


def test_a_full_disk_gives_a_one_line_error_and_leaves_nothing(tmp_path):
    """Uses a limit on file sizes, which is reported like a full disk."""
    pytest.importorskip("resource")
    write_ratings(tmp_path, users=400)
    code = LIMITED + SCRIPT.format(root=str(ROOT))
    command = [sys.executable, "-c", code, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert "StorageError: no space left" in run.stderr.splitlines()[-1].split(".", 2)[-1]
    left = {p.suffix for p in (tmp_path / prepare_module.PREPARED_FOLDER).iterdir()}
    assert not left & {".split", ".part"}


# --- real data -----------------------------------------------------------------------------


@pytest.mark.parametrize("fixture", ["ml_100k_file", "ml_1m_file"])
def test_the_tracks_pin_the_digest_of_the_real_split(request, tmp_path, fixture):
    path = request.getfixturevalue(fixture)
    name = fixture.removesuffix("_file").replace("_", "-")
    spec = track_spec(name)
    (tmp_path / name).mkdir()
    (tmp_path / name / path.name).symlink_to(path)
    header = prepare_split(spec, tmp_path)
    if spec.split_digest is None:
        pytest.skip(f"track {name} pins no digest yet: {header.digest}")
    assert header.digest == spec.split_digest


def test_the_paper_track_pins_its_digest(shared_dir, tmp_path):
    spec = track_spec("ml-1m-paper")
    (tmp_path / "s.npz").symlink_to(shared_dir / "data" / "ml-1m-ncf-split.npz")
    header = prepare_split(spec, tmp_path)
    if spec.split_digest is None:
        pytest.skip(f"the track pins no digest yet: {header.digest}")
    assert header.digest == spec.split_digest
