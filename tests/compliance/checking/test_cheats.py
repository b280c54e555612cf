"""Cheats that once passed: a log with one of them now fails or gets a warning."""

from __future__ import annotations

import copy
import gzip
import json
import shutil
from itertools import combinations
from pathlib import Path

import pytest

from compliance.checking.checker import check_file, check_paths
from compliance.checking.checks.sets import equal_hit_rates
from compliance.logs.run_summary import Measurements
from compliance.rcp.calibration import REFERENCE_POINTS_DIR
from compliance.tracks import load_track
from tests.support.logs.attempt_chains import chained_set, sha256, write_ledger
from tests.support.logs.log_builder import good_log, index_of, set_setting, write_log
from tests.support.logs.run_sets import write_set


def rules_of(tmp_path, records) -> set[str]:
    result = check_file(write_log(tmp_path / "a.txt", records))
    return {v.rule for v in result.errors.list()}


def rules_of_set(folder, severity="errors") -> set[str]:
    return {v.rule for f in check_paths([folder]).files for v in getattr(f, severity).list()}


def read(path: Path) -> list[dict]:
    return [json.loads(line.removeprefix(":::MLLOG ")) for line in path.read_text().splitlines()]


# -- runs declared as attempts, and runs that end without a reason -------------------------------


@pytest.mark.parametrize("reason", ["interrupted", "stalled", "killed", "exception", "worker_lost"])
def test_a_run_that_used_all_its_epochs_is_no_interrupted_attempt(tmp_path, reason):
    records = good_log(epochs=4, converged=False, reason=reason, max_epochs=4)
    assert rules_of(tmp_path, records) == {"NCF-EPOCHS-OF-CAP"}
    records = good_log(epochs=4, converged=False, reason=reason, max_epochs=5)
    assert rules_of(tmp_path, records) == set()


def test_the_cap_is_that_of_the_configuration_and_of_the_track(tmp_path):
    """ml-100k allows 25 epochs."""
    early = good_log(epochs=4, converged=False, reason="epoch_cap", max_epochs=5)
    assert rules_of(tmp_path, early) == {"NCF-EPOCHS-OF-CAP"}
    records = good_log(epochs=4, converged=False)
    del records[index_of(records, "configuration")]["value"]["max_epochs"]
    assert rules_of(tmp_path, records) == {"NCF-EPOCHS-OF-CAP"}
    beyond = good_log(epochs=4, max_epochs=3)
    assert rules_of(tmp_path, beyond) == {"NCF-EPOCHS-OF-CAP"}
    # In the open division the track's cap does not apply, and configuration is optional.
    records = good_log(epochs=4, converged=False, division="open")
    del records[index_of(records, "configuration")]
    assert rules_of(tmp_path, records) == set()


def test_a_nan_loss_leaves_an_epoch_without_loss_that_is_not_evaluated(tmp_path):
    records = good_log(epochs=3, converged=False, reason="nan_loss")
    assert rules_of(tmp_path, records) == {"NCF-NAN-LOSS"}
    cut = [r for r in records if r["metadata"].get("epoch_num") != 3
           or r["key"] in ("epoch_start", "epoch_stop", "run_stop")]
    cut[-1]["metadata"]["epoch_num"] = 2
    assert rules_of(tmp_path, cut) == {"NCF-NAN-LOSS"}
    without_loss = copy.deepcopy(cut)
    del without_loss[index_of(cut, "epoch_stop", 2)]["metadata"]["loss"]
    assert rules_of(tmp_path, without_loss) == set()
    # The harness writes no epoch_stop for this epoch.
    del cut[index_of(cut, "epoch_stop", 2)]
    assert rules_of(tmp_path, cut) == set()


def test_an_attempt_in_the_folder_of_a_set_is_told(tmp_path):
    write_set(tmp_path / "s", [3, 4])
    write_log(tmp_path / "s" / "result_2.txt", good_log(
        epochs=2, converged=False, reason="interrupted", seed=9, start_ms=2 * 10**12))
    assert rules_of_set(tmp_path / "s") == set()
    assert "NCF-SET-NO-RUN" in rules_of_set(tmp_path / "s", "warnings")


