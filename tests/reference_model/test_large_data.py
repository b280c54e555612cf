"""Large data: techniques that save memory do not change results, and memory stays small."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.logs import data_digests
from reference_model.base.aligned_arrays import ALIGNMENT, aligned_empty, aligned_zeros
from reference_model.base.errors import DataError
from reference_model.data import split, split_file
from reference_model.data.prepare import PREPARED_FOLDER, load_split, prepare_split
from reference_model.data.sources import DatasetSpec
from reference_model.data.split import Split
from reference_model.data.synthetic import SyntheticShape
from reference_model.sampling import negatives
from reference_model.sampling.evaluation_lists import StreamedEvaluationLists, draw_evaluation_lists
from reference_model.sampling.negatives import BisectionSampler
from reference_model.sampling.random_streams import stream
from tests.conftest import ROOT
from tests.support.splits import random_split

tf = pytest.importorskip("tensorflow")

from reference_model.device_sampling import epoch_order
from reference_model.device_sampling.negatives import SamplerSpec, to_device
from reference_model.device_sampling.random_words import pack_u32
from reference_model.fused import evaluation_loop

SHAPE = SyntheticShape(300, 500, 30_000, seed=3)
SPEC = DatasetSpec("toy", kind="synthetic", synthetic=asdict(SHAPE))


# -- the prepared file ------------------------------------------------------------


def test_a_mapped_file_gives_the_same_split(tmp_path, monkeypatch):
    prepare_split(SPEC, tmp_path)
    read = load_split(SPEC, tmp_path)
    assert not isinstance(read.train_item, np.memmap)
    monkeypatch.setattr(split_file, "MAX_READ_BYTES", 0)
    mapped = load_split(SPEC, tmp_path)
    assert isinstance(mapped.train_item, np.memmap)
    assert mapped.digest == read.digest
    for name in ("train_user", "train_item", "test_item"):
        np.testing.assert_array_equal(getattr(mapped, name), getattr(read, name))


def test_a_mapped_file_that_was_changed_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(split_file, "MAX_READ_BYTES", 0)
    prepare_split(SPEC, tmp_path)
    before = load_split(SPEC, tmp_path).digest
    (path,) = (tmp_path / PREPARED_FOLDER).glob("*.split")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert load_split(SPEC, tmp_path).digest == before


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("entries", [0, 10**6])
def test_positives_are_used_without_a_copy(tmp_path, monkeypatch, mapped, entries):
    """The device uses the memory of the split's arrays.

    A write to one is visible in the other, and no other array has their length.
    """
    monkeypatch.setattr(split_file, "MAX_READ_BYTES", 0 if mapped else 1 << 40)
    prepare_split(SPEC, tmp_path)
    loaded = load_split(SPEC, tmp_path)
    assert isinstance(loaded.train_item, np.memmap) == mapped
    shape = SamplerSpec.of(300, 500, loaded.num_positives, entries)
    users, items, *others = shape.arrays(loaded, negatives.make_sampler(loaded, entries))
    for array, kept in ((users, loaded.train_user), (items, loaded.train_item)):
        tensor = to_device(array)
        kept[0] += 1
        assert tensor[0].numpy() == kept[0]
    sizes = [300, 300 * 500 - loaded.num_positives]
    assert [len(array) for array in others] == sizes[: 1 + shape.by_table]


def test_a_new_split_is_used_without_a_copy():
    """This includes a split from raw ratings, in the run that prepares the dataset."""
    user, item = np.repeat(np.arange(30), 20), np.tile(np.arange(20), 30)
    found = split.leave_one_out(user, item, np.arange(600), 20)
    for array in (found.train_user, found.train_item):
        tensor = to_device(array)
        array[0] += 1
        assert tensor[0].numpy() == array[0]


def test_unaligned_or_read_only_arrays_are_copied():
    """Tests memory that is read-only, not aligned, or not contiguous."""
    whole = aligned_zeros(64, np.int32)
    fixed = aligned_zeros(64, np.int32)
    fixed.flags.writeable = False
    for array in (fixed, whole[1:33], whole[::2]):
        tensor = to_device(array)
        np.testing.assert_array_equal(tensor, array)
        whole[:] += 1
        assert not tensor.numpy().any()
        whole[:] = 0


@pytest.mark.parametrize("make", [aligned_empty, aligned_zeros])
@pytest.mark.parametrize("shape, kind", [(0, np.int32), (7, np.uint64), ((3, 5), np.int32)])
def test_aligned_arrays_have_their_shape(make, shape, kind):
    array = make(shape, kind)
    assert array.shape == np.empty(shape).shape and array.dtype == kind
    assert not array.size or array.ctypes.data % ALIGNMENT == 0
    if make is aligned_zeros:
        assert not array.any()


# -- the split ----------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 9))
def test_ids_numbered_by_appearance_are_not_copied(ids, block):
    """`_number_by_appearance` does not copy ids that are already numbered by first appearance."""
    ids = np.array(ids, np.int32)
    seen: dict[int, int] = {}
    expected = [seen.setdefault(i, len(seen)) for i in ids.tolist()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split, "_BLOCK_ROWS", block)
        found = split._number_by_appearance(ids)
    assert found.dtype == np.int32 and found.tolist() == expected
    assert (found is ids) == (ids.tolist() == expected)


@pytest.mark.parametrize("block", [1, 2, 3, 100])
def test_validation_in_blocks_finds_every_defect(block, monkeypatch):
    """Each defect occurs once across the border of two blocks."""
    monkeypatch.setattr(split, "_BLOCK_ROWS", block)
    user = np.array([0, 0, 0, 1, 1, 2], np.int32)
    item = np.array([0, 1, 2, 0, 3, 3], np.int32)
    good = Split(3, 4, user, item, np.array([3, 1, 0], np.int32))
    assert good.validate() is good
    for held, clashes in (([2, 1, 0], 1), ([0, 0, 3], 3), ([3, 3, 0], 1)):
        with pytest.raises(DataError, match=f"^held-out items .*: {clashes} "):
            replace(good, test_item=np.array(held, np.int32)).validate()
    for first, second in ((0, 1), (2, 3), (4, 5)):
        rows = np.arange(6)
        rows[[first, second]] = rows[[second, first]]
        with pytest.raises(DataError, match="unique and sorted"):
            replace(good, train_user=user[rows], train_item=item[rows]).validate()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.sampled_from([1, 7, 1 << 20]))
def test_leave_one_out_does_not_depend_on_the_block_size(seed, users, block):
    """The latest rating of each user is held out, the rest are sorted positives."""
    rng = np.random.default_rng(seed)
    rows = np.unique(rng.integers(0, (users, 40), (users * 12, 2)), axis=0)
    rows = rng.permutation(rows[np.isin(rows[:, 0], np.flatnonzero(np.bincount(rows[:, 0]) > 1))])
    if not len(rows):
        return
    when = rng.permutation(len(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split, "_BLOCK_ROWS", block)
        found = split.leave_one_out(rows[:, 0], rows[:, 1], when, 2)
    names = [list(dict.fromkeys(column.tolist())) for column in rows.T]
    ratings: dict[int, list] = {}
    for (user, item), time in zip(rows.tolist(), when.tolist()):
        ratings.setdefault(names[0].index(user), []).append((time, names[1].index(item)))
    held = [max(ratings[u])[1] for u in range(len(ratings))]
    assert found.test_item.tolist() == held
    kept = [(u, i) for u in range(len(ratings)) for _, i in ratings[u] if i != held[u]]
    assert list(zip(found.train_user.tolist(), found.train_item.tolist())) == sorted(kept)


# -- sampling -----------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 12), st.integers(3, 50), st.floats(0, 1), st.booleans()
)
def test_bisection_draws_the_same_with_and_without_keys(seed, users, items, density, ascending):
    """Compares with one ascending array of u (M + 1) + p_j - j for all positives."""
    data = random_split(seed % 1000, users, items, density)
    starts, items, rng = data.row_starts, data.num_items, np.random.default_rng(seed)
    who = rng.integers(0, users, rng.integers(0, 80)).astype(np.int32)
    who = np.sort(who) if ascending else who
    place = np.arange(data.num_positives) - np.repeat(starts[:-1], np.diff(starts))
    keys = data.train_user.astype(np.int64) * (items + 1) + data.train_item - place
    rank = stream(seed, 2).integers(0, items - np.diff(starts)[who])
    query = who.astype(np.int64) * (items + 1) + rank
    expected = rank + np.searchsorted(keys, query, side="right") - starts[who]
    for per_draw in (0, 4, 10**6):  # by bisection, by the number of draws, by keys
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(negatives, "_MAX_KEYS_PER_DRAW", per_draw)
            drawn = BisectionSampler(data).draw(who, stream(seed, 2))
            np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("users", [1, 2, 7, 19, 20, 50])
@pytest.mark.parametrize("strategy", [negatives.ComplementTableSampler, BisectionSampler])
def test_streamed_evaluation_lists_equal_the_lists(users, strategy):
    data = random_split(5, 20, 80, 0.3)
    sampler = strategy(data)
    whole = draw_evaluation_lists(data, 30, sampler, stream(1, 1))
    in_turn = StreamedEvaluationLists(data, 30, sampler, lambda: stream(1, 1), users)
    for _ in range(2):  # equal in every pass
        parts = list(in_turn)
        assert [len(p.items) for p in parts[:-1]] == [users] * (len(parts) - 1)
        np.testing.assert_array_equal(np.concatenate([p.items for p in parts]), whole.items)
        np.testing.assert_array_equal(np.concatenate([p.masked for p in parts]), whole.masked)
    assert in_turn.num_masked == whole.num_masked == whole.masked.sum() > 0


def test_packed_pairs_hold_both_numbers():
    low, high = np.array([0, 5, 2**32 - 1]), np.array([7, 0, 2**31 - 1])
    found = pack_u32(low, high)
    assert found.dtype == np.uint64
    assert found.tolist() == [h << 32 | x for x, h in zip(low.tolist(), high.tolist())]


# -- the engine -----------------------------------------------------------------------


def test_an_epoch_in_parts_trains_and_evaluates_the_same(monkeypatch):
    """The order is in parts, lists are redrawn, and positives are searched in place."""
    from tests.reference_model.fused import test_engine

    whole = test_engine.engine_for()
    whole.load(test_engine.SPLIT)
    monkeypatch.setattr(epoch_order, "PART_EXAMPLES", 4_000)
    monkeypatch.setattr(evaluation_loop, "KEPT_LIST_BYTES", 8 * 51 * 60)
    real = SamplerSpec.of
    monkeypatch.setattr(SamplerSpec, "of", lambda *sizes: real(*sizes[:3], 0))
    sink = test_engine.RecordingSink()
    engine = test_engine.engine_for(sink=sink)
    engine.load(test_engine.SPLIT)
    assert engine._orders.parts > 2 and isinstance(engine._lists, StreamedEvaluationLists)
    for epoch in (1, 2):
        batches = engine.epoch_batches(epoch)
        test_engine.assert_is_an_epoch(batches, test_engine.SPLIT, 512)
        trained, again = engine.train_epoch(epoch), whole.train_batches(batches)
        assert trained.loss == pytest.approx(again.loss, rel=1e-6)
        assert (trained.examples, trained.steps) == (again.examples, again.steps)
    test_engine.assert_same_weights(engine.get_weights(), whole.get_weights(), 1e-5)
    whole.set_weights(engine.get_weights())
    found, told = engine.evaluate(), data_digests.digest_engine_data(engine)
    monkeypatch.setattr(data_digests, "MAX_EXAMPLES", test_engine.EXAMPLES - 1)
    first = data_digests.digest_engine_data(engine)
    monkeypatch.undo()
    assert found == whole.evaluate()
    lists = engine.evaluation_lists()
    assert told["evaluation_lists"] == first["evaluation_lists"]
    assert told["evaluation_lists"] == data_digests.digest_evaluation_lists(lists)["evaluation_lists"]
    assert first["first_batch"] == told["first_batch"] and "first_epoch" not in first
    np.testing.assert_array_equal(lists.items, whole.evaluation_lists().items)
    said = [(key, extra) for key, _, extra in sink.said if key == "eval_neg_gen_stop"]
    (key, metadata), = said
    assert key == "eval_neg_gen_stop" and metadata["masked_duplicates"] == lists.num_masked
    users, negatives = lists.items.shape[0], lists.items.shape[1] - 1
    assert metadata["mean_candidates"] == pytest.approx(
        1 + negatives - lists.num_masked / users, abs=1e-6)
    starts = [extra["epoch_num"] for key, _, extra in sink.said if key == "train_neg_gen_start"]
    assert starts == [1, 2, 3]  # once per epoch, for any number of parts
    engine.close()
    whole.close()


# -- memory -----------------------------------------------------------------------

GROWTH = """
import functools, gc, sys
from reference_model.data import prepare, split_file
from reference_model.data.sources import DatasetSpec
from reference_model.device_sampling import epoch_order
from reference_model.device_sampling.negatives import SamplerSpec
from reference_model.engine import EngineConfig
from reference_model.events import NullSink
from reference_model.fused import engine as fused
from reference_model.sampling.negatives import BisectionSampler
from scripts.scaling.stages import measure_call

