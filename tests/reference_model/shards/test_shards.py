"""Shards: reading returns the drawn batches, and every defect gives a one-line error.

A run on shards equals the run that draws the same batches itself.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from harness.logs.data_digests import digest_engine_data
from reference_model.distributed.fused_engine import ReplicatedFusedEngine
from reference_model.distributed.keras_engine import ReplicatedReferenceEngine
from reference_model.events import NullSink  # noqa: E402
from reference_model.fused.engine import FusedEngine
from reference_model.keras_engine.engine import ReferenceEngine
from reference_model.sampling.epoch_batches import build_epoch
from reference_model.sampling.negatives import make_sampler
from reference_model.shards import header as header_module
from reference_model.shards import tfrecords
from reference_model.shards.batch_sources import PreparedShardSource, TimedShardSource
from reference_model.shards.header import ShardError, ShardSetSpec
from reference_model.shards.precomputed_engine import PrecomputedBatchEngine
from reference_model.shards.tfrecords import ShardReader, ShardWriter
from tests.reference_model.keras_engine.test_engine import CONFIG, SPLIT
from tests.support.recording_sink import RecordingSink

SEED, EPOCHS = 3, 2
SINK = RecordingSink()
MADE = ShardSetSpec(
    track="clusters", order="reference", seed=SEED, batch_size=CONFIG.batch_size,
    train_negatives=CONFIG.train_negatives, eval_negatives=CONFIG.eval_negatives,
    num_users=CONFIG.num_users, num_items=CONFIG.num_items,
    num_positives=CONFIG.num_positives, split_digest=SPLIT.digest,
)  # fmt: skip


def drawer_of(kind):
    drawer = kind(CONFIG, NullSink(), "cpu", jit_compile=False)
    drawer.prepare_sampling()
    drawer.load_for_sampling(SPLIT, SEED)
    return drawer


def write(folder: str, drawer, made=MADE, epochs=EPOCHS) -> None:
    writer = ShardWriter(folder, made)
    writer.write_lists(drawer.evaluation_lists())
    for epoch in range(1, epochs + 1):
        writer.write_epoch(epoch, drawer.epoch_batches(epoch))
    writer.finish(epochs, "clusters", 20)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Shards in the order of the reference engine."""
    folder = tmp_path_factory.mktemp("shards") / "set"
    write(str(folder), drawer_of(ReferenceEngine))
    return folder


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A copy for tests that damage it."""
    return Path(shutil.copytree(written, tmp_path / "set"))


def assert_same(batches, expected) -> None:
    assert batches.examples == expected.examples
    for name in ("user", "item", "label"):
        found, wanted = getattr(batches, name), getattr(expected, name)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


# -- writing and reading ------------------------------------------------------------


def test_shards_return_the_batches_that_were_drawn(written):
    reader = ShardReader.open(str(written), MADE, EPOCHS)
    sampler = make_sampler(SPLIT)
    for epoch in (1, 2):
        expected = build_epoch(SPLIT, sampler, 4, CONFIG.batch_size, SEED, epoch)
        assert_same(reader.epoch(epoch), expected)
    lists, expected = reader.lists(), drawer_of(ReferenceEngine).evaluation_lists()
    np.testing.assert_array_equal(lists.items, expected.items)
    np.testing.assert_array_equal(lists.masked, expected.masked)
    assert lists.masked.any()


def test_an_engine_that_only_draws_draws_what_the_fused_engine_trains_on():
    """It is not prepared, so no training program is compiled."""
    engine = prepared(FusedEngine)
    figures(engine, SPLIT)
    assert digest_engine_data(drawer_of(FusedEngine)) == digest_engine_data(engine)


def test_the_header_has_masks_counts_and_step_numbers(written):
    header = json.loads((written / "header.json").read_text())
    examples = 5 * SPLIT.num_positives
    steps = -(-examples // CONFIG.batch_size)
    assert (header["epochs"], header["steps_per_epoch"], header["examples"]) == (
        EPOCHS, steps, examples,
    )  # fmt: skip
    assert dataclasses.asdict(MADE) == header["made_for"]
    lists = drawer_of(ReferenceEngine).evaluation_lists()
    assert header["masked_duplicates"] == int(lists.masked.sum())
    for epoch in (1, 2):
        files = [shard for shard in header["shards"] if shard["epoch"] == epoch]
        assert sum(shard["records"] for shard in files) == steps
    for shard in header["shards"]:
        assert (written / shard["name"]).stat().st_size == shard["bytes"]


def test_an_epoch_of_several_shards_is_read_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecords, "_SHARD_BYTES", 20 * CONFIG.batch_size)
    monkeypatch.setattr(header_module, "EVAL_RECORD_BYTES", 7 * 4 * (CONFIG.eval_negatives + 1))
    drawer = drawer_of(ReferenceEngine)
    write(str(tmp_path / "set"), drawer, epochs=1)
    reader = ShardReader.open(str(tmp_path / "set"), MADE, 1)
    assert len(reader.header.shards_of_epoch(1)) == -(-MADE.steps // 2) and MADE.eval_rows == 7
    assert_same(reader.epoch(1), drawer.epoch_batches(1))
    np.testing.assert_array_equal(reader.lists().items, drawer.evaluation_lists().items)


def test_records_are_decoded_by_tensorflow_alone_too(written):
    """Reads like another input pipeline: static shapes, no Python."""
    size = CONFIG.batch_size
    record = next(iter(tf.data.TFRecordDataset(str(written / "train-0001-000.tfrecord"))))
    user = tf.io.decode_raw(tf.strings.substr(record, 0, 4 * size), tf.int32)
    label = tf.io.decode_raw(tf.strings.substr(record, 8 * size, size), tf.uint8)
    expected = drawer_of(ReferenceEngine).epoch_batches(1)
    np.testing.assert_array_equal(user.numpy(), expected.user[0])
    np.testing.assert_array_equal(label.numpy().astype(bool), expected.label[0])


def test_shards_can_be_written_to_and_read_from_a_url(tmp_path):
    url = f"file://{tmp_path}/bucket/set"
    drawer = drawer_of(ReferenceEngine)
    write(url, drawer, epochs=1)
    assert_same(ShardReader.open(url, MADE, 1).epoch(1), drawer.epoch_batches(1))


# -- defects -------------------------------------------------------------------


def refusal(folder, made=MADE, epochs=EPOCHS) -> str:
    with pytest.raises(ShardError) as caught:
        ShardReader.open(str(folder), made, epochs, "; do this").verify()
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(folder)) and message.endswith("; do this")
    return message


def test_missing_shards_are_refused(tmp_path):
    assert "there are no shards" in refusal(tmp_path / "none")


@pytest.mark.parametrize(
    "other, words",
    [
        ({"seed": 4}, "have seed 3, not 4"),
        ({"batch_size": 256}, "have batch_size 512, not 256"),
        ({"split_digest": "0" * 64}, "have split_digest"),
        ({"order": "fused"}, "have order reference, not fused"),
        ({"eval_negatives": 9}, "have eval_negatives 50, not 9"),
    ],
)
def test_shards_made_for_something_else_are_refused(written, other, words):
    assert words in refusal(written, replace(MADE, **other))


def test_shards_of_too_few_epochs_are_refused(written):
    assert "have 2 epochs, not 3" in refusal(written, epochs=3)
    assert ShardReader.open(str(written), MADE, 1).header.epochs == 2


def test_a_missing_shard_is_reported(folder):
    (folder / "train-0002-000.tfrecord").unlink()
    assert "train-0002-000.tfrecord is missing" in refusal(folder)


def test_a_truncated_shard_is_reported(folder):
    path = folder / "train-0002-000.tfrecord"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-5])
    assert f"has {size - 5} bytes, not {size}" in refusal(folder)


@pytest.mark.parametrize("name", ["train-0002-000.tfrecord", "evaluation-000.tfrecord"])
def test_a_changed_byte_is_detected(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert f"{name} cannot be read" in refusal(folder)


def test_valid_records_with_other_content_are_detected(folder):
    """The frame of each record is valid; only the SHA-256 shows the change."""
    path = str(folder / "train-0001-000.tfrecord")
    records = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    with tf.io.TFRecordWriter(path) as out:
        for record in [records[1], records[0], *records[2:]]:
            out.write(record)
    assert "train-0001-000.tfrecord is damaged (its SHA-256 differs)" in refusal(folder)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "{", '{"format_version": 2}', "\x00"])
def test_a_damaged_header_is_refused(folder, text):
    (folder / "header.json").write_text(text)
    assert "header is damaged" in refusal(folder)


def test_an_incomplete_or_unsafe_header_is_refused(folder):
    path = folder / "header.json"
    whole = path.read_text()
    for change in ({"records": 3}, {"name": "../set/train-0001-000.tfrecord"}, {"first": 1}):
        header = json.loads(whole)
        next(s for s in header["shards"] if s["epoch"] == 1).update(change)
        path.write_text(json.dumps(header))
        assert "header does not name every step" in refusal(folder)
    header["shards"][0]["epoch"] = "1"
    path.write_text(json.dumps(header))
    assert "header is damaged" in refusal(folder)


def test_an_unfinished_set_is_ignored(folder):
    """Even if it replaced a complete set, because the old header is removed first."""
    writer = ShardWriter(str(folder), MADE)
    writer.write_epoch(1, drawer_of(ReferenceEngine).epoch_batches(1))
    assert "there are no shards" in refusal(folder)


def test_a_folder_that_cannot_be_written_gives_a_one_line_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ShardError, match="cannot write .*file.*--data_dir"):
        ShardWriter(str(tmp_path / "file" / "set"), MADE)


# -- engines on shards ---------------------------------------------------------------


def figures(engine, split, epochs=EPOCHS):
    """Returns the figures of a run after each epoch."""
    engine.reset(SEED)
    engine.load(split)
    found = [(engine.train_epoch(e), engine.evaluate()) for e in range(1, epochs + 1)]
    engine.close()
    return found


@functools.cache
def prepared(kind):
    """Returns an engine with compiled programs; a run begins with `reset`."""
    given = {}
    if kind in (ReplicatedFusedEngine, ReplicatedReferenceEngine):
        given = {"strategy": tf.distribute.MirroredStrategy(["/CPU:0"])}
    engine = kind(CONFIG, SINK, "cpu", jit_compile=False, **given)
    engine.prepare()
    return engine


@pytest.mark.parametrize(
    "kind",
    [
        ReferenceEngine, FusedEngine, ReplicatedFusedEngine,
        pytest.param(ReplicatedReferenceEngine, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_run_on_shards_equals_the_run_that_draws_itself(kind, tmp_path):
    order = FusedEngine if "Fused" in kind.__name__ else ReferenceEngine
    write(str(tmp_path / "set"), drawer_of(order))
    source = PreparedShardSource(ShardReader.open(str(tmp_path / "set"), MADE, EPOCHS), EPOCHS)
    engine = prepared(kind)
    expected = figures(engine, SPLIT)
    found = figures(PrecomputedBatchEngine(engine, source, CONFIG, SINK), None)
    for (trained, result), (its, expected) in zip(found, expected, strict=True):
        assert trained.loss == pytest.approx(its.loss, rel=1e-5)
        assert (trained.examples, trained.steps) == (its.examples, its.steps)
        assert (result.hits, result.users) == (expected.hits, expected.users)


def test_timed_shards_are_written_read_and_removed(tmp_path):
    drawer, plain = ReferenceEngine(CONFIG, NullSink(), "cpu"), prepared(ReferenceEngine)
    source = TimedShardSource(str(tmp_path / "timed"), drawer, MADE, EPOCHS, SEED)
    engine = PrecomputedBatchEngine(plain, source, CONFIG, NullSink())
    engine.reset(SEED)
    assert not list(tmp_path.iterdir())  # nothing is drawn before the clock
    engine.load(SPLIT)
    found = [(engine.train_epoch(e), engine.evaluate()) for e in (1, 2)]
    assert [p.name for p in tmp_path.iterdir()] == ["timed"]
    engine.close()
    assert not list(tmp_path.iterdir())
    assert found == figures(plain, SPLIT)
    assert digest_engine_data(engine) == digest_engine_data(plain)


def test_a_run_on_shards_logs_the_same_facts_and_when_negatives_were_drawn(written):
    """Compares with a run that draws by itself."""
    def said(engine, split):
        SINK.said.clear()
        figures(engine, split)
        return {key: value for key, value, _ in SINK.said}, list(SINK.said)

    plain = prepared(ReferenceEngine)
    source = PreparedShardSource(ShardReader.open(str(written), MADE, EPOCHS), EPOCHS)
    given, events = said(PrecomputedBatchEngine(plain, source, CONFIG, SINK), None)
    expected, _ = said(plain, SPLIT)
    assert {k: v for k, v in given.items() if not k.startswith("dataset_")} == expected
    assert given["dataset_digest"] == SPLIT.digest and given["dataset_num_users"] == SPLIT.num_users
    drawn = [
        metadata for key, _, metadata in events
        if key in ("train_neg_gen_start", "eval_neg_gen_start")
    ]  # fmt: skip
    assert len(drawn) == EPOCHS + 1  # and no nonexistent epoch is requested
    assert all(metadata["negatives"] == "before_clock" for metadata in drawn)


def test_an_engine_without_train_batches_is_refused():
    class Own:
        train_batches = None

    with pytest.raises(ValueError, match="no train_batches and no load_lists.*--input"):
        PrecomputedBatchEngine(Own(), None, CONFIG, NullSink())