def test_the_log_of_an_attempt_says_what_the_chain_says_of_it(tmp_path):
    """The ledger and the chain declare a run that reached its target as interrupted."""
    folder = chained_set(tmp_path, ["target", "interrupted", "target", "target"])
    assert rules_of_set(folder) == set()
    folder = chained_set(tmp_path / "b", ["target", "interrupted", "target", "target"],
                         slim=lambda records: _call_success(records))
    assert rules_of_set(folder) == {"NCF-CHAIN-ATTEMPT"}


@pytest.mark.parametrize("change, message, severity", [
    (lambda r: _reach_the_target(r), "reached its target", "warnings"),
    (lambda r: r[index_of(r, "configuration")]["value"].update(max_epochs=1), "every epoch of its",
     "warnings"),
    (lambda r: r[index_of(r, "eval_target")].update(value=0.9), "has the target 0.9", "errors")])
def test_the_log_of_an_attempt_is_one_of_a_run_that_was_ended(
        tmp_path, change, message, severity):
    """A finished run gets only a warning: it may have been killed before its run_stop."""
    def change_attempt(records):
        if records[-1]["metadata"]["reason"] == "interrupted":
            change(records)
        return records

    folder = chained_set(tmp_path, ["target", "interrupted", "target"], slim=change_attempt,
                         epochs=2)
    result = check_paths([folder])
    found = [v for f in result.files for v in getattr(f, severity).list()
             if v.rule.startswith("NCF-CHAIN-ATTEMPT")]
    assert len(found) == 1 and message in found[0].message
    assert (result.verdict == "pass") is (severity == "warnings")


def _reach_the_target(records):
    records[index_of(records, "eval_accuracy", -1)]["value"] = 0.3


def _call_success(records):
    if records[-1]["metadata"]["reason"] == "interrupted":
        records[-1]["metadata"].update(status="success", reason="target")
    return records


@pytest.mark.parametrize("old, new", [
    ('"reason": "target"', '"reason": "epoch_cap"'), ('"seconds": 1.', '"seconds": 9.'),
    ('"epochs": 1', '"epochs": 2'), ('"accuracy": 0.1', '"accuracy": 0.2')])
def test_the_ledger_agrees_with_the_logs(tmp_path, old, new):
    """The test edits the last line, on which no other line depends."""
    folder = chained_set(tmp_path, ["target", "target"])
    ledger = folder.parent / "attempts" / folder.name / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    assert old in lines[-1]
    ledger.write_text("".join([*lines[:-1], lines[-1].replace(old, new)]))
    assert rules_of_set(folder) == {"NCF-CHAIN-LEDGER"}


# -- copies of one run ----------------------------------------------------------------


def copies(tmp_path, change) -> Path:
    """Writes a set of two runs; the second copies the first, with another seed and a change."""
    folder = write_set(tmp_path / "s", [9, 9])
    first = read(folder / "result_0.txt")
    records = copy.deepcopy(first)
    records[index_of(records, "seed")]["value"] = 77
    for record in records:  # an hour later
        record["time_ms"] += 3_600_000
        if "wall_time_ms" in record["metadata"]:
            record["metadata"]["wall_time_ms"] += 3_600_000
        change(record)
    write_log(folder / "result_1.txt", records)
    return folder


def _change_losses(by):
    def change(record):
        if record["key"] == "tracked_stats":
            record["value"]["loss"] += by * record["metadata"]["epoch_num"]
        if record["key"] == "epoch_stop":
            record["metadata"]["loss"] += by * record["metadata"]["epoch_num"]
    return change


def _change_seconds_too(record):
    _change_losses(0.01)(record)
    if record["key"] == "tracked_stats":
        record["value"]["train_seconds"] += 2e-6


def _change_ndcg_too(record):
    _change_seconds_too(record)
    if record["key"] == "eval_ndcg":
        record["value"] += 1e-6


def _change_all_but_epoch_2(record):
    """Keeps one equal loss in double precision."""
    if record["metadata"].get("epoch_num") != 2:
        _change_ndcg_too(record)


