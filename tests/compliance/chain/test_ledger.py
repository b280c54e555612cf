"""The chain of attempts: removed, edited and reordered logs are reported."""

from __future__ import annotations

import json
import shutil

import pytest

from compliance.chain.attempt_record import InvalidAttemptRecord, read_attempt_record
from compliance.chain.ledger import LedgerError, find_ledger, parse_ledger, read_ledger
from compliance.checking.checker import check_file, check_paths
from compliance.results.scoring import score_folder
from tests.support.logs.attempt_chains import (
    LAUNCHER,
    OTHER,
    attempt_line,
    chained_set,
    edit,
    with_attempt_record,
    write_ledger,
)
from tests.support.logs.log_builder import good_log, write_log


def lines_by_violation(folder):
    """Returns the line of each error of a set, by (file, rule)."""
    result = check_paths([folder])
    return {(f.path.rpartition("/")[2], v.rule): v.line for f in result.files
            for v in f.errors.list()}


def warnings(folder, rule):
    """Returns the messages of the warnings of a rule."""
    return [v.message for f in check_paths([folder]).files for v in f.warnings.list()
            if v.rule == rule]


def broken_rules(folder):
    """Returns the ids of the rules that a set breaks."""
    return {rule for _, rule in lines_by_violation(folder)}


@pytest.fixture()
def results(tmp_path):
    return chained_set(tmp_path / "results")


def attempts_folder(results):
    """Returns the folder with the ledger and the attempt logs of a set."""
    return results.parent / "attempts" / results.name


class TestIntactSet:
    def test_passes_with_and_without_its_ledger(self, results, tmp_path):
        assert lines_by_violation(results) == {}
        shutil.copytree(results, tmp_path / "alone")
        assert lines_by_violation(tmp_path / "alone") == {}

    def test_warns_of_attempts_that_are_no_runs(self, results):
        (message,) = warnings(results, "NCF-CHAIN-NO-RUN")
        assert message == "attempt 2 (interrupted) ended without a result"

    @pytest.mark.parametrize("cut, said", [(None, "3 (killed)"), (-1, "3 (not ended)")])
    def test_warns_of_attempts_after_its_last_run(self, tmp_path, cut, said):
        folder = chained_set(tmp_path, ["target", "target", "killed"])
        ledger = attempts_folder(folder) / "ledger.jsonl"
        ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:cut]))
        (message,) = warnings(folder, "NCF-CHAIN-NO-RUN")
        assert lines_by_violation(folder) == {} and message.endswith(f"{said} ended without a result")

    def test_warns_of_sets_before_it(self, results):
        assert warnings(results, "NCF-CHAIN-EARLIER") == []
        ledger = attempts_folder(results) / "ledger.jsonl"
        entries = [json.loads(line) for line in ledger.read_text().splitlines()]
        before = [{**e, "set": "20250101T000000Z"} for e in entries]
        write_ledger(ledger, before + entries)
        (message,) = warnings(results, "NCF-CHAIN-EARLIER")
        assert lines_by_violation(results) == {}
        assert message.endswith("sets before it: 20250101T000000Z (attempts 4, results 3)")

    def test_may_be_made_by_several_launchers(self, tmp_path):
        ends = ["target", "killed", "target", "target"]
        launchers = [LAUNCHER, LAUNCHER, OTHER, OTHER]
        assert lines_by_violation(chained_set(tmp_path, ends, launchers)) == {}

    def test_may_begin_with_attempts_that_are_no_runs(self, tmp_path):
        folder = chained_set(tmp_path, ["killed", "exception", "target", "epoch_cap"])
        assert lines_by_violation(folder) == {}

    def test_is_found_with_its_ledger_after_it_was_set_aside(self, results):
        aside = attempts_folder(results) / "set_20260102T000000Z"
        results.rename(aside)
        assert find_ledger(aside) == attempts_folder(results) / "ledger.jsonl"
        assert lines_by_violation(aside) == {}
        edit(attempts_folder(results) / "ledger.jsonl", '"seed": 1', '"seed": 9')
        assert broken_rules(aside) == {"NCF-CHAIN-LEDGER"}


