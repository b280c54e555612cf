"""Logs that a shell or a log collector has re-encoded are read like the original text."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest

from compliance.checking.checker import check_file
from compliance.checking.results import FAIL, PASS, UNREADABLE
from compliance.logs.dialects import file_encodings
from tests.support.logs.log_builder import good_log, line_of, set_setting, write_log


def lines_of(records) -> list[str]:
    return [line_of(record) + "\n" for record in records]


def docker(records) -> bytes:
    return b"".join(
        json.dumps({"log": line, "stream": "stdout", "time": "2026"}, separators=(",", ":")).encode()
        + b"\n" for line in lines_of(records))


def plain(records) -> bytes:
    return "".join(lines_of(records)).encode()


WRAPPED = {
    "gzip": (lambda r: gzip.compress(plain(r)), "gzip"),
    "gzip in two members": (
        lambda r: gzip.compress(plain(r[:9])) + gzip.compress(plain(r[9:])), "gzip"),
    "utf-16": (lambda r: plain(r).decode().encode("utf-16"), "UTF-16"),
    "utf-16 big endian": (
        lambda r: b"\xfe\xff" + plain(r).decode().encode("utf-16-be"), "UTF-16"),
    "docker": (docker, "docker"),
    "docker and gzip": (lambda r: gzip.compress(docker(r)), "docker"),
    "colours": (lambda r: b"".join(
        b"\x1b[32m" + line[:-1].encode() + b"\x1b[0m\x1b[K\n" for line in lines_of(r)), "colours"),
    "a tab": (lambda r: plain(r).replace(b":::MLLOG ", b":::MLLOG\t"), "space"),
    "nothing": (lambda r: plain(r).replace(b":::MLLOG ", b":::MLLOG"), "space"),
    "nothing, behind text": (
        lambda r: plain(r).replace(b":::MLLOG ", b"[rank 0] :::MLLOG"), "space"),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_wrapped_log_has_the_verdict_and_the_lines_of_the_plain_one(name, tmp_path):
    wrap, word = WRAPPED[name]
    good, bad = good_log(), good_log()
    bad[40]["value"] = "changed"
    for records, verdict in ((good, PASS), (bad, FAIL)):
        expected = check_file(write_log(tmp_path / "plain.txt", records))
        path = tmp_path / "wrapped.txt"
        path.write_bytes(wrap(records))
        result = check_file(path)
        assert (result.verdict, result.summary.as_json()) == (verdict, expected.summary.as_json())
        assert [v.as_json() for v in result.errors.list()] == [
            v.as_json() for v in expected.errors.list()]
        assert any(v.rule == "NCF-ENCODING" and word in v.message
                   for v in result.warnings.list())
        assert result.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_plain_log_has_no_note(tmp_path):
    result = check_file(write_log(tmp_path / "a.txt", good_log()))
    assert not [v for v in result.warnings.list() if v.rule == "NCF-ENCODING"]


@pytest.mark.parametrize("keep", [3, 20, 500])
def test_a_damaged_gzip_is_unreadable(tmp_path, keep):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(plain(good_log()))[:keep])
    result = check_file(path)
    assert result.verdict == UNREADABLE and [v.rule for v in result.errors.list()] == ["NCF-READ"]


def test_a_gzip_that_unpacks_to_too_much_is_unreadable(tmp_path, monkeypatch):
    monkeypatch.setattr(file_encodings, "MAX_UNPACKED_BYTES", 10_000)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(plain(good_log())))
    (violation,) = check_file(path).errors.list()
    assert violation.rule == "NCF-READ" and "unpacks to more than" in violation.message


def test_a_token_inside_a_value_is_text(tmp_path):
    """The reader inserts a space only after tokens, not inside records."""
    records = good_log()
    set_setting(records, "submission_org", ":::MLLOG{ and :::MLLOG\tmore")
    expected = check_file(write_log(tmp_path / "a.txt", records))
    assert expected.verdict == PASS and not expected.warnings