def _leave_out(record):
    """Removes losses and seconds, changes NDCG, and adds a hit in epoch 1."""
    if record["key"] == "tracked_stats":
        for name in ("loss", "train_seconds", "eval_seconds"):
            del record["value"][name]
    record["metadata"].pop("loss", None)
    if record["key"] == "eval_ndcg":
        record["value"] += 1e-6
    if record["metadata"].get("epoch_num") == 1:
        if record["key"] == "eval_stop":
            record["metadata"]["hits"] += 1
        if record["key"] == "eval_accuracy":
            record["value"] = round((round(record["value"] * 943) + 1) / 943, 15)


@pytest.mark.parametrize("change, what", [
    (lambda record: None, "losses"), (_change_losses(1e-12), "losses"),
    (_change_losses(0.01), "seconds of training"), (_change_seconds_too, "NDCG"),
    (_change_ndcg_too, "hit rates"), (_change_all_but_epoch_2, "losses"),
    (_leave_out, "hit rates")])
def test_a_copy_of_a_run_is_found_by_what_is_left_alike(tmp_path, change, what):
    result = check_paths([copies(tmp_path, change)])
    (violation,) = result.files[1].errors.list()
    assert violation.rule == "NCF-SET-CURVES" and what in violation.message


def test_a_copy_of_a_short_run_is_found_by_its_seconds_together(tmp_path):
    """A single duration of up to five digits can be equal by chance, but not most of them."""
    folder = write_set(tmp_path / "s", [6, 6], epoch_ms=30)
    records = read(folder / "result_0.txt")
    records[index_of(records, "seed")]["value"] = 77
    for index in (1, 3):
        records[index_of(records, "eval_stop", index)]["metadata"]["hits"] += 1
        accuracy = records[index_of(records, "eval_accuracy", index)]
        accuracy["value"] = round((round(accuracy["value"] * 943) + 1) / 943, 15)
    for record in records:
        record["time_ms"] += 3_600_000
        if "wall_time_ms" in record["metadata"]:
            record["metadata"]["wall_time_ms"] += 3_600_000
        _change_losses(1e-5)(record)
        if record["key"] == "eval_ndcg":
            record["value"] += 1e-9
    write_log(folder / "result_1.txt", records)
    (violation,) = check_paths([folder]).files[1].errors.list()
    assert violation.rule == "NCF-SET-CURVES" and "seconds" in violation.message


HITS = [106, 127, 146, 158, 171, 180, 186, 189]


def with_hits(records, hits, seed):
    """Sets the hits of `len(hits)` epochs, and losses, NDCG and seconds unique to the seed."""
    records = [copy.deepcopy(r) for r in records
               if r["metadata"].get("epoch_num", 0) <= len(hits) or r["key"] == "run_stop"]
    records[index_of(records, "seed")]["value"] = seed
    for index, hit in enumerate(hits):
        records[index_of(records, "eval_stop", index)]["metadata"]["hits"] = hit
        records[index_of(records, "eval_accuracy", index)]["value"] = round(hit / 943, 15)
        records[index_of(records, "eval_ndcg", index)]["value"] = 0.5 * hit / 943 + 1e-6 * seed
    for record in records:
        _change_losses(1e-3 * seed)(record)
        if record["key"] == "tracked_stats":
            for name in ("train_seconds", "eval_seconds"):
                record["value"][name] *= 1 + 1e-5 * seed
    records[index_of(records, "run_stop")]["metadata"]["epoch_num"] = len(hits)
    return records


@pytest.mark.parametrize("hits, is_found", [
    (HITS[1:], True),  # without the first epoch
    (HITS[2:], True),
    ([HITS[0], *HITS[2:]], True),
    ([HITS[1], HITS[0], *HITS[2:]], True),  # two epochs swapped
    ([HITS[4], HITS[2], HITS[0], HITS[5], HITS[1], HITS[3], *HITS[6:]], True),
    ([*HITS[:6], 188], True),  # truncated, with a forged last epoch
    ([HITS[0] + 1, HITS[1] + 1, HITS[2] + 1, *HITS[3:]], False),
    ([h + 1 for h in HITS[:-1]] + [191], False)])
