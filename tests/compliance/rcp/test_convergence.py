"""`convergence`: error rates of the test on simulated sets, and verdicts on logs."""

from __future__ import annotations

import io
import json
import random

import pytest

from compliance.__main__ import main
from compliance.rcp.points import (
    NoReferencePoint,
    ReferencePoint,
    find_reference_point,
    load_reference_points,
)
from compliance.rcp.public_logs import OUTPUT_FILE, format_points, read_public_logs
from compliance.rcp.verdict import (
    NO_REFERENCE,
    TOO_FAST,
    TOO_FEW_RUNS,
    WITHIN_REFERENCE,
    check_folder_convergence,
    compare_to_reference,
    rcp_min_mean_epochs,
)
from compliance.tracks import load_track
from tests.support.logs.log_builder import bad_log, write_log
from tests.support.logs.run_sets import write_set

POINTS = {p["entry"]: p for p in json.loads(OUTPUT_FILE.read_text())["points"]}


def point(epochs, batch_size=1, cap=20):
    return ReferencePoint("t", 0.6, batch_size, {}, cap, tuple(epochs), "test")


def false_alarm_rate(pool, reference, runs, cap=20, epochs_saved=0, sets=1000, break_ties=False):
    """Returns the share of sets found too fast; sets and references are drawn from `pool`."""
    rng, found = random.Random(20181108), 0

    def sample(size):
        chosen = rng.choices(pool, k=size)
        return [e + rng.random() if break_ties and e is not None else e for e in chosen]

    for _ in range(sets):
        theirs = point(sample(reference), cap=21)
        ours = [e - epochs_saved if e is not None and e - epochs_saved <= cap else None for e in sample(runs)]
        caps = [cap for e in ours if e is None]
        found += compare_to_reference(ours, caps, theirs, permutations=199).is_too_fast
    return found / sets


# Three standard errors of a share of 5% among 1,000 sets.
NOISE = 0.021


@pytest.mark.parametrize("entry, reference, runs, cap", [
    ("nvidia_dgx1", 60, 5, 20), ("intel_skx8180", 60, 5, 20),  # 14% and 45% are censored
    ("nvidia_dgx1", 20, 10, 20), ("intel_skx8180", 60, 5, 8),  # a cap lowered by the submitter
    ("nvidia_dgx1", 60, 5, 16)])
def test_false_alarms_are_at_most_the_5_percent_that_it_claims(entry, reference, runs, cap):
    """Sets and references come from the same pool of real epochs, with many ties."""
    assert 0.01 <= false_alarm_rate(POINTS[entry]["epochs"], reference, runs, cap) <= 0.05 + NOISE


def test_without_ties_false_alarms_are_5_percent():
    rate = false_alarm_rate(range(10, 20), 60, 5, break_ties=True, cap=99)
    assert 0.05 - NOISE <= rate <= 0.05 + NOISE


def test_a_set_that_is_three_epochs_faster_is_found():
    assert false_alarm_rate(POINTS["nvidia_dgx1"]["epochs"], 60, 5, epochs_saved=4, sets=200) > 0.7


def test_the_limit_of_the_official_formula_is_the_official_one():
    """Compares with the function of mlperf_logging, called with our reference."""
    rcp_checker = pytest.importorskip("mlperf_logging.rcp_checker.rcp_checker")
    epochs = [e for e in POINTS["nvidia_dgx1"]["epochs"] if e is not None]
    records = {"r": {"Benchmark": "resnet", "BS": 1, "Hyperparams": {},
                     "Epochs to converge": list(epochs)}}
    official = rcp_checker.RCP_Checker("training", "5.0.0", "resnet", False,
                                       io.StringIO(json.dumps(records)))
    assert rcp_min_mean_epochs(epochs, 5) == pytest.approx(official.rcp_data["r"]["Min Epochs"], abs=1e-3)
    assert rcp_min_mean_epochs([7.0] * 20, 5) == 7


