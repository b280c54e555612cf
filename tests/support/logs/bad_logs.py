"""The golden bad logs, tests/data/bad: each is a good log with one defect.

`cases` returns, for each file, its bytes, the rule that it must break and the line of the
violation. `python -m tests.support.logs.bad_logs` writes the files and expected.json; a
test compares them with `cases`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Callable

from tests.support.logs.attempt_chains import with_attempt_record
from tests.support.logs.log_builder import BAD_LOGS, Record, good_log, index_of
from tests.support.paths import DATA

FOLDER = DATA / "bad"
V05 = DATA / "good" / "v05_level2.txt"


@dataclass(frozen=True)
class Case:
    """A bad log.

    Attributes:
      data: The bytes of the file.
      rule: The id of the rule that it must break; "": none.
      line: The line of the violation; None: the violation concerns the whole log.
      verdict: The verdict on the log.
    """

    data: bytes
    rule: str
    line: int | None
    verdict: str = "fail"


def _strip(records: list[Record]) -> list[Record]:
    """Removes members that no rule checks, to keep the files small."""
    for record in records:
        del record["namespace"], record["metadata"]["file"], record["metadata"]["lineno"]
    return records


def _base_records(epochs: int = 1) -> list[Record]:
    return _strip(good_log(epochs=epochs))


def _lines(records: list[Record]) -> list[str]:
    return [":::MLLOG " + json.dumps(record) for record in records]


def _compact(records: list[Record]) -> bytes:
    """The bytes of a log, with JSON in its shortest form."""
    return _join([":::MLLOG " + json.dumps(r, separators=(",", ":")) for r in records])


def _join(lines: list[str]) -> bytes:
    return "".join(line + "\n" for line in lines).encode()


def _edit_line(key: str, old: str, new: str, which: int = -1) -> tuple[bytes, int]:
    """The base log with a text replaced in one record, and the line number of the record."""
    records = _base_records()
    index, lines = index_of(records, key, which), _lines(records)
    assert old in lines[index], (key, old)
    lines[index] = lines[index].replace(old, new, 1)
    return _join(lines), index + 1


def _change_base(change: Callable[[list[Record]], Any]) -> tuple[bytes, int | None]:
    """The base log after a change of its records, and the line returned by the change."""
    records = _base_records()
    line = change(records)
    return _compact(records), line


def _set_members(key: str, which: int = -1, **changes: Any) -> Callable[[list[Record]], int]:
    """A change that sets members of an object value, to new values or by functions."""
    def change(records: list[Record]) -> int:
        index = index_of(records, key, which)
        value = records[index]["value"]
        for name, new in changes.items():
            value[name] = new(value[name]) if callable(new) else new
        return index + 1
    return change


# The lines of the violations, for the changes in BAD_LOGS that return no line.
_EXPECTED_LINES: dict[str, Callable[[list[Record]], int]] = {
    "stop before start": lambda r: index_of(r, "run_start") + 1,
    "run before init": lambda r: index_of(r, "init_stop") + 1,
    "caches cleared during the run": lambda r: index_of(r, "cache_clear") + 1,
    "evaluated before the clock": lambda r: index_of(r, "dataset_digest") + 1,
    "an epoch removed": lambda r: index_of(r, "epoch_start", 1) + 1,
    "an evaluation removed": lambda r: index_of(r, "epoch_start", 1) + 1,
    "epoch never ends": lambda r: index_of(r, "run_stop") + 1,
    "eval_stop without start": lambda r: index_of(r, "eval_stop", 1) + 1,
    "no tracked_stats": lambda r: index_of(r, "epoch_start", 0) + 1,
    "no negatives drawn": lambda r: index_of(r, "epoch_start", 1) + 1}
# The number of epochs of the log, for changes that need more than one.
_EPOCHS = {"an epoch removed": 3, "an evaluation removed": 2, "epoch never ends": 2,
           "eval_stop without start": 2, "no negatives drawn": 2, "epoch twice": 2,
           "epoch_num is text": 2, "target reached earlier": 2}


def _builder_cases() -> dict[str, Case]:
    """The cases of BAD_LOGS."""
    cases = {}
    for name, (change, rule) in BAD_LOGS.items():
        records = _base_records(_EPOCHS.get(name, 1))
        line = change(records)
        if name in _EXPECTED_LINES:
            line = _EXPECTED_LINES[name](records)
        verdict = "unreadable" if name == "no run_stop" else "fail"
        file = name.replace(" ", "_").replace("-", "_")
        cases[file] = Case(_compact(records), rule, line, verdict)
    return cases


_ACCURACY = ("eval_accuracy", '"value": ', '"value": %s, "old": ')


def _json_cases() -> dict[str, Case]:
    """Records that are not valid JSON or lack a required member."""
    def accuracy(value: str) -> tuple[bytes, int]:
        key, old, new = _ACCURACY
        return _edit_line(key, old, new % value)

    def instead(text: str) -> tuple[bytes, int]:
        records = _base_records()
        index, lines = index_of(records, "eval_ndcg"), _lines(records)
        lines[index] = ":::MLLOG " + text
        return _join(lines), index + 1

    found = {
        "accuracy_nan": (*accuracy("NaN"), "NCF-JSON-NUMBER"),
        "accuracy_infinity": (*accuracy("-Infinity"), "NCF-JSON-NUMBER"),
        "accuracy_beyond_a_double": (*accuracy("1e999"), "NCF-JSON-NUMBER"),
        "accuracy_of_400_digits": (*accuracy("9" * 400), "NCF-JSON-NUMBER"),
        "accuracy_negative": (*accuracy("-0.1"), "NCF-ACCURACY"),
        "accuracy_nested_2000_deep": (*accuracy("[" * 2000 + "]" * 2000), "NCF-JSON"),
        "accuracy_nested_65_deep": (*accuracy("[" * 65 + "]" * 65), "NCF-JSON"),
        "key_twice": (*_edit_line("eval_accuracy", '"key"', '"key": "eval_ndcg", "key"'),
                      "NCF-JSON-DUPLICATE"),
        "value_twice": (*_edit_line("eval_accuracy", '"value"', '"value": 0.1, "value"'),
                        "NCF-JSON-DUPLICATE"),
        "value_twice_spaced": (*_edit_line("eval_accuracy", '"value"', '"value" : 0.1, "value"'),
                               "NCF-JSON-DUPLICATE"),
        "metadata_key_twice": (
            *_edit_line("eval_accuracy", '"epoch_num"', '"epoch_num": 2, "epoch_num"'),
            "NCF-JSON-DUPLICATE"),
        "throughput_twice": (
            *_edit_line("tracked_stats", '"throughput"', '"throughput": 1, "throughput"'),
            "NCF-JSON-DUPLICATE"),
        "no_time": (*_edit_line("eval_ndcg", '"time_ms"', '"when"'), "NCF-RECORD"),
        "no_key": (*_edit_line("eval_ndcg", '"key"', '"name"'), "NCF-RECORD"),
        "no_value": (*_edit_line("eval_ndcg", '"value"', '"worth"'), "NCF-RECORD"),
        "no_metadata": (*_edit_line("eval_ndcg", '"metadata"', '"about"'), "NCF-RECORD"),
        "metadata_is_null": (*_edit_line("cache_clear", '{"reason": "dropped"}', "null"),
                             "NCF-RECORD"),
        "key_is_a_number": (*_edit_line("eval_ndcg", '"eval_ndcg"', "7"), "NCF-RECORD"),
        "event_type_unknown": (*_edit_line("eval_ndcg", "POINT_IN_TIME", "POINT"), "NCF-RECORD"),
        "record_is_a_list": (*instead("[1, 2]"), "NCF-RECORD"),
        "record_is_a_number": (*instead("5"), "NCF-RECORD"),
        "record_is_null": (*instead("null"), "NCF-RECORD"),
        "record_is_text": (*instead('"eval_ndcg"'), "NCF-RECORD"),
        "record_is_nothing": (*instead(""), "NCF-JSON"),
        "record_is_half": (*instead('{"time_ms": 17'), "NCF-JSON"),
        "text_after_a_record": (*_edit_line("eval_accuracy", "}}", "}} 50%"), "NCF-JSON"),
        "a_comma_for_a_colon": (*_edit_line("eval_accuracy", '"key":', '"key",'), "NCF-JSON"),
        "a_raw_control_character": (*_edit_line("eval_ndcg", "eval_ndcg", "eval_\x01ndcg"),
                                    "NCF-JSON")}
    return {name: Case(data, rule, line) for name, (data, line, rule) in found.items()}


def _time_cases() -> dict[str, Case]:
    """Records whose time is invalid or goes backward."""
    def time(value: str) -> tuple[bytes, int]:
        return _edit_line("eval_stop", '"time_ms": ', f'"time_ms": {value}, "old": ')

    return {f"time_{name}": Case(*_with_rule(time(value), rule)) for name, value, rule in (
        ("null", "null", "NCF-TIME"), ("huge", "1e300", "NCF-TIME"), ("negative", "-5", "NCF-TIME"),
        ("after_the_year_10000", str(10 ** 15), "NCF-TIME"), ("true", "true", "NCF-TIME"),
        ("a_list", "[1]", "NCF-TIME"), ("minus_infinity", "-1e999", "NCF-TIME"),
        ("zero", "0", "NCF-TIME-BACKWARD"))}


def _with_rule(found: tuple[bytes, int | None], rule: str) -> tuple[bytes, str, int | None]:
    return found[0], rule, found[1]


def _success_below_target(records: list[Record]) -> int:
    """Lowers all accuracies below the target; run_stop still reports success."""
    index = index_of(records, "eval_accuracy", -1)
    stop = index_of(records, "eval_stop", -1)
    records[index]["value"] = 10 / 943
    records[index + 1]["value"] = 5 / 943
    records[stop]["metadata"]["hits"] = 10
    return index + 1


def _move_target_to_the_end(records: list[Record]) -> int:
    """Logs the target only at the end, when the result is known."""
    index, stop = index_of(records, "eval_target"), index_of(records, "run_stop")
    record = records.pop(index)
    record["time_ms"] = records[stop - 1]["time_ms"]
    records.insert(stop - 1, record)
    return stop


def _contradict_reason(records: list[Record]) -> int:
    records[-1]["metadata"]["reason"] = "nan_loss"
    return len(records)


def _add_a_hit(records: list[Record]) -> int:
    """Adds a hit to an eval_stop record."""
    records[index_of(records, "eval_stop")]["metadata"]["hits"] += 1
    return index_of(records, "eval_accuracy") + 1


def _value_cases() -> dict[str, Case]:
    """Values that contradict other values of the log."""
    cases: dict[str, tuple[Callable[[list[Record]], int], str]] = {
        "aborted_counted_as_success": (_success_below_target, "NCF-SUCCESS"),
        "success_because_of_nan": (_contradict_reason, "NCF-RUN-REASON"),
        "target_told_at_the_end": (_move_target_to_the_end, "NCF-FACTS-FIRST"),
        "hits_edited": (_add_a_hit, "NCF-ACCURACY-HITS"),
        "throughput_ten_times": (_set_members("tracked_stats", throughput=lambda x: 10 * x),
                                 "NCF-THROUGHPUT-TIMES"),
        "throughput_and_seconds": (_set_members("tracked_stats", throughput=lambda x: 10 * x,
                                          train_seconds=lambda x: x / 10), "NCF-THROUGHPUT-TIMES"),
        "eval_throughput_of_fewer": (_set_members("tracked_stats", eval_throughput=lambda x: x / 2),
                                     "NCF-EVAL-THROUGHPUT-TIMES"),
        "eval_seconds_of_more": (_set_members("tracked_stats", eval_throughput=lambda x: x / 1000,
                                        eval_seconds=lambda x: x * 1000),
                                 "NCF-EVAL-THROUGHPUT-TIMES"),
        "ndcg_above_the_hit_rate": (_set_last_ndcg(0.9), "NCF-NDCG-BOUNDS"),
        "ndcg_below_what_hits_give": (_set_last_ndcg(0.0), "NCF-NDCG-BOUNDS")}
    return {name: Case(*_with_rule(_change_base(change), rule))
            for name, (change, rule) in cases.items()}


def _set_last_ndcg(value: float) -> Callable[[list[Record]], int]:
    """A change of the last NDCG to a value outside the bounds of its hit rate."""
    def change(records: list[Record]) -> int:
        index = index_of(records, "eval_ndcg", -1)
        records[index]["value"] = value
        return index + 1
    return change


def _file_cases() -> dict[str, Case]:
    """Files that are truncated, interleaved, or not logs."""
    records = _base_records()
    lines, whole = _lines(records), _join(_lines(records))
    cut = whole[:-40]
    ranks = [f"{rank}: {line}" for line in lines for rank in (0, 1)]
    joined = lines[:-2] + [lines[-2] + " " + lines[-1]]
    crlf = b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n")
    path = _edit_line("submission_benchmark", '"ncf"', '"../../ncf"')
    start = index_of(records, "run_start")
    return {
        "empty": Case(b"", "NCF-READ", None, "unreadable"),
        "binary": Case(bytes(range(256)) * 4, "NCF-READ", None, "unreadable"),
        "utf16_no_stop": Case(whole[:2000].decode().encode("utf-16"), "NCF-RUN-STOP", None,
                              "unreadable"),
        "no_records": Case(b"step 1\nstep 2\n", "NCF-READ", None, "unreadable"),
        "truncated_last_line": Case(cut, "NCF-JSON", len(lines), "unreadable"),
        "cut_in_the_middle": Case(_join(lines[:start + 20]), "NCF-RUN-STOP", None, "unreadable"),
        "crlf_and_bom_no_stop": Case(crlf[:crlf.rindex(b":::MLLOG")], "NCF-RUN-STOP", None,
                                     "unreadable"),
        "interleaved_ranks": Case(_join(ranks), "NCF-RUN-START", 2 * (start + 1)),
        "two_records_on_a_line": Case(_join(joined), "NCF-LINE", len(lines) - 1, "pass"),
        "benchmark_is_a_path": Case(path[0], "NCF-BENCHMARK", path[1]),
        "not_utf8": Case(whole.replace(b'"eval_ndcg"', b'"eval_\xff\xfe"'), "NCF-NDCG-PER-EPOCH",
                         index_of(records, "epoch_start") + 1)}


def _other_dialect_cases() -> dict[str, Case]:
    """Logs of v0.5 and v0.6."""
    text = V05.read_text(encoding="utf-8")
    lines = text.split("\n")

    def line(tag: str) -> int:
        return next(i for i, x in enumerate(lines) if f" {tag}" in x)

    def without(tag: str) -> bytes:
        return "\n".join(x for x in lines if f" {tag}" not in x).encode()

    def put(tag: str, *new: str) -> bytes:
        where = line(tag)
        return "\n".join(lines[:where] + list(new) + lines[where + 1:]).encode()

    start, accuracy = lines[line("run_start")], line("eval_accuracy")
    head = lines[accuracy].split("eval_accuracy")[0]
    v06 = "".join(f':::MLL {t} {k}: {{"value": {v}, "metadata": {m}}}\n' for t, k, v, m in (
        ("0.0", "submission_benchmark", '"ncf"', "{}"), ("0.0", "run_start", "null", "{}"),
        ("1556733699.71", "run_start", "null", "{}"), ("1556733699.71", "run_start", "null", "{}"),
        ("1556733705.5", "eval_accuracy", "0.63", '{"epoch_num": 1}'),
        ("1556733709.71", "run_stop", "null", '{"status": "success"}')))
    return {
        "v05_no_run_stop": Case(without("run_stop"), "NCF-V05-RUN-STOP", None, "unreadable"),
        "v05_no_run_final": Case(without("run_final"), "NCF-V05-RUN-FINAL", None),
        "v05_two_run_start": Case(put("run_start", start, start), "NCF-V05-RUN-START",
                                  line("run_start") + 2),
        "v05_accuracy_is_a_number": Case(put("eval_accuracy", head + "eval_accuracy: 0.6"),
                                         "NCF-V05-ACCURACY-EPOCH", accuracy + 1),
        "v05_accuracy_without_value": Case(
            put("eval_accuracy", head + 'eval_accuracy: {"epoch": 0}'),
            "NCF-V05-ACCURACY-VALUE", accuracy + 1),
        "v05_no_epoch_zero": Case(text.replace('"epoch": 0,', '"epoch": 7,').encode(),
                                  "NCF-V05-EPOCH-ZERO", None),
        "v05_nan": Case(put("eval_accuracy", head + 'eval_accuracy: {"epoch": 0, "value": NaN}'),
                        "NCF-V05-RECORD", accuracy + 1),
        "v05_without_a_place": Case(put("run_start", ":::MLPv0.5.0 ncf 1541731860.75 run_start"),
                                    "NCF-V05-RECORD", line("run_start") + 1),
        "v06_has_no_rules": Case(v06.encode(), "NCF-BENCHMARK", 1),
        "other_benchmark_of_v06": Case(v06.replace('"ncf"', '"minigo"').encode(),
                                       "NCF-BENCHMARK", 1)}


def _set_cases() -> dict[str, Case]:
    """Two logs of a folder that contradict each other; the second one breaks the rule."""
    def member(seed: int, batch: int | None = None) -> tuple[bytes, list[Record]]:
        records = _strip(good_log(epochs=1, seed=seed, start_ms=10 ** 12 + 10 ** 6 * seed))
        if batch:
            records[index_of(records, "global_batch_size")]["value"] = batch
        return _compact(records), records

    first, records = member(1)
    return {
        "seed_reused/result_0": Case(first, "", None, "pass"),
        "seed_reused/result_1": Case(first,
                                     "NCF-SET-SEEDS", index_of(records, "seed") + 1),
        "settings_differ/result_0": Case(first, "", None, "pass"),
        "settings_differ/result_1": Case(member(2, 17)[0], "NCF-SET-EQUAL",
                                         index_of(records, "global_batch_size") + 1)}


def _attempt_value(number: int, before: bytes | None, launcher: str = "a") -> dict[str, Any]:
    """The value of an `attempt` record; every earlier attempt became a run."""
    prior = {"attempt": number - 1, "run": number - 2, "launcher": "a", "reason": "target"}
    previous = [] if before is None else [{**prior, "sha256": hashlib.sha256(before).hexdigest()}]
    return {"set": "s", "attempt": number, "run": number - 1, "launcher": launcher, "joins": None,
            "previous": previous}


def _chain_cases() -> dict[str, Case]:
    """Sets of two logs whose chain of attempts is broken."""
    def member(number: int, before: bytes | None, launcher: str = "a") -> bytes:
        records = good_log(epochs=1, seed=number, start_ms=10 ** 12 + 10 ** 6 * number)
        records = with_attempt_record(_strip(records), _attempt_value(number, before, launcher))
        del records[LINE - 1]["metadata"]["file"], records[LINE - 1]["metadata"]["lineno"]
        return _compact(records)

    LINE = index_of(_base_records(), "seed") + 2
    first = member(1, None)
    second = member(2, first)
    edited = first.replace(b'"reason":"dropped"', b'"reason":"Dropped"')
    bare = _compact(_strip(good_log(epochs=1, seed=2, start_ms=10 ** 12 + 2 * 10 ** 6)))
    good = Case(first, "", None, "pass")
    return {
        "run_removed/result_1": Case(second, "NCF-CHAIN-REMOVED", LINE),
        "run_edited/result_0": Case(edited, "NCF-CHAIN-EDITED", LINE),
        "run_edited/result_1": Case(second, "", None, "pass"),
        "runs_swapped/result_0": Case(second, "NCF-CHAIN-ORDER", LINE),
        "runs_swapped/result_1": Case(first, "NCF-CHAIN-ORDER", LINE),
        "run_without_attempt/result_0": good,
        "run_without_attempt/result_1": Case(bare, "NCF-CHAIN-MISSING", None),
        "launcher_not_joined/result_0": good,
        "launcher_not_joined/result_1": Case(member(2, first, "b"), "NCF-CHAIN-JOIN", LINE),
        "run_of_another_set/result_0": good,
        "run_of_another_set/result_1": Case(second.replace(b'"set":"s"', b'"set":"t"'),
                                            "NCF-CHAIN-SET", LINE),
        "attempt_is_none": Case(first.replace(b'"attempt":1', b'"attempt":0'),
                                "NCF-CHAIN-RECORD", LINE)}


def cases() -> dict[str, Case]:
    """Returns every case, by the name of its file without .txt."""
    found: dict[str, Case] = {}
    for group in (_builder_cases(), _json_cases(), _time_cases(), _value_cases(), _file_cases(),
                  _other_dialect_cases(), _set_cases(), _chain_cases()):
        assert not set(group) & set(found), set(group) & set(found)
        found.update(group)
    return found


def main() -> None:
    """Writes the files and expected.json."""
    expected = {}
    for path in FOLDER.rglob("*.txt"):
        path.unlink()
    for name, case in cases().items():
        path = FOLDER / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(case.data)
        expected[f"{name}.txt"] = {"rule": case.rule, "line": case.line, "verdict": case.verdict}
    text = json.dumps(expected, indent=1, sort_keys=True)
    (FOLDER / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
