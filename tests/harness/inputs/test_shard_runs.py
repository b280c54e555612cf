"""Runs on shards: flags, the child process that writes and verifies shards, whole sets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

tf = pytest.importorskip("tensorflow")

from harness.base.seeds import choose_trial_seed
from harness.config.run_config import ConfigError, make_config
from harness.config.trial_spec import TrialSpec, dataset_spec, engine_config
from harness.flags import parse_flags
from harness.inputs import batch_input, data_mirror, write_shards
from reference_model.data.prepare import prepare_split
from reference_model.events import NullSink  # noqa: E402
from reference_model.keras_engine.engine import ReferenceEngine
from reference_model.shards.header import ShardError
from tests.reference_model.shards.test_shards import figures
from tests.support.runs.harness_runs import (
    ROOT,
    TRACK,
    attempts,
    command,
    environment,
    harness,
    result_log,
    results,
)

# -- flags, the parent process and its child --------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def config_of(*flags):
    return make_config(parse_flags(["--system=sys", f"--track={TRACK}", *flags]))


def specs_of(config):
    header = prepare_split(dataset_spec(config.track), config.data_dir)
    return header, [
        TrialSpec(
            config, run, choose_trial_seed(config.base_seed, run, set()), "", "", header.num_users,
            header.num_items, header.num_positives, {}, split_digest=header.digest,
        )
        for run in range(config.num_runs)
    ]  # fmt: skip


def ensure_shards(config, write):
    header, specs = specs_of(config)
    notes = []
    request = {
        "specs": [spec.to_json() for spec in specs], "write": write,
        "dataset_name": header.name, "min_ratings": header.min_ratings,
    }  # fmt: skip
    write_shards.ensure_shards(request, lambda text, done=None, total=None: notes.append(text))
    return [Path(batch_input.shard_folder(spec)) for spec in specs], notes


def test_the_child_process_writes_verifies_and_rewrites_damaged_shards(place):
    flags = ("--input=shards", "--seed=5", "--num_runs=2", "--max_epochs=2", "--engine=reference")
    config = config_of(f"--data_dir={place / 'data'}", *flags)
    with pytest.raises(ShardError, match="there are no shards; write them with --prepare_only"):
        ensure_shards(config, write=False)
    folders, _ = ensure_shards(config, write=True)
    assert len({f.name for f in folders}) == 2 and folders[0].parent == place / "data" / "shards"
    before = [(f / "header.json").stat().st_mtime_ns for f in folders]
    ensure_shards(config, write=False)
    assert ensure_shards(config, write=True)[1][0].startswith("checking shards")
    path = folders[1] / "train-0001-000.tfrecord"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    _, notes = ensure_shards(config, write=True)
    assert any("writing new shards" in note for note in notes)
    after = [(f / "header.json").stat().st_mtime_ns for f in folders]
    assert after[0] == before[0] and after[1] != before[1]
    fewer = config_of(f"--data_dir={place / 'data'}", *flags, "--max_epochs=1")
    ensure_shards(fewer, write=False)  # shards with more epochs are accepted
    with pytest.raises(ShardError, match="2 epochs, not 3"):
        ensure_shards(replace(config, max_epochs=3), write=False)
    with pytest.raises(ShardError, match="there are no shards"):
        ensure_shards(replace(config, base_seed=6), write=False)


def test_prepared_shards_make_a_set_open_and_timed_shards_do_not(place):
    closed = ("--track=ml-100k",)
    made = config_of("--input=shards", "--seed=1", *closed)
    assert made.division == "open" and any("before the clock" in note for note in made.notes)
    made = config_of("--input=timed_shards", "--division=closed", *closed)
    assert made.division == "closed"
    assert batch_input.negatives_drawn(made) == "in_run"
    for flags, words in (
        (("--input=shards",), "give the same --seed"),
        (("--input=shards", "--seed=1", "--division=closed"), "is not possible"),
        (("--input=timed_shards", "--synthetic_batches"), "cannot be combined"),
        (("--input=files",), "generated, shards, timed_shards"),
    ):
        with pytest.raises(ConfigError, match=words):
            config_of(*flags, *closed)


def test_shards_are_written_to_a_url_and_read_from_it(place):
    url = f"file://{place}/bucket"
    config = config_of(
        f"--data_dir={url}", "--input=shards", "--seed=5", "--num_runs=1", "--max_epochs=1",
        "--engine=reference",
    )  # fmt: skip
    assert config.data_url == url and config.data_dir.startswith(str(place / "cache"))
    ensure_shards(config, write=True)
    assert len(list((place / "bucket" / "shards").glob("tiny-reference-*/header.json"))) == 1
    spec = specs_of(config)[1][0]
    engine = ReferenceEngine(engine_config(spec), NullSink(), "cpu", jit_compile=False)
    engine = batch_input.wrap_engine(engine, spec, NullSink())
    engine.prepare()
    (trained, result), = figures(engine, None, epochs=1)
    assert trained.loss > 0 and result.users == 200


def test_a_folder_at_a_url_is_mirrored_both_ways(place):
    """A second machine copies files from the URL that a first one downloaded and prepared."""
    bucket, data = place / "bucket", place / "bucket" / "ml-100k"
    data.mkdir(parents=True)
    (data / "u.data").write_text("raw")
    (bucket / "shards").mkdir()
    (bucket / "shards" / "ml-100k-x").write_text("")
    (bucket / "other.txt").write_text("")
    config = config_of("--track=ml-100k", f"--data_dir=file://{bucket}")
    request = {"what": "pull", "config": config.to_json()}
    assert data_mirror.copy_files(request, print)["copied"] == 1
    here = Path(config.data_dir)
    assert (here / "ml-100k" / "u.data").read_text() == "raw"
    assert not (here / "shards").exists() and not (here / "other.txt").exists()
    assert data_mirror.copy_files(request, print)["copied"] == 0
    (data / "u.data").write_text("RAW")  # the same size
    os.utime(data / "u.data", (10**9, 10**9))
    assert data_mirror.copy_files(request, print)["copied"] == 1
    (here / "prepared").mkdir()
    (here / "prepared" / "ml-100k-0123.split").write_bytes(b"split")
    (here / "prepared" / "0123.sha256.json").write_bytes(b"{}")
    assert data_mirror.copy_files({**request, "what": "push"}, print)["copied"] == 1
    assert [p.name for p in (bucket / "prepared").iterdir()] == ["ml-100k-0123.split"]
    assert data_mirror.copy_files({**request, "what": "push"}, print)["copied"] == 0


def test_an_unusable_url_is_a_one_line_error(place):
    config = config_of("--data_dir=nothing://bucket/data")
    with pytest.raises(ValueError, match="--data_dir=nothing://bucket/data: .*nothing") as caught:
        data_mirror.copy_files({"what": "pull", "config": config.to_json()}, print)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flag", ["results_dir", "profile_dir", "tensorboard_dir"])
def test_only_the_data_folder_may_be_a_url(place, flag):
    with pytest.raises(ConfigError, match="only --data_dir may be a URL"):
        config_of(f"--{flag}=gs://bucket/folder")


# -- the whole harness --------------------------------------------------------------------


def test_a_run_without_its_shards_names_the_remedy_and_leaves_nothing(tmp_path):
    done = harness(tmp_path, "--input=shards", "--seed=1", "--num_runs=1", "--engine=reference")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "there are no shards; write them with --prepare_only" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_prepared_timed_and_generated_batches_give_equal_hit_rates(tmp_path, engine):
    """The same seeds give the same batches, lists and hit rates from all three inputs."""
    flags = (f"--engine={engine}", "--seed=7", "--num_runs=1", "--max_epochs=3", "--target=0.9")
    prepared = harness(tmp_path, *flags, "--input=shards", "--prepare_only")
    assert prepared.returncode == 0, prepared.stderr
    logs = {}
    for source in ("generated", "shards", "timed_shards"):
        shutil.rmtree(tmp_path / "results", ignore_errors=True)
        done = harness(tmp_path, *flags, f"--input={source}")
        assert done.returncode == 2 and results(tmp_path) == ["result_0.txt"], done.stderr
        text = (result_log(tmp_path)).read_text()
        logs[source] = [json.loads(x.partition(" ")[2]) for x in text.splitlines()]
    assert not list((tmp_path / "data" / "shards").glob("timed-*"))

    def values(source, key):
        return [r["value"] for r in logs[source] if r["key"] == key]

    for source, when in (("shards", "before_clock"), ("timed_shards", "in_run")):
        assert values(source, "negatives_drawn") == [when]
        assert values(source, "eval_accuracy") == values("generated", "eval_accuracy")
        assert len(values(source, "eval_accuracy")) == 3
        assert values(source, "data_digests") == values("generated", "data_digests")


@pytest.mark.slow
def test_a_damaged_shard_ends_the_run_and_preparation_repairs_it(tmp_path):
    flags = ("--engine=reference", "--seed=7", "--num_runs=1", "--input=shards", "--target=0.9")
    assert harness(tmp_path, *flags, "--prepare_only").returncode == 0
    path, = (tmp_path / "data" / "shards").glob("*/train-0002-000.tfrecord")
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    done = harness(tmp_path, *flags)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "train-0002-000.tfrecord cannot be read" in done.stderr
    assert "--prepare_only" in done.stderr and results(tmp_path) == []
    assert harness(tmp_path, *flags, "--prepare_only").returncode == 0  # rewrites them
    assert harness(tmp_path, *flags).returncode == 2  # the target is out of reach


def kill_when_file_appears(folder: Path, pattern: str, *flags: str) -> list[Path]:
    """Starts the harness and kills it once a file exists; returns the files left behind."""
    long = ("--engine=reference", "--seed=7", "--num_runs=1", "--max_epochs=2000", "--target=0.99")
    child = subprocess.Popen(
        command(folder, *long, *flags), cwd=ROOT, env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    place = folder / "data" / "shards"
    while not list(place.glob(pattern)):
        assert child.poll() is None
        time.sleep(0.05)
    child.kill()
    child.wait()
    # Wait until its child process has ended, too.
    files = None
    while files != (files := sorted(place.rglob("*"))):
        time.sleep(2)
    return files


@pytest.mark.slow
def test_a_killed_preparation_leaves_no_usable_shards(tmp_path):
    """The next run finds no shards without a header; the next preparation writes them."""
    flags = ("--engine=reference", "--seed=7", "--num_runs=1", "--max_epochs=2", "--input=shards")
    left = kill_when_file_appears(tmp_path, "*/train-0003-*", "--input=shards", "--prepare_only")
    assert left and not [path for path in left if path.name.startswith("header")]
    done = harness(tmp_path, *flags, "--target=0.99")
    assert done.returncode == 1 and "there are no shards" in done.stderr
    assert harness(tmp_path, *flags, "--prepare_only").returncode == 0
    names = {path.name for path in (tmp_path / "data" / "shards").glob("*/*")}
    assert names == {
        "header.json", "evaluation-000.tfrecord", "train-0001-000.tfrecord",
        "train-0002-000.tfrecord",
    }  # fmt: skip


@pytest.mark.slow
def test_timed_shards_of_a_killed_run_are_removed_by_the_next(tmp_path):
    left = kill_when_file_appears(tmp_path, "timed-*/train-0003-*", "--input=timed_shards")
    assert left
    flags = ("--engine=reference", "--max_epochs=1", "--num_runs=1", "--overwrite")
    assert harness(tmp_path, *flags, "--input=timed_shards").returncode in (0, 2)
    assert not list((tmp_path / "data" / "shards").iterdir())


@pytest.mark.slow
def test_data_at_a_url_prepared_on_one_machine_serves_another(tmp_path):
    """Dataset and shards are prepared on one machine and used on another."""
    url = f"--data_dir=file://{tmp_path}/bucket"
    flags = ("--engine=reference", "--seed=7", "--num_runs=1", "--input=shards", "--target=0.9")
    first, second = {"XDG_CACHE_HOME": str(tmp_path / "a")}, {"XDG_CACHE_HOME": str(tmp_path / "b")}
    assert harness(tmp_path, url, *flags, "--prepare_only", **first).returncode == 0
    assert list((tmp_path / "bucket" / "prepared").glob("tiny-*.split"))
    done = harness(tmp_path, url, *flags, **second)
    assert done.returncode == 2 and results(tmp_path) == ["result_0.txt"], done.stderr
    assert not (tmp_path / "data").exists() and not (ROOT / "file:").exists()
    assert attempts(tmp_path).is_dir()