class TestRemoval:
    @pytest.mark.parametrize("with_ledger", [True, False])
    @pytest.mark.parametrize("run, line_in", [(0, "result_1.txt"), (1, "result_2.txt")])
    def test_a_run_before_the_last(self, results, run, line_in, with_ledger):
        if not with_ledger:
            shutil.rmtree(attempts_folder(results))
        line = attempt_line(results / line_in)
        (results / f"result_{run}.txt").unlink()
        assert lines_by_violation(results) == {(line_in, "NCF-CHAIN-REMOVED"): line}
        assert score_folder(results).result.seconds is None

    def test_the_last_run_where_the_ledger_is_beside(self, results):
        (results / "result_2.txt").unlink()
        assert broken_rules(results) == {"NCF-CHAIN-REMOVED"}

    def test_two_runs_and_the_numbers_closed_up(self, results):
        (results / "result_0.txt").unlink()
        (results / "result_1.txt").rename(results / "result_0.txt")
        (results / "result_2.txt").rename(results / "result_1.txt")
        assert {"NCF-CHAIN-REMOVED", "NCF-CHAIN-ORDER"} <= broken_rules(results)

    def test_the_log_of_an_attempt(self, results):
        (log,) = attempts_folder(results).glob("run_*.txt")
        log.unlink()
        assert broken_rules(results) == {"NCF-CHAIN-ATTEMPT"}

    def test_a_line_of_the_ledger(self, results):
        ledger = attempts_folder(results) / "ledger.jsonl"
        lines = ledger.read_bytes().splitlines(keepends=True)
        for number in range(len(lines) - 1):
            ledger.write_bytes(b"".join(lines[:number] + lines[number + 1:]))
            assert broken_rules(results) == {"NCF-CHAIN-LEDGER"}, number

    def test_the_end_of_the_ledger(self, results):
        ledger = attempts_folder(results) / "ledger.jsonl"
        lines = ledger.read_bytes().splitlines(keepends=True)
        ledger.write_bytes(b"".join(lines[:-2]))
        assert broken_rules(results) == {"NCF-CHAIN-LEDGER"}

    def test_the_attempt_record_of_one_log(self, results):
        log = results / "result_1.txt"
        lines = log.read_text().splitlines(keepends=True)
        log.write_text("".join(x for x in lines if '"key": "attempt"' not in x))
        assert "NCF-CHAIN-MISSING" in broken_rules(results)

    def test_the_attempt_records_of_all_logs(self, results):
        for log in results.iterdir():
            lines = log.read_text().splitlines(keepends=True)
            log.write_text("".join(x for x in lines if '"key": "attempt"' not in x))
        assert broken_rules(results) == {"NCF-CHAIN-MISSING"}
        shutil.rmtree(attempts_folder(results))
        assert broken_rules(results) == set()  # now like a set of another program: SECURITY.md


