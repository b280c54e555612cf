"""A fractal expansion is a randomized Kronecker product that keeps the popularity curve."""

from __future__ import annotations

import io
import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from compliance.tracks import TRACKS_DIR, TrackError, load_track
from reference_model.base.errors import DataError
from reference_model.base.matrices import resample_rows
from reference_model.data import fractal
from reference_model.data.fractal import (
    MAX_RATE,
    MIN_RATE,
    Expander,
    Expansion,
    FractalShape,
    expand,
    reduced_matrix,
    singular_triplets,
)
from reference_model.data.popularity import gini, ks_distance, rank_curve, top_share
from reference_model.data.prepare import load_split, prepare_split
from reference_model.data.sources import DatasetSpec
from reference_model.data.split import Split
from reference_model.data.synthetic import SyntheticShape, generate_split
from tests.conftest import track_spec
from tests.support.runs.harness_runs import harness
from tests.support.splits import random_split

SHAPE = FractalShape("toy", user_factor=3, item_factor=2, seed=5)
# Users rate items (0, 1), (0, 2), (0, 1, 2, 3); the last of each is held out.
R = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]])
TINY = Split(
    3,
    4,
    np.array([0, 1, 2, 2, 2], np.int32),
    np.array([0, 0, 0, 1, 2], np.int32),
    np.array([1, 2, 3], np.int32),
)


@pytest.fixture(scope="module")
def source() -> Split:
    return generate_split(SyntheticShape(num_users=900, num_items=500, num_ratings=45_000, seed=3))


def whole(source: Split, shape: FractalShape, least: int = 20, **options) -> Split:
    """Returns the expansion in memory."""
    expansion = expand(source, shape, io.BytesIO(), least, **options)
    users = np.arange(expansion.num_users, dtype=np.int32)
    return Split(
        expansion.num_users,
        expansion.num_items,
        np.repeat(users, expansion.counts),
        np.concatenate(list(expansion.train_items())),
        expansion.test_item,
    )


def pairs(split: Split) -> tuple[np.ndarray, np.ndarray]:
    user = np.concatenate([split.train_user, np.arange(split.num_users)])
    return user, np.concatenate([split.train_item, split.test_item])


def dense(split: Split) -> np.ndarray:
    matrix = np.zeros((split.num_users, split.num_items), int)
    np.add.at(matrix, pairs(split), 1)
    return matrix


def in_memory(block, num_items: int) -> Split:
    """Returns a row of blocks as a separate split."""
    users = np.arange(len(block.counts), dtype=np.int32)
    return Split(
        len(users), num_items, np.repeat(users, block.counts), block.train_item, block.test_item
    )


# --- the Kronecker product ------------------------------------------------------------


@pytest.mark.parametrize("shuffle", ["axes", "blocks"])
def test_blocks_kept_whole_or_not_at_all_are_the_kronecker_product_shuffled(shuffle):
    rates = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    shape = FractalShape("tiny", 2, 3, seed=1, shuffle=shuffle)
    expander = Expander(TINY, shape, min_ratings=1, rates=rates)
    expected = np.array(
        [
            [1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0],
            [1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0],
            [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1],
            [0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0],
            [0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0],
            [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1],
        ]
    )
    assert np.array_equal(expected, np.kron(rates, R))
    for i in range(2):
        row = dense(in_memory(expander.user_block(i), 12))
        for j in range(3):
            users, items = expander.permutations(i, j)
            block = row[users][:, 4 * j + items]
            assert np.array_equal(block, expected[3 * i : 3 * i + 3, 4 * j : 4 * j + 4])


def test_axes_shuffles_rows_and_columns_of_blocks_and_blocks_shuffles_each_block():
    for shuffle, same in (("axes", True), ("blocks", False)):
        expander = Expander(random_split(0, 60, 40), replace(SHAPE, shuffle=shuffle), 2)
        users, items = zip(*(expander.permutations(i, j) for i, j in ((0, 0), (0, 1), (1, 0))))
        assert np.array_equal(users[0], users[1]) == same  # one row of blocks
        assert np.array_equal(items[0], items[2]) == same  # one column of blocks
        assert not np.array_equal(users[0], users[2])
        assert not np.array_equal(items[0], items[1])