def test_a_copy_is_found_by_hit_rates_that_were_moved(tmp_path, hits, is_found):
    """All other figures differ."""
    folder = write_set(tmp_path / "s", [8, 8])
    first = with_hits(read(folder / "result_0.txt"), HITS, 11)
    second = with_hits(read(folder / "result_1.txt"), hits, 50)
    for index, records in enumerate((first, second)):
        write_log(folder / f"result_{index}.txt", records)
    assert ("NCF-SET-CURVES" in rules_of_set(folder)) is is_found


def test_reference_runs_are_no_copies_of_each_other():
    """1,770 pairs of runs of ml-100k up to the target, and those of ml-1m and ml-1m-paper."""
    for track in ("ml-100k", "ml-1m", "ml-1m-paper"):
        record = json.loads((REFERENCE_POINTS_DIR / f"{track}.json").read_text())
        target, runs = load_track(track).target, []
        for run in record["runs"]:
            rates = run["hit_rate"]
            length = next((i + 1 for i, rate in enumerate(rates) if rate >= target), len(rates))
            runs.append(Measurements(losses=[0.1], hit_rates=rates[:length]))
        assert not [1 for a, b in combinations(runs, 2) if equal_hit_rates(a, b)]


def test_a_copy_whose_epochs_are_elsewhere_is_found(tmp_path):
    """The copy lacks the first epoch, so it is one epoch shorter."""
    folder = write_set(tmp_path / "s", [6, 6])
    first = read(folder / "result_0.txt")
    records = [r for r in first if r["metadata"].get("epoch_num") != 1]
    for record in records:
        if "epoch_num" in record["metadata"]:
            record["metadata"]["epoch_num"] -= 1
    records[index_of(records, "seed")]["value"] = 77
    write_log(folder / "result_1.txt", records)
    assert "NCF-SET-CURVES" in rules_of_set(folder)


def test_figures_with_few_digits_may_be_equal(tmp_path):
    """Another program may round losses to four digits and seconds to milliseconds."""
    folder = write_set(tmp_path / "s", [6, 6])
    for index in range(2):
        records = read(folder / f"result_{index}.txt")
        for record in records:
            if record["key"] == "tracked_stats":
                record["value"]["loss"] = round(0.4 / record["metadata"]["epoch_num"], 4)
                record["value"]["train_seconds"] = round(record["value"]["train_seconds"], 3)
            if record["key"] == "epoch_stop":
                del record["metadata"]["loss"]
            if record["key"] == "eval_ndcg":
                record["value"] = round(record["value"], 3)
        write_log(folder / f"result_{index}.txt", records)
    assert rules_of_set(folder) == set()


def test_runs_of_other_seeds_are_no_copies(tmp_path):
    write_set(tmp_path / "s", [9] * 20)
    assert rules_of_set(tmp_path / "s") == set()


def test_digests_that_a_log_lacks_are_told(tmp_path):
    """They may be missing if the process is killed after run_stop."""
    folder = write_set(tmp_path / "s", [3, 4])
    for index, name in enumerate(("first_batch", "first_epoch")):
        records = read(folder / f"result_{index}.txt")
        records.append({**records[-1], "key": "data_digests", "event_type": "POINT_IN_TIME",
                        "value": {name: "a" * 64}, "metadata": {}})
        write_log(folder / f"result_{index}.txt", records)
    assert rules_of_set(folder) == set()
    assert rules_of_set(folder, "warnings") == {"NCF-SET-DIGESTS-GIVEN"}


@pytest.mark.parametrize("member, given, rules", [
    ("first_batch", False, {"NCF-SET-DIGESTS"}), ("first_epoch", False, {"NCF-SET-DIGESTS"}),
    ("evaluation_lists", False, {"NCF-SET-LISTS"}), ("evaluation_lists", True, set())])