class TestEditing:
    @pytest.mark.parametrize("with_ledger", [True, False])
    @pytest.mark.parametrize("run", [0, 1])
    def test_a_run_before_the_last(self, results, run, with_ledger):
        if not with_ledger:
            shutil.rmtree(attempts_folder(results))
        log = results / f"result_{run}.txt"
        edit(log, '"reason": "dropped"', '"reason": "Dropped"')  # no other rule checks this
        assert lines_by_violation(results) == {(log.name, "NCF-CHAIN-EDITED"): attempt_line(log)}

    def test_the_last_run_where_the_ledger_is_beside(self, results):
        edit(results / "result_2.txt", '"reason": "dropped"', '"reason": "Dropped"')
        assert broken_rules(results) == {"NCF-CHAIN-EDITED"}

    def test_the_log_of_an_attempt(self, results):
        (log,) = attempts_folder(results).glob("run_*.txt")
        edit(log, '"interrupted"', '"exception"')
        assert broken_rules(results) == {"NCF-CHAIN-ATTEMPT"}

    @pytest.mark.parametrize("old, new", [
        ('"reason": "interrupted"', '"reason": "killed"'), ('"accuracy": 0.1', '"accuracy": 0.2'),
        ('"event": "start"', '"event": "begin"'), ('"set"', '"Set"'), ("{", "["), (":", ";"),
        ('"previous": null', '"previous": "x"')])
    def test_the_ledger(self, results, old, new):
        edit(attempts_folder(results) / "ledger.jsonl", old, new)
        assert broken_rules(results) == {"NCF-CHAIN-LEDGER"}

    def test_the_ledger_as_a_whole(self, results):
        """Its own chain is valid, but the logs belong to another ledger."""
        ledger = attempts_folder(results) / "ledger.jsonl"
        entries = [json.loads(line) for line in ledger.read_text().splitlines()]
        for entry in entries:
            entry["seed"] = 5
            if entry["event"] == "end":
                entry["sha256"] = "0" * 64
        write_ledger(ledger, entries)
        assert {"NCF-CHAIN-EDITED", "NCF-CHAIN-LEDGER"} <= broken_rules(results)

    def test_a_run_as_an_interrupted_attempt(self, results):
        edit(results / "result_1.txt", '"reason": "target", "sha256"',
             '"reason": "killed", "sha256"')
        (results / "result_0.txt").unlink()
        assert {"NCF-CHAIN-EDITED", "NCF-CHAIN-LEDGER"} <= broken_rules(results)


class TestReordering:
    def test_two_runs(self, results):
        (results / "result_0.txt").rename(results / "x")
        (results / "result_1.txt").rename(results / "result_0.txt")
        (results / "x").rename(results / "result_1.txt")
        assert lines_by_violation(results) == {
            (name, "NCF-CHAIN-ORDER"): attempt_line(results / name)
            for name in ("result_0.txt", "result_1.txt")}

    @pytest.mark.parametrize("name", ["result_01.txt", "result_a.txt", "result_\u0661.txt"])
    def test_a_name_that_no_run_has(self, results, name):
        (results / "result_1.txt").rename(results / name)
        assert lines_by_violation(results) == {
            (name, "NCF-CHAIN-ORDER"): attempt_line(results / name)}

    def test_lines_of_the_ledger(self, results):
        ledger = attempts_folder(results) / "ledger.jsonl"
        lines = ledger.read_bytes().splitlines(keepends=True)
        for number in range(len(lines) - 1):
            swapped = list(lines)
            swapped[number:number + 2] = swapped[number + 1], swapped[number]
            ledger.write_bytes(b"".join(swapped))
            assert broken_rules(results) == {"NCF-CHAIN-LEDGER"}, number

    def test_attempt_numbers(self, results):
        for name, old, new in (("result_0.txt", 1, 3), ("result_1.txt", 3, 1)):
            edit(results / name, f'"attempt": {old}, "run"', f'"attempt": {new}, "run"')
        assert {"NCF-CHAIN-RECORD", "NCF-CHAIN-REMOVED"} <= broken_rules(results)


def test_one_attempt_cannot_be_two_logs(results):
    shutil.copy(results / "result_2.txt", results / "result_3.txt")
    assert "NCF-CHAIN-ORDER" in broken_rules(results)


def test_logs_of_two_sets_are_not_one(results):
    edit(results / "result_2.txt", '"set": "2026', '"set": "2025')
    assert "NCF-CHAIN-SET" in broken_rules(results)


class TestLaunchers:
    def test_a_launcher_that_does_not_join_the_one_before_is_reported(self, tmp_path):
        results = chained_set(tmp_path, ["target"] * 3, [LAUNCHER, LAUNCHER, OTHER])
        log = results / "result_2.txt"
        edit(log, f'"joins": "{LAUNCHER}"', '"joins": null')
        assert lines_by_violation(results)[log.name, "NCF-CHAIN-JOIN"] == attempt_line(log)

    def test_a_launcher_that_joins_another_one_is_reported(self, tmp_path):
        results = chained_set(tmp_path, ["target"] * 3, [LAUNCHER, LAUNCHER, OTHER])
        edit(results / "result_2.txt", f'"joins": "{LAUNCHER}"', f'"joins": "{"c" * 16}"')
        assert "NCF-CHAIN-JOIN" in broken_rules(results)