def test_a_censored_run_counts_as_later_than_the_common_cap():
    test = compare_to_reference([5, 6, None, 12, 7], [10], point([6, 7, 15, None] * 5))
    assert test.max_epochs == 10 and test.mean_epochs == pytest.approx((6 + 7 + 11) / 3)
    assert test.reference_mean_epochs == pytest.approx((6 * 4 + 7 * 5 + 11 * 9) / 18)


def test_one_unconverged_run_does_not_hide_fast_ones():
    assert compare_to_reference([3, 3, 3, 3, None], [20], point([12, 13, 14, 15] * 10)).is_too_fast


# -- choice of the reference point ---------------------------------------------------------------

LOW, HIGH = point([8, 9, 10] * 10, 1000), point([14, 15, 16] * 10, 2000)


def test_between_near_points_it_interpolates():
    found = find_reference_point([LOW, HIGH], 1500)
    assert found.is_interpolated and sorted(set(found.epochs)) == [11, 12, 13]
    assert find_reference_point([LOW, HIGH], 2000) is HIGH


@pytest.mark.parametrize("points, batch_size, words", [
    ([LOW, HIGH], 500, "outside"), ([LOW, HIGH], 4000, "outside"), ([], 500, "outside"),
    ([LOW, point([20] * 12, 5000)], 3000, "more than a factor of 4"),
    ([point([20] * 12, 1000), HIGH], 1500, "fewer epochs"),
    ([LOW, point([15, None] * 10, 2000)], 1500, "missed the target")])
def test_where_interpolation_is_not_defensible_there_is_no_reference(points, batch_size, words):
    with pytest.raises(NoReferencePoint, match=words):
        find_reference_point(points, batch_size)


def test_every_track_with_a_target_that_is_calibrated_has_a_point():
    points = load_reference_points(load_track("ml-100k"))
    assert [p.batch_size for p in points] == [2048, 4096, 8192]
    assert all(p.num_censored == 0 and len(p.epochs) >= 20 for p in points)
    assert len(points[1].epochs) >= 60
    for name in ("ml-1m", "ml-1m-paper"):
        (found,) = load_reference_points(load_track(name))
        assert found.batch_size == load_track(name).hyperparameters.batch_size
    assert [p.batch_size for p in load_reference_points(load_track("ml-20m"))] == [98304, 1048576]
    assert load_reference_points(load_track("ml-20m-synthetic")) == []