epoch_order.PART_EXAMPLES = 1 << 20
small, large = map(int, sys.argv[2:])

def peak(users):
    sizes = dict(num_users=users, num_items=1500, num_ratings=1000 * users, seed=0)
    spec = DatasetSpec("toy", kind="synthetic", synthetic=sizes)
    config = EngineConfig(
        num_users=users, num_items=1500, num_positives=999 * users, mf_dim=1, mlp_layers=(2, 1),
        train_negatives=0, eval_negatives=1, batch_size=1 << 16,
    )
    engine = fused.FusedEngine(config, NullSink(), jit_compile=False)
    engine.prepare()
    engine.reset(1)

    def work():
        split = prepare.load_split(spec, sys.argv[1])
        engine.load(split.validate())
        engine.epoch_batches(1, steps=1)
        return split

    gc.collect()
    fused.release_freed_memory()
    figures, kept = measure_call(work)
    engine.close()
    return figures["peak_bytes"] - 2 * 501 * users * engine._training.sampler.by_table

def growth():
    low = peak(small)
    return (peak(large) - low) / (999 * (large - small))

split_file.MAX_READ_BYTES = 1 << 40
print(SamplerSpec.of(large, 1500, 1).name, growth())
split_file.MAX_READ_BYTES = 0
SamplerSpec.of = functools.partial(SamplerSpec.of, entries=0)
fused.make_sampler = BisectionSampler
print(SamplerSpec.of(large, 1500, 1).name, growth())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_positive_takes_eight_bytes_of_memory(tmp_path):
    """Measures the peak memory of a new process in which an engine loads a split and draws a batch.

    As in a run, the caller keeps the split. The split is first read and sampled by table, then
    mapped and sampled by bisection.

    Users take 4 bytes, items 4; even a short-lived copy of either would increase this to 12. The
    size of the complement table is subtracted. All other growth is a few bytes per user.
    """
    sizes = [3_000, 24_000]
    for users in sizes:
        spec = replace(SPEC, synthetic=asdict(SyntheticShape(users, 1_500, 1_000 * users)))
        prepare_split(spec, tmp_path)
    command = [sys.executable, "-c", GROWTH, str(tmp_path), *map(str, sizes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = dict(line.split() for line in done.stdout.splitlines())
    assert found.keys() == {"complement_table", "bisection"}
    assert all(4 < float(growth) < 9 for growth in found.values()), found
