"""Untrusted folders with pipes, devices, links and mixed sets instead of honest logs."""

from __future__ import annotations

import os

import pytest

from compliance.base.errors import UsageError
from compliance.base.untrusted_files import TooLarge, read_bounded
from compliance.checking.checker import check_file, check_paths
from compliance.regress.files import read_recording
from compliance.results.run_set import read_sets
from compliance.results.scoring import score_folder
from compliance.submission.tree_check import MAX_DESCRIPTION_BYTES, read_description
from tests.compliance.chain.test_ledger import attempts_folder, broken_rules
from tests.compliance.checking.test_checker_opens import opened
from tests.support.logs.attempt_chains import chained_set
from tests.support.logs.log_builder import good_log, set_setting, write_log
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
def test_a_pipe_a_device_or_a_link_in_a_folder_is_not_opened(results, tmp_path, plant):
    secret = write_log(tmp_path / "secret.txt", good_log(seed=99))
    plant(results / "result_3.txt", secret)
    result = check_paths([results])
    assert [f.verdict for f in result.files] == ["pass"] * 3 + ["unreadable"]
    assert [v.rule for v in result.files[3].errors.list()] == ["NCF-READ"]
    assert score_folder(results).result.seconds is None
    assert len(read_sets(results)[0].runs) == 4
    code, names = opened(tmp_path, "check", results)
    assert code == 3 and str(secret) not in names and "/dev/zero" not in names


def test_a_link_that_the_user_names_is_followed(results, tmp_path):
    (tmp_path / "mine.txt").symlink_to(results / "result_0.txt")
    assert check_file(tmp_path / "mine.txt").verdict == "pass"
    (tmp_path / "set").symlink_to(results)
    assert check_paths([tmp_path / "set"]).verdict == "pass"


def test_a_link_in_place_of_an_attempts_log_is_not_followed(results, tmp_path):
    (log,) = attempts_folder(results).glob("run_*.txt")
    log.rename(tmp_path / "elsewhere.txt")
    log.symlink_to(tmp_path / "elsewhere.txt")
    assert broken_rules(results) == {"NCF-CHAIN-ATTEMPT"}


def test_a_pipe_in_place_of_entry_json_is_ignored(tmp_path):
    log = tmp_path / "result_0.txt"
    log.write_bytes((DATA / "good" / "v05_level2.txt").read_bytes())
    os.mkfifo(tmp_path / "entry.json")
    assert check_file(log).ruleset == "ncf-v0.5-l1"


def test_a_pipe_among_benchmark_recordings_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(UsageError, match="is not a regular file"):
        read_recording(tmp_path)


def test_a_system_description_is_read_up_to_its_size_limit(tmp_path):
    path = tmp_path / "system.json"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    assert read_description(path) == ({}, "cannot be read as JSON")
    path.write_bytes(b" " * (MAX_DESCRIPTION_BYTES - 2) + b"{}")
    assert read_description(path) == ({}, None)
    with pytest.raises(TooLarge):
        read_bounded(path, MAX_DESCRIPTION_BYTES - 1)


def test_a_set_of_two_divisions_has_no_score(tmp_path):
    for run in range(5):
        records = good_log(seed=run, start_ms=10**12 + 10**7 * run)
        if run == 4:  # an open run may have a lower target
            set_setting(records, "submission_division", "open")
        write_log(tmp_path / f"result_{run}.txt", records)
    assert broken_rules(tmp_path) == {"NCF-SET-EQUAL"}
    assert score_folder(tmp_path).result.seconds is None


@pytest.mark.parametrize("way", ["..", "link", "../{}/.", "absolute"])
def test_the_ledger_is_found_by_any_path_to_the_set(results, monkeypatch, way):
    (results / "result_2.txt").unlink()
    (results / "inner").mkdir()
    monkeypatch.chdir(results / "inner" if way == ".." else results)
    (results.parent.parent / "link").symlink_to(results)
    path = {"link": results.parent.parent / "link", "absolute": results}.get(way)
    assert broken_rules(path or way.format(results.name)) == {"NCF-CHAIN-REMOVED"}
