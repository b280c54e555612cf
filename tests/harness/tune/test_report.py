"""The report of a tuning: verdict, table, flag file and page, for every kind of outcome."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from harness.config.run_config import make_config
from harness.flags import parse_flags
from harness.tune.confirmation import Confirmation
from harness.tune.learning import race
from harness.tune.learning.record import FAILED, MISSED, NAN_LOSS, STOPPED
from harness.tune.learning.settings import Settings, make_space
from harness.tune.report.text import Outcome, flag_file, report_json, summary_text, write_reports
from tests.harness.tune.test_learning import trial
from tests.support.html_reader import parse_page

CONFIG = make_config({"track": "ml-100k", "device": "cpu", "system": "sys"})
SPACE = make_space(CONFIG, {}, 495_285)
START = dataclasses.asdict(SPACE.start)


def one(epochs, **changes):
    settings = {**START, **{k: v for k, v in changes.items() if k in START}}
    others = {k: v for k, v in changes.items() if k not in START}
    return trial(epochs, **others, **settings)


SEARCH = [one(8, seed=1), one(4, seed=2, learning_rate=0.011),
          one(2, seed=3, batch_size=1024, outcome=STOPPED, projected=5.0),
          one(20, seed=4, learning_rate=0.0005, outcome=MISSED),
          dataclasses.replace(one(1, seed=5, learning_rate=0.1), hit_rates=(), outcome=NAN_LOSS),
          dataclasses.replace(one(1, seed=6, batch_size=512), hit_rates=(), outcome=FAILED)]
RACE = [one(e, phase="race", seed=10 + i, learning_rate=0.011)
        for i, e in enumerate((4, 5, 4, 4, 5))]
SLOW = [one(e, phase="race", seed=20 + i) for i, e in enumerate((8, 9, 8, 9, 8))]


def confirmation(folder: Path, verdict="faster", violations=0) -> Confirmation:
    folders = {name: folder / "confirmation" / f"20261201T000000Z-{name}"
               for name in ("start", "tuned")}
    return Confirmation(
        folders, verdict, f"{verdict}: B takes 0.55 times A's time", (0.55, 0.5, 0.6),
        {"start": 2.0, "tuned": 1.1}, {"start": (5, 5), "tuned": (5, 5)}, ("too fast", "p 0.001"),
        violations)


def outcome(folder: Path, records, confirmed=None, racers=()) -> Outcome:
    chosen = [Settings.of({**START, "learning_rate": r}) for r in racers]
    found = race.standings(chosen, records, CONFIG.track)
    return Outcome(CONFIG, SPACE, folder, {"device": "cpu"}, records, found, race.winner(found),
                   confirmed, 600.0, len(records), 120.0)


CASES = {
    "NO WINNER": ([*SEARCH, *RACE[:3]], None, (0.011,)),
    "NOT BETTER": ([*SEARCH, *SLOW], None, (0.004,)),
    "NOT CONFIRMED": ([*SEARCH, *RACE, *SLOW], None, (0.011, 0.004)),
    "CONFIRMED": ([*SEARCH, *RACE, *SLOW], "faster", (0.011, 0.004)),
}


@pytest.mark.parametrize("word", CASES)
def test_every_outcome_has_a_verdict(tmp_path, word):
    records, verdict, racers = CASES[word]
    found = outcome(tmp_path, records, confirmation(tmp_path, verdict) if verdict else None, racers)
    assert found.verdict.startswith(f"{word}: ")
    assert json.loads(json.dumps(report_json(found), allow_nan=False))["verdict"] == found.verdict


@pytest.mark.slow
@pytest.mark.parametrize("word", CASES)
def test_every_outcome_has_a_page_and_a_report(tmp_path, word):
    records, verdict, racers = CASES[word]
    found = outcome(tmp_path, records, confirmation(tmp_path, verdict) if verdict else None, racers)
    assert found.verdict.startswith(f"{word}: ")
    text = write_reports(found)
    assert text and json.loads((tmp_path / "report.json").read_text())["verdict"] == found.verdict
    page = parse_page((tmp_path / "report.html").read_text())
    assert word in page.text and len(page.find_id("all-trials").rows()) >= len(records)
    assert (tmp_path / "tuned.flags").exists() == (found.best is not None)


@pytest.mark.slow
@pytest.mark.parametrize("records", [SEARCH[:1], SEARCH[4:5], SEARCH[5:], SEARCH[3:4], SEARCH[2:4]],
                         ids=["one", "nan", "failed", "missed", "none reached"])
def test_a_page_of_few_trials_can_be_drawn(tmp_path, records):
    write_reports(outcome(tmp_path, records))
    assert "NO WINNER" in (tmp_path / "report.html").read_text()


def test_logs_that_break_rules_confirm_nothing(tmp_path):
    records, _, racers = CASES["CONFIRMED"]
    found = outcome(tmp_path, records, confirmation(tmp_path, violations=2), racers)
    assert found.verdict == "NOT CONFIRMED: 2 logs of the confirmation violate the rules"


def test_no_difference_is_not_a_confirmation(tmp_path):
    records, _, racers = CASES["CONFIRMED"]
    found = outcome(tmp_path, records, confirmation(tmp_path, "no difference shown"), racers)
    assert found.verdict.startswith("NOT CONFIRMED: no difference shown")


def test_the_table_says_what_is_best_tied_and_slower(tmp_path):
    records, _, racers = CASES["CONFIRMED"]
    text = summary_text(outcome(tmp_path, records, None, racers))
    rows = [line.split() for line in text.splitlines() if line.strip().startswith("4096")]
    assert [row[-1] for row in rows] == ["best", "slower"]
    assert all(len(line) <= 120 for line in text.splitlines()
               if not line.startswith(("best", "submit")))


def test_the_flag_file_repeats_the_settings_and_the_flags_of_the_set(tmp_path):
    records, _, racers = CASES["CONFIRMED"]
    (tmp_path / "tuned.flags").write_text(flag_file(outcome(tmp_path, records, None, racers)))
    flags = parse_flags([f"--flagfile={tmp_path / 'tuned.flags'}"])
    given = {name: value for name, value in flags.items() if value is not None}
    assert given == {"track": "ml-100k", "device": "cpu",
                     **{k: v for k, v in START.items() if v is not None}, "learning_rate": 0.011}