def test_what_was_drawn_differs_from_run_to_run(tmp_path, member, given, rules):
    """Except for given lists: those of ml-1m-paper are published."""
    folder = write_set(tmp_path / "s", [3, 4], track_name="ml-1m-paper" if given else "ml-100k")
    for index, letter in enumerate("aA"):
        records = read(folder / f"result_{index}.txt")
        digests = {name: f"{index}{i}" * 32 for i, name in enumerate(
            ("first_batch", "first_epoch", "evaluation_lists"))}
        digests[member] = letter.lower() * 64
        records.append({**records[-1], "key": "data_digests", "event_type": "POINT_IN_TIME",
                        "value": digests, "metadata": {}})
        write_log(folder / f"result_{index}.txt", records)
    assert rules_of_set(folder) == rules


@pytest.mark.parametrize("value", ["A" * 64, "a" * 63, 1, None])
def test_a_digest_is_64_digits(tmp_path, value):
    records = good_log()
    records.append({**records[-1], "key": "data_digests", "event_type": "POINT_IN_TIME",
                    "value": {"first_batch": value}, "metadata": {}})
    assert rules_of(tmp_path, records) == {"NCF-DIGEST-FIRST-BATCH"}


# -- time, order and machine ----------------------------------------------------------


@pytest.mark.parametrize("after_ms", [500, 1150])
def test_attempts_of_a_chain_follow_each_other(tmp_path, after_ms):
    """The second attempt starts during the first, or is only set up during it."""
    folder = chained_set(tmp_path, ["target", "target"])
    records = read(folder / "result_1.txt")
    shift = 10**7 - after_ms
    for record in records:
        record["time_ms"] -= shift
        if "wall_time_ms" in record["metadata"]:
            record["metadata"]["wall_time_ms"] -= shift
    write_log(folder / "result_1.txt", records)
    assert "NCF-SET-SEQUENCE" in rules_of_set(folder)


def test_runs_that_overlap_are_told_where_there_is_no_chain(tmp_path):
    for index in range(2):
        write_log(tmp_path / "s" / f"result_{index}.txt",
                  good_log(seed=index, epochs=3 + index, start_ms=10**12 + 100 * index))
    assert rules_of_set(tmp_path / "s") == set()
    assert rules_of_set(tmp_path / "s", "warnings") == {"NCF-SET-PARALLEL"}


@pytest.mark.parametrize("name, value", [("num_devices", 512), ("name", "H200"), ("workers", 64)])
def test_the_runs_of_a_set_are_made_on_one_machine(tmp_path, name, value):
    folder = write_set(tmp_path / "s", [3, 4])
    records = read(folder / "result_1.txt")
    records[index_of(records, "device")]["metadata"][name] = value
    write_log(folder / "result_1.txt", records)
    assert rules_of_set(folder) == {"NCF-SET-EQUAL"}


def test_an_epoch_is_not_evaluated_before_it_is_trained(tmp_path):
    records = good_log(epochs=1)
    stop = index_of(records, "epoch_stop")
    record = records.pop(stop)
    end = index_of(records, "eval_stop")
    records.insert(end + 1, {**record, "time_ms": records[end]["time_ms"]})
    assert {"NCF-EPOCH-ORDER", "NCF-NDCG-ORDER", "NCF-NESTING"} <= rules_of(tmp_path, records)


def test_an_epoch_begins_when_the_one_before_is_evaluated(tmp_path):
    """In this log all epochs are trained first, then all are evaluated."""
    records = good_log(epochs=3)
    in_run = records[index_of(records, "epoch_start"):index_of(records, "run_stop")]
    evaluations = [r for r in in_run if r["key"].startswith("eval_") or r["key"] == "tracked_stats"]
    training = [r for r in in_run if r not in evaluations]
    first = index_of(records, "epoch_start")
    moved = [*records[:first], *training, *evaluations, *records[index_of(records, "run_stop"):]]
    for before, record in zip(moved, moved[1:]):
        record["time_ms"] = max(record["time_ms"], before["time_ms"])
    assert "NCF-EPOCHS-IN-TURN" in rules_of(tmp_path, moved)