def test_other_seeds_of_the_same_settings_are_one_point(tmp_path):
    track = load_track("ml-100k")
    source = json.loads((OUTPUT_FILE.parent / "ml-100k.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**source, "runs": source["runs"][:20]}))
    (tmp_path / "b.json").write_text(json.dumps({**source, "runs": source["runs"][20:25]}))
    (found,) = load_reference_points(track, tmp_path)
    assert len(found.epochs) == 25 and found.source == "a.json, b.json"
    other = {**source, "settings": {**source["settings"], "mf_dim": 4}}
    (tmp_path / "c.json").write_text(json.dumps(other))
    assert len(load_reference_points(track, tmp_path)) == 1
    (tmp_path / "d.json").write_text("{}")
    with pytest.raises(NoReferencePoint, match="d.json"):
        load_reference_points(track, tmp_path)


def test_the_points_of_ml_20m_are_those_of_the_real_logs(shared_dir):
    logs = shared_dir / "logs_v05"
    if not logs.is_dir():
        pytest.skip("the shared folder has no v0.5 logs")
    assert format_points(read_public_logs(logs)) == OUTPUT_FILE.read_text()
    gold = json.loads((logs / "gold.json").read_text())["submissions"]
    for name, figures in POINTS.items():
        files = gold[name]["files"]
        assert figures["epochs"] == [
            files[f"result_{i}.txt"]["epochs"] if files[f"result_{i}.txt"]["converged"] else None
            for i in range(100)]


# -- on logs ------------------------------------------------------------------


def verdict(folder):
    (found,) = check_folder_convergence(folder).sets
    return found


def test_a_set_like_the_reference_passes_and_a_fast_one_does_not(tmp_path):
    normal = verdict(write_set(tmp_path / "like", [7, 9, 8, 10, 8]))
    assert (normal.verdict, normal.batch_size, normal.track) == (WITHIN_REFERENCE, 4096, "ml-100k")
    fast = verdict(write_set(tmp_path / "fast", [2, 3, 2, 3, 4]))
    assert fast.verdict == TOO_FAST and fast.test.p_value <= 0.05
    assert fast.test.mean_epochs < fast.test.rcp_min_mean_epochs  # the official formula agrees here


@pytest.mark.parametrize("settings, words", [
    ({"values": {"global_batch_size": 16384}}, "outside the reference points"),
    ({"track_name": "ml-20m-synthetic", "division": "open"}, "no target"),
    ({"division": "open"}, "closed division"),
    ({"values": {"eval_target": 0.1}}, "differs from the track's"),
    ({"values": {"global_batch_size": "many"}}, "do not contain the batch size")])
def test_without_a_reference_the_reason_is_given(tmp_path, settings, words):
    found = verdict(write_set(tmp_path, [3, 3, 3], **settings))
    assert found.verdict == NO_REFERENCE and words in found.reason


def test_a_set_of_two_is_too_few_and_interrupted_attempts_do_not_count(tmp_path):
    write_set(tmp_path, [8, 8, 8], missed={2}, reason="killed")
    write_set(tmp_path, [8, 8])
    found = verdict(tmp_path)
    assert found.verdict == TOO_FEW_RUNS and found.num_interrupted == 1 and "2 of at least 3" in found.reason
    (tmp_path / "result_0.txt").unlink()
    (tmp_path / "result_1.txt").unlink()
    assert verdict(tmp_path).verdict == TOO_FEW_RUNS


def run(capsys, *args):
    code = main([str(a) for a in args])
    return code, capsys.readouterr().out


def test_exit_codes_and_formats(tmp_path, capsys):
    normal = write_set(tmp_path / "like", [7, 9, 8, 10, 8])
    fast = write_set(tmp_path / "fast", [2, 3, 2, 3, 4])
    code, out = run(capsys, "convergence", normal)
    assert code == 0 and "within the reference: mean 8.33 epochs" in out
    code, out = run(capsys, "convergence", fast, "--format", "json")
    (found,) = json.loads(out)["sets"]
    assert code == 2 and found["verdict"] == TOO_FAST and found["p_value"] <= 0.05
    assert found["reference"]["runs"] >= 60 and len(found["per_run"]) == 5
    for output_format in ("csv", "markdown"):
        code, out = run(capsys, "convergence", tmp_path, "--format", output_format)
        assert code == 2 and TOO_FAST in out and WITHIN_REFERENCE in out
    assert out == run(capsys, "convergence", tmp_path, "--format", "markdown")[1]
    write_log(normal / "result_9.txt", bad_log("no run_stop")[0])
    assert run(capsys, "convergence", normal)[0] == 3


def test_no_reference_is_an_answer(tmp_path, capsys):
    folder = write_set(tmp_path, [3, 3, 3], values={"global_batch_size": 16384})
    code, out = run(capsys, "convergence", folder)
    assert code == 0 and "no reference: batch size 16,384" in out


def test_the_real_submissions(shared_dir):
    logs = shared_dir / "logs_v05"
    if not logs.is_dir():
        pytest.skip("the shared folder has no v0.5 logs")
    found = {s.path.rpartition("/")[2]: s for s in check_folder_convergence(logs).sets}
    assert found["nvidia_dgx1"].verdict == WITHIN_REFERENCE and not found["nvidia_dgx1"].notes
    assert "do not contain the batch size" in found["intel_skx8180"].reason
