"""Folders from anybody: pipes, devices, links and mixtures in place of honest logs."""

from __future__ import annotations

import os

import pytest

from compliance.base.errors import UsageError
from compliance.base.untrusted_files import TooLarge, read_bounded
from compliance.checking.checker import check_file, check_paths
from compliance.regress.files import read_side
from compliance.results.run_set import read_sets
from compliance.results.scoring import score_folder
from compliance.submission.tree_check import MAX_DESCRIPTION, read_description
from tests.compliance.chain.test_ledger import attempts, rules
from tests.compliance.checking.test_checker_opens import opened
from tests.support.logs.attempt_chains import chained_set
from tests.support.logs.log_builder import at, good_log, write_log
from tests.support.paths import DATA


@pytest.fixture()
def results(tmp_path):
    return chained_set(tmp_path / "results")


def pipe(path, secret):
    os.mkfifo(path)


def device(path, secret):
    path.symlink_to("/dev/zero")


def link_out(path, secret):
    path.symlink_to(secret)


def link_around(path, secret):
    path.symlink_to(path)


@pytest.mark.parametrize("plant", [pipe, device, link_out, link_around])
def test_what_is_no_log_of_the_folder_is_not_opened(results, tmp_path, plant):
    secret = write_log(tmp_path / "secret.txt", good_log(seed=99))
    plant(results / "result_3.txt", secret)
    result = check_paths([results])
    assert [f.verdict for f in result.files] == ["pass"] * 3 + ["unreadable"]
    assert [v.rule for v in result.files[3].errors.list()] == ["NCF-READ"]
    assert score_folder(results).outcome.seconds is None
    assert len(read_sets(results)[0].runs) == 4
    code, names = opened(tmp_path, "check", results)
    assert code == 3 and str(secret) not in names and "/dev/zero" not in names


def test_a_link_that_the_user_names_is_followed(results, tmp_path):
    (tmp_path / "mine.txt").symlink_to(results / "result_0.txt")
    assert check_file(tmp_path / "mine.txt").verdict == "pass"
    (tmp_path / "set").symlink_to(results)
    assert check_paths([tmp_path / "set"]).verdict == "pass"


def test_an_attempts_log_is_no_link_either(results, tmp_path):
    (log,) = attempts(results).glob("run_*.txt")
    log.rename(tmp_path / "elsewhere.txt")
    log.symlink_to(tmp_path / "elsewhere.txt")
    assert rules(results) == {"NCF-CHAIN-ATTEMPT"}


def test_a_pipe_as_an_entry_is_no_entry(tmp_path):
    log = tmp_path / "result_0.txt"
    log.write_bytes((DATA / "good" / "v05_level2.txt").read_bytes())
    os.mkfifo(tmp_path / "entry.json")
    assert check_file(log).ruleset == "ncf-v0.5-l1"


def test_a_pipe_among_recordings_is_said_to_be_none(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(UsageError, match="is no regular file"):
        read_side(tmp_path)


def test_a_description_of_any_size_is_read_in_bounds(tmp_path):
    path = tmp_path / "system.json"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    assert read_description(path) == ({}, "cannot be read as JSON")
    path.write_bytes(b" " * (MAX_DESCRIPTION - 2) + b"{}")
    assert read_description(path) == ({}, None)
    with pytest.raises(TooLarge):
        read_bounded(path, MAX_DESCRIPTION - 1)


def test_a_set_of_two_divisions_has_no_score(tmp_path):
    for run in range(5):
        records = good_log(seed=run, start_ms=10**12 + 10**7 * run)
        if run == 4:  # an open run may have a lower target
            records[at(records, "submission_division")]["value"] = "open"
        write_log(tmp_path / f"result_{run}.txt", records)
    assert rules(tmp_path) == {"NCF-SET-EQUAL"}
    assert score_folder(tmp_path).outcome.seconds is None


@pytest.mark.parametrize("way", ["..", "link", "../{}/.", "absolute"])
def test_the_ledger_is_found_by_whatever_way_the_set_is_named(results, monkeypatch, way):
    (results / "result_2.txt").unlink()
    (results / "inner").mkdir()
    monkeypatch.chdir(results / "inner" if way == ".." else results)
    (results.parent.parent / "link").symlink_to(results)
    path = {"link": results.parent.parent / "link", "absolute": results}.get(way)
    assert rules(path or way.format(results.name)) == {"NCF-CHAIN-REMOVED"}
