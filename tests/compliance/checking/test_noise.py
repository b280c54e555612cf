"""Warnings about runs on a machine that was busy: `check`, `report` and the console's table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compliance.__main__ import main
from compliance.checking.checker import check_file, check_paths
from harness.launcher.verdict import _noise_lines
from tests.support.logs.log_builder import Record, good_log, index_of, write_log
from tests.support.logs.run_sets import _time_stats_anew, write_set
from tests.support.paths import ROOT

VARY, SET_VARY = "NCF-EPOCHS-VARY", "NCF-SET-EPOCHS-VARY"


def slowed(records: list[Record], epochs: set[int], extra_ms: int) -> list[Record]:
    """Lengthens the training of some epochs; everything after them is later."""
    delay = 0
    for record in records:
        if record["key"] == "epoch_stop" and record["metadata"]["epoch_num"] in epochs:
            delay += extra_ms
        record["time_ms"] += delay
        if "wall_time_ms" in record["metadata"]:
            record["metadata"]["wall_time_ms"] += delay
    _time_stats_anew(records)
    return records


def noise(path: Path) -> list[tuple[str, str]]:
    """Returns (rule, message) of the warnings about noise in a log."""
    return [(w.rule, w.message) for w in check_file(path).warnings.list() if "VARY" in w.rule]


def test_a_run_whose_epochs_vary_passes_with_a_warning_in_plain_words(tmp_path):
    log = tmp_path / "result_0.txt"
    write_log(log, slowed(good_log(epochs=8), {3, 4, 5, 6}, 1470))
    result = check_file(log)
    assert result.verdict == "pass"
    [(rule, message)] = noise(log)
    assert rule == VARY
    assert message == (
        "the epochs of this run vary by 140% (1.05 to 2.52 s), and took 80% longer than the "
        "fastest quarter of them: the machine was busy or slowed down; its times are not "
        "comparable")


def test_the_message_contains_the_load_that_the_log_has(tmp_path):
    records = slowed(good_log(epochs=8), {3, 4, 5, 6}, 1470)
    at = index_of(records, "run_stop") + 1
    load = {"seconds": 9.0, "cpus": 2, "load_1min": 3.0, "other_cpus": 0.93, "steal_share": 0.12}
    records.insert(at, {**records[at - 1], "key": "machine_load", "event_type": "POINT_IN_TIME",
                        "value": load, "metadata": {"when": "after_run"}})
    write_log(tmp_path / "result_0.txt", records)
    [(_, message)] = noise(tmp_path / "result_0.txt")
    assert "(other programs used 0.93 of 2 CPUs, 12% of the CPUs' time was stolen)" in message


@pytest.mark.parametrize("value", [None, [], {}, {"other_cpus": "x", "cpus": None},
                                   {"other_cpus": 1e300, "cpus": 1e300, "steal_share": -1}])
def test_a_load_of_any_form_is_read(tmp_path, value):
    records = slowed(good_log(epochs=8), {3, 4, 5, 6}, 1470)
    records.append({**records[-1], "key": "machine_load", "event_type": "POINT_IN_TIME",
                    "value": value, "metadata": {"when": "after_run"}})
    write_log(tmp_path / "result_0.txt", records)
    [(_, message)] = noise(tmp_path / "result_0.txt")
    assert len(message) < 300


@pytest.mark.parametrize("epochs, slow, extra_ms", [
    (8, {1}, 5000),  # the first epoch may contain work that is done once
    (13, {7}, 1000),  # one pause in a long run
    (3, {2}, 1000),  # too few epochs to say anything
    (8, {3, 4, 5, 6}, 100)])
def test_no_warning_without_a_disturbance_of_the_run(tmp_path, epochs, slow, extra_ms):
    write_log(tmp_path / "result_0.txt", slowed(good_log(epochs=epochs), slow, extra_ms))
    assert noise(tmp_path / "result_0.txt") == []


def test_a_run_that_was_slow_from_beginning_to_end_is_found_in_its_set(tmp_path, capsys):
    folder = write_set(tmp_path / "sys" / "ncf-ml-100k", [8, 8, 8, 8, 8])
    write_log(folder / "result_2.txt", slowed(
        good_log(epochs=8, seed=3, start_ms=10**12 + 2 * 10**7), set(range(1, 9)), 1200))
    found = {Path(f.path).name: [w for w in f.warnings.list() if "VARY" in w.rule]
             for f in check_paths([folder]).files}
    assert [name for name, warnings in found.items() if warnings] == ["result_2.txt"]
    [warning] = found["result_2.txt"]
    assert warning.rule == SET_VARY and warning.message.startswith(
        "the epochs of this run took 2.25 s, 122% longer than those of the fastest runs, such as "
        "result_0.txt: the machine was busy")
    # The report says it, too, in all its forms.
    page = tmp_path / "page.html"
    assert main(["report", str(folder), "--html", str(page)]) == 0
    assert "the machine was busy" in " ".join(capsys.readouterr().out.split())
    assert "the machine was busy" in page.read_text(encoding="utf-8")


def test_the_console_names_the_run(tmp_path):
    write_log(tmp_path / "result_2.txt", slowed(good_log(epochs=8), {3, 4, 5, 6}, 1470))
    [line] = _noise_lines(check_paths([tmp_path]).as_json())
    assert line.startswith("warning: the epochs of run 2 vary by 140%")


def test_v05_logs_get_the_same_warning(tmp_path):
    lines = [":::MLPv0.5.0 ncf 0.0 (x:1) run_start"]
    now = 0.0
    for epoch, took in enumerate([9, 1, 1, 1, 3, 3, 3, 1]):
        lines.append(f":::MLPv0.5.0 ncf {now} (x:1) train_epoch: {epoch}")
        now += took
        lines.append(f":::MLPv0.5.0 ncf {now} (x:1) eval_stop: {epoch}")
    (tmp_path / "result_0.txt").write_text("\n".join(lines) + "\n")
    assert [rule for rule, _ in noise(tmp_path / "result_0.txt")] == [VARY]


def assert_quiet(folder: Path) -> None:
    for file in check_paths([folder]).files:
        assert not file.has_violation_of(VARY) and not file.has_violation_of(SET_VARY), file.path


def test_the_committed_examples_get_no_warning():
    assert_quiet(ROOT / "results")


def test_the_logs_that_were_submitted_to_v05_get_no_warning(shared_dir):
    assert_quiet(shared_dir / "logs_v05")


def test_json_has_the_warnings(tmp_path, capsys):
    write_log(tmp_path / "result_0.txt", slowed(good_log(epochs=8), {3, 4, 5, 6}, 1470))
    assert main(["check", "--format", "json", str(tmp_path)]) == 0
    [file] = json.loads(capsys.readouterr().out)["files"]
    assert VARY in [w["rule"] for w in file["warnings"]]


@pytest.mark.parametrize("load", [
    {"other_cpus": 1e308, "cpus": 2, "steal_share": 7},
    {"other_cpus": -3, "cpus": 2, "steal_share": -1},
    {"other_cpus": [1], "cpus": None, "steal_share": "much"},
])  # fmt: skip
def test_impossible_figures_of_the_load_are_not_repeated(tmp_path, load):
    records = slowed(good_log(epochs=8), {3, 4, 5, 6}, 1470)
    end = index_of(records, "run_stop")
    records.insert(end + 1, {**records[end], "key": "machine_load", "value": load,
                             "metadata": {"when": "after_run"}})
    write_log(tmp_path / "result_0.txt", records)
    [(_, message)] = [x for x in noise(tmp_path / "result_0.txt") if x[0] == VARY]
    assert "CPUs" not in message and "stolen" not in message


def test_compare_says_that_times_are_not_comparable(tmp_path, capsys):
    for name in "ab":
        write_set(tmp_path / name, [8] * 5)
    busy = tmp_path / "b" / "result_2.txt"
    records = [json.loads(line.removeprefix(":::MLLOG ")) for line in busy.read_text().splitlines()]
    write_log(busy, slowed(records, {3, 4, 5, 6}, 1470))
    main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--format", "json"])
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert [note[:12] for note in notes if "not comparable" in note] == ["B: 1 of 5 ru"]
