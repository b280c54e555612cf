"""The values of built-in tracks, and invalid track files."""

from __future__ import annotations

import re

import pytest

from compliance.tracks import BUILTIN_TRACKS, TRACKS_DIR, TrackError, load_track

TEXT = (TRACKS_DIR / "ml-100k.yaml").read_text(encoding="utf-8")
# The text of a user's track file.
OWN = TEXT.replace("name: ml-100k\nbench", "name: mine\nbench") \
    .replace("default: closed", "default: open")


@pytest.mark.parametrize("name", BUILTIN_TRACKS)
def test_a_built_in_track_loads_under_its_own_name(name):
    track = load_track(name)
    assert track.name == name and track.is_builtin
    assert track.benchmark == ("ncf" if name == "ml-20m" else f"ncf-{name}")
    made = track.dataset.kind in ("synthetic", "fractal")
    assert track.division_default == ("open" if made else "closed")


@pytest.mark.parametrize("name, users, items, ratings, mf, layers, negatives", [
    ("ml-100k", 943, 1682, 100_000, 8, (64, 32, 16, 8), 999),
    ("ml-1m", 6040, 3706, 1_000_209, 64, (256, 256, 128, 64), 999),
    ("ml-1m-paper", 6040, 3706, 1_000_209, 8, (64, 32, 16, 8), 99),
    ("ml-20m", 138_493, 26_744, 20_000_263, 64, (256, 256, 128, 64), 999),
    ("ml-20m-synthetic", 138_493, 26_744, 20_000_263, 64, (256, 256, 128, 64), 999)])
def test_a_built_in_track_has_the_published_sizes(
        name, users, items, ratings, mf, layers, negatives):
    track = load_track(name)
    data = track.dataset
    assert (data.num_users, data.num_items, data.num_ratings) == (users, items, ratings)
    assert data.num_positives == ratings - users
    assert (track.model.mf_dim, track.model.mlp_layers) == (mf, layers)
    assert (track.evaluation.negatives, track.evaluation.top_k) == (negatives, 10)
    assert track.sampling.train_negatives == 4 and data.min_ratings == 20
    assert track.train_samples == 5 * data.num_positives
    assert track.eval_samples == users * (negatives + 1)


def test_ml_20m_has_the_target_and_the_scoring_of_v05():
    track = load_track("ml-20m")
    assert (track.target, track.runs, track.scoring) == (0.635, 100, "v0.5-ncf-first-50-of-100")


def test_a_track_without_a_target_is_open():
    for track in map(load_track, BUILTIN_TRACKS):
        assert track.target is not None or track.division_default == "open"


def test_a_track_file_of_the_user_loads_and_is_not_built_in(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text(OWN, encoding="utf-8")
    track = load_track(str(path))
    assert track.name == "mine" and not track.is_builtin


def test_a_track_may_name_the_columns_of_its_file(tmp_path):
    path = tmp_path / "t.yaml"
    columns = "  columns: {user: who, item: what, timestamp: null}\n"
    path.write_text(OWN.replace("  min_ratings", f"{columns}  min_ratings"), encoding="utf-8")
    assert load_track(path).dataset.columns == {"user": "who", "item": "what", "timestamp": None}
    assert load_track("ml-100k").dataset.columns is None


def test_columns_may_be_positions_and_the_file_may_lie_beside_the_track(tmp_path):
    path = tmp_path / "t.yaml"
    keys = "  columns: {user: 2, item: 1, timestamp: 4}\n  file: raw/mine.csv\n"
    path.write_text(OWN.replace("  min_ratings", f"{keys}  min_ratings"), encoding="utf-8")
    dataset = load_track(path).dataset
    assert dataset.columns == {"user": 2, "item": 1, "timestamp": 4}
    assert dataset.file == str(tmp_path / "raw" / "mine.csv")
    assert load_track("ml-100k").dataset.file is None


def test_all_missing_keys_are_named_at_once(tmp_path):
    path = tmp_path / "t.yaml"
    text = re.sub(r"(?m)^(target|runs|  top_k|  url|  beta2):.*\n", "", OWN)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TrackError, match="'target', 'runs', 'dataset.url', 'evaluation.top_k', "
                       "'hyperparameters.beta2' are missing"):
        load_track(path)


