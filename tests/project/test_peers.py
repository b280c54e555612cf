"""Tests of the comparison with the peers: arithmetic, tables and errors.

They need neither a network nor a peer: the summary uses handwritten measurements, and the adapters
that run in this environment use a generated dataset.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compliance.tracks import load_track, track_path
from harness.config.trial_spec import dataset_spec
from reference_model.data.prepare import load_split
from scripts.peers import compare, summary, versions
from scripts.peers.environments import (
    MODEL_GARDEN,
    MODEL_GARDEN_NEEDS,
    PeerError,
    write_garden_data,
)
from scripts.peers.jobs import MODELS, PEERS, SETTINGS, Job
from scripts.peers.measure import Rate, memory_use
from scripts.peers.model_garden import GardenObserver, MeasurementDone, garden_flags
from tests.support.paths import ROOT
from tests.support.splits import clustered_split


def measurement(peer: str, round_: int, setting: str = "large-98304", **values) -> dict:
    return {"kind": "measurement", "peer": peer, "setting": setting, "round": round_, **values}


def session_file(tmp_path: Path, *lines: dict) -> Path:
    path = tmp_path / "lines.jsonl"
    about = {"kind": "session", "date": "today", "cpu": "a processor", "cpus": 2,
             "source": "abc", "command": "scripts/peers.sh --rounds 3"}  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in (about, *lines)))
    return path


def rates(tmp_path: Path) -> Path:
    """Three rounds; the machine is four times slower in the second."""
    found = []
    for round_, speed in ((1, 1.0), (2, 0.25), (3, 1.0)):
        for peer, rate in (("model-garden", 0.3e6), ("keras", 0.5e6), ("ours", 1.5e6)):
            values = {"train_examples_per_s": rate * speed, "peak_mib": 1000.0}
            found.append(measurement(peer, round_, **values, versions={"numpy": "2"}))
    return session_file(tmp_path, *found)


class TestSummary:
    def test_ratios_are_taken_within_a_round(self, tmp_path):
        session = summary.read_session(rates(tmp_path))
        cells = summary.table_row(session, "large-98304", summary.QUANTITIES[0])
        assert cells == [
            "large-98304", "training, M examples/s", "0.30 (0.07-0.30)", "0.50 (0.12-0.50)",
            "1.50 (0.38-1.50)", "5.00", "3.00", "3",
        ]  # fmt: skip

    def test_less_is_better_for_seconds(self, tmp_path):
        path = session_file(
            tmp_path,
            measurement("model-garden", 1, "target", seconds_to_target=140.0),
            measurement("ours", 1, "target", seconds_to_target=35.0),
            measurement("model-garden", 2, "target", seconds_to_target=150.0),
            measurement("ours", 2, "target", seconds_to_target=30.0),
            measurement("model-garden", 3, "target", seconds_to_target=None),
            measurement("ours", 3, "target", seconds_to_target=30.0),
        )
        (row,) = summary.table_rows(summary.read_session(path))
        assert row[5] == "4.50 (4.00-5.00)" and row[6] == "-" and row[7] == "2-3"

    def test_the_text_has_commands_versions_sampling_shares_and_failures(self, tmp_path):
        path = rates(tmp_path)
        with path.open("a") as file:
            for more in (
                measurement("ours", 1, "sampling", sampling_examples_per_s=30e6),
                measurement("keras", 1, "small-2048", error="exit code 1: no memory"),
            ):
                file.write(json.dumps(more) + "\n")
        text = summary.summary_text(summary.read_session(path))
        assert text.splitlines()[0].startswith("| setting | quantity |")
        assert "`scripts/peers.sh --rounds 3`" in text and "a processor, 2 processors" in text
        assert "- keras: numpy 2" in text
        assert "5.0% of an epoch of large-98304" in text
        assert "**failed**: keras, small-2048, round 1: exit code 1: no memory" in text

    def test_a_file_may_hold_several_commands(self, tmp_path):
        path = rates(tmp_path)
        with path.open("a") as file:
            about = {"kind": "session", "command": "scripts/peers.sh --settings target"}
            file.write(json.dumps(about) + "\n")
            file.write(json.dumps(measurement("ours", 1, "target", seconds_to_target=30.0)) + "\n")
        text = summary.summary_text(summary.read_session(path))
        assert "--rounds 3`" in text and "--settings target`" in text

    def test_every_row_has_as_many_cells_as_the_header(self, tmp_path):
        text = summary.summary_text(summary.read_session(rates(tmp_path)))
        table = [row for row in text.splitlines() if row.startswith("|")]
        assert len(table) == 4 and len({row.count("|") for row in table}) == 1

    @pytest.mark.parametrize("spoilt", ["", "{}", "not json", "[]", '{"kind": "measurement"}'])
    def test_a_file_without_measurements_is_one_line(self, tmp_path, capsys, spoilt):
        path = tmp_path / "x.jsonl"
        path.write_text(spoilt + "\n" * bool(spoilt))
        assert compare.main(["--summarize", str(path)]) == 1
        (message,) = capsys.readouterr().err.splitlines()
        assert str(path) in message


class TestJob:
    def test_travels_as_json(self):
        job = tiny_job("ours", "large-98304", Path("data"), 7)
        assert Job.from_json(job.to_json()) == job

    def test_settings_know_their_models_and_peers(self):
        for setting in SETTINGS.values():
            assert setting.model in MODELS and set(setting.peers) <= set(PEERS)
            assert (setting.batch_size is not None) == (setting.goal == "train")
            assert 1 + setting.garden_epochs + 3 <= 10 or setting.goal != "train"

    def test_the_extra_names_what_the_environment_gets(self):
        text = (ROOT / "pyproject.toml").read_text()
        (listed,) = re.findall(r"^peers = \[(.*)\]$", text, re.MULTILINE)
        assert re.findall(r'"([^"]+)"', listed) == [MODEL_GARDEN, *MODEL_GARDEN_NEEDS]


TRACK = """\
name: tiny
benchmark: ncf-tiny
division_default: open
description: generated
dataset:
  name: tiny
  kind: synthetic
  url: null
  archive_md5: null
  archive_sha256: null
  archive_member: null
  package: null
  package_member: null
  package_member_sha256: null
  min_ratings: 20
  split_digest: null
  synthetic: {num_users: 60, num_items: 120, num_ratings: 1500, seed: 1}
  num_users: 60
  num_items: 120
  num_ratings: 1500
  num_positives: 1440
