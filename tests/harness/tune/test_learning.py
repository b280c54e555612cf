"""What a tuner learns: curves, models, objective, stopping, the race."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics

import numpy as np
import pytest

from compliance.rcp.calibration import REFERENCE_POINTS_DIR, epochs_to_target
from compliance.tracks import load_track
from compliance.tracks.track import OLYMPIC_MEAN, V05_FIRST_50
from harness.config.run_config import make_config
from harness.tune.learning import race
from harness.tune.learning.models import EpochsModel, SecondsModel, mean_above, observed_epochs
from harness.tune.learning.objective import (
    PRIOR_SPREAD,
    expected_score,
    make_standing,
    objective,
    pooled_spread,
)
from harness.tune.learning.proposals import (
    best_prediction,
    distributions,
    first_settings,
    next_settings,
    sampler_values,
)
from harness.tune.learning.record import (
    CONVERGED,
    MISSED,
    NAN_LOSS,
    STOPPED,
    TrialRecord,
    crossing,
)
from harness.tune.learning.settings import DIMENSIONS, Settings, make_space
from harness.tune.learning.stopping import MARGIN, fewest_remaining, is_hopeless

TARGET = 0.197
START = Settings(4096, 0.004, 0.9, 0.99, 1e-8, "adam", "float32", None)


def settings(**changes) -> Settings:
    return Settings(**{**{n: getattr(START, n) for n in DIMENSIONS}, **changes})


def trial(epochs=5, seconds=1.0, phase="search", outcome=CONVERGED, seed=1, projected=None,
          load=0.5, **changes) -> TrialRecord:
    """A trial whose curve rises evenly and crosses the target in its last epoch."""
    top = TARGET * 1.0001 if outcome == CONVERGED else TARGET * 0.5
    curve = tuple(top * (k + 1) / epochs for k in range(epochs))
    times = (seconds,) * epochs if seconds else ()
    return TrialRecord(settings(**changes), seed, phase, outcome, curve, times,
                       load if seconds else None, projected)


class TestCrossing:
    @pytest.mark.parametrize("curve, found", [
        ([0.1, 0.2, 0.3], 1.97),
        ([0.394], 0.5),  # an untrained model has 0
        ([0.1, 0.197], 2.0),
        ([0.2, 0.1, 0.3], 0.985),  # the first crossing counts
    ])
    def test_lies_between_two_epochs(self, curve, found):
        assert crossing(curve, TARGET) == pytest.approx(found)
        assert math.ceil(crossing(curve, TARGET)) == epochs_to_target(tuple(curve), TARGET)

    def test_is_none_below_the_target(self):
        assert crossing([0.1, 0.19], TARGET) is None


class TestSpace:
    def space(self, **flags):
        config = make_config({"track": "ml-100k", "device": "cpu", **flags})
        return make_space(config, flags, 495_285)

    def test_searches_what_the_closed_division_frees(self):
        free = set(self.space().free) - {"intra_op_threads"}  # none on a machine with one CPU
        assert free == {"batch_size", "learning_rate", "beta1", "beta2", "epsilon", "optimizer",
                        "precision"}

    def test_a_flag_fixes_its_dimension(self):
        space = self.space(batch_size=5000, beta1=0.9, precision="bfloat16", intra_op_threads=1)
        assert not {"batch_size", "beta1", "precision", "intra_op_threads"} & set(space.free)
        for one in first_settings(space):
            assert (one.batch_size, one.beta1, one.precision) == (5000, 0.9, "bfloat16")

    def test_the_reference_engine_has_one_precision(self):
        assert "precision" not in self.space(engine="reference").free

    def test_begins_with_the_start_settings(self):
        space = self.space()
        assert first_settings(space)[0] == space.start
        hyper = load_track("ml-100k").hyperparameters
        assert space.start.learning_rate == hyper.learning_rate
        assert space.start.beta2 == hyper.beta2 and space.start.epsilon == hyper.epsilon

    def test_clipped_settings_stay_as_they_are(self):
        space = self.space()
        for one in first_settings(space):
            assert space.clip(one) == one
        for edge in ({"beta1": 0.1, "beta2": 0.9999}, {"beta1": 0.95, "beta2": 0.5}):
            one = dataclasses.replace(space.start, **edge)
            assert space.clip(one) == one
            allowed, values = distributions(space), sampler_values(one)
            assert all(allowed[name]._contains(values[name]) for name in ("beta1", "beta2"))

    def test_no_batch_is_larger_than_an_epoch(self):
        config = make_config({"track": "ml-100k"})
        assert max(make_space(config, {}, 9000).choices["batch_size"]) <= 9000


class TestSeconds:
    def test_are_the_lower_quartile_without_the_first_epoch(self):
        record = TrialRecord(START, 1, "search", CONVERGED, (0.1, 0.2, 0.2, 0.2),
                             (9.0, 1.0, 1.2, 5.0), 0.5)
        model = SecondsModel([record])
        assert model.seconds_per_epoch(START) == 1.1
        assert model.fixed_seconds == pytest.approx(0.5 + 9.0 - 1.2)

    def test_are_learned_from_few_trials(self):
        """Batch, precision and optimizer act as factors: one trial of each predicts all others."""
        def true(s):
            factor = {"float32": 1, "bfloat16": 1.4}[s.precision] * {"adam": 1, "lazy_adam": 1.2}[
                s.optimizer]
            return factor * (0.2 + 1000 / s.batch_size)

        tried = [START, settings(batch_size=2048), settings(batch_size=16384),
                 settings(precision="bfloat16"), settings(optimizer="lazy_adam")]
        model = SecondsModel([
            TrialRecord(s, 1, "search", CONVERGED, (0.1, 0.2), (true(s),) * 2, 0.1) for s in tried])
        for one in (settings(batch_size=8192), settings(batch_size=2048, precision="bfloat16"),
                    settings(batch_size=16384, precision="bfloat16", optimizer="lazy_adam")):
            assert not model.is_timed(one)
            assert model.seconds_per_epoch(one) == pytest.approx(true(one), rel=0.15)

    def test_of_untimed_trials_are_not_used(self):
        model = SecondsModel([trial(seconds=0)])
        assert not model.is_known and model.seconds_per_epoch(START) == 1.0

    def test_choose_the_threads_with_a_clear_advantage(self):
        half = settings(intra_op_threads=1)
        slower = [trial(seconds=1.0), trial(seconds=0.98, phase="probe", intra_op_threads=1)]
        faster = [trial(seconds=1.0), trial(seconds=0.7, phase="probe", intra_op_threads=1)]
        assert SecondsModel(slower).fastest_threads(START) == START
        assert SecondsModel(faster).fastest_threads(START) == half


class TestEpochs:
    def test_a_stopped_trial_is_only_a_lower_bound(self):
        """Many trials that stopped after 3 epochs must not make the region look like 3 epochs."""
        rates = np.geomspace(0.004, 0.03, 12)
        slow = [trial(6, learning_rate=float(r), seed=i) for i, r in enumerate(rates[::2])]
        stopped = [trial(2, outcome=STOPPED, projected=3.0, learning_rate=float(r), seed=20 + i)
                   for i, r in enumerate(rates[1::2])]
        mean, _ = EpochsModel([*slow, *stopped], TARGET).predict([r.settings for r in stopped])
        assert np.exp(mean).min() > 5

    def test_mean_above_is_that_of_a_truncated_normal(self):
        draws = np.random.default_rng(1).normal(1.0, 0.5, 400_000)
        for bound in (0.0, 1.0, 1.5):
            (found,) = mean_above(np.array([bound]), np.array([1.0]), np.array([0.5]))
            assert found == pytest.approx(draws[draws > bound].mean(), abs=0.01)
        (far,) = mean_above(np.array([20.0]), np.array([1.0]), np.array([0.5]))
        assert 20 <= far < 20.1

    def test_interpolate_between_learning_rates(self):
        known = [trial(n, learning_rate=r) for r, n in ((0.004, 8), (0.006, 6), (0.011, 4))]
        mean, _ = EpochsModel(known, TARGET).predict([settings(learning_rate=0.008)])
        assert 4 < math.exp(mean[0]) < 6.5

    def test_a_run_without_success_counts_as_slow(self):
        assert observed_epochs(trial(10, outcome=MISSED), TARGET) == 50
        assert observed_epochs(trial(30, outcome=MISSED), TARGET) == 60
        lost = dataclasses.replace(trial(outcome=NAN_LOSS), hit_rates=())  # in the first epoch
        assert observed_epochs(lost, TARGET) == 50

    def test_one_lucky_run_is_not_the_best(self):
        """Its neighbours show that its 2 epochs were luck."""
        runs = [trial(5, learning_rate=r, seed=i)
                for i, r in enumerate((0.0099, 0.01, 0.0101, 0.0102, 0.0103, 0.0104))]
        lucky = trial(2, learning_rate=0.01005, seed=9)
        _, seconds, _ = best_prediction([*runs, lucky], TARGET)
        assert seconds > lucky.load_seconds + 3


class TestObjective:
    def test_is_the_score_if_no_run_fails(self):
        seconds = (4.0, 5.0, 5.0, 5.0, 6.0) * 40
        score, share = expected_score(seconds, 0, OLYMPIC_MEAN, 5)
        assert score == pytest.approx(5.0, rel=0.02) and share > 0.99

    def test_agrees_with_the_scoring_rule(self):
        """Against sets that `compliance` scores, with a known chance of a failed run."""
        from compliance.results.scoring import TimedRun, olympic_mean

        generator, chance = np.random.default_rng(3), 0.2
        seconds = (4.0, 5.0, 7.0)
        scores = [olympic_mean([
            TimedRun("", float(generator.choice(seconds)), generator.random() > chance)
            for _ in range(5)], 5).seconds for _ in range(4000)]
        scored = [s for s in scores if s is not None]
        # So many runs that the chance is nearly known.
        found, share = expected_score(seconds * 4000, 3000, OLYMPIC_MEAN, 5)
        assert found == pytest.approx(statistics.fmean(scored), rel=0.02)
        assert share == pytest.approx(len(scored) / len(scores), abs=0.03)

    def test_grows_with_failed_runs(self):
        values = [objective([5.0] * (10 - failed), failed, OLYMPIC_MEAN, 5)
                  for failed in (0, 1, 2, 4)]
        assert values == sorted(values) and values[2] > 1.05 * values[0]

    def test_of_settings_that_never_converge_is_infinite(self):
        assert objective([], 3, OLYMPIC_MEAN, 5) == math.inf

    def test_half_of_the_runs_of_v05_may_fail(self):
        few = objective([5.0] * 7, 3, V05_FIRST_50, 100)
        assert few < 1.3 * objective([5.0] * 10, 0, V05_FIRST_50, 100)
        assert objective([5.0] * 3, 12, V05_FIRST_50, 100) > 5 * few

    def test_the_interval_covers_the_mean(self):
        """Settings with a spread of 12% and 5 runs: the 95% interval holds in 93% or more."""
        generator, covered, repeats = np.random.default_rng(5), 0, 300
        for _ in range(repeats):
            epochs = generator.normal(20, 20 * PRIOR_SPREAD, 5).round().astype(int).tolist()
            standing = make_standing(epochs, 0, 0.0, 1.0, 0.005, pooled_spread([epochs]),
                                     OLYMPIC_MEAN, 5)
            middle = standing.objective / (sum(epochs) / 5)  # the cost of possible failures
            covered += standing.low <= 20 * middle <= standing.high
        assert covered / repeats >= 0.93


def recorded(name: str) -> tuple[list[list[float]], float]:
    """The curves of a calibration and the track's target."""
    data = json.loads((REFERENCE_POINTS_DIR / name).read_text())
    return [run["hit_rate"] for run in data["runs"]], load_track(data["track"]).target


