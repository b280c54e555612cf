"""Targets, epochs to target, and the bound on the share of runs that converge."""

from __future__ import annotations

import json

import pytest
from scipy import stats

from compliance.rcp.calibration import (
    REFERENCE_POINTS_DIR,
    Calibration,
    clopper_pearson,
    epochs_to_target,
    target_from_curves,
)
from compliance.tracks import load_track
from harness import calibrate
from tests.support.paths import DATA

TINY_TRACK = DATA / "tiny-track.yaml"
CALIBRATED = ("ml-100k", "ml-1m", "ml-1m-paper")


def test_target_by_hand():
    """Lowest best hit rate 0.24, 6,040 users: error 0.005495, so 0.2345, rounded to 0.234."""
    curves = ((0.1, 0.25, 0.24), (0.2, 0.24, 0.23))
    assert target_from_curves(Calibration("t", 6040, 3, curves)) == 0.234


def test_a_target_of_exactly_three_digits_is_kept():
    assert target_from_curves(Calibration("t", 10**12, 1, ((0.235 + 4.24e-7,),))) == 0.235


def test_epochs_count_from_one_and_equality_is_enough():
    assert epochs_to_target((0.1, 0.2, 0.3), 0.2) == 2
    assert epochs_to_target((0.1, 0.2), 0.3) is None


@pytest.mark.parametrize("successes, trials", [(0, 10), (10, 10), (60, 60), (3, 7), (86, 100)])
def test_clopper_pearson_is_the_beta_quantiles(successes, trials):
    """Compares with the closed form from the beta distribution of an independent library."""
    low, high = clopper_pearson(successes, trials)
    failures = trials - successes
    expected_low = stats.beta.ppf(0.025, successes, failures + 1) if successes else 0.0
    expected_high = stats.beta.ppf(0.975, successes + 1, failures) if failures else 1.0
    assert (low, high) == (
        pytest.approx(expected_low, abs=1e-9),
        pytest.approx(expected_high, abs=1e-9),
    )


def test_clopper_pearson_refuses_what_cannot_be():
    with pytest.raises(ValueError):
        clopper_pearson(5, 4)


def test_a_file_that_is_no_calibration_is_named(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"runs": 3}')
    with pytest.raises(ValueError, match="x.json"):
        Calibration.read(path)


@pytest.mark.parametrize("name", CALIBRATED)
def test_the_tracks_target_follows_from_its_calibration(name):
    """All runs reach it within the cap, and none in the first epoch."""
    track = load_track(name)
    path = REFERENCE_POINTS_DIR / f"{name}.json"
    calibration = Calibration.read(path)
    assert track.target == target_from_curves(calibration)
    epochs = [epochs_to_target(curve, track.target) for curve in calibration.hit_rates]
    assert None not in epochs and max(epochs) <= track.max_epochs
    assert min(epochs) > 1
    assert len(epochs) >= (60 if name == "ml-100k" else 20)
    data = json.loads(path.read_text())
    seeds = [run["seed"] for run in data["runs"]]
    assert len(set(seeds)) == len(seeds)
    assert data["split_digest"] == track.dataset.split_digest
    for key in ("batch_size", "learning_rate", "beta1", "beta2", "epsilon"):
        assert data["settings"][key] == getattr(track.hyperparameters, key)


@pytest.mark.parametrize("name", CALIBRATED)
def test_fresh_seeds_reach_the_target_too(name):
    """These seeds were not used to choose the target."""
    fresh = Calibration.read(REFERENCE_POINTS_DIR / f"{name}-fresh.json")
    chosen = json.loads((REFERENCE_POINTS_DIR / f"{name}.json").read_text())
    used = {run["seed"] for run in chosen["runs"]}
    runs = json.loads((REFERENCE_POINTS_DIR / f"{name}-fresh.json").read_text())["runs"]
    assert not used & {run["seed"] for run in runs}
    target = load_track(name).target
    assert len(runs) >= 5
    assert all(epochs_to_target(curve, target) for curve in fresh.hit_rates)


def test_the_summary_prints_target_and_bound(tmp_path, capsys):
    path = tmp_path / "c.json"
    runs = [{"seed": s, "hit_rate": [0.1, 0.3 + s / 1000]} for s in range(3)]
    path.write_text(json.dumps({"track": "t", "users": 6040, "epochs": 2, "runs": runs}))
    assert calibrate.main(["--track=t", "--summary", f"--output={path}"]) == 0
    printed = capsys.readouterr().out
    assert "target 0.294" in printed and "runs that reach the target: 3 of 3" in printed


def test_a_calibration_is_continued_only_with_its_own_settings(tmp_path, capsys):
    """Runs with two learning rates in one file would not be a reference for either."""
    pytest.importorskip("tensorflow")
    output = tmp_path / "c.json"
    call = [
        f"--track={TINY_TRACK}", "--epochs=1", f"--data_dir={tmp_path}", f"--output={output}"
    ]  # fmt: skip
    assert calibrate.main([*call, "--runs=1"]) == 0
    assert calibrate.main([*call, "--runs=2"]) == 0
    before = output.read_bytes()
    assert [run["seed"] for run in json.loads(before)["runs"]] == [1, 2]
    assert calibrate.main([*call, "--runs=3", "--learning_rate=0.5"]) == 1
    assert "a calibration with other settings" in capsys.readouterr().err
    assert output.read_bytes() == before
