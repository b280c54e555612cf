"""`history`: the sets of a results tree over time, whole, damaged, missing or forged."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from compliance.__main__ import main
from compliance.history.timeline import build_history
from compliance.results.scoring import score_folder
from tests.compliance.checking.test_noise import slowed
from tests.support.logs.attempt_chains import edit, sha256, write_ledger
from tests.support.logs.histories import (
    BENCHMARK,
    set_id,
    write_history,
    write_set_of_history,
)
from tests.support.logs.log_builder import good_log, write_log
from tests.support.paths import ROOT


def answer(capsys, *argv: str, code: int = 0) -> dict[str, Any]:
    """Returns the object that `history --format json` prints."""
    assert main(["history", "--format", "json", *map(str, argv)]) == code
    return json.loads(capsys.readouterr().out)


def sets(capsys, *argv: str, code: int = 0) -> list[dict[str, Any]]:
    """Returns the sets of the only benchmark."""
    [one] = answer(capsys, *argv, code=code)["benchmarks"]
    return one["sets"]


@pytest.fixture()
def system(tmp_path) -> Path:
    """Six sets; the fourth has another batch size and takes twice as long."""
    return write_history(tmp_path / "results" / "laptop", [100, 101, 99, 200, 201, 199],
                         {3: {"global_batch_size": 8192}})


def test_every_result_is_listed_from_the_oldest_with_its_figures(system, capsys):
    found = sets(capsys, system)
    assert [one["set"] for one in found] == [set_id(n) for n in range(6)]
    assert [one["kind"] for one in found] == ["set aside"] * 5 + ["result"]
    assert {one["verdict"] for one in found} == {"pass"}
    last = found[-1]
    assert last["seconds"] == score_folder(system / BENCHMARK).result.seconds
    assert last["runs"] == last["converged"] == 5 and last["mean_epochs"] == 7.8
    assert len(last["commit"]) >= 7 and last["track"] == "ml-100k"
    assert last["ci95_s"] is None and last["rule"] == "olympic-mean"
    assert last["seconds_per_epoch"] == pytest.approx(0.22, abs=0.03)


def test_a_step_and_the_setting_that_changed_with_it_are_marked(system, capsys):
    found = sets(capsys, system)
    assert found[0]["step"] is None
    assert [one["step"]["verdict"] for one in found[1:]] == [
        "no difference shown", "no difference shown", "slower", "no difference shown",
        "no difference shown"]
    step = found[3]["step"]
    assert step["ratio"] == pytest.approx(1.9, abs=0.1) and step["ci95"][0] > 1
    assert step["before"] == [one["path"] for one in found[:3]]
    assert found[4]["step"]["before"] == [found[3]["path"]]
    assert found[3]["changes"] == [
        {"setting": "batch_size", "before": 4096, "after": 8192}]
    assert found[2]["changes"] == [] and found[4]["changes"] != []


@pytest.mark.parametrize("place", [
    "results", "results/laptop", f"results/laptop/{BENCHMARK}", "results/laptop/attempts",
    f"results/laptop/attempts/{BENCHMARK}", f"results/laptop/attempts/{BENCHMARK}/{set_id(1)}"])
def test_any_folder_around_or_in_the_system_shows_the_same(system, capsys, place):
    assert len(sets(capsys, system.parents[1] / place)) == 6


def test_experiments_are_listed_on_request_and_compared_with_results(system, capsys):
    folder = system / "experiments" / BENCHMARK / f"{set_id(9)}-try"
    entries = write_set_of_history(folder, set_id(9), 100, 9)
    write_ledger(folder / "attempts" / "ledger.jsonl", entries)
    assert answer(capsys, system)["not_listed"] == {"set_aside": 0, "experiments": 1}
    found = sets(capsys, system, "--experiments")
    assert found[-1]["kind"] == "experiment" and found[-1]["step"]["verdict"] == "faster"
    assert len(sets(capsys, folder, "--experiments")) == 7


def test_failed_and_unfinished_sets_are_listed_on_request(system, capsys):
    _write_ledger_of(system, extra=[(10, (7, 8, 9, 7, 8), False), (11, (7, 8), True)])
    assert len(sets(capsys, system)) == 6
    assert answer(capsys, system)["not_listed"]["set_aside"] == 2
    found = sets(capsys, system, "--set_aside")
    assert [(one["kind"], one["verdict"]) for one in found[6:]] == [
        ("set aside", "fail"), ("under way", "unscored")]
    assert found[6]["reason"] == "5 of 5 runs did not reach the target"
    assert found[7]["reason"] == "2 of 5 runs"


def _write_ledger_of(system: Path, extra=()) -> None:
    """Writes the ledger of a system of six sets and further ones, which it writes again."""
    attempts, entries = system / "attempts" / BENCHMARK, []
    for number, milliseconds in enumerate([100, 101, 99, 200, 201, 199]):
        folder = system / BENCHMARK if number == 5 else attempts / set_id(number)
        entries += write_set_of_history(folder, set_id(number), milliseconds, number)
    for number, runs, converged in extra:
        folder = attempts / ("current" if number == 11 else set_id(number))
        entries += write_set_of_history(folder, set_id(number), 100, number, runs=runs,
                                        converged=converged)
    (attempts / "ledger.jsonl").unlink()
    write_ledger(attempts / "ledger.jsonl", entries)


def test_sets_from_a_busy_machine_are_named(system, capsys):
    slow = slowed(good_log(epochs=8, seed=71), {3, 4, 5, 6}, 900)
    write_log(system.parent / "others" / "set" / "result_0.txt", slow)
    [entry] = sets(capsys, system.parent / "others")
    assert entry["noisy_runs"] == 1
    assert main(["history", str(system.parent / "others")]) == 0
    assert "the epochs of 1 of 1 runs vary: the machine was busy" in " ".join(
        capsys.readouterr().out.split())
    assert {one["noisy_runs"] for one in sets(capsys, system)} == {0}


# --- damage ---------------------------------------------------------------------------


def damaged(system: Path, capsys, code: int = 0) -> tuple[str, str]:
    """Returns (verdict, reason) of the only set that does not pass."""
    [bad] = [one for one in sets(capsys, system, code=code) if one["verdict"] != "pass"]
    assert bad["seconds"] is None
    return bad["verdict"], bad["reason"]


def log_of(system: Path, run: int = 2) -> Path:
    return system / "attempts" / BENCHMARK / set_id(1) / f"result_{run}.txt"


def test_an_edited_log_is_named(system, capsys):
    text = log_of(system).read_text()
    log_of(system).write_text(text.replace('"value": 4096', '"value": 4097'))
    assert damaged(system, capsys) == (
        "fail", "result_2.txt is not the log that the ledger records: it was changed")


def test_a_ledger_that_was_written_again_still_contradicts_the_logs(system, capsys):
    """Run 2 of a set claims a second less, and the ledger has the digest of the forged log."""
    ledger = system / "attempts" / BENCHMARK / "ledger.jsonl"
    before = sha256(log_of(system))
    edit(log_of(system), '"value": 4096', '"value": 4097')
    entries = [json.loads(line) for line in ledger.read_text().splitlines()]
    for entry in entries:
        if entry.get("sha256") == before:
            entry["sha256"] = sha256(log_of(system))
    ledger.unlink()
    write_ledger(ledger, entries)
    verdict, reason = damaged(system, capsys)
    assert verdict == "fail"
    assert reason == "result_3.txt and the ledger disagree: the log of attempt 3 was changed"


def test_a_removed_and_an_added_log_are_named(system, capsys):
    shutil.move(log_of(system), log_of(system, 7))
    assert damaged(system, capsys) == ("fail", "result_7.txt is not in the ledger")
    log_of(system, 7).unlink()
    assert damaged(system, capsys) == (
        "fail", "result_2.txt, which the ledger records, is missing")


def test_a_set_whose_folder_is_gone_is_listed(system, capsys):
    shutil.rmtree(log_of(system).parent)
    assert damaged(system, capsys) == (
        "missing", "the ledger has 5 results of this set, whose logs are missing")
    assert [one["set"] for one in sets(capsys, system)] == [set_id(n) for n in range(6)]


@pytest.mark.parametrize("data, reason", [
    (b"", "contains no record of a known dialect"), (b"\x00\xff" * 999, "contains no record"),
    (b":::MLLOG {", "is incomplete"), (b":::MLLOG null\n" * 20, "is incomplete")])
def test_an_unreadable_log_is_named_and_the_exit_code_is_3(system, capsys, data, reason):
    log_of(system).write_bytes(data)
    verdict, text = damaged(system, capsys, code=3)
    assert verdict == "fail" and f"result_2.txt {reason}" in text


@pytest.mark.parametrize("make, reason", [
    (lambda path: path.mkdir(), ""), (lambda path: os.mkfifo(path), "is not a regular file"),
    (lambda path: path.symlink_to("/etc/hostname"), "is a link to a file outside its folder"),
    (lambda path: path.symlink_to("nowhere"), "is not a regular file")])
def test_what_is_no_file_is_not_opened(system, capsys, make, reason):
    log_of(system).unlink()
    make(log_of(system))
    verdict, text = damaged(system, capsys, code=3 if reason else 0)
    assert verdict == "fail" and reason in text


@pytest.mark.parametrize("change, reason", [
    (lambda data: data[:-40], "result_"), (lambda data: b"x" + data, "line 1: it is not JSON"),
    (lambda data: data.replace(b'"seed": 12', b'"seed": 13', 1), "a line was removed, edited"),
    (lambda data: b"", "the ledger does not contain the set"),
    (lambda data: b"[]\n", "it is not a JSON object")])
def test_a_damaged_ledger_is_the_reason_of_its_sets(system, capsys, change, reason):
    ledger = system / "attempts" / BENCHMARK / "ledger.jsonl"
    ledger.write_bytes(change(ledger.read_bytes()))
    found = [one for one in sets(capsys, system) if one["verdict"] != "pass"]
    assert found and all(reason in one["reason"] for one in found)


def test_a_missing_ledger_is_said_and_changes_no_verdict(system, capsys):
    """`check` passes such logs, too."""
    (system / "attempts" / BENCHMARK / "ledger.jsonl").unlink()
    assert {one["verdict"] for one in sets(capsys, system)} == {"pass"}
    assert {one["reason"] for one in sets(capsys, system)} == {"there is no ledger for these logs"}


def test_a_ledger_opens_no_path(system, capsys, tmp_path):
    entries = write_set_of_history(tmp_path / "x", "../../../etc", 100, 1)
    entries.append({"event": "set_aside", "set": "../../../etc", "folder": "/etc/passwd"})
    (system / "attempts" / BENCHMARK / "ledger.jsonl").unlink()
    write_ledger(system / "attempts" / BENCHMARK / "ledger.jsonl", entries)
    assert any(one["verdict"] == "missing" for one in sets(capsys, system))


# --- usage ----------------------------------------------------------------------------


@pytest.mark.parametrize("argv, message", [
    (["nowhere"], "nowhere: no such folder"), ([], "arguments are required: DIR"),
    ([".", "--html", "nowhere/x.html"], "nowhere/x.html: cannot be written"),
    ([".", "--set-aside"], "did you mean --set_aside"), (["."], "no result_*.txt")])
def test_wrong_usage_is_one_line_and_exit_1(tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    assert main(["history", *argv]) == 1
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


# --- formats --------------------------------------------------------------------------


def test_the_table_fits_the_screen_and_ends_with_what_is_not_listed(system, capsys):
    assert main(["history", str(system)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[-1] == "6 sets of 1 benchmark, 1 step"
    assert any("slower +" in line for line in lines)
    assert any("changed: batch_size 4096 -> 8192" in line for line in lines)


def test_csv_has_a_row_for_each_set(system, capsys):
    assert main(["history", "--format", "csv", str(system)]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 6 and rows[3]["step"] == "slower"
    assert rows[0]["start_utc"].startswith("2026-01-01T00:00:0")
    assert float(rows[3]["time_ratio"]) > 1.5 and rows[3]["changed_settings"]


def test_markdown_has_a_title_and_a_table(system, capsys):
    assert main(["history", "--format", "markdown", str(system)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("## 6 sets of 1 benchmark") and text.count("| PASS |") == 6


def test_the_page_needs_no_network_and_marks_the_steps(system, capsys, tmp_path):
    page = tmp_path / "history.html"
    assert main(["history", str(system), "--html", str(page)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"; report: {page}")
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert text.count("<title>") > 6 and "slower than before" in text and len(text) < 1_000_000


def test_texts_of_a_log_are_escaped_on_the_page(tmp_path, capsys):
    bad = "<script>alert(1)</script>"
    system = write_history(tmp_path / "sys", [100, 101], {1: {"engine": bad}})
    page = tmp_path / "history.html"
    assert main(["history", str(system), "--html", str(page)]) == 0
    assert bad not in page.read_text(encoding="utf-8") and "alert(1)" in page.read_text()
    assert "\x1b" not in capsys.readouterr().out


def test_the_committed_examples_have_a_history():
    history = build_history(ROOT / "results")
    assert {one.benchmark for one in history.benchmarks} == {"ncf-ml-100k", "ncf-ml-1m"}
    assert all(one.sets[-1].verdict == "pass" for one in history.benchmarks)


def test_logs_of_others_have_a_history_without_a_ledger(shared_dir, capsys):
    found = answer(capsys, shared_dir / "logs_v05")["benchmarks"]
    assert {one["benchmark"] for one in found} == {"nvidia_dgx1", "intel_skx8180"}
    assert all(one["sets"][0]["verdict"] == "pass" and one["sets"][0]["ci95_s"] for one in found)
