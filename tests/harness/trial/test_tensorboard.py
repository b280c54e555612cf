"""`--tensorboard_dir` and `--profile_dir`: the files they write, read by TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from compliance.checking import checker
from compliance.results import scoring
from tests.support.runs.harness_runs import (
    ROOT,
    TOY,
    attempts,
    environment,
    harness,
    result_log,
    set_folder,
)

TAGS = {"HR@10": "eval_accuracy", "NDCG@10": "eval_ndcg", "loss": "loss",
        "examples_per_second": "throughput"}  # fmt: skip


def records(log: Path) -> list[dict]:
    return [json.loads(line.removeprefix(":::MLLOG ")) for line in log.open()]


def values_by_epoch(log: Path, key: str) -> dict[int, float]:
    """Returns a value of the log by epoch."""
    stats = key in ("loss", "throughput")
    return {
        r["metadata"]["epoch_num"]: r["value"][key] if stats else r["value"]
        for r in records(log)
        if r["key"] == ("tracked_stats" if stats else key)
    }


def read_events(path: Path) -> list:
    """Reads an event file with TensorFlow's own reader."""
    import tensorflow as tf

    return list(tf.compat.v1.train.summary_iterator(str(path)))


def scalars(events: list) -> dict[str, dict[int, float]]:
    """Returns {tag: {epoch: value}}."""
    found: dict[str, dict[int, float]] = {}
    for event in events:
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Two runs with the flag: the folder, and (log, events) of each run."""
    folder = tmp_path_factory.mktemp("scalars")
    board = folder / "board"
    done = harness(folder, TOY, "--num_runs=2", "--target=0.3", f"--tensorboard_dir={board}")
    assert done.returncode == 0, done.stdout + done.stderr
    command = f"tensorboard --logdir {board}  (pip install tensorboard)"
    assert command in done.stdout.splitlines()[-2]
    files = sorted(board.rglob("*tfevents*"))
    for number, file in enumerate(files, 1):
        assert f"run {number}/2: wrote the scalars {file.parent}\n" in done.stdout
    logs = [result_log(folder, run) for run in (0, 1)]
    return folder, list(zip(logs, files, strict=True))


class TestScalars:
    def test_each_trial_is_a_run_of_its_own(self, two_runs):
        names = [events.parent.name for _, events in two_runs[1]]
        assert [name[:6] for name in names] == ["run_0_", "run_1_"]
        assert {events.parent.parent.name for _, events in two_runs[1]} == {"ncf-tiny"}

    @pytest.mark.parametrize("tag", TAGS)
    def test_scalars_equal_the_logged_values(self, two_runs, tag):
        for log, path in two_runs[1]:
            found, logged = scalars(read_events(path))[tag], values_by_epoch(log, TAGS[tag])
            assert sorted(found) == sorted(logged) == [1, 2, 3]
            for epoch, value in logged.items():
                assert found[epoch] == pytest.approx(value, rel=1e-6)

    def test_scalars_are_dated_by_epoch_and_written_after_the_run(self, two_runs):
        for log, path in two_runs[1]:
            stop = next(r for r in records(log) if r["key"] == "run_stop")
            starts = [r["time_ms"] for r in records(log) if r["key"] == "epoch_start"]
            dates = [1000 * e.wall_time for e in read_events(path) if e.summary.value]
            for start, date, end in zip(starts, dates, [*starts[1:], stop["time_ms"]]):
                assert start <= date <= end + 1
            assert 1000 * path.stat().st_mtime >= stop["metadata"]["wall_time_ms"]

    def test_the_settings_are_among_the_events(self, two_runs):
        """TensorBoard shows a text of its plug-in "text" as Markdown."""
        for log, path in two_runs[1]:
            (value,) = (v for e in read_events(path) for v in e.summary.value if v.tag == "settings")
            assert value.metadata.plugin_data.plugin_name == "text"
            table = value.tensor.string_val[0].decode().splitlines()
            seed = next(r["value"] for r in records(log) if r["key"] == "seed")
            assert table[:3] == ["| setting | value |", "|---|---|", f"| seed | `{seed}` |"]
            assert "| target | `0.3` |" in table and '| division | `"open"` |' in table

    def test_the_flag_is_not_a_setting_of_the_set(self, two_runs):
        configuration = next(r for r in records(two_runs[1][0][0]) if r["key"] == "configuration")
        assert "tensorboard_dir" not in configuration["value"]
        assert checker.check_paths([set_folder(two_runs[0])]).verdict == "pass"


@pytest.mark.slow
def test_a_failed_run_has_the_scalars_of_its_epochs(tmp_path):
    board = tmp_path / "board"
    flags = ("--num_runs=1", f"--tensorboard_dir={board}")
    done = harness(tmp_path, TOY, *flags, TOY_MODE="exception")
    assert done.returncode == 2 and list(attempts(tmp_path).glob("run_*.txt"))
    (path,) = board.rglob("*tfevents*")
    assert list(scalars(read_events(path))["loss"]) == [1]


def test_a_run_whose_scalars_cannot_be_written_still_passes(tmp_path):
    board = tmp_path / "board"
    board.mkdir()
    (board / "ncf-tiny").write_text("in the way")
    done = harness(tmp_path, TOY, "--num_runs=1", "--target=0.1", f"--tensorboard_dir={board}")
    assert done.returncode == 0 and "no TensorBoard scalars: " in done.stdout


OPERATORS = """
import collections, json, sys
from tensorflow.tsl.profiler.protobuf import xplane_pb2
space, found = xplane_pb2.XSpace(), collections.Counter()
space.ParseFromString(open(sys.argv[1], "rb").read())
for plane in space.planes:
    for line in plane.lines:
        for event in line.events:
            found[plane.event_metadata[event.metadata_id].name] += 1
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_profile_has_the_operators_of_the_fused_engine_and_its_set_no_score(
    tmp_path, ml_100k_file
):
    data = next(p for p in ml_100k_file.parents if (p / "ml-100k") in ml_100k_file.parents)
    profile = tmp_path / "profile"
    done = subprocess.run(
        [sys.executable, "-m", "harness", "--num_runs=5", "--max_epochs=3", f"--data_dir={data}",
         f"--results_dir={tmp_path / 'results'}", "--system=sys", "--device=cpu",
         "--division=open", "--target=0.05", f"--profile_dir={profile}"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "valid, unscored: the runs were profiled" in lines[-1]
    assert f"xprof --logdir {profile}  (pip install xprof)" in lines[-2]
    # Ten operators of the first run by time, and the others.
    head = next(i for i, line in enumerate(lines) if line.startswith("operator "))
    assert lines[head - 1] == f"run 1/5: wrote the profile {profile / 'run_0'}"
    seconds = [float(line.split()[1]) for line in lines[head + 1:head + 11]]
    assert len(seconds) == 10 and seconds == sorted(seconds, reverse=True) and seconds[0] > 0
    assert lines[head + 11].split()[1] == "others" and done.stdout.count("operator ") == 1
    folder = set_folder(tmp_path)
    for log in folder.glob("result_*"):
        start = next(r for r in records(log) if r["key"] == "run_start")
        assert start["metadata"]["profiled"] is True
    score = scoring.score_folder(folder)
    assert score.result.seconds is None and "was profiled" in score.result.reason
    planes = sorted(profile.rglob("*.xplane.pb"))
    assert [p.relative_to(profile).parts[0] for p in planes] == [f"run_{i}" for i in range(5)]
    counted = subprocess.run(
        [sys.executable, "-c", OPERATORS, str(planes[0])], capture_output=True, text=True
    )
    found = json.loads(counted.stdout)
    # XLA operators by name, such as a product in every step, inside their program.
    steps = max(n for name, n in found.items() if name.startswith("MatMul"))
    assert steps >= 484_000 // 4096 and found["train"] == found["evaluate"]
    assert any("fusion" in name for name in found)
    # Digests, and the compilations for them, come after the run.
    assert not any("Compile" in name for name in found)
