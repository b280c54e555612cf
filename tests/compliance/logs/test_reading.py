"""The fast reader agrees with the strict reader; time and memory stay bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance.checking.checker import check_file
from compliance.logs.dialects import Event, LogReader, blocks, mllog
from tests.support.logs.log_builder import good_log, line_of
from tests.support.paths import ROOT

TOKEN = mllog.TOKEN.encode()
FIXTURE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def as_tuple(item):
    """Returns an item as a tuple in which NaN equals itself, and 1 differs from 1.0 and true."""
    if isinstance(item, Event):
        return ("event", item.line, repr(item.time), item.event_type, item.key, repr(item.value),
                repr(item.metadata))
    return ("problem", item.line, item.code, item.message)


def read_strictly(data: bytes) -> list[tuple]:
    """Reads all items with only the strict reader, line by line: the oracle."""
    found = []
    for number, line in enumerate(data.split(b"\n"), 1):
        # A token before the line's first brace may be followed by a tab or by no space.
        before, token, rest = line.partition(TOKEN.rstrip())
        if token and b"{" not in before and rest[:1] in (b"\t", b"{"):
            line = before + TOKEN + rest.removeprefix(b"\t")
        start = line.find(TOKEN)
        if start >= 0:
            text = line[start:].decode("utf-8", "replace").rstrip("\r\n")
            found += map(as_tuple, mllog.read(number, text))
    return found


def read_fast(path: Path, data: bytes) -> list[tuple]:
    path.write_bytes(data)
    return list(map(as_tuple, LogReader(path)))


# JSON values on which readers disagree, and valid ones.
VALUES = [b"1", b"1.0", b"-0", b"-0.0", b"1E400", b"-1e999", b"NaN", b"-Infinity", b"1e5", b"01",
          b"9" * 299, b"9" * 300, b"9" * 301, b"18446744073709551616", b"-9223372036854775809",
          b"1e-400", b"1" + b"0" * 400 + b"e-395", b'"a\\":b"', b'" : "', b'":"', b'"\\ud800"',
          b'"\xff"', b'"\x01"', b'"\x7f"', b'"\xe2\x80\xa8"', b'"\\ud83d\\ude00"', b"true", b"null",
          b"tru", b"[]", b"[1,]", b"[1, 2.5]", b"[[1]]", b"{}", b'{"a": 1}', b'{"a": 1, "a": 1}',
          b'{"a" : 1, "a": 1}', b'{"a"\t: 1, "b": 1}', b'{"a": {"b": {"b": 1}}}',
          b'{"a": 1},{"a": 1}', b"[" * 70 + b"]" * 70, b'":::MLLOG {}"', b'"}"', b'"{\\"a\\": 1}"']
KEYS = [b'"namespace"', b'"time_ms"', b'"event_type"', b'"key"', b'"value"', b'"metadata"',
        b'"-line-"', b'"-benchmark-"', b'"x"', b'"ke\\u0079"', b'""']
GOOD = dict(zip(KEYS, (b'""', b"5", b'"POINT_IN_TIME"', b'"a"', b"1", b"{}")))
ODD = [b"\n", b"\r", b"\r\n", b" ", b"x", b"{", b"}", b'"', b",", b"},\n" + TOKEN + b"{", b"[{}",
       b"{}]", TOKEN, b":::MLL", b"\x00", b"\xef\xbb\xbf", b"0: ", b"\r 50%|#"]


@st.composite
def records(draw):
    members = dict(GOOD)
    pairs = list(members.items())
    for _ in range(draw(st.integers(0, 2))):
        change = draw(st.sampled_from(["value", "add", "drop"]))
        where = draw(st.integers(0, len(pairs) - 1)) if pairs else 0
        if change == "value" and pairs:
            pairs[where] = (pairs[where][0], draw(st.sampled_from(VALUES)))
        elif change == "add":
            pairs.insert(where, (draw(st.sampled_from(KEYS)), draw(st.sampled_from(VALUES))))
        elif pairs:
            del pairs[where]
    colon = draw(st.sampled_from([b": ", b":", b": ", b" :", b" \t: "]))
    text = b"{" + b", ".join(k + colon + v for k, v in pairs) + b"}"
    return (draw(st.sampled_from([b"", b"", b"0: "])) + TOKEN + text
            + draw(st.sampled_from([b"\n", b"\n", b"\r\n", b" \n", b""])))


@settings(max_examples=300, deadline=None, suppress_health_check=FIXTURE)
@given(st.lists(st.one_of(records(), records(), st.sampled_from(ODD), st.binary(max_size=8)),
                max_size=8))
def test_the_fast_reader_agrees_with_the_strict_reader(tmp_path, parts):
    start, data = line_of(good_log()[0]).encode() + b"\n", b"".join(parts)
    assert read_fast(tmp_path / "x", start + data) == read_strictly(start + data)


@settings(max_examples=100, deadline=None, suppress_health_check=FIXTURE)
@given(st.lists(st.tuples(st.integers(0, 2500), st.binary(min_size=1, max_size=4)), max_size=4))
def test_the_fast_reader_agrees_on_a_damaged_block(tmp_path, edits):
    data = bytearray("".join(line_of(r) + "\n" for r in good_log(epochs=1)[:14]).encode())
    for position, what in edits:
        data[position:position + len(what)] = what
    assert read_fast(tmp_path / "x", bytes(data)) == read_strictly(bytes(data))


@pytest.mark.parametrize("value", VALUES)
def test_the_fast_reader_agrees_on_each_odd_value(tmp_path, value):
    good = TOKEN + b'{"namespace": "", "time_ms": 5, "event_type": "POINT_IN_TIME", "key": "a", ' \
                   b'"value": %s, "metadata": {}}\n'
    data = good % b"1" + good % value + good % b"2"
    assert read_fast(tmp_path / "x", data) == read_strictly(data)


def test_records_that_join_over_lines_stay_broken(tmp_path):
    whole = b'{"namespace": "", "time_ms": 5, "event_type": "POINT_IN_TIME", "key": "a", ' \
            b'"value": 1, "metadata": {}}'
    data = (TOKEN + whole.replace(b"1,", b"[{}", 1)[:-1] + b"}\n"
            + TOKEN + b'{}], "metadata": {}}\n' + TOKEN + whole + b"," + whole + b"\n")
    assert read_fast(tmp_path / "x", data) == read_strictly(data)
    assert any(kind == "problem" for kind, *_ in read_strictly(data))


def test_blocks_of_any_size_give_the_same_items(tmp_path, monkeypatch):
    data = b"\n".join([b"x" * 90, *(line_of(r).encode() for r in good_log(epochs=1)), b"y" * 200])
    expected = read_strictly(data)
    for size in (1, 7, 64, 1000, 1 << 18):
        monkeypatch.setattr(blocks, "CHUNK_BYTES", size)
        if size > 1 or len(data) < 20_000:
            assert read_fast(tmp_path / "x", data) == expected, size


HARD = {
    "broken tokens on one line": lambda n: TOKEN * n,
    "open strings": lambda n: (TOKEN + b'{"a') * n,
    "open lists": lambda n: (TOKEN + b"[[[[[") * n,
    "whole records on one line": lambda n: (TOKEN + b'{"key": "a"} ') * n,
    "v0.5 without a place": lambda n: b":::MLPv0.5.0 ncf 1 (" * n,
    "v0.5 on one line": lambda n: b":::MLPv0.5.0 ncf 1 (a:1) b: [" * n,
    "v0.6 on one line": lambda n: b':::MLL 1 a: {"value' * n,
    "one long string": lambda n: TOKEN + b'{"key": "' + b"a" * 12 * n + b'"}',
    "one long list": lambda n: TOKEN + b"[" + b"[1]," * 3 * n + b"1]",
    "text without an end": lambda n: b"x" * 12 * n,
    "marks without a token": lambda n: b":::ML" * 2 * n,
    "carriage returns": lambda n: b"50%|\xe2\x96\x88\r" * n,
    "newlines": lambda n: b"\n" * 12 * n,
    "epochs that count down": lambda n: b"".join(
        TOKEN + b'{"time_ms": 1, "key": "epoch_start", "value": 1, '
        b'"metadata": {"epoch_num": -%d}}\n' % i for i in range(n // 8))}


@pytest.mark.parametrize("name", sorted(HARD))
def test_input_that_is_hard_to_read_gets_a_verdict(tmp_path, name):
    """tests/benchmarks measures the growth of the time with the size."""
    path = tmp_path / "hard.txt"
    path.write_bytes(hard_log(name, 5_000))
    assert check_file(path).verdict in ("fail", "unreadable")


def hard_log(name: str, size: int) -> bytes:
    """Returns a log with a valid beginning, followed by `size` repetitions of hard input."""
    start = line_of(good_log()[0]).encode() + b"\n" if not name.startswith("v0") else b""
    return start + HARD[name](size)


MEMORY = """
import re, sys
from compliance.__main__ import main
main(["check", sys.argv[1], "--format", "json"])
print(re.search("VmHWM: *([0-9]+)", open("/proc/self/status").read().replace("\\t", " "))[1],
      file=sys.stderr)
"""


def peak_mib(path: Path) -> int:
    done = subprocess.run([sys.executable, "-c", MEMORY, str(path)], cwd=ROOT, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0
    assert json.loads(done.stdout)["verdict"] in ("pass", "fail", "unreadable")
    return int(done.stderr.split()[-1]) // 1024


def test_memory_does_not_grow_with_the_log(tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc, which does not exist")
    record = line_of(good_log()[0]).encode() + b"\n"
    path = tmp_path / "big.txt"
    for content in (record * 150_000, record + b"x" * 40_000_000, record + TOKEN * 300_000,
                    record + TOKEN + b"[" + b"{}," * 12_000_000, record[:-1] * 150_000):
        path.write_bytes(content)
        assert peak_mib(path) < 150
