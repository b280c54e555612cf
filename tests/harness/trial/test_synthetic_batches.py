"""`--synthetic_batches`: steps on synthetic batches, without a dataset and without a score."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from compliance.checking.checker import check_paths
from compliance.results.scoring import score_folder
from tests.support.runs.harness_runs import harness, set_folder

tf = pytest.importorskip("tensorflow")

from reference_model.device_sampling.synthetic_batches import synthetic_examples
from reference_model.events import NullSink  # noqa: E402
from reference_model.fused.engine import FusedEngine
from reference_model.keras_engine.engine import ReferenceEngine
from reference_model.sampling.random_streams import negatives_key
from tests.reference_model.keras_engine.test_engine import CONFIG

SYNTHETIC = dataclasses.replace(CONFIG, synthetic=True)


def draw_examples(
    count: int, start: int | None = None, batch_size: int = 100
) -> list[np.ndarray]:
    """Returns user, item and label of `count` examples of a batch, from position `start`."""
    key = tf.constant(negatives_key(1, 1))
    first = None if start is None else tf.constant(start)
    config = dataclasses.replace(CONFIG, batch_size=batch_size)
    return [x.numpy() for x in synthetic_examples(config, count, tf.constant(4), key, first)]


def test_users_and_items_are_spread_and_one_in_five_is_a_positive():
    user, item, label = draw_examples(50_000, batch_size=50_000)
    assert (np.diff(user) >= 0).all()  # sorted by user, as a real batch is
    for ids, size in ((user, CONFIG.num_users), (item, CONFIG.num_items)):
        counts = np.bincount(ids, minlength=size)
        assert len(counts) == size and counts.min() > 0
        assert abs(counts / counts.mean() - 1).max() < 0.5
    assert abs(label.mean() - 0.2) < 0.01


def test_ids_of_padding_are_within_the_tables():
    user, item, _ = draw_examples(130)
    assert 0 <= user.min() and user.max() < CONFIG.num_users
    assert 0 <= item.min() and item.max() < CONFIG.num_items


def test_parts_of_a_batch_equal_the_whole_batch():
    whole = draw_examples(100)
    for start in (0, 37, 50):
        for part, all_examples in zip(draw_examples(50, start), whole):
            np.testing.assert_array_equal(part, all_examples[start : start + 50])


@pytest.mark.parametrize("kind", [FusedEngine, ReferenceEngine])
def test_an_engine_trains_and_evaluates_without_a_dataset(kind):
    engine = kind(SYNTHETIC, NullSink(), "cpu", jit_compile=False)
    engine.prepare()
    engine.reset(1)
    before = engine.get_weights()
    engine.load(None)
    trained, found = engine.train_epoch(1), engine.evaluate()
    assert (trained.examples, found.users) == (CONFIG.train_examples, CONFIG.num_users)
    assert trained.steps == -(-CONFIG.train_examples // CONFIG.batch_size)
    # The lowest loss is the entropy of the labels: one in five is a positive.
    entropy = -0.2 * np.log(0.2) - 0.8 * np.log(0.8)
    assert entropy - 0.05 < trained.loss < 0.75
    assert any((before[k] != v).any() for k, v in engine.get_weights().items())
    engine.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    done = harness(
        folder, "--track=ml-100k", "--synthetic_batches", "--num_runs=1", "--max_epochs=2"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_the_verdict_says_that_the_run_is_unscored(run):
    assert "valid, unscored: the batches were synthetic" in run[1].splitlines()[-1]
    assert "open division: --synthetic_batches" in run[1]


def test_no_dataset_is_prepared(run):
    assert not list((run[0] / "data").glob("**/*.split"))


def test_the_log_passes_the_check_and_gets_no_score(run):
    place = set_folder(run[0])
    assert check_paths([place], "auto").as_json()["verdict"] == "pass"
    score = score_folder(place).as_json()
    assert score["seconds"] is None and "synthetic batches" in score["reason"]
    lines = (place / "result_0.txt").read_text().splitlines()
    records = [json.loads(line.partition(" ")[2]) for line in lines]
    start = next(r for r in records if r["key"] == "run_start")
    assert start["metadata"]["synthetic_batches"] is True


@pytest.mark.parametrize(
    "flags", [["--prepare_only"], ["--target=0.1"], ["--division=closed", "--track=ml-100k"], []]
)
def test_an_incompatible_flag_or_track_is_a_one_line_error(tmp_path, flags):
    """In the last case, the tiny track does not contain the sizes of its dataset."""
    done = harness(tmp_path, "--synthetic_batches", *flags)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "--synthetic_batches" in done.stderr
