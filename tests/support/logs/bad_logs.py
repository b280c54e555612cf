"""The corpus of bad logs: each is a good log with one thing wrong.

`CASES` names, for each file of tests/data/bad, its bytes, the rule that must speak and
the line that it must name.  `python -m tests.support.logs.bad_logs` writes the files and
expected.json; a test holds them against each other.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Callable

from tests.support.logs.attempt_chains import linked
from tests.support.logs.log_builder import BAD_LOGS, Record, at, good_log
from tests.support.paths import DATA

FOLDER = DATA / "bad"
V05 = DATA / "good" / "v05_level2.txt"


@dataclass(frozen=True)
class Case:
    """A bad log: its bytes, what must be said of it, and the verdict."""

    data: bytes
    rule: str
    line: int | None
    verdict: str = "fail"


def _slim(records: list[Record]) -> list[Record]:
    """The records without what nobody judges: the corpus is to stay small."""
    for record in records:
        del record["namespace"], record["metadata"]["file"], record["metadata"]["lineno"]
    return records


def _base(epochs: int = 1) -> list[Record]:
    return _slim(good_log(epochs=epochs))


def _lines(records: list[Record]) -> list[str]:
    return [":::MLLOG " + json.dumps(record) for record in records]


def _dense(records: list[Record]) -> bytes:
    """The file without a space that can be spared."""
    return _bytes([":::MLLOG " + json.dumps(r, separators=(",", ":")) for r in records])


def _bytes(lines: list[str]) -> bytes:
    return "".join(line + "\n" for line in lines).encode()


def _edited(key: str, old: str, new: str, which: int = -1) -> tuple[bytes, int]:
    """The base with a text in one record's line replaced; and that line's number."""
    records = _base()
    index, lines = at(records, key, which), _lines(records)
    assert old in lines[index], (key, old)
    lines[index] = lines[index].replace(old, new, 1)
    return _bytes(lines), index + 1


def _changed(change: Callable[[list[Record]], Any]) -> tuple[bytes, int | None]:
    """The base with its records changed; and the line that the change returns."""
    records = _base()
    line = change(records)
    return _dense(records), line


def _value(key: str, which: int = -1, **changes: Any) -> Callable[[list[Record]], int]:
    """Changes members of an object that is a record's value; a function is applied."""
    def change(records: list[Record]) -> int:
        index = at(records, key, which)
        value = records[index]["value"]
        for name, new in changes.items():
            value[name] = new(value[name]) if callable(new) else new
        return index + 1
    return change


# Of the changes of tests.support.logs.log_builder that do not tell their line: where it must be found.
_WHERE: dict[str, Callable[[list[Record]], int]] = {
    "stop before start": lambda r: at(r, "run_start") + 1,
    "run before init": lambda r: at(r, "init_stop") + 1,
    "evaluated before the clock": lambda r: at(r, "dataset_digest") + 1,
    "an epoch removed": lambda r: at(r, "epoch_start", 1) + 1,
    "an evaluation removed": lambda r: at(r, "epoch_start", 1) + 1,
    "epoch never ends": lambda r: at(r, "run_stop") + 1,
    "eval_stop without start": lambda r: at(r, "eval_stop", 1) + 1,
    "no tracked_stats": lambda r: at(r, "epoch_start", 0) + 1,
    "no negatives drawn": lambda r: at(r, "epoch_start", 1) + 1}
# These need more than one epoch.
_EPOCHS = {"an epoch removed": 3, "an evaluation removed": 2, "epoch never ends": 2,
           "eval_stop without start": 2, "no negatives drawn": 2, "epoch twice": 2,
           "epoch_num is text": 2, "target reached earlier": 2}


def _of_tests_logs() -> dict[str, Case]:
    cases = {}
    for name, (change, rule) in BAD_LOGS.items():
        records = _base(_EPOCHS.get(name, 1))
        line = change(records)
        if name in _WHERE:
            line = _WHERE[name](records)
        verdict = "unreadable" if name == "no run_stop" else "fail"
        cases[name.replace(" ", "_").replace("-", "_")] = Case(_dense(records), rule, line, verdict)
    return cases


_ACCURACY = ("eval_accuracy", '"value": ', '"value": %s, "old": ')