def delayed(records, index, ms):
    """Inserts a delay of `ms` before the record at `index`."""
    records = copy.deepcopy(records)
    for record in records[index:]:
        record["time_ms"] += ms
        if "wall_time_ms" in record["metadata"]:
            record["metadata"]["wall_time_ms"] += ms
    return records


GAPS = {"before the first epoch": ("epoch_start", 0), "before another epoch": ("epoch_start", 2),
        "before an evaluation": ("eval_start", 1), "after the last epoch": ("run_stop", -1)}


@pytest.mark.parametrize("place", GAPS)
@pytest.mark.parametrize("epoch_ms, ms, is_told", [
    (1000, 460, False), (1000, 540, True), (20, 60, False), (20, 110, True)])
def test_time_in_which_another_epoch_could_have_been_is_told(tmp_path, place, epoch_ms, ms,
                                                             is_told):
    """The limit is half an epoch or 0.1 s; the records of the test are 7 ms apart."""
    records = good_log(epochs=3, epoch_ms=epoch_ms)
    result = check_file(write_log(
        tmp_path / "a.txt", delayed(records, index_of(records, *GAPS[place]), ms)))
    assert result.verdict == "pass"
    assert {v.rule for v in result.warnings.list()} == ({"NCF-EPOCH-GAP"} if is_told else set())


def test_negatives_of_the_next_epoch_do_not_hide_one_that_was_left_out(tmp_path):
    """They are drawn during training, and stay in the log if that epoch is removed."""
    records = good_log(epochs=3, epoch_ms=1000)
    kept = [r for r in records if r["metadata"].get("epoch_num") != 1]
    for record in kept:
        if "epoch_num" in record["metadata"]:
            record["metadata"]["epoch_num"] -= 1
    result = check_file(write_log(tmp_path / "a.txt", kept))
    assert "NCF-EPOCH-GAP" in {v.rule for v in result.warnings.list()}


def test_time_in_which_negatives_are_drawn_is_no_gap(tmp_path):
    """For a slow engine that draws them before each epoch."""
    records = good_log(epochs=1, epoch_ms=1000)
    records = delayed(records, index_of(records, "train_neg_gen_stop"), 5000)
    result = check_file(write_log(tmp_path / "a.txt", records))
    assert result.verdict == "pass" and not result.warnings.list()


def test_links_may_not_be_taken_out_beside_a_broken_ledger(tmp_path):
    folder = chained_set(tmp_path, ["target", "target"])
    for path in folder.iterdir():
        write_log(path, [r for r in read(path) if r["key"] != "attempt"])
    ledger = folder.parent / "attempts" / folder.name / "ledger.jsonl"
    ledger.write_text("garbage\n" + ledger.read_text())
    assert "NCF-CHAIN-MISSING" in rules_of_set(folder)


@pytest.mark.parametrize("cut", [lambda ledger: ledger[:-1],
                                 lambda ledger: ledger[:ledger.rindex(b"\n", 0, -1) + 1]])
def test_the_ledger_has_the_end_of_each_result(tmp_path, cut):
    """The last line, or its line end, is cut off, and so the digest of the log is lost."""
    folder = chained_set(tmp_path, ["target", "target"])
    ledger = folder.parent / "attempts" / folder.name / "ledger.jsonl"
    ledger.write_bytes(cut(ledger.read_bytes()))
    assert "NCF-CHAIN-LEDGER" in rules_of_set(folder)


def test_links_may_not_be_taken_out_beside_a_ledger_that_knows_the_logs(tmp_path):
    folder = chained_set(tmp_path, ["target", "target"])
    ledger = folder.parent / "attempts" / folder.name / "ledger.jsonl"
    entries = [json.loads(line) for line in ledger.read_text().splitlines()]
    for number, path in enumerate(sorted(folder.iterdir()), start=1):
        write_log(path, [r for r in read(path) if r["key"] != "attempt"])
        for entry in entries:
            if entry["event"] == "end" and entry["attempt"] == number:
                entry["sha256"] = sha256(path)
    write_ledger(ledger, entries)
    assert "NCF-CHAIN-MISSING" in rules_of_set(folder)


