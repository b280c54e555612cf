"""The log writers: MLLOG by mlperf_logging, and the v0.5 dialect."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from mlperf_logging.compliance_checker import mlp_parser

from compliance.checking import checker
from compliance.logs.keys import LOG_KEYS, V05_TAGS
from harness.base.clock import RunClock
from harness.logs.log_writer import (
    EventValueError,
    LogWriteError,
    MllogSink,
    V05Sink,
    to_json_types,
)
from harness.logs.run_log import RunLog, finalize_log, read_outcome
from tests.support.paths import ROOT
from tests.support.runs.harness_runs import TOY, harness, result_log


@pytest.fixture()
def sink(tmp_path):
    made = MllogSink(tmp_path / "log.txt", RunClock())
    yield made
    made.close()


def records(path: Path) -> list[dict]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]


def here() -> int:
    import inspect

    return inspect.currentframe().f_back.f_lineno


class TestMllog:
    def test_records_have_mlloggers_fields(self, sink):
        sink.point("eval_accuracy", 0.25, epoch_num=1, samples_count=10)
        sink.start("epoch_start", epoch_num=2)
        sink.end("epoch_stop", epoch_num=2)
        found = records(sink.path)
        kinds = ["POINT_IN_TIME", "INTERVAL_START", "INTERVAL_END"]
        assert [r["event_type"] for r in found] == kinds
        assert found[0]["value"] == 0.25 and found[0]["metadata"]["samples_count"] == 10
        assert all(isinstance(r["time_ms"], int) and r["namespace"] == "" for r in found)

    @pytest.mark.parametrize("method", ["point", "start", "end"])
    def test_the_call_site_is_the_code_that_calls_the_sink(self, sink, method):
        getattr(sink, method)("seed", 1); line = here()  # noqa: E702
        metadata = records(sink.path)[0]["metadata"]
        assert metadata["file"] == "tests/harness/logs/test_log_writer.py"
        assert metadata["lineno"] == line

    @pytest.mark.parametrize("method", ["point", "start", "end"])
    def test_the_call_site_in_v05_is_the_code_that_calls_the_sink(self, tmp_path, method):
        sink = V05Sink(tmp_path / "log.txt", RunClock())
        getattr(sink, method)("seed", 1); line = here()  # noqa: E702
        sink.close()
        assert f"(tests/harness/logs/test_log_writer.py:{line})" in sink.path.read_text()

    def test_the_official_parser_reads_it(self, sink):
        sink.point("seed", 1)
        sink.point("submission_org", "Zoë ☃")
        lines, errors = mlp_parser.parse_file(str(sink.path), ruleset="5.0.0")
        assert not errors and [line.key for line in lines] == ["seed", "submission_org"]

    def test_numpy_values_become_numbers(self, sink):
        sink.point("seed", np.int64(3), a=np.float32(0.5), b=np.arange(2), c=np.bool_(True))
        found = records(sink.path)[0]
        metadata = {key: found["metadata"][key] for key in "abc"}
        assert found["value"] == 3 and metadata == {"a": 0.5, "b": [0, 1], "c": True}

    @pytest.mark.parametrize(
        "value",
        [math.nan, math.inf, [1, -math.inf], {"a": {"b": math.nan}}, {1: 2}, {3}, b"x", 1j,
         np.float32("nan"), Path("x")],
    )  # fmt: skip
    def test_a_value_that_the_encoder_would_drop_or_change_is_an_error(self, sink, value):
        with pytest.raises(EventValueError):
            sink.point("seed", value)
        with pytest.raises(EventValueError):
            sink.point("seed", 1, extra=value)
        assert sink.path.read_bytes() == b""

    def test_the_call_site_cannot_be_overridden(self, sink):
        with pytest.raises(EventValueError):
            sink.point("seed", 1, lineno=3)

    def test_threads_do_not_mix_lines_or_times(self, sink):
        def write() -> None:
            for _ in range(200):
                sink.point("seed", 1, text="x" * 500)

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        times = [r["time_ms"] for r in records(sink.path)]
        assert len(times) == 800 and times == sorted(times)

    def test_two_logs_in_one_process_do_not_mix(self, tmp_path):
        first = MllogSink(tmp_path / "1.txt", RunClock())
        second = MllogSink(tmp_path / "2.txt", RunClock())
        first.point("seed", 1)
        second.point("seed", 2)
        assert [r["value"] for r in records(first.path)] == [1]
        assert [r["value"] for r in records(second.path)] == [2]

    def test_an_existing_file_is_not_overwritten(self, sink):
        with pytest.raises(FileExistsError):
            MllogSink(sink.path, RunClock())

    def test_a_full_disk_is_an_error(self):
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full here")
        full = MllogSink(Path("/dev/full"), RunClock(), append=True)
        with pytest.raises(LogWriteError, match="[Nn]o space"):
            full.point("seed", 1)

    def test_a_line_that_does_not_fit_leaves_no_part_of_it(self, tmp_path):
        code = (
            "import resource, sys; from pathlib import Path; from harness.base.clock import RunClock\n"
            "from harness.logs.log_writer import MllogSink\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
            "sink = MllogSink(Path(sys.argv[1]), RunClock())\n"
            "sink.point('seed', 1); sink.point('track', 'x' * 500)"
        )
        done = subprocess.run([sys.executable, "-c", code, tmp_path / "log"], cwd=ROOT,
                              capture_output=True, text=True)  # fmt: skip
        assert "LogWriteError" in done.stderr
        assert [r["key"] for r in records(tmp_path / "log")] == ["seed"]

    def test_intervals_after_run_stop_are_dropped(self, sink):
        """A thread of the engine may still be preparing the next epoch."""
        sink.start("train_neg_gen_start")
        sink.end("run_stop", status="success")
        sink.end("train_neg_gen_stop")
        sink.start("train_neg_gen_start")
        sink.point("split_digest", "of what was read")
        keys = [record["key"] for record in records(sink.path)]
        assert keys == ["train_neg_gen_start", "run_stop", "split_digest"]

    def test_records_after_close_are_dropped(self, sink):
        sink.close()
        sink.point("seed", 1)
        assert sink.path.read_bytes() == b""


def test_json_types_keep_text_and_nesting():
    assert to_json_types({"a": (1, None, "t")}, "x") == {"a": [1, None, "t"]}


class TestClock:
    def test_the_clock_never_runs_back_and_starts_at_the_wall_time(self):
        clock = RunClock()
        first, second = clock.now_ns(), clock.now_ns()
        assert first <= second
        assert abs(clock.now_ms() - clock.wall_ms()) < 1000


class TestEndings:
    def start(self, tmp_path, log_format="mllog") -> RunLog:
        log = RunLog(log_format, tmp_path / "a" / "run_0_x_1.txt", tmp_path / "r" / "result_0.txt",
                     RunClock())  # fmt: skip
        log.sink.start("run_start", wall_time_ms=1)
        log.open()
        return log

    @pytest.mark.parametrize("log_format", ["mllog", "v0.5"])
    def test_nothing_is_written_before_the_log_is_opened(self, tmp_path, log_format):
        log = RunLog(log_format, tmp_path / "a" / "x.txt", tmp_path / "r.txt", RunClock())
        log.sink.point("seed", 5)
        log.sink.start("init_start")
        assert list(tmp_path.iterdir()) == []
        log.open()
        log.sink.end("init_stop")
        lines = (tmp_path / "a" / "x.txt").read_text().splitlines()
        assert len(lines) >= 2 and "5" in lines[0]

    def test_a_log_that_was_never_opened_ends_without_a_file(self, tmp_path):
        log = RunLog("mllog", tmp_path / "a" / "x.txt", tmp_path / "r.txt", RunClock())
        log.sink.point("seed", 5)
        assert log.stop("exception") and log.published is None
        log.sink.point("seed", 6)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("reason", ["target", "epoch_cap", "nan_loss"])
    def test_a_result_is_published(self, tmp_path, reason):
        log = self.start(tmp_path)
        assert log.stop(reason) and log.published == tmp_path / "r" / "result_0.txt"
        assert read_outcome(log.published).reason == reason
        assert not log.attempt.exists()

    @pytest.mark.parametrize("reason", ["interrupted", "exception", "stalled", "killed"])
    def test_an_attempt_is_not_published(self, tmp_path, reason):
        log = self.start(tmp_path)
        assert log.stop(reason) and log.published is None
        assert read_outcome(log.attempt).reason == reason

    def test_only_the_first_ending_counts(self, tmp_path):
        log = self.start(tmp_path)
        assert log.stop("target") and not log.stop("interrupted")
        assert read_outcome(log.published).reason == "target"

    def test_a_result_is_never_replaced(self, tmp_path):
        log = self.start(tmp_path)
        log.result.parent.mkdir()
        log.result.write_text("another")
        with pytest.raises(FileExistsError):
            log.stop("target")
        assert log.result.read_text() == "another"

    @pytest.mark.parametrize("log_format", ["mllog", "v0.5"])
    def test_a_killed_run_is_closed_by_another_process(self, tmp_path, log_format):
        log = self.start(tmp_path, log_format)
        with open(log.attempt, "ab") as file:
            file.write(b":::ML torn")
        finalize_log(log.attempt, log_format)
        assert b"torn" not in log.attempt.read_bytes()
        assert read_outcome(log.attempt).reason in ("killed", "aborted")
        assert read_outcome(log.attempt).seconds >= 0


@pytest.fixture(scope="module")
def both_dialects(tmp_path_factory):
    """A run of the harness in each dialect: {format: path of the log}."""
    logs = {}
    for log_format in ("mllog", "v0.5"):
        folder = tmp_path_factory.mktemp("dialect")
        done = harness(folder, TOY, "--target=0.2", "--num_runs=1", f"--log_format={log_format}",
                       "--keep_checkpoint")
        assert done.returncode == 0, done.stdout + done.stderr
        logs[log_format] = result_log(folder)
    return logs


class TestAWholeRun:
    def test_every_key_is_in_the_list_of_tags(self, both_dialects):
        for record in records(both_dialects["mllog"]):
            tag = LOG_KEYS[record["key"]]
            assert record["event_type"] == tag.event_type
            assert set(tag.metadata) <= set(record["metadata"]), record

    def test_every_tag_is_written(self, both_dialects):
        assert {r["key"] for r in records(both_dialects["mllog"])} == set(LOG_KEYS)

    def test_every_v05_tag_is_written(self, both_dialects):
        text = both_dialects["v0.5"].read_text()
        assert set(re.findall(r" \(\S+:\d+\) (\w+)", text)) == set(V05_TAGS)

    @pytest.mark.parametrize("ruleset", ["ncf-v0.5-l1", "ncf-v0.5-l2"])
    def test_the_v05_log_meets_both_levels(self, both_dialects, ruleset):
        result = checker.check_file(both_dialects["v0.5"], ruleset)
        assert result.verdict == "pass", result.as_json()["violations"]

    @pytest.mark.parametrize(
        "shape",
        [
            r"run_start", r'run_stop: {"success": true}', r"run_final",
            r'eval_accuracy: {"epoch": 0, "value": 0\.1}', r"train_epoch: 0", r"train_epoch: 1",
            r'eval_size: {"epoch": 0, "value": 20000}', r'opt_name: "Adam"',
            r"model_hp_mlp_layer_sizes: \[16, 8\]", r"preproc_hp_num_eval: 99",
            r"preproc_hp_sample_eval_replacement: true", r"input_step_eval_neg_gen",
            r"eval_target: 0\.2", r"opt_hp_Adam_epsilon: 1e-08", r"input_hp_num_neg: 4",
        ],
    )  # fmt: skip
    def test_v05_values_have_the_shapes_of_real_logs(self, both_dialects, shape):
        lines = both_dialects["v0.5"].read_text().splitlines()
        pattern = rf":::MLPv0\.5\.0 ncf \d{{10}}\.\d{{9}} \([\w/.]+:\d+\) {shape}"
        assert any(re.fullmatch(pattern, line) for line in lines)

    def test_both_dialects_have_the_same_facts(self, both_dialects):
        facts = [checker.check_file(path).summary for path in both_dialects.values()]
        assert [f.num_accuracies for f in facts] == [2, 2]
        assert [f.converged for f in facts] == [True, True]
