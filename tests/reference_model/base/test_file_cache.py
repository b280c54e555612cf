"""The cache of files: digests, damage, its size limit, several processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from reference_model.base.file_cache import FileCache
from tests.support.paths import ROOT


@pytest.fixture
def cache(tmp_path):
    return FileCache(tmp_path / "cache", max_bytes=1000)


def test_a_file_is_read_as_it_was_written(cache):
    assert cache.read("a", "x") is None and cache.names("a") == []
    cache.write("a", "x", b"one")
    cache.write("b", "x", b"other")
    assert (cache.read("a", "x"), cache.read("b", "x")) == (b"one", b"other")
    cache.write("a", "x", b"two")
    assert cache.read("a", "x") == b"two" and cache.names("a") == ["x"]


@pytest.mark.parametrize("damage", [
    lambda data: data[:-1],
    lambda data: data[:10],
    lambda data: b"",
    lambda data: bytes([data[0] ^ 1]) + data[1:],
    lambda data: data[:-1] + bytes([data[-1] ^ 1]),
])
def test_a_damaged_file_is_removed(cache, tmp_path, damage):
    cache.write("a", "x", b"some content")
    path = tmp_path / "cache" / "a" / "x"
    path.write_bytes(damage(path.read_bytes()))
    assert cache.read("a", "x") is None and not path.exists()


@pytest.mark.parametrize("source, target", [(("a", "x"), ("a", "y")), (("a", "x"), ("b", "x"))])
def test_a_file_of_another_place_is_removed(cache, tmp_path, source, target):
    """It is whole, but the program of other settings, or another program."""
    for group in "ab":
        for name in "xy":
            cache.write(group, name, f"{group}{name}".encode())
    folder = tmp_path / "cache"
    (folder.joinpath(*target)).write_bytes(folder.joinpath(*source).read_bytes())
    assert cache.read(*target) is None and cache.read(*source) == b"ax"


def test_the_groups_that_were_not_used_for_longest_are_removed(cache, tmp_path):
    for number, group in enumerate(("old", "read", "new")):
        cache.write(group, "x", bytes(300))
        os.utime(tmp_path / "cache" / group, (number, number))
    cache.read("old", "x")
    cache.write("newest", "x", bytes(300))
    assert [g for g in ("old", "read", "new", "newest") if cache.names(g)] == [
        "old", "new", "newest"]


def test_a_file_that_is_larger_than_the_cache_is_kept_alone(cache):
    cache.write("a", "x", bytes(10))
    cache.write("b", "x", bytes(5000))
    assert cache.names("a") == [] and cache.read("b", "x") == bytes(5000)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    cache = FileCache(tmp_path / "file" / "cache", 1000)
    cache.write("a", "x", b"one")
    assert cache.read("a", "x") is None and cache.names("a") == []


def test_several_processes_write_and_read_one_file(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from reference_model.base.file_cache import FileCache\n"
        "cache, own = FileCache(Path(sys.argv[1]), 10**6), sys.argv[2].encode() * 50000\n"
        "for _ in range(30):\n"
        "    cache.write('a', 'x', own)\n"
        "    found = cache.read('a', 'x')\n"
        "    assert len(set(found)) == 1 and len(found) == 50000\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], cwd=ROOT)
        for name in "abc"
    ]
    assert [child.wait(60) for child in children] == [0, 0, 0]