class TestStopping:
    @pytest.mark.parametrize("names", [
        ("ml-100k.json", "ml-100k-fresh.json"),
        ("ml-1m.json", "ml-1m-fresh.json"),
        ("ml-1m-paper.json", "ml-1m-paper-fresh.json"),
    ])
    def test_spares_every_recorded_run_of_equal_settings(self, names):
        """Curves of other seeds, among them slow starters, reach the target unless far behind."""
        known, target = recorded(names[0])
        known = [c[: epochs_to_target(tuple(c), target)] for c in known]
        limit = MARGIN * statistics.fmean(len(c) for c in known)
        for curve in recorded(names[1])[0]:
            needed = epochs_to_target(tuple(curve), target)
            if needed is None or needed > limit:
                continue
            for epoch in range(1, needed):
                assert not is_hopeless(curve[:epoch], known, target, limit), (curve, epoch)

    def test_a_slow_starter_that_catches_up_is_spared(self):
        """It is at the start of the known curves after three epochs, and as fast from there on."""
        known = [[0.10, 0.14, 0.18, 0.20]] * 3
        slow = [0.02, 0.05, 0.10, 0.14, 0.18, 0.20]
        assert not any(is_hopeless(slow[:e], known, TARGET, 6.0) for e in range(1, 6))
        assert is_hopeless(slow[:3], known, TARGET, 5.0)

    def test_a_flat_curve_is_stopped_early(self):
        known, target = recorded("ml-100k.json")
        known = [c[: epochs_to_target(tuple(c), target)] for c in known]
        limit = MARGIN * statistics.fmean(len(c) for c in known)
        flat = [0.06] * 25
        stopped = next(e for e in range(1, 26) if is_hopeless(flat[:e], known, target, limit))
        assert stopped <= limit - 2

    def test_without_evidence_only_the_epochs_used_count(self):
        assert fewest_remaining([[0.1, 0.2]], TARGET, 0.01) == 1
        assert not is_hopeless([0.01] * 5, [[0.1, 0.2]], TARGET, 6.5)
        assert is_hopeless([0.01] * 6, [[0.1, 0.2]], TARGET, 6.5)