"""


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A track file with a generated dataset; otherwise a small ml-20m-synthetic."""
    rest = track_path("ml-20m-synthetic").read_text().partition("model:\n")[2]
    rest = re.sub(r"mf_dim: \d+", "mf_dim: 4", rest)
    rest = re.sub(r"mlp_layers: \[.*?\]", "mlp_layers: [16, 8]", rest)
    rest = re.sub(r"l2_mlp: \[.*?\]", "l2_mlp: [0.0, 0.0]", rest)
    rest = re.sub(r"negatives: 999", "negatives: 50", rest)
    rest = re.sub(r"target: null", "target: 0.01", rest)
    rest = re.sub(r"(\n  (?:eval_)?batch_size): \d+", r"\1: 512", rest)
    path = tmp_path / "tiny.yaml"
    path.write_text(TRACK + "model:\n" + rest)
    return path


def tiny_job(peer: str, setting: str, folder: Path, seed: int, track: str = "x", **more) -> Job:
    sizes = dict(num_users=60, num_items=120, num_positives=1440, mf_dim=4, mlp_layers=(16, 8),
                 train_negatives=4, eval_negatives=50, top_k=10, batch_size=512,
                 eval_batch_size=512, learning_rate=0.001, beta1=0.9, beta2=0.999,
                 epsilon=1e-8, target=0.01, max_epochs=3, seconds=0.01, digest="")  # fmt: skip
    return Job(peer=peer, setting=setting, goal=SETTINGS[setting].goal, track=track,
               data_dir=str(folder), seed=seed, **{**sizes, **more})  # fmt: skip


