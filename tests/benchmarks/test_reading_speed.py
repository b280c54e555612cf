"""Speed of reading and checking logs.

The generated log is pinned: a valid run with 40,000 more records. The official parser
reads the same file in the same session. The hard inputs are also read at an eighth of
their size: `growth` in `extra_info` is about 8 for a linear reader.
"""

from __future__ import annotations

import gzip
import time

import pytest
from mlperf_logging.compliance_checker.mlp_parser import parse_file

from compliance.checking.checker import check_file
from compliance.history.timeline import build_history
from compliance.logs.dialects import LogReader
from tests.benchmarks.measuring import file_version, measure
from tests.compliance.logs.test_reading import HARD, hard_log
from tests.support.logs.histories import BENCHMARK, write_history
from tests.support.logs.log_builder import good_log, index_of, write_log
from tests.support.paths import DATA

RECORDS = 40_000
HARD_SIZE = 20_000
HARD_IDS = {name: name.replace(" ", "_").replace(".", "") for name in sorted(HARD)}
GOLDEN = DATA / "good" / "mllog_success.txt"


@pytest.fixture(scope="module")
def long_log(tmp_path_factory):
    log = good_log()
    stop = index_of(log, "run_stop")
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
    """The same log with 7.5 times as many lines of plain text added."""
    lines = long_log.read_bytes().splitlines(keepends=True)
    text = b"step 12345, loss 0.25, 3 it/s\n" * 300_000
    path = long_log.with_name("noisy.txt")
    path.write_bytes(lines[0] + text + b"".join(lines[1:]))
    return path


def _measure(benchmark, task, path, rounds=7):
    lines = path.read_bytes().count(b"\n")
    measure(benchmark, task, group="reading", version=file_version(path), rounds=rounds,
            amounts={"lines": lines})  # fmt: skip
    if lines > RECORDS and benchmark.stats is not None:
        benchmark.extra_info["records_per_s"] = RECORDS / benchmark.stats.stats.median


def test_official_parser(benchmark, long_log):
    _measure(benchmark, lambda: parse_file(str(long_log), "4.1.0"), long_log, rounds=2)


def test_read(benchmark, long_log):
    _measure(benchmark, lambda: sum(map(len, LogReader(long_log).blocks())), long_log)


def test_check(benchmark, long_log):
    _measure(benchmark, lambda: check_file(long_log), long_log)


def test_check_a_compressed_log(benchmark, long_log):
    path = long_log.with_name("long.txt.gz")
    path.write_bytes(gzip.compress(long_log.read_bytes(), mtime=0))
    _measure(benchmark, lambda: check_file(path), path)


def test_check_with_text_between_the_records(benchmark, noisy_log):
    _measure(benchmark, lambda: check_file(noisy_log), noisy_log)


def test_check_a_log_of_this_project(benchmark):
    """A log exactly as the harness wrote it."""
    _measure(benchmark, lambda: check_file(GOLDEN), GOLDEN)


def test_check_a_real_v05_submission(benchmark, shared_dir):
    path = shared_dir / "logs_v05" / "nvidia_dgx1" / "result_0.txt"
    if not path.is_file():
        pytest.skip(f"no real v0.5 logs in {shared_dir}")
    _measure(benchmark, lambda: check_file(path), path)


def test_history(benchmark, tmp_path):
    """A history of 50 sets of 5 logs; 1,000 sets must take less than 10 s."""
    system = write_history(tmp_path / "laptop", [100 + n % 7 for n in range(50)])
    ledger = system / "attempts" / BENCHMARK / "ledger.jsonl"
    measure(benchmark, lambda: build_history(system), group="reading",
            version=file_version(ledger), rounds=7, amounts={"sets": 50})  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(name, id=id) for name, id in HARD_IDS.items()])
def test_hard_input(benchmark, tmp_path, name):
    small, large = tmp_path / "small.txt", tmp_path / "large.txt"
    small.write_bytes(hard_log(name, HARD_SIZE // 8))
    large.write_bytes(hard_log(name, HARD_SIZE))
    check_file(small)
    start = time.perf_counter()
    check_file(small)
    seconds = time.perf_counter() - start
    measure(benchmark, lambda: check_file(large), group="hard input", version=file_version(large),
            rounds=9, amounts={"bytes": large.stat().st_size})  # fmt: skip
    if benchmark.stats is not None:
        benchmark.extra_info["growth"] = benchmark.stats.stats.median / seconds
