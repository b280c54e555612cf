"""Clearing the page cache, and the report of the result."""

from __future__ import annotations

from harness.base import page_cache


def test_clearing_writes_3(tmp_path):
    target = tmp_path / "drop_caches"
    target.write_text("")
    assert page_cache.clear("auto", target) == (True, "drop_caches")
    assert target.read_text() == "3\n"


def test_skip_reports_that_nothing_was_cleared():
    cleared = page_cache.clear("skip")
    assert cleared.done is False and "skip" in cleared.reason


def test_a_refusal_is_reported_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no sudo
    cleared = page_cache.clear("auto", tmp_path)  # a write to a folder fails
    assert cleared.done is False and "directory" in cleared.reason


def test_a_system_without_drop_caches_is_reported(tmp_path):
    assert page_cache.clear("auto", tmp_path / "none").done is False