class TestRuns:
    def run(
        self, tiny: Path, tmp_path: Path, *flags: str, **variables: str
    ) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(ROOT / "scripts" / "peers.sh"), f"--track={tiny}", f"--data_dir={tmp_path / 'd'}",
             f"--output={tmp_path / 'out.jsonl'}", "--engine=reference", "--seconds=0.01",
             "--rounds=1", *flags],
            cwd=tmp_path, env={**os.environ, "NEUMF_PYTHON": sys.executable, **variables},
            capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def test_time_to_target_for_real_on_generated_data(self, tiny, tmp_path):
        done = self.run(tiny, tmp_path, "--peers=ours", "--settings=target")
        assert done.returncode == 0, done.stderr
        session = summary.read_session(tmp_path / "out.jsonl")
        (found,) = session.measurements
        assert not session.failures and "numpy" in found["versions"]
        assert found["seconds_to_target"] > 0 and found["hr"] >= 0.01
        assert found["peak_mib"] > 50
        assert "| target | seconds to the target | - | - |" in done.stdout
        assert "ours: engine reference, python" in done.stdout

    @pytest.mark.parametrize("peer", ["ours", "keras"])
    def test_rates_for_real_on_generated_data(self, tiny, tmp_path, monkeypatch, peer):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        module = importlib.import_module({"ours": "scripts.peers.ours",
                                          "keras": "scripts.peers.keras_fit"}[peer])  # fmt: skip
        split = load_split(dataset_spec(load_track(tiny)), tmp_path / "d")
        found = module.measure(
            tiny_job(peer, "large-2048", tmp_path / "d", 1, str(tiny), digest=split.digest,
                     engine="reference")  # fmt: skip
        )
        assert found["train_examples_per_s"] > 0 and found["eval_pairs_per_s"] > 0
        assert 0 <= found["hr"] <= 1
        json.dumps(found, allow_nan=False)

    def test_sampling_for_real_on_generated_data(self, tiny, tmp_path, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        from scripts.peers import ours

        split = load_split(dataset_spec(load_track(tiny)), tmp_path / "d")
        job = tiny_job("ours", "sampling", tmp_path / "d", 1, str(tiny), digest=split.digest,
                       engine="reference")  # fmt: skip
        assert ours.measure(job)["sampling_examples_per_s"] > 0

    def test_versions_are_measured_in_turns_on_generated_data(self, tiny, tmp_path):
        """Compares this tree with itself: once as a folder, once unpacked from the repository."""
        if subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True).returncode:
            pytest.skip("this folder is not a git repository")
        done = self.run(tiny, tmp_path, f"--versions={ROOT},HEAD", "--settings=large-2048,sampling",
                        "--rounds=2")  # fmt: skip
        assert done.returncode == 0, done.stderr
        rows = [row.strip("| ").split(" | ") for row in done.stdout.splitlines()[2:]]
        assert [row[:2] for row in rows] == [
            ["large-2048", str(ROOT)], ["large-2048", "HEAD"],
            ["sampling", str(ROOT)], ["sampling", "HEAD"],
        ]  # fmt: skip
        trained, again, sampled, _ = rows
        assert float(trained[4]) > 0 and float(again[4]) > 0 and sampled[4] == "-"
        assert trained[3] == "1.00" and trained[5] == "2"
        assert "round 2/2 sampling: " in done.stderr

    def test_a_version_that_cannot_run_is_one_line(self, tiny, tmp_path):
        (tmp_path / "v" / "scripts" / "peers").mkdir(parents=True)
        done = self.run(tiny, tmp_path, f"--versions={tmp_path / 'v'}", "--settings=large-2048")
        assert done.returncode == 1 and "Traceback" not in done.stderr
        (message,) = done.stderr.splitlines()
        assert f"version {tmp_path / 'v'}: {tmp_path / 'v'} has no compliance" in message

    def test_a_split_with_another_digest_is_refused(self, tiny, tmp_path):
        from scripts.peers import ours

        with pytest.raises(RuntimeError, match="digest"):
            ours.job_split(tiny_job("ours", "target", tmp_path / "d", 1, str(tiny)))

    def test_a_failure_is_a_line_and_exit_code_1(self, tiny, tmp_path):
        (tmp_path / "bad.py").write_text("raise SystemError('no such luck')\n")
        done = self.run(tiny, tmp_path, "--peers=ours", "--settings=small-2048,large-2048",
                        "--rounds=2", "--engine=bad:Engine", PYTHONPATH=str(tmp_path))  # fmt: skip
        assert done.returncode == 1 and "Traceback" not in done.stderr
        rows = summary.read_session(tmp_path / "out.jsonl").failures
        assert len(rows) == 2 and "no such luck" in rows[0]["error"]
        assert "**failed**: ours, small-2048, round 1" in done.stdout

    def test_a_timeout_kills_the_process_and_its_children(self, tmp_path, monkeypatch):
        (tmp_path / "slow.py").write_text(
            "import os, time\n"
            "os.fork()\n"
            f"open({str(tmp_path / 'pids')!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
            "time.sleep(60)\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setitem(compare._MODULES, "ours", "slow")
        job = tiny_job("ours", "target", tmp_path, 1)
        found = compare.run_job(job, sys.executable, 3.0, tmp_path / "log")
        assert "no answer within 3 s" in found["error"]
        pids = (tmp_path / "pids").read_text().split()
        deadline = time.monotonic() + 20
        while any(map(self.runs, pids)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(pids) == 2 and not any(map(self.runs, pids))

    @staticmethod
    def runs(pid: str) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
        except OSError:
            return False

    def test_a_child_left_over_does_not_delay_the_answer(self, tmp_path, monkeypatch):
        (tmp_path / "leaving.py").write_text(
            "import os, time\n"
            "if os.fork():\n"
            "    os.write(1, b'{\"peer\": 1}')\n"
            "else:\n"
            "    time.sleep(60)\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setitem(compare._MODULES, "ours", "leaving")
        job = tiny_job("ours", "target", tmp_path, 1)
        assert compare.run_job(job, sys.executable, 20.0, tmp_path / "log") == {"peer": 1}

    def test_the_model_garden_cannot_run_datasets_of_other_sizes(self, tiny, tmp_path):
        done = self.run(tiny, tmp_path, f"--model_garden_python={sys.executable}")
        (message,) = done.stderr.splitlines()
        assert done.returncode == 1 and "--peers=keras,ours" in message


class TestErrors:
    def only_line(self, capsys, *arguments: str) -> str:
        assert compare.main(arguments) == 1
        out, err = capsys.readouterr()
        (message,) = err.splitlines()
        assert out == "" and message.startswith("peers: ")
        return message

    def test_a_missing_model_garden_python_is_one_line(self, capsys):
        message = self.only_line(capsys, "--engine=reference", "--model_garden_python=/no/python")
        assert "/no/python is not a program" in message

    def test_a_model_garden_python_without_its_modules_is_one_line(self, capsys, tmp_path):
        venv = tmp_path / "v"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        message = self.only_line(
            capsys, "--engine=reference", f"--model_garden_python={venv / 'bin' / 'python'}"
        )
        assert "official" in message and "--peers=keras,ours" in message

    @pytest.mark.parametrize(
        "arguments, expected",
        [
            (["--peers=pytorch"], "'pytorch' is not one of model-garden, keras, ours"),
            (["--settings=huge"], "'huge' is not one of"),
            (["--rounds=0"], "--rounds must be at least 1"),
            (["--engine=no_such:Engine"], "there is no module no_such"),
            (["--track=no-such-track"], "no-such-track"),
            (["left", "over"], "unrecognized arguments"),
            (["--summarize", "/no/file"], "cannot read /no/file"),
            (["--versions=HEAD", "--settings=target"], "cannot measure the setting target"),
        ],
    )
    def test_a_usage_error_is_one_line(self, capsys, arguments, expected):
        assert expected in self.only_line(capsys, *arguments)


def test_a_version_is_a_folder_or_a_revision(tmp_path):
    assert versions.find_version_folder(str(ROOT), tmp_path) == ROOT
    with pytest.raises(PeerError, match="'no-such-thing' is neither a folder of this project nor"):
        versions.find_version_folder("no-such-thing", tmp_path)


def test_quartiles_of_ratios():
    assert versions.format_quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == "3.00 (2.00-4.00)"
    assert versions.format_quartiles([1.0, 1.0, 1.0, 1.0]) == "1.00"
    assert versions.format_quartiles([1.0, 2.0]) == "1.50 (1.00-2.00)"


class TestObservingTheModelGarden:
    """Tests the sums of its times; the model garden itself is not needed."""

    def job(self, setting: str, **more) -> Job:
        return tiny_job("model-garden", setting, Path("d"), 1, **more)

    def test_the_first_step_and_evaluation_count_as_long_as_later_ones(self):
        observer = GardenObserver(self.job("target", target=0.2))
        observer.data_start, observer.data_end = 10.0, 14.0
        observer.first_epoch_step_seconds = [9.0, 1.0, 1.0, 1.0]
        observer.epoch_seconds, observer.eval_seconds = [12.0, 4.0, 4.0], [5.0, 2.0, 2.0]
        observer.hr = 0.2
        assert observer.seconds_to_target() == 4.0 + 3 * 4.0 + 3 * 2.0
        observer.hr = 0.19
        assert observer.seconds_to_target() is None

    def test_the_run_ends_at_the_first_evaluation_that_reaches_the_target(self):
        observer = GardenObserver(self.job("target", target=0.2, max_epochs=3))
        observer.on_evaluated(0.1)
        with pytest.raises(MeasurementDone):
            observer.on_evaluated(0.2)

    def test_the_run_ends_at_the_epoch_cap(self):
        observer = GardenObserver(self.job("target", target=0.2, max_epochs=1))
        with pytest.raises(MeasurementDone):
            observer.on_evaluated(0.1)

    def test_rates_leave_the_first_epoch_out(self):
        observer = GardenObserver(self.job("large-98304", garden_epochs=1))
        for _ in range(2):
            observer.on_epoch_begin()
            observer.on_epoch_trained()
        assert observer.train.count == 1440 * 5

    def test_small_batches_are_measured_in_the_first_epoch_after_the_warm_up(self):
        observer = GardenObserver(self.job("large-2048", batch_size=72, evaluate=False))
        observer.on_epoch_begin()
        for _ in range(100):
            observer.on_step_begin()
            observer.on_step_end()
        with pytest.raises(MeasurementDone):
            observer.on_epoch_trained()
        assert observer.train.count == 1440 * 5 - 50 * 72

    def test_more_epochs_are_requested_than_are_measured(self):
        flags = garden_flags(self.job("small-98304", garden_epochs=4))
        assert "--train_epochs=8" in flags and "--layers=16,8" in flags
        assert "--keras_use_ctl" in flags and "--ml_perf" in flags


def test_rates_count_and_memory_is_measured():
    rate = Rate()
    assert rate.per_second is None
    assert rate.time_call(lambda: "four", len) == "four" and rate.count == 4
    rate.seconds = 2.0
    assert rate.per_second == 2.0
    child = subprocess.Popen([sys.executable, "-c", "input(bytes(range(256)) * 200_000 and '')"],
                             stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        found = memory_use()
        assert found["peak_mib"] > 20 and found["children_mib"] >= 0
    finally:
        child.communicate(b"\n")


def test_the_model_garden_gets_the_same_split(tmp_path):
    """Reads the ratings like the model garden; they must give our split."""
    pandas = pytest.importorskip("pandas")
    split = clustered_split(users=30, items=40)
    folder = write_garden_data(split, "true", tmp_path)
    ratings = pandas.read_csv(folder / "ml-1m" / "ratings.csv")
    assert list(ratings.columns) == ["user_id", "item_id", "rating", "timestamp"]
    assert list(ratings.user_id.unique()) == list(range(split.num_users))
    ratings = ratings.sort_values(["user_id", "timestamp"])
    held = ratings.groupby("user_id").tail(1)
    assert held.item_id.tolist() == split.test_item.tolist()
    kept = ratings.drop(held.index)
    assert kept.user_id.tolist() == split.train_user.tolist()
    assert kept.item_id.tolist() == split.train_item.tolist()


def test_the_script_parses_and_is_executable():
    script = ROOT / "scripts" / "peers.sh"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert load_track("ml-1m").dataset.num_users == compare._GARDEN_SIZES[0]