def _of_json() -> dict[str, Case]:
    """Records that are broken as JSON, or as records."""
    def accuracy(value: str) -> tuple[bytes, int]:
        key, old, new = _ACCURACY
        return _edited(key, old, new % value)

    def instead(text: str) -> tuple[bytes, int]:
        records = _base()
        index, lines = at(records, "eval_ndcg"), _lines(records)
        lines[index] = ":::MLLOG " + text
        return _bytes(lines), index + 1

    found = {
        "accuracy_nan": (*accuracy("NaN"), "NCF-JSON-NUMBER"),
        "accuracy_infinity": (*accuracy("-Infinity"), "NCF-JSON-NUMBER"),
        "accuracy_beyond_a_double": (*accuracy("1e999"), "NCF-JSON-NUMBER"),
        "accuracy_of_400_digits": (*accuracy("9" * 400), "NCF-JSON-NUMBER"),
        "accuracy_negative": (*accuracy("-0.1"), "NCF-ACCURACY"),
        "accuracy_nested_2000_deep": (*accuracy("[" * 2000 + "]" * 2000), "NCF-JSON"),
        "accuracy_nested_65_deep": (*accuracy("[" * 65 + "]" * 65), "NCF-JSON"),
        "key_twice": (*_edited("eval_accuracy", '"key"', '"key": "eval_ndcg", "key"'),
                      "NCF-JSON-DUPLICATE"),
        "value_twice": (*_edited("eval_accuracy", '"value"', '"value": 0.1, "value"'),
                        "NCF-JSON-DUPLICATE"),
        "value_twice_spaced": (*_edited("eval_accuracy", '"value"', '"value" : 0.1, "value"'),
                               "NCF-JSON-DUPLICATE"),
        "metadata_key_twice": (*_edited("eval_accuracy", '"epoch_num"', '"epoch_num": 2, "epoch_num"'),
                               "NCF-JSON-DUPLICATE"),
        "throughput_twice": (*_edited("tracked_stats", '"throughput"', '"throughput": 1, "throughput"'),
                             "NCF-JSON-DUPLICATE"),
        "no_time": (*_edited("eval_ndcg", '"time_ms"', '"when"'), "NCF-RECORD"),
        "no_key": (*_edited("eval_ndcg", '"key"', '"name"'), "NCF-RECORD"),
        "no_value": (*_edited("eval_ndcg", '"value"', '"worth"'), "NCF-RECORD"),
        "no_metadata": (*_edited("eval_ndcg", '"metadata"', '"about"'), "NCF-RECORD"),
        "metadata_is_null": (*_edited("cache_clear", '{"reason": "dropped"}', "null"), "NCF-RECORD"),
        "key_is_a_number": (*_edited("eval_ndcg", '"eval_ndcg"', "7"), "NCF-RECORD"),
        "event_type_unknown": (*_edited("eval_ndcg", "POINT_IN_TIME", "POINT"), "NCF-RECORD"),
        "record_is_a_list": (*instead("[1, 2]"), "NCF-RECORD"),
        "record_is_a_number": (*instead("5"), "NCF-RECORD"),
        "record_is_null": (*instead("null"), "NCF-RECORD"),
        "record_is_text": (*instead('"eval_ndcg"'), "NCF-RECORD"),
        "record_is_nothing": (*instead(""), "NCF-JSON"),
        "record_is_half": (*instead('{"time_ms": 17'), "NCF-JSON"),
        "text_after_a_record": (*_edited("eval_accuracy", "}}", "}} 50%"), "NCF-JSON"),
        "a_comma_for_a_colon": (*_edited("eval_accuracy", '"key":', '"key",'), "NCF-JSON"),
        "a_raw_control_character": (*_edited("eval_ndcg", "eval_ndcg", "eval_\x01ndcg"), "NCF-JSON")}
    return {name: Case(data, rule, line) for name, (data, line, rule) in found.items()}


def _of_times() -> dict[str, Case]:
    def time(value: str) -> tuple[bytes, int]:
        return _edited("eval_stop", '"time_ms": ', f'"time_ms": {value}, "old": ')

    return {f"time_{name}": Case(*_pair(time(value), rule)) for name, value, rule in (
        ("null", "null", "NCF-TIME"), ("huge", "1e300", "NCF-TIME"), ("negative", "-5", "NCF-TIME"),
        ("after_the_year_10000", str(10 ** 15), "NCF-TIME"), ("true", "true", "NCF-TIME"),
        ("a_list", "[1]", "NCF-TIME"), ("minus_infinity", "-1e999", "NCF-TIME"),
        ("zero", "0", "NCF-TIME-BACKWARD"))}


