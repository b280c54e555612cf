"""Downloads and archives: damaged, truncated, hostile or too large files leave nothing behind."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys

import pytest

from reference_model.base.atomic_files import StorageError, atomic_write
from reference_model.base.errors import DataError
from reference_model.data.download import download, extract_member
from reference_model.data.sources import locate_dataset
from tests.support.archives import ARCHIVE, RATINGS, files_in, spec_for, zipped
from tests.support.paths import ROOT

# --- the archive ------------------------------------------------------------------


def test_the_archive_is_fetched_verified_and_unpacked(tmp_path, server):
    said = []
    path = locate_dataset(spec_for(server.url), tmp_path / "new", lambda *args: said.append(args))
    assert path.read_bytes() == RATINGS
    assert files_in(tmp_path) == {"new/toy/ratings.dat"}
    assert ("downloading toy.zip", len(ARCHIVE), len(ARCHIVE)) in said


def test_a_download_resumes_where_it_ended(tmp_path, server):
    (tmp_path / "toy.zip.part").write_bytes(ARCHIVE[:1000])
    locate_dataset(spec_for(server.url), tmp_path)
    assert server.requests == ["bytes=1000-"]


def test_a_server_without_range_requests_sends_the_whole_file(tmp_path, server):
    server.ranges = False
    (tmp_path / "toy.zip.part").write_bytes(ARCHIVE[:1000])
    assert locate_dataset(spec_for(server.url), tmp_path).read_bytes() == RATINGS


def test_a_lost_connection_is_resumed(tmp_path, server):
    server.cut = len(ARCHIVE) // 3
    assert locate_dataset(spec_for(server.url), tmp_path).read_bytes() == RATINGS
    assert len(server.requests) >= 3


@pytest.mark.parametrize("old", [b"of another file", ARCHIVE + b"too long", b"x" * len(ARCHIVE)])
def test_a_part_of_another_file_is_discarded(tmp_path, server, old):
    (tmp_path / "toy.zip.part").write_bytes(old)
    assert locate_dataset(spec_for(server.url), tmp_path).read_bytes() == RATINGS


def test_a_wrong_checksum_is_refused_and_leaves_nothing(tmp_path, server):
    server.content = zipped({"toy/ratings.dat": b"1::2::3::5\n"})
    with pytest.raises(DataError, match="wrong sha256.*removed"):
        locate_dataset(spec_for(server.url), tmp_path)
    assert files_in(tmp_path) == set()


def test_an_interrupted_download_keeps_its_part_and_reports_it(tmp_path, server):
    server.cut = 0
    (tmp_path / "toy.zip.part").write_bytes(ARCHIVE[:1000])
    with pytest.raises(DataError, match="1,000 bytes are kept"):
        locate_dataset(spec_for(server.url), tmp_path)
    assert files_in(tmp_path) == {"toy.zip.part"}


def test_without_network_the_error_says_where_to_put_the_file(tmp_path, server):
    server.close()
    with pytest.raises(DataError) as error:
        locate_dataset(spec_for(server.url), tmp_path)
    text = str(error.value)
    assert "cannot be reached" in text and "\n" not in text
    assert str(tmp_path / "toy/ratings.dat") in text and str(tmp_path / "toy.zip") in text
    assert files_in(tmp_path) == set()


def test_an_error_of_the_server_is_reported(tmp_path, server):
    server.status = 404
    with pytest.raises(DataError, match="returned 404"):
        locate_dataset(spec_for(server.url), tmp_path)


def test_without_a_checksum_nothing_is_downloaded(tmp_path, server):
    with pytest.raises(DataError, match="no checksum"):
        locate_dataset(spec_for(server.url, archive_md5=None, archive_sha256=None), tmp_path)
    assert server.requests == []


@pytest.mark.parametrize("url", ["http://example.org/x.zip", "file:///etc/passwd", "ftp://h/x.zip"])
def test_only_https_is_accepted(tmp_path, url):
    with pytest.raises(DataError, match="not an https URL"):
        download(url, tmp_path / "x.zip", {"md5": "0"})


def test_too_little_space_is_reported_before_anything_is_downloaded(tmp_path, server, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(StorageError, match="no space"):
        locate_dataset(spec_for(server.url), tmp_path)
    assert files_in(tmp_path) == set()


# --- zip archives -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "toy/../../evil", "..\\evil", "C:/evil"])
def test_an_entry_that_points_outside_is_refused(tmp_path, name):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "toy.zip").write_bytes(zipped({name: b"x", "toy/ratings.dat": RATINGS}))
    with pytest.raises(DataError, match="points outside"):
        locate_dataset(spec_for(), folder)
    assert files_in(tmp_path) == {"data/toy.zip"}


@pytest.mark.parametrize("keep", [100, len(ARCHIVE) - 30, len(ARCHIVE) - 1])
def test_a_truncated_archive_is_refused(tmp_path, keep):
    (tmp_path / "toy.zip").write_bytes(ARCHIVE[:keep])
    with pytest.raises(DataError, match="truncated or damaged"):
        locate_dataset(spec_for(), tmp_path)
    assert files_in(tmp_path) == {"toy.zip"}


def test_a_damaged_member_is_refused(tmp_path):
    damaged = bytearray(ARCHIVE)
    damaged[len(ARCHIVE) // 2] ^= 1
    (tmp_path / "toy.zip").write_bytes(damaged)
    with pytest.raises(DataError, match="truncated or damaged"):
        locate_dataset(spec_for(), tmp_path)
    assert files_in(tmp_path) == {"toy.zip"}


def test_an_archive_without_the_member_is_refused(tmp_path):
    (tmp_path / "toy.zip").write_bytes(zipped({"other/ratings.dat": RATINGS}))
    with pytest.raises(DataError, match="does not contain toy/ratings.dat"):
        locate_dataset(spec_for(), tmp_path)


@pytest.mark.parametrize("member", ["../up.dat", "/abs.dat"])
def test_a_track_cannot_name_a_member_outside(tmp_path, member):
    (tmp_path / "toy.zip").write_bytes(ARCHIVE)
    with pytest.raises(DataError, match="names no file"):
        locate_dataset(spec_for(archive_member=member), tmp_path)


def test_a_member_with_another_checksum_is_not_written(tmp_path):
    (tmp_path / "toy.zip").write_bytes(ARCHIVE)
    with pytest.raises(DataError, match="wrong sha256"):
        extract_member(tmp_path / "toy.zip", "toy/ratings.dat", tmp_path / "out", "0" * 64)
    assert files_in(tmp_path) == {"toy.zip"}


# --- disks ---------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(StorageError, match="no space left.*--data_dir"):
        with atomic_write(path) as file:
            file.write(b"new")
            raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x"]


FULL_DISK = """
import sys, pathlib
sys.path.insert(0, {root!r})
from tests.support.archives import Server, files_in, spec_for, zipped
from reference_model.data import download
from reference_model.data.sources import locate_dataset
from reference_model.base.errors import DataError
import hashlib, os
data = pathlib.Path(sys.argv[1])
content = zipped({{"toy/ratings.dat": os.urandom(3 << 20)}})
server = Server()
server.content = content
spec = spec_for(server.url, archive_sha256=hashlib.sha256(content).hexdigest(), archive_md5=None)
if sys.argv[2] == "download":
    download._check_space = lambda *args: None
else:
    (data.parent / "toy.zip").write_bytes(content)
    (data / "toy.zip").symlink_to(data.parent / "toy.zip")
try:
    locate_dataset(spec, data)
except DataError as error:
    print(type(error).__name__, error, sorted(files_in(data)))
"""


@pytest.mark.parametrize("step", ["download", "unpack"])
def test_a_full_disk_gives_a_one_line_error_and_leaves_nothing(tmp_path, step):
    """Uses a real file system of 1 MiB, if this user may mount one."""
    (tmp_path / "full").mkdir()
    script = tmp_path / "script.py"
    script.write_text(FULL_DISK.format(root=str(ROOT)))
    mount = f"mount -t tmpfs -o size=1m none {tmp_path}/full"
    if shutil.which("unshare") is None or subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount], capture_output=True
    ).returncode:
        pytest.skip("this user may not mount a small file system")
    command = f"{mount} && {sys.executable} {script} {tmp_path}/full {step}"
    run = subprocess.run(["unshare", "-rm", "sh", "-c", command], capture_output=True, text=True)
    assert run.stdout.startswith("StorageError no space left"), run.stderr
    assert "'toy/" not in run.stdout and ".part'" not in run.stdout