def test_the_reason_of_an_attempt_is_that_of_its_log(tmp_path):
    folder = chained_set(tmp_path, ["target", "target"])
    (folder.parent / "attempts" / folder.name / "ledger.jsonl").unlink()
    records = read(folder / "result_1.txt")
    records[index_of(records, "attempt")]["value"]["previous"][0]["reason"] = "epoch_cap"
    write_log(folder / "result_1.txt", records)
    assert rules_of_set(folder) == {"NCF-CHAIN-EDITED"}


def test_a_log_ends_before_the_next_attempt_begins(tmp_path):
    """The next log contains its digest; data_digests and checkpoint follow run_stop."""
    folder = chained_set(tmp_path, ["target", "target"])
    records = read(folder / "result_0.txt")
    late = read(folder / "result_1.txt")[0]["time_ms"] + 500
    records.append({**records[-1], "key": "checkpoint", "event_type": "POINT_IN_TIME",
                    "value": "a" * 64, "metadata": {"bytes": 5}, "time_ms": late})
    write_log(folder / "result_0.txt", records)
    assert "NCF-SET-SEQUENCE" in rules_of_set(folder)


def test_a_sampler_that_is_not_known_to_be_uniform_is_told(tmp_path):
    records = good_log()
    records[index_of(records, "train_sampler")]["value"] = "hard_negatives"
    result = check_file(write_log(tmp_path / "a.txt", records))
    assert {v.rule for v in result.warnings.list()} == {"NCF-SAMPLER-KNOWN"}


def test_logs_of_another_dialect_are_no_part_of_the_set(tmp_path, shared_dir):
    folder = write_set(tmp_path / "s", [3, 4])
    shutil.copy(shared_dir / "logs_v05" / "reference_example.log", folder / "result_2.txt")
    found = check_paths([folder]).files[2].errors.list()
    assert "NCF-SET-EQUAL" in {v.rule for v in found}


def test_a_different_member_of_the_configuration_is_named(tmp_path):
    folder = write_set(tmp_path / "s", [3, 4])
    records = read(folder / "result_1.txt")
    records[index_of(records, "configuration")]["value"]["engine_options"] = "x"
    write_log(folder / "result_1.txt", records)
    (violation,) = [v for v in check_paths([folder]).files[1].errors.list()
                    if v.rule == "NCF-SET-EQUAL"]
    assert violation.message == "engine_options of configuration is \"x\"; in result_0.txt it is null"


@pytest.mark.parametrize("key, part, name, value, rule", [
    ("train_neg_gen_stop", "metadata", "status", "failed", "NCF-NEGATIVES-STATUS"),
    ("train_neg_gen_stop", "metadata", "status", "cancelled", "NCF-NEGATIVES-CANCELLED"),
    ("train_neg_gen_start", "metadata", "negatives", "before_clock", "NCF-NEGATIVES-TIMED"),
    ("eval_neg_gen_stop", "metadata", "negatives", "before_clock", "NCF-NEGATIVES-TIMED"),
    ("epoch_stop", "metadata", "negatives", ["before_clock"], "NCF-NEGATIVES-TIMED"),
    ("tracked_stats", "value", "negatives", "prepared", "NCF-NEGATIVES-TIMED"),
    ("run_stop", "metadata", "negatives_drawn", "before_clock", "NCF-NEGATIVES-TIMED"),
    ("run_start", "metadata", "synthetic_batches", True, "NCF-SYNTHETIC"),
    ("run_start", "metadata", "synthetic_batches", 1, "NCF-SYNTHETIC"),
    ("configuration", "value", "synthetic_batches", True, "NCF-SYNTHETIC"),
    ("epoch_start", "metadata", "synthetic", "yes", "NCF-SYNTHETIC"),
    ("run_start", "metadata", "deterministic", True, "NCF-SEED-CHOSEN"),
    ("run_start", "metadata", "base_seed", 42, "NCF-SEED-CHOSEN"),
    ("configuration", "value", "deterministic", True, "NCF-SEED-CHOSEN"),
    ("configuration", "value", "base_seed", 0, "NCF-SEED-CHOSEN"),
    ("epoch_stop", "metadata", "negatives", "in_step", None),
    ("epoch_stop", "metadata", "negatives", 4, None),
    ("epoch_stop", "metadata", "synthetic_batches", None, None)])
