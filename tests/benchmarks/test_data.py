"""Data preparation: reading ratings, splitting, loading a prepared split."""

from __future__ import annotations

import pytest

from reference_model.data.prepare import DatasetSpec, load_split, prepare_split
from reference_model.ratings.reader import read_ratings
from reference_model.data.split import leave_one_out
from tests.benchmarks.inputs import ML_1M, ratings_of, split_of, version_of
from tests.benchmarks.measuring import file_version, measure

LINES = 100_000


@pytest.fixture(scope="module")
def ratings_file(tmp_path_factory):
    """The first ratings in the format of MovieLens 1M's ratings.dat."""
    columns = [column[:LINES].tolist() for column in ratings_of(split_of(ML_1M))]
    path = tmp_path_factory.mktemp("raw") / "ratings.dat"
    with path.open("w") as file:
        file.writelines(f"{u + 1}::{m + 1}::{1 + m % 5}::{t}\n" for u, m, t in zip(*columns))
    return path


def test_read_ratings(benchmark, ratings_file):
    found = measure(benchmark, lambda: read_ratings(ratings_file), group="data",
                    version=file_version(ratings_file), amounts={"lines": LINES})  # fmt: skip
    assert len(found.user) == LINES


def test_leave_one_out(benchmark):
    split = split_of(ML_1M)
    ratings = ratings_of(split)
    found = measure(benchmark, lambda: leave_one_out(*ratings), group="data",
                    version=version_of(split), amounts={"ratings": len(ratings[0])})  # fmt: skip
    assert found.num_positives == split.num_positives


def test_load_prepared_split(benchmark, tmp_path):
    """The part inside the timed run: reading, and the check against the digest."""
    sizes = {name: getattr(ML_1M, name) for name in ("num_users", "num_items", "num_ratings", "seed")}
    spec = DatasetSpec("made", kind="synthetic", synthetic=sizes)
    prepare_split(spec, tmp_path)
    split = split_of(ML_1M)
    found = measure(benchmark, lambda: load_split(spec, tmp_path), group="data",
                    version=version_of(split), amounts={"pairs": split.num_positives})  # fmt: skip
    assert found.digest == split.digest
