"""How fast logs are read and checked; run by `./run_tests.sh --benchmarks`.

The log is pinned: a valid run with 40,000 more records. `records_per_s` is in
`extra_info`, of the median round. The official parser reads the same file in the
same session. The hard inputs stand in two sizes, 8 times apart: a reader that is
linear takes about 8 times as long for the larger.
"""

from __future__ import annotations

import pytest
from mlperf_logging.compliance_checker.mlp_parser import parse_file

from compliance.checker import check_file
from compliance.dialects import LogReader
from tests.logs import at, good_log, write_log
from tests.test_reading import HARD, hard_log

RECORDS = 40_000


@pytest.fixture(scope="module")
def long_log(tmp_path_factory):
    log = good_log()
    stop = at(log, "run_stop")
    more = [
        {
            "namespace": "",
            "time_ms": log[stop]["time_ms"],
            "event_type": "POINT_IN_TIME",
            "key": "train_loss",
            "value": 1 / (n + 1),
            "metadata": {"file": "run.py", "lineno": 9, "step": n},
        }
        for n in range(RECORDS)
    ]
    folder = tmp_path_factory.mktemp("long")
    return write_log(folder / "long.txt", log[:stop] + more + log[stop:])


@pytest.fixture(scope="module")
def noisy_log(long_log):
    """The same with 7.5 times as many lines of plain text in it."""
    lines = long_log.read_bytes().splitlines(keepends=True)
    text = b"step 12345, loss 0.25, 3 it/s\n" * 300_000
    path = long_log.with_name("noisy.txt")
    path.write_bytes(lines[0] + text + b"".join(lines[1:]))
    return path


def _measure(benchmark, task):
    benchmark.group = "reading"
    benchmark.pedantic(task, rounds=7, warmup_rounds=1)
    benchmark.extra_info["records_per_s"] = RECORDS / benchmark.stats.stats.median


def test_official_parser(benchmark, long_log):
    _measure(benchmark, lambda: parse_file(str(long_log), "4.1.0"))


def test_read(benchmark, long_log):
    _measure(benchmark, lambda: sum(map(len, LogReader(long_log).blocks())))


def test_check(benchmark, long_log):
    _measure(benchmark, lambda: check_file(long_log))


def test_check_with_text_between_the_records(benchmark, noisy_log):
    _measure(benchmark, lambda: check_file(noisy_log))


@pytest.mark.parametrize("size", [5_000, 40_000])
@pytest.mark.parametrize("name", sorted(HARD))
def test_hard_input(benchmark, tmp_path, name, size):
    path = tmp_path / "hard.txt"
    path.write_bytes(hard_log(name, size))
    benchmark.group = f"hard: {name}"
    benchmark.extra_info["bytes"] = path.stat().st_size
    benchmark.pedantic(check_file, args=(path,), rounds=3, warmup_rounds=1)