def _pair(found: tuple[bytes, int | None], rule: str) -> tuple[bytes, str, int | None]:
    return found[0], rule, found[1]


def _aborted_as_success(records: list[Record]) -> int:
    """No accuracy reached the target, and run_stop says success."""
    index = at(records, "eval_accuracy", -1)
    stop = at(records, "eval_stop", -1)
    records[index]["value"] = 10 / 943
    records[index + 1]["value"] = 5 / 943
    records[stop]["metadata"]["hits"] = 10
    return index + 1


def _late_target(records: list[Record]) -> int:
    """The target is told when the result is known."""
    index, stop = at(records, "eval_target"), at(records, "run_stop")
    record = records.pop(index)
    record["time_ms"] = records[stop - 1]["time_ms"]
    records.insert(stop - 1, record)
    return stop


def _reason(records: list[Record]) -> int:
    records[-1]["metadata"]["reason"] = "nan_loss"
    return len(records)


def _hits(records: list[Record]) -> int:
    """More hits than were counted, in the record of the evaluation's end."""
    records[at(records, "eval_stop")]["metadata"]["hits"] += 1
    return at(records, "eval_accuracy") + 1


def _of_values() -> dict[str, Case]:
    cases: dict[str, tuple[Callable[[list[Record]], int], str]] = {
        "aborted_counted_as_success": (_aborted_as_success, "NCF-SUCCESS"),
        "success_because_of_nan": (_reason, "NCF-RUN-REASON"),
        "target_told_at_the_end": (_late_target, "NCF-FACTS-FIRST"),
        "hits_edited": (_hits, "NCF-ACCURACY-HITS"),
        "throughput_ten_times": (_value("tracked_stats", throughput=lambda x: 10 * x),
                                 "NCF-THROUGHPUT-TIMES"),
        "throughput_and_seconds": (_value("tracked_stats", throughput=lambda x: 10 * x,
                                          train_seconds=lambda x: x / 10), "NCF-THROUGHPUT-TIMES"),
        "eval_throughput_of_fewer": (_value("tracked_stats", eval_throughput=lambda x: x / 2),
                                     "NCF-EVAL-THROUGHPUT-TIMES"),
        "eval_seconds_of_more": (_value("tracked_stats", eval_throughput=lambda x: x / 1000,
                                        eval_seconds=lambda x: x * 1000),
                                 "NCF-EVAL-THROUGHPUT-TIMES"),
        "ndcg_above_the_hit_rate": (_ndcg(0.9), "NCF-NDCG-BOUNDS"),
        "ndcg_below_what_hits_give": (_ndcg(0.0), "NCF-NDCG-BOUNDS")}
    return {name: Case(*_pair(_changed(change), rule)) for name, (change, rule) in cases.items()}


def _ndcg(value: float) -> Callable[[list[Record]], int]:
    """The last NDCG at a value that its hit rate does not allow."""
    def change(records: list[Record]) -> int:
        index = at(records, "eval_ndcg", -1)
        records[index]["value"] = value
        return index + 1
    return change


def _of_files() -> dict[str, Case]:
    """Files that are cut, mixed or no logs at all."""
    records = _base()
    lines, whole = _lines(records), _bytes(_lines(records))
    cut = whole[:-40]
    ranks = [f"{rank}: {line}" for line in lines for rank in (0, 1)]
    joined = lines[:-2] + [lines[-2] + " " + lines[-1]]
    crlf = b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n")
    path = _edited("submission_benchmark", '"ncf"', '"../../ncf"')
    start = at(records, "run_start")
    return {
        "empty": Case(b"", "NCF-READ", None, "unreadable"),
        "binary": Case(bytes(range(256)) * 4, "NCF-READ", None, "unreadable"),
        "utf16": Case(whole[:2000].decode().encode("utf-16"), "NCF-READ", None, "unreadable"),
        "no_records": Case(b"step 1\nstep 2\n", "NCF-READ", None, "unreadable"),
        "truncated_last_line": Case(cut, "NCF-JSON", len(lines), "unreadable"),
        "cut_in_the_middle": Case(_bytes(lines[:start + 20]), "NCF-RUN-STOP", None, "unreadable"),
        "crlf_and_bom_no_stop": Case(crlf[:crlf.rindex(b":::MLLOG")], "NCF-RUN-STOP", None,
                                     "unreadable"),
        "interleaved_ranks": Case(_bytes(ranks), "NCF-RUN-START", 2 * (start + 1)),
        "two_records_on_a_line": Case(_bytes(joined), "NCF-LINE", len(lines) - 1, "pass"),
        "benchmark_is_a_path": Case(path[0], "NCF-BENCHMARK", path[1]),
        "not_utf8": Case(whole.replace(b'"eval_ndcg"', b'"eval_\xff\xfe"'), "NCF-NDCG-PER-EPOCH",
                         at(records, "epoch_start") + 1)}