class TestRace:
    track = load_track("ml-100k")

    def standings(self, **epochs_by_rate):
        racers = [settings(learning_rate=float(name[1:]) / 1000) for name in epochs_by_rate]
        records = [trial(e, phase="race", learning_rate=racer.learning_rate, seed=i)
                   for racer, epochs in zip(racers, epochs_by_rate.values())
                   for i, e in enumerate(epochs)]
        return race.standings(racers, records, self.track)

    def test_has_no_winner_without_enough_runs(self):
        assert race.winner(self.standings(r4=[8, 8, 8, 8], r11=[4, 4, 4, 4])) is None

    def test_the_winner_is_alone_if_the_others_are_shown_to_be_slower(self):
        found = self.standings(r4=[8, 9, 8, 8, 7], r11=[4, 5, 4, 4, 5])
        best = race.winner(found)
        assert best.settings.learning_rate == 0.011 and race.tied_with(best, found) == []
        assert race.next_racer(found) is None

    def test_settings_that_cannot_be_told_apart_are_tied(self):
        found = self.standings(r10=[4, 5, 4, 5, 4], r11=[4, 5, 4, 4, 5])
        best = race.winner(found)
        assert len(race.tied_with(best, found)) == 1
        assert race.next_racer(found) is not None  # more seeds may tell

    def test_settings_that_never_converge_leave_after_two_runs(self):
        racers = [START, settings(learning_rate=0.1)]
        records = [trial(5, phase="race", seed=1), trial(5, phase="race", seed=2),
                   trial(9, phase="race", outcome=MISSED, learning_rate=0.1, seed=3),
                   trial(9, phase="race", outcome=NAN_LOSS, learning_rate=0.1, seed=4)]
        found = race.standings(racers, records, self.track)
        assert [r.is_out for r in found] == [False, True]

    def test_runs_of_the_search_do_not_count(self):
        records = [trial(2, phase="search"), trial(6, phase="race", seed=2)]
        (racer,) = race.standings([START], records, self.track)
        assert racer.standing.epochs == (6,)


class TestProposals:
    def test_find_the_fast_region_of_a_known_function(self):
        """Epochs have a minimum at a learning rate of 0.02, seconds fall with the batch size."""
        config = make_config({"track": "ml-100k", "device": "cpu"})
        space = make_space(config, {}, 495_285)
        generator, records = np.random.default_rng(2), []
        for i in range(28):
            s = next_settings(space, records, TARGET, seed=i)
            octaves = abs(math.log2(s.learning_rate / 0.02))
            ideal = 4 * (1 + 0.4 * octaves) * (s.batch_size / 4096) ** 0.3
            epochs = max(1, round(ideal * (1 + 0.08 * generator.standard_normal())))
            seconds = 0.15 + 400 / s.batch_size
            changes = {n: getattr(s, n) for n in DIMENSIONS}
            records.append(trial(epochs, seconds, seed=i, **changes))
        best, _, _ = best_prediction(records, TARGET)
        assert 0.012 < best.learning_rate < 0.033
        assert len({r.settings for r in records}) == len(records)  # no settings twice