GOOD = {"set": "s", "attempt": 3, "run": 1, "launcher": "l", "joins": None, "previous": [
    {"attempt": n, "run": 1, "launcher": "l", "reason": "killed", "sha256": "0" * 64}
    for n in (1, 2)]}


@pytest.mark.parametrize("change", [
    {"attempt": 0}, {"attempt": True}, {"attempt": 2.0}, {"run": -1}, {"set": ""}, {"set": 3},
    {"launcher": None}, {"joins": 1}, {"previous": None}, {"previous": []}, {"attempt": 10 ** 30},
    {"previous": GOOD["previous"][:1]}, {"previous": GOOD["previous"][1:]}, {"more": 1},
    {"previous": GOOD["previous"][::-1]}, {"previous": [1, 2]}, {"previous": [{}] * 2},
    {"previous": [GOOD["previous"][0], {**GOOD["previous"][1], "reason": "target"}]},
    {"previous": [GOOD["previous"][0], {**GOOD["previous"][1], "reason": "bored"}]},
    {"previous": [GOOD["previous"][0], {**GOOD["previous"][1], "sha256": "0"}]}])
def test_an_invalid_attempt_record_is_reported_with_its_line(tmp_path, change):
    read_attempt_record(GOOD)
    with pytest.raises(InvalidAttemptRecord):
        read_attempt_record({**GOOD, **change})
    log = write_log(tmp_path / "result_1.txt", with_attempt_record(good_log(), {**GOOD, **change}))
    (violation,) = check_file(log).errors.list()
    assert (violation.rule, violation.line) == ("NCF-CHAIN-RECORD", attempt_line(log))


def test_a_huge_number_of_attempts_costs_nothing(tmp_path):
    link = {**GOOD, "attempt": 10 ** 15, "previous": [{**GOOD["previous"][0], "reason": "target",
                                                       "attempt": 10 ** 15 - 1}]}
    write_log(tmp_path / "result_1.txt", with_attempt_record(good_log(), link))
    assert "NCF-CHAIN-REMOVED" in broken_rules(tmp_path)


class TestLedgerFile:
    def test_a_torn_last_line_does_not_count(self, results):
        path = attempts_folder(results) / "ledger.jsonl"
        whole = read_ledger(path)
        path.write_bytes(path.read_bytes() + b'{"time": "2026')
        torn = read_ledger(path)
        assert (torn.size, torn.digest) == (whole.size, whole.digest)

    def test_any_prefix_is_a_ledger(self, results):
        data = (attempts_folder(results) / "ledger.jsonl").read_bytes()
        for size in range(0, len(data), 7):
            assert parse_ledger(data[:size]).size <= size

    @pytest.mark.parametrize("data", [
        b"\n", b"{}\n", b"[]\n", b"null\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n",
        b"x" * 70_000 + b"\n",
        b'{"event": "start", "previous": null}\n', b'{"event": "end", "previous": null}\n',
        b'{"event": [], "previous": null}\n', b'{"event": "launcher", "previous": {}}\n'])
    def test_other_content_is_refused_with_its_line(self, data):
        with pytest.raises(LedgerError, match="line 1: "):
            parse_ledger(data)

    def test_no_path_in_it_is_opened(self, results, tmp_path):
        secret = tmp_path / "secret.txt"
        secret.write_text("x")
        ledger = attempts_folder(results) / "ledger.jsonl"
        entries = [json.loads(line) for line in ledger.read_text().splitlines()]
        for entry in entries:
            if "log" in entry:
                entry["log"] = str(secret)
        write_ledger(ledger, entries)
        from tests.compliance.checking.test_checker_opens import opened
        code, names = opened(tmp_path, "check", results)
        assert code == 0 and str(secret) not in names and str(ledger) in names