def _of_other_dialects() -> dict[str, Case]:
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
        "v05_accuracy_without_value": Case(put("eval_accuracy", head + 'eval_accuracy: {"epoch": 0}'),
                                           "NCF-V05-ACCURACY-VALUE", accuracy + 1),
        "v05_no_epoch_zero": Case(text.replace('"epoch": 0,', '"epoch": 7,').encode(),
                                  "NCF-V05-EPOCH-ZERO", None),
        "v05_nan": Case(put("eval_accuracy", head + 'eval_accuracy: {"epoch": 0, "value": NaN}'),
                        "NCF-V05-RECORD", accuracy + 1),
        "v05_without_a_place": Case(put("run_start", ":::MLPv0.5.0 ncf 1541731860.75 run_start"),
                                    "NCF-V05-RECORD", line("run_start") + 1),
        "v06_has_no_rules": Case(v06.encode(), "NCF-BENCHMARK", 1),
        "other_benchmark_of_v06": Case(v06.replace('"ncf"', '"minigo"').encode(), "NCF-BENCHMARK", 1)}


def _sets() -> dict[str, Case]:
    """Two logs of a folder that contradict each other; the second is told."""
    def member(seed: int, batch: int | None = None) -> tuple[bytes, list[Record]]:
        records = _slim(good_log(epochs=1, seed=seed, start_ms=10 ** 12 + 10 ** 6 * seed))
        if batch:
            records[at(records, "global_batch_size")]["value"] = batch
        return _dense(records), records

    first, records = member(1)
    return {
        "seed_reused/result_0": Case(first, "", None, "pass"),
        "seed_reused/result_1": Case(first,
                                     "NCF-SET-SEEDS", at(records, "seed") + 1),
        "settings_differ/result_0": Case(first, "", None, "pass"),
        "settings_differ/result_1": Case(member(2, 17)[0], "NCF-SET-EQUAL",
                                         at(records, "global_batch_size") + 1)}


def _link(number: int, before: bytes | None, launcher: str = "a") -> dict[str, Any]:
    """The link of the attempt with that number, of which each became a run."""
    prior = {"attempt": number - 1, "run": number - 2, "launcher": "a", "reason": "target"}
    previous = [] if before is None else [{**prior, "sha256": hashlib.sha256(before).hexdigest()}]
    return {"set": "s", "attempt": number, "run": number - 1, "launcher": launcher, "joins": None,
            "previous": previous}


def _chains() -> dict[str, Case]:
    """Sets of two or three logs whose attempts do not hang together."""
    def member(number: int, before: bytes | None, launcher: str = "a") -> bytes:
        records = linked(_slim(good_log(epochs=1, seed=number, start_ms=10 ** 12 + 10 ** 6 * number)),
                         _link(number, before, launcher))
        del records[LINE - 1]["metadata"]["file"], records[LINE - 1]["metadata"]["lineno"]
        return _dense(records)

    LINE = at(_base(), "seed") + 2
    first = member(1, None)
    second = member(2, first)
    edited = first.replace(b'"reason":"dropped"', b'"reason":"Dropped"')
    bare = _dense(_slim(good_log(epochs=1, seed=2, start_ms=10 ** 12 + 2 * 10 ** 6)))
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
    """Every case, by the name of its file without .txt."""
    found: dict[str, Case] = {}
    for group in (_of_tests_logs(), _of_json(), _of_times(), _of_values(), _of_files(),
                  _of_other_dialects(), _sets(), _chains()):
        assert not set(group) & set(found), set(group) & set(found)
        found.update(group)
    return found


def main() -> None:
    """Writes the corpus."""
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