@pytest.mark.parametrize("change, words", [
    (lambda t: t.replace("  min_ratings", "  columns: {user: a, item: 2, timestamp: 3}\n  min_ratings"),
     "names in the file's header, or positions"),
    (lambda t: t.replace("  min_ratings", "  columns: {user: 1, item: 1, timestamp: 3}\n  min_ratings"),
     "all different"),
    (lambda t: t.replace("  min_ratings", "  columns: {user: 0, item: 1, timestamp: 3}\n  min_ratings"),
     "from 1"),
    (lambda t: t.replace("  min_ratings", "  file: 7\n  min_ratings"), "'dataset.file' must be text"),
    (lambda t: t.replace("  min_ratings", "  columns: {user: a, item: b}\n  min_ratings"),
     "'dataset.columns.timestamp' is missing"),
    (lambda t: t.replace("  min_ratings", "  columns: [a, b]\n  min_ratings"), "must be a mapping"),
    (lambda t: t + "colour: red\n", "'colour' is not a key"),
    (lambda t: t.replace("  top_k: 10\n", ""), "'evaluation.top_k' is missing"),
    (lambda t: t.replace("top_k: 10", "top_k: ten"), "'evaluation.top_k' must be a whole number"),
    (lambda t: t.replace("top_k: 10", "top_k: 10\n  top_k: 20"), "'top_k' appears twice"),
    (lambda t: t.replace("top_k: 10", "top_k: true"), "'evaluation.top_k'"),
    (lambda t: re.sub(r"\ntarget: [0-9.]+", "\ntarget: 1.5", t),
     "'target' must be a number from 0 to 1"),
    (lambda t: re.sub(r"\ntarget: [0-9.]+", "\ntarget: .nan", t), "'target'"),
    (lambda t: t.replace("optimizer: adam\n", "optimizer: sgd\n"), "one of adam, lazy_adam"),
    (lambda t: t.replace("archive_md5: \"0", "archive_md5: \"X"), "lower-case hex"),
    (lambda t: t.replace("[64, 32", "[63, 32"), "even width"),
    (lambda t: t.replace("name: mine", "name: ../up"), "name folders"),
    (lambda t: t.replace("name: mine", "name: ml-1m"), "is a built-in track's"),
    (lambda t: t.replace("default: open", "default: closed"), "must be open"),
    (lambda t: t.replace("synthetic: null", "synthetic: {num_users: 1}"), "synthetic"),
    (lambda t: re.sub(r"\nruns: \d+", "\nruns: 2", t), "at least 3"),
    (lambda t: re.sub(r"runs_at_most: \d+", "runs_at_most: 4", t), "at least 'runs', 5, not 4"),
    (lambda t: re.sub(r"runs_at_most: \d+", "runs_at_most: many", t), "a whole number"),
    (lambda t: re.sub(r"epsilon: \S+", "epsilon: 1e-8", t), "write 1.0e-8"),
    (lambda t: "just text", "one mapping"),
    (lambda t: t + "a: [1\n", "not valid YAML"),
    (lambda t: t + "x: !!python/object/apply:os.getcwd []\n", "not valid YAML")])
def test_a_wrong_track_file_is_refused_in_one_line(tmp_path, change, words):
    path = tmp_path / "t.yaml"
    text = change(OWN)
    assert text != OWN, "the change had no effect"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TrackError) as found:
        load_track(path)
    assert words in str(found.value) and str(path) in str(found.value)
    assert "\n" not in str(found.value)


def test_an_unknown_track_name_is_refused_with_the_built_in_names():
    with pytest.raises(TrackError, match="ml-1m-paper"):
        load_track("ml-10m")