def test_each_block_keeps_its_rate_of_the_ratings(source):
    shape = FractalShape("toy", 2, 3)
    rates = np.array([[0.1, 0.5, 0.9], [0.01, 0.3, 0.7]])
    expander = Expander(source, shape, min_ratings=1, rates=rates)
    for i in range(2):
        _, item = pairs(in_memory(expander.user_block(i), expander.num_items))
        kept = np.bincount(item // source.num_items, minlength=3)
        mean = rates[i] * 45_000
        assert np.all(np.abs(kept - mean) < 5 * np.sqrt(mean * (1 - rates[i])))


def test_the_result_is_a_split_with_whole_factors_of_items_and_enough_ratings(source):
    split = whole(source, SHAPE).validate()  # unique pairs, held-out items not trained on
    assert split.num_items == 2 * 500
    counts = np.bincount(pairs(split)[0], minlength=split.num_users)
    assert counts.min() == 20 and 900 < split.num_users <= 3 * 900
    everybody = whole(source, SHAPE, least=1)
    lost = np.bincount(pairs(everybody)[0])
    assert split.num_users == np.sum(lost >= 20)
    assert split.num_positives + split.num_users == lost[lost >= 20].sum()


# --- held-out items ------------------------------------------------------------------


def test_an_image_of_the_source_held_out_item_is_held_out_where_one_is_kept():
    shape, rates = FractalShape("tiny", 1, 3, seed=2), np.array([[1.0, 0.0, 1.0]])
    chosen = set()
    for seed in range(20):
        expander = Expander(TINY, replace(shape, seed=seed), 1, rates=rates)
        held = expander.user_block(0).test_item
        for source_user, item in enumerate(TINY.test_item):
            images = {}
            for j in (0, 2):
                users, items = expander.permutations(0, j)
                images[4 * j + items[item]] = j
            chosen.add(images[held[users[source_user]]])
    assert chosen == {0, 2}, "both images must be drawn"


def test_where_no_image_is_kept_any_rating_may_be_held_out():
    source = random_split(1, 200, 60)
    shape, rates = FractalShape("toy", 1, 1), np.array([[0.5]])
    expander = Expander(source, shape, 1, rates=rates)
    block = expander.user_block(0)
    assert len(block.counts) == 200  # no user is dropped for lack of an image
    users, items = expander.permutations(0, 0)
    image = np.empty(200, int)
    image[users] = items[source.test_item]
    assert 60 < np.sum(block.test_item == image) < 140
    in_memory(block, 60).validate()


# --- reproducibility -------------------------------------------------------------------


def test_a_seed_gives_the_same_data_for_any_number_of_threads(source):
    digest = whole(source, SHAPE).digest
    assert whole(source, SHAPE, threads=1).digest == digest
    assert whole(source, SHAPE, threads=3).digest == digest
    assert whole(source, replace(SHAPE, seed=6)).digest != digest
    assert whole(source, replace(SHAPE, shuffle="blocks")).digest != digest


def test_a_row_of_blocks_does_not_depend_on_the_others(source):
    split, expander = whole(source, SHAPE), Expander(source, SHAPE)
    end_user, end = split.num_users, split.num_positives
    for i in (2, 1, 0):  # the last row first, by a new expander
        block = expander.user_block(i)
        first_user, first = end_user - len(block.counts), end - len(block.train_item)
        assert np.array_equal(split.test_item[first_user:end_user], block.test_item)
        assert np.array_equal(split.train_item[first:end], block.train_item)
        end_user, end = first_user, first
    assert (end_user, end) == (0, 0)


def test_the_digest_of_the_streamed_result_is_that_of_the_split(source):
    assert expand(source, SHAPE, io.BytesIO()).digest == whole(source, SHAPE).digest


def test_memory_does_not_grow_with_the_number_of_user_blocks(source, tmp_path, monkeypatch):
    monkeypatch.setattr(fractal, "_CHUNK_ITEMS", 1 << 12)
    monkeypatch.setattr(fractal, "_CHUNK_USERS", 1 << 6)

    def peak(factor: int) -> tuple[int, Expansion]:
        tracemalloc.start()
        with open(tmp_path / "items", "w+b") as file:
            expansion = expand(source, replace(SHAPE, user_factor=factor), file, threads=1)
            assert expansion.digest
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size, expansion

    (few, small), (many, large) = peak(2), peak(20)
    items = 4 * (large.num_positives - small.num_positives)  # bytes, if they were kept
    users = 16 * (large.num_users - small.num_users)  # counts and held-out items, two copies
    assert items > 300_000 and many - few < users + 0.1 * items


# --- the reduced matrix ---------------------------------------------------------------


def test_singular_triplets_are_those_of_the_matrix():
    source = random_split(2, 90, 60, 0.3)
    matrix = np.zeros((90, 60))
    matrix[source.train_user, source.train_item] = 1
    left, values, right = singular_triplets(source, 3, seed=0)
    exact_left, exact, exact_right = np.linalg.svd(matrix, full_matrices=False)
    assert np.allclose(values, exact[:3], rtol=1e-3)
    best = (exact_left[:, :1] * exact[:1]) @ exact_right[:1]
    assert np.allclose((left[:, :1] * values[:1]) @ right[:, :1].T, best, atol=1e-3)


def test_resampling_reads_the_centres_of_equal_intervals():
    matrix = np.array([[0.0, 8.0], [1.0, 6.0], [2.0, 4.0], [3.0, 2.0]])
    assert resample_rows(matrix, 2).tolist() == [[0.5, 7.0], [2.5, 3.0]]
    assert resample_rows(matrix, 4).tolist() == matrix.tolist()
    assert resample_rows(matrix, 1).tolist() == [[1.5, 5.0]]


@pytest.mark.parametrize(("users", "items"), [(1, 1), (4, 4), (16, 32), (5, 2)])
def test_rates_lie_within_their_limits_and_one_is_the_largest(source, users, items):
    rates = reduced_matrix(source, FractalShape("toy", users, items))
    assert rates.shape == (users, items)
    assert rates.min() >= round(MIN_RATE * 2**16) / 2**16 - 1e-9
    assert rates.max() == pytest.approx(MAX_RATE, abs=2**-16)
    assert np.array_equal(rates * 2**16, np.round(rates * 2**16))


def test_the_reduced_matrix_resembles_the_source():
    """Users of one half rate items of one half, also in the reduced matrix."""
    rng = np.random.default_rng(0)
    likes = np.kron(np.array([[0.6, 0.02], [0.02, 0.3]]), np.ones((100, 50)))
    rated = rng.random((200, 100)) < likes
    rated[:, 0], rated[np.arange(200), rng.integers(1, 100, 200)] = False, True
    user, item = np.nonzero(rated)
    source = Split(200, 100, user.astype(np.int32), item.astype(np.int32), np.zeros(200, np.int32))
    rates = reduced_matrix(source, FractalShape("toy", 2, 2))
    assert rates[0, 0] > 0.9 and 0.3 < rates[1, 1] < 0.7
    assert rates[0, 1] < 0.15 and rates[1, 0] < 0.15


# --- the shape of the popularity curve ------------------------------------------------


def test_popularity_statistics_equal_hand_computed_values():
    counts = np.array([1, 1, 2, 6])
    assert top_share(counts, 0.25) == 0.6 and top_share(counts, 0.5) == 0.8
    assert top_share(counts, 0.01) == 0.6  # at least one
    assert gini(counts) == pytest.approx(0.4) and gini(np.full(9, 3)) == pytest.approx(0)
    assert ks_distance(counts, np.tile(10 * counts, 3)) == 0
    assert ks_distance(counts, np.array([5, 5])) == 0.75
    rank, height = rank_curve(np.array([0, 6, 1, 1]), 3)
    assert rank.tolist() == [0.25, 0.5] and height.tolist() == [3.0, 0.5]


def curves(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Returns the number of ratings of each item and of each user."""
    user, item = pairs(split)
    return np.bincount(item, minlength=split.num_items), np.bincount(user)


def test_the_curves_of_popularity_and_activity_keep_their_shape(source):
    for factors in ((4, 4), (6, 10)):
        expanded = whole(source, FractalShape("toy", *factors), least=1)
        for before, after in zip(curves(source), curves(expanded)):
            assert abs(top_share(before, 0.1) - top_share(after, 0.1)) < 0.05
            assert abs(gini(before) - gini(after)) < 0.07
        # Not for users: a third of them have exactly 20 ratings, and their new counts vary.
        assert ks_distance(curves(source)[0], curves(expanded)[0]) < 0.16


def test_shuffling_each_block_flattens_the_curves(source):
    """So it is not the default: sums of unrelated popularities are nearly equal."""
    items = curves(source)[0]
    kept, flat = (
        curves(whole(source, FractalShape("toy", 6, 10, shuffle=shuffle), least=1))[0]
        for shuffle in ("axes", "blocks")
    )
    assert ks_distance(items, flat) > 2 * ks_distance(items, kept)
    assert gini(flat) < gini(items) - 0.1


# --- as a dataset ---------------------------------------------------------------------

SPEC = DatasetSpec(
    "toy-3x2",
    kind="fractal",
    fractal={"source": "toy", "user_factor": 3, "item_factor": 2, "seed": 5, "shuffle": "axes"},
)


@pytest.fixture
def data_dir(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        f"{user},{item},3.5,{rng.integers(1000, 9999)}\n"
        for user in range(1, 61)
        for item in rng.permutation(80)[: rng.integers(30, 60)]
    ]
    (tmp_path / "toy.csv").write_text("userId,movieId,rating,timestamp\n" + "".join(rows))
    return tmp_path


def test_an_expansion_is_prepared_and_loaded_like_any_dataset(data_dir):
    header = prepare_split(SPEC, data_dir)
    toy = load_split(DatasetSpec("toy"), data_dir)
    split = load_split(SPEC, data_dir).validate()
    assert split.digest == header.digest == whole(toy, SHAPE).digest
    assert header == prepare_split(SPEC, data_dir)
    assert (header.num_users, header.num_items) == (split.num_users, 160)
    assert header.rows == header.num_positives + header.num_users
    assert header.source == "toy.csv x 3 x 2"


def test_an_expansion_is_prepared_anew_for_another_seed_or_another_source(data_dir):
    first = prepare_split(SPEC, data_dir)
    other = prepare_split(replace(SPEC, fractal={**SPEC.fractal, "seed": 6}), data_dir)
    with (data_dir / "toy.csv").open("a") as file:
        file.write("1,99,3,9999\n")
    assert len({first.digest, other.digest, prepare_split(SPEC, data_dir).digest}) == 3


def test_a_preparation_leaves_no_temporary_files(data_dir):
    prepare_split(SPEC, data_dir)
    names = {path.name.partition("-")[0] for path in (data_dir / "prepared").glob("*.split")}
    assert names == {"toy"} and len(list((data_dir / "prepared").glob("*.split"))) == 2
    assert not list((data_dir / "prepared").glob("*.part"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"user_factor": 0}, "user_factor must be a whole number from 1 up, not 0"),
        ({"item_factor": 2.5}, "item_factor must be a whole number from 1 up, not 2.5"),
        ({"item_factor": True}, "item_factor must be a whole number"),
        ({"item_factor": "4"}, "item_factor must be a whole number"),
        ({"seed": -1}, "seed must be a whole number from 0 up"),
        ({"shuffle": "all"}, "shuffle must be one of axes, blocks"),
        ({"source": ""}, "source must name the dataset"),
        ({"source": "toy-3x2"}, "its name must differ from that of its source"),
        ({"user_factor": 61}, "toy has 60 users and 80 items"),
        ({"user_factors": 2}, "unexpected keyword"),
        ({"source": "nowhere"}, "nowhere cannot be fetched"),
    ],
)
def test_what_cannot_be_expanded_is_refused_in_one_line(data_dir, values, message):
    spec = replace(SPEC, fractal={**SPEC.fractal, **values})
    with pytest.raises(DataError, match=message) as refused:
        prepare_split(spec, data_dir)
    assert "\n" not in str(refused.value)
    assert not list((data_dir / "prepared").glob("toy-3x2*.split"))


def test_an_expansion_without_users_is_refused():
    with pytest.raises(DataError, match="no user keeps 50 ratings"):
        whole(TINY, FractalShape("tiny", 2, 2), least=50)


# --- as a track -----------------------------------------------------------------------

TEXT = (TRACKS_DIR / "ml-1m-4x4.yaml").read_text(encoding="utf-8")
OWN = TEXT.replace("ml-1m-4x4", "mine")


@pytest.mark.parametrize(
    ("name", "factors"), [("ml-1m-4x4", (4, 4)), ("ml-1m-16x32", (16, 32))]
)
def test_the_built_in_expansions_of_ml_1m(name, factors):
    track, spec = load_track(name), track_spec(name)
    assert track.target is None and track.division_default == "open"
    assert (spec.fractal["user_factor"], spec.fractal["item_factor"]) == factors
    assert spec.source == replace(track_spec("ml-1m"), split_digest=None)
    assert track.dataset.num_items == factors[1] * 3706


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("user_factor: 4", "user_factor: 0", "user_factor' must be a whole number from 1 up"),
        ("item_factor: 4", "item_factor: 1.5", "item_factor' must be a whole number"),
        ("source: ml-1m, ", "", "'dataset.fractal.source' is missing"),
        ("shuffle: axes", "shuffle: none", "must be one of axes, blocks"),
        ("seed: 2019", "seed: 2019, more: 1", "'dataset.fractal.more' is not a key"),
        ("kind: fractal ", "kind: ratings ", "must describe the expansion if kind is fractal"),
        ("  fractal: {", "  # {", "must describe the expansion if kind is fractal"),
    ],
)
def test_a_wrong_expansion_in_a_track_file_gives_a_one_line_error(tmp_path, before, after, words):
    path = tmp_path / "mine.yaml"
    assert before in OWN
    path.write_text(OWN.replace(before, after), encoding="utf-8")
    with pytest.raises(TrackError) as refused:
        load_track(path)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_the_harness_prepares_an_expansion_from_a_track_file(data_dir, tmp_path):
    keys = r"\n  (url|archive_\w+|package\w*|split_digest|num_\w+): .*"
    text = re.sub(keys, r"\n  \1: null", OWN)
    text = text.replace("source: ml-1m, user_factor: 4", "source: toy, user_factor: FACTOR")
    path = tmp_path / "mine.yaml"
    flags = (f"--track={path}", f"--data_dir={data_dir}", "--prepare_only")
    path.write_text(text.replace("FACTOR", "2"), encoding="utf-8")
    done = harness(tmp_path, *flags)
    spec = replace(SPEC, name="mine", fractal=load_track(path).dataset.fractal)
    header = prepare_split(spec, data_dir)
    assert done.returncode == 0, done.stderr
    assert f"prepared mine: {header.num_users} users, 320 items" in done.stdout
    path.write_text(text.replace("FACTOR", "0"), encoding="utf-8")
    refused = harness(tmp_path, *flags)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "'dataset.fractal.user_factor' must be a whole number from 1 up, not 0" in refused.stderr


@pytest.mark.slow
def test_ml_1m_by_4_x_4_is_what_its_track_pins(ml_1m_file, tmp_path):
    (tmp_path / "ml-1m").mkdir()
    (tmp_path / "ml-1m" / ml_1m_file.name).symlink_to(ml_1m_file)
    pinned = load_track("ml-1m-4x4").dataset
    header = prepare_split(track_spec("ml-1m-4x4"), tmp_path)
    for what in ("num_users", "num_items", "num_positives"):
        assert getattr(header, what) == getattr(pinned, what)
    assert header.digest == pinned.split_digest, "or numpy's streams changed: see the track"
