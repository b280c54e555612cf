"""The log dialects: records among other text, strict JSON, line numbers, any bytes."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance.checking.checker import check_file
from compliance.logs.dialects import Event, LogReader, Problem, blocks

# One record as written by mllog.
R = (b':::MLLOG {"namespace": "", "time_ms": 5, "event_type": "POINT_IN_TIME", "key": "a", '
     b'"value": 1, "metadata": {}}')


def read(tmp_path, data: bytes):
    path = tmp_path / "log.txt"
    path.write_bytes(data)
    reader = LogReader(path)
    return reader, list(reader)


def events(items):
    return [i for i in items if isinstance(i, Event)]


def codes(items):
    return [(i.line, i.code) for i in items if isinstance(i, Problem)]


def test_a_record_may_follow_other_text(tmp_path):
    reader, items = read(tmp_path, b"hello\n\n 0: 45%|\xe2\x96\x88\r" + R + b"\n")
    assert reader.dialect.name == "mllog" and codes(items) == []
    (event,) = events(items)
    assert (event.line, event.key, event.value, event.time) == (3, "a", 1, 5)
    assert event.event_type == "POINT_IN_TIME"


def test_lines_end_at_newline_only(tmp_path):
    text = "\u2028\u0085\x0b\x0c\r".encode()
    _, items = read(tmp_path, text + R + b"\n" + text + R + b"\r\n" + R)
    assert [e.line for e in events(items)] == [1, 2, 3] and codes(items) == []


def test_two_records_on_a_line_are_both_read_and_reported(tmp_path):
    _, items = read(tmp_path, b"0: " + R + b"1: " + R + b"\n" + R)
    assert [e.line for e in events(items)] == [1, 1, 2]
    assert codes(items) == [(1, "line")]


def test_a_token_inside_a_value_is_no_record(tmp_path):
    _, items = read(tmp_path, R.replace(b'"value": 1', b'"value": ":::MLLOG {}"'))
    assert len(events(items)) == 1 and codes(items) == []


def test_bom_and_bytes_that_are_not_utf8_are_tolerated(tmp_path):
    _, items = read(tmp_path, b"\xef\xbb\xbf" + R + b"\n\xff\xfe " + R.replace(b'"a"', b'"\xff"'))
    assert len(events(items)) == 2 and codes(items) == []


@pytest.mark.parametrize("record, code, kept", [
    (b'{"time_ms": 5, "key": "a", "value": NaN, "metadata": {}}', "number", True),
    (b'{"time_ms": 5, "key": "a", "value": -Infinity, "metadata": {}}', "number", True),
    (b'{"time_ms": 5, "key": "a", "value": 1e999, "metadata": {}}', "number", True),
    (b'{"time_ms": 5, "key": "a", "value": ' + b"9" * 5000 + b', "metadata": {}}', "number", True),
    (b'{"time_ms": 5, "key": "b", "key": "a", "value": 1, "metadata": {}}', "duplicate", True),
    (b'{"time_ms": 5, "key": "a", "value": 1, "metadata": {"x": 1, "x": 1}}', "duplicate", True),
    (b'{"key": "a", "value": 1, "metadata": {}}', "record", True),
    (b'{"time_ms": 5, "key": "a", "metadata": {}}', "record", True),
    (b'{"time_ms": 5, "key": "a", "value": 1}', "record", True),
    (b'{"time_ms": 5, "value": 1, "metadata": {}}', "record", False),
    (b'{"time_ms": 5, "key": 7, "value": 1, "metadata": {}}', "record", False),
    (b'{"time_ms": 5, "key": "a", "value": 1, "metadata": []}', "record", True),
    (b'{"time_ms": 5, "key": "a", "value": 1, "metadata": {}, "event_type": []}', "record", True),
    (b'{"time_ms": "5", "key": "a", "value": 1, "metadata": {}}', "time", True),
    (b'{"time_ms": true, "key": "a", "value": 1, "metadata": {}}', "time", True),
    (b'{"time_ms": 1e300, "key": "a", "value": 1, "metadata": {}}', "time", True),
    (b"[1]", "record", False), (b"5", "record", False), (b"null", "record", False),
    (b"", "json", False), (b'{"time_ms": 5', "json", False), (b"[" * 200_000, "json", False),
    (b'{"time_ms": 5, "key": "a", "value": 1, "metadata": {}} x', "json", True)])
def test_a_faulty_mllog_record_is_reported_with_its_code_and_line(tmp_path, record, code, kept):
    _, items = read(tmp_path, R + b"\n:::MLLOG " + record + b"\n" + R)
    assert (2, code) in codes(items)
    assert [e.line for e in events(items)] == ([1, 2, 3] if kept else [1, 3])
    assert all(e.time == 5 or math.isnan(e.time) for e in events(items))


def test_a_v05_record_is_read(tmp_path):
    text = (b"\n:::MLPv0.5.0 ncf 1541731858.930371284 (/a b/ncf.py:242) run_start\n"
            b":::MLPv0.5.0 ncf 1541731859 (<string>:1) eval_accuracy: "
            b"{\"epoch\": 0, \"value\": 1.45439E-7}\n")
    reader, items = read(tmp_path, text)
    assert reader.dialect.name == "v0.5" and codes(items) == []
    first, second = events(items)
    assert (first.line, first.key, first.value) == (2, "run_start", None)
    assert first.time == 1541731858.9303713
    assert second.value == {"epoch": 0, "value": 1.45439e-7} and second.benchmark == "ncf"


@pytest.mark.parametrize("record", [
    b"ncf 5 run_start", b"ncf x (a.py:1) run_start", b"ncf 5 (a.py:1) run_start junk",
    b"ncf 5 (a.py:1) run_stop: {", b"ncf 5 (a.py:1) run_stop: NaN", b""])
def test_a_broken_v05_record_is_reported(tmp_path, record):
    _, items = read(tmp_path, b":::MLPv0.5.0 " + record + b"\n")
    assert codes(items)


def test_the_first_record_decides_the_dialect(tmp_path):
    reader, _ = read(tmp_path, b":::MLPv0.5.0 ncf 5 (a.py:1) run_start\n" + R)
    assert reader.dialect.name == "v0.5"


def test_a_very_long_line_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "MAX_RECORD_BYTES", 4096)
    monkeypatch.setattr(blocks, "CHUNK_BYTES", 100)
    long_line = b"x" * 20_000 + R + b"y" * 20_000
    _, items = read(tmp_path, long_line + b"\n" + b"z" * 4094 + R + b"\n" + R)
    assert [e.line for e in events(items)][-2:] == [2, 3]
    assert all(line == 1 for line, _ in codes(items))


def test_the_readers_digest_is_that_of_the_whole_file(tmp_path):
    import hashlib
    reader, _ = read(tmp_path, R + b"\nabc")
    assert reader.sha256 == hashlib.sha256(R + b"\nabc").hexdigest()


@settings(max_examples=200, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(
    [R, b":::MLLOG ", b":::MLPv0.5.0 ", b"\n", b"{", b'"', b"[[", b"ncf 1 (a:1) b: "])),
    max_size=12))
def test_any_bytes_are_read_without_an_exception(tmp_path, parts):
    """A damaged gzip file, recognized by its magic number, may be unreadable."""
    data = b"".join(parts)
    if data.startswith(b"\x1f\x8b"):
        with pytest.raises(OSError, match="damaged gzip"):
            read(tmp_path, data)
        return
    _, items = read(tmp_path, data)
    assert all(i.line >= 1 for i in items)


def test_the_real_logs_of_v05_are_read_without_a_problem(shared_dir):
    logs = sorted((shared_dir / "logs_v05").rglob("*.txt"))
    if not logs:
        pytest.skip("the shared folder has no v0.5 logs")
    for log in logs:
        assert not any(isinstance(i, Problem) for i in LogReader(log)), log


V06 = b':::MLL %s %s: {"value": %s, "metadata": %s}\n'


def test_a_v06_record_is_read(tmp_path):
    reader, items = read(tmp_path, b"[1,0]<stdout>:"
                         + V06 % (b"1556733699.71", b"run_start", b"null", b"{}")
                         + b':::MLL 123 foo : { "metadata": {"epoch_num": 3}, "value": "bar" }\r\n')
    assert reader.dialect.name == "v0.6" and codes(items) == []
    first, second = events(items)
    assert (first.line, first.key, first.value, first.time) == (1, "run_start", None, 1556733699.71)
    assert (second.key, second.value, second.metadata) == ("foo", "bar", {"epoch_num": 3})


@pytest.mark.parametrize("record, code", [
    (b"5 run_start", "record"), (b"x run_start: {}", "record"), (b"5 a: 7", "record"),
    (b'5 a: {"value": 1}', "record"), (b'5 a: {"value": 1, "metadata": []}', "record"),
    (b'5 a: {"value": 1, "value": 2, "metadata": {}}', "duplicate"),
    (b'5 a: {"value": NaN, "metadata": {}}', "number"), (b'5 a: {"value": main.py}', "json"),
    (b'5 a: {"value": 1, "metadata": {}} x', "json"), (b"", "record")])
def test_a_broken_v06_record_is_reported_with_its_code(tmp_path, record, code):
    _, items = read(tmp_path, b":::MLL " + record + b"\n")
    assert code in [found for _, found in codes(items)]


def test_a_v06_time_of_zero_counts_as_no_time(tmp_path):
    hosts = [b"0.0", b"100.5", b"100.5", b"101.0"]
    text = b"".join(
        [V06 % (t, b"submission_benchmark", b'"resnet"', b"{}") for t in hosts]
        + [V06 % (t, b"run_start", b"null", b"{}") for t in hosts]
        + [V06 % (b"150.0", b"eval_accuracy", b"0.7", b'{"epoch_num": 1}')] * 2
        + [V06 % (t, b"run_stop", b"null", b'{"status": "success"}') for t in (b"0.0", b"200.5")])
    path = tmp_path / "a.txt"
    path.write_bytes(text)
    result = check_file(path)
    run = result.summary.as_json()
    assert (result.dialect, result.ruleset, result.verdict) == ("v0.6", None, "fail")
    assert [v.rule for v in result.errors.list()] == ["NCF-BENCHMARK"] and not result.warnings
    assert (run["start_s"], run["stop_s"], run["seconds"]) == (100.5, 200.5, 100.0)
    assert (run["status"], run["epochs"], run["best_accuracy"]) == ("success", 2, 0.7)


def test_a_log_without_rules_is_still_warned_of_unreadable_records(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(V06 % (b"1", b"submission_benchmark", b'"ssd"', b"{}") + b":::MLL junk\n")
    result = check_file(path)
    assert [(v.rule, v.line) for v in result.warnings.list()] == [("NCF-RECORD", 2)]