def test_what_any_record_says_is_judged(tmp_path, key, part, name, value, rule):
    records = good_log()
    records[index_of(records, key)][part][name] = value
    assert rules_of(tmp_path, records) == ({rule} - {None})


@pytest.mark.parametrize("key, value", [("data_digests", {"first_batch": "a" * 64}),
                                        ("checkpoint", "a" * 64)])
def test_what_a_run_made_stands_after_it(tmp_path, key, value):
    records = good_log()
    record = {**records[-1], "key": key, "event_type": "POINT_IN_TIME", "value": value,
              "metadata": {"bytes": 5} if key == "checkpoint" else {}}
    assert rules_of(tmp_path, [*records, record]) == set()
    early = index_of(records, "epoch_start")
    record["time_ms"] = records[early]["time_ms"]
    assert rules_of(tmp_path, [*records[:early], record, *records[early:]]) == {"NCF-AFTER-RUN"}


# -- records that contradict each other -----------------------------------------------


def test_an_epoch_has_one_loss(tmp_path):
    records = good_log()
    records[index_of(records, "epoch_stop", 1)]["metadata"]["loss"] = 9.0
    assert rules_of(tmp_path, records) == {"NCF-LOSS-AGREES"}


@pytest.mark.parametrize("key, field, value, rules", [
    ("configuration", "device", "gpu", {"NCF-CONFIGURATION-DEVICE"}),
    ("configuration", "device", "auto", set()),
    ("configuration", "benchmark", "ncf-ml-20m", {"NCF-CONFIGURATION-BENCHMARK"}),
    ("configuration", "benchmark", "ncf-ml-100k", set()),
    ("tracked_stats", "eval_scores", -5, {"NCF-EVAL-SCORES"}),
    ("tracked_stats", "eval_scores", 5, set())])
def test_a_member_agrees_with_the_other_records(tmp_path, key, field, value, rules):
    records = good_log()
    records[index_of(records, key)]["value"][field] = value
    assert rules_of(tmp_path, records) == rules


def test_a_profiled_run_is_told(tmp_path):
    records = good_log()
    records[index_of(records, "run_start")]["metadata"]["profiled"] = True
    set_setting(records, "submission_org", "test")
    result = check_file(write_log(tmp_path / "a.txt", records))
    assert result.verdict == "pass" and result.summary.is_profiled
    assert {v.rule for v in result.warnings.list()} == {"NCF-PROFILED"}


# -- honest logs that were compressed -----------------------------------------------------


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: data.decode().encode("utf-16")])
def test_a_compressed_log_is_the_log_that_its_chain_names(tmp_path, pack):
    folder = chained_set(tmp_path, ["target", "target", "target"])
    for path in folder.iterdir():
        path.write_bytes(pack(path.read_bytes()))
    assert rules_of_set(folder) == set()
    assert rules_of_set(folder, "warnings") == {"NCF-ENCODING"}
    edit_packed = folder / "result_0.txt"
    edit_packed.write_bytes(pack(b"\n" + (gzip.decompress if pack is gzip.compress else (
        lambda data: data.decode("utf-16").encode()))(edit_packed.read_bytes())))
    assert rules_of_set(folder) == {"NCF-CHAIN-EDITED"}


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_docker_lines_are_read_however_they_are_spaced(tmp_path, separators):
    lines = write_log(tmp_path / "a.txt", good_log()).read_text().splitlines(keepends=True)
    wrapped = tmp_path / "b.txt"
    wrapped.write_text("".join(json.dumps({"log": line, "stream": "stdout"},
                                          separators=separators) + "\n" for line in lines))
    result = check_file(wrapped)
    assert result.verdict == "pass" and result.summary.num_accuracies == 3
