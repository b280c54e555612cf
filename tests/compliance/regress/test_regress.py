"""`regress`: statistics and verdicts, compared with SciPy and with values computed by hand."""

from __future__ import annotations

import json
import math
import random

import pytest
from scipy import stats

from compliance.__main__ import main
from compliance.base.errors import UsageError
from compliance.base.statistics import holm_adjusted, mann_whitney, rank_test_tails
from compliance.regress.judge import compare_files, parse_threshold
from compliance.regress.notes import processes_needed, smallest_p_value
from compliance.base.rank_test_power import detectable_ratio
from tests.support.logs.recordings import MACHINE, around, document, write


@pytest.fixture
def judged(tmp_path):
    """Writes two recordings and compares them."""

    def compare(before, after, threshold=0.1, first=None, second=None):
        write(tmp_path / "a.json", document(before, **(first or {})))
        write(tmp_path / "b.json", document(after, **(second or {})))
        return compare_files(str(tmp_path / "a.json"), str(tmp_path / "b.json"), threshold)

    return compare


def status(answer) -> dict[str, str]:
    return {row.name.split("::")[1]: row.status for row in answer.rows}


def rank_p_larger(first, second) -> float:
    """Returns the p-value of a larger `second`; checks the mirror image for a smaller one."""
    larger, smaller = rank_test_tails(first, second)
    assert rank_test_tails(second, first) == pytest.approx((smaller, larger))
    return larger


def row(answer, name):
    return next(r for r in answer.rows + answer.calibration if r.name.endswith(f"::{name}"))


class TestStatistics:
    def test_p_values_by_hand(self):
        """Of C(10, 5) = 252 arrangements, one has all of the second above all of the first.

        After one swap across the border, two arrangements are at least as extreme.
        """
        assert rank_p_larger([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(1 / 252)
        assert rank_p_larger([1, 2, 3, 4, 6], [5, 7, 8, 9, 10]) == pytest.approx(2 / 252)
        assert rank_p_larger([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]) == 1
        assert rank_p_larger([2, 2], [2, 2]) == 1 and rank_test_tails([], [1.0]) == (1, 1)

    def test_p_values_with_ties_by_hand(self):
        """[1, 2] against [2, 3]: midranks 1, 2.5, 2.5, 4.

        Two of the six pairs of ranks, {1, 2.5} twice, have a sum of at most 3.5.
        """
        assert rank_p_larger([1, 2], [2, 3]) == pytest.approx(2 / 6)

    @pytest.mark.parametrize("n, m", [(5, 5), (5, 8), (8, 8), (20, 30)])
    def test_it_is_scipys_exact_test(self, n, m):
        draw = random.Random(n * m)
        for shift in (-1, 0, 0.7, 3):
            a, b = [draw.gauss(0, 1) for _ in range(n)], [draw.gauss(shift, 1) for _ in range(m)]
            found = stats.mannwhitneyu(b, a, alternative="greater", method="exact")
            assert rank_p_larger(a, b) == pytest.approx(found.pvalue, rel=1e-9)

    def test_with_ties_it_is_the_permutation_test(self):
        a, b = [1, 2, 2, 3, 7], [2, 3, 3, 4, 9]
        ranks = stats.rankdata([*a, *b])
        found = stats.permutation_test(
            (ranks[5:], ranks[:5]), lambda x, y: x.sum(), vectorized=False,
            n_resamples=math.inf, alternative="greater")  # fmt: skip
        assert rank_p_larger(a, b) == pytest.approx(found.pvalue, rel=1e-9)

    def test_beyond_exact_ranks_it_is_scipys_normal_approximation(self):
        draw = random.Random(5)
        a, b = ([draw.randrange(k) for _ in range(50)] for k in (8, 10))
        found = stats.mannwhitneyu(b, a, alternative="greater", method="asymptotic")
        assert rank_p_larger(a, b) == pytest.approx(found.pvalue, rel=1e-9)
        two_sided = stats.mannwhitneyu(a, b, method="asymptotic").pvalue
        assert mann_whitney(a, b) == pytest.approx(two_sided, rel=1e-9)

    def test_holm_by_hand(self):
        assert holm_adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm_adjusted([0.5, 0.9]) == [1, 1] and holm_adjusted([]) == []

    def test_power_by_hand(self):
        """C(10, 5) = 252 >= 20 x 12; C(12, 6) = 924 >= 20 x 46; C(14, 7) = 3432."""
        assert smallest_p_value(5, 5) == pytest.approx(1 / 252)
        needed = [processes_needed(n) for n in (1, 12, 13, 20, 46, 47, 171, 172)]
        assert needed == [5, 5, 6, 6, 6, 7, 7, 8]


class TestStatuses:
    def test_significant_and_above_the_threshold_is_a_regression(self, judged):
        answer = judged({"a": around(1.0), "b": around(2.0)}, {"a": around(1.2), "b": around(2.0)})
        assert status(answer) == {"a": "regression", "b": "same"} and answer.verdict == "fail"
        assert row(answer, "a").p_value == pytest.approx(2 / 252)  # Holm: the smallest of two
        assert row(answer, "a").ratio == pytest.approx(1.2)

    def test_the_threshold_is_to_be_exceeded(self, judged):
        before, after = {"a": around(1.0)}, {"a": around(1.25)}
        found = {t: status(judged(before, after, t))["a"] for t in (0.2, 0.25, 0.3)}
        assert found == {0.2: "regression", 0.25: "same", 0.3: "same"}

    def test_large_but_not_significant_is_no_regression_and_is_said(self, judged, tmp_path, capsys):
        """Two of five swapped across the border: U = 4, p = 12 / 252 = 0.048, doubled 0.095.

        Such a spread hides a slowdown of 10%, so the status is unresolved.
        """
        answer = judged({"a": [1, 1, 1, 2.1, 2.2], "b": around(1)},
                        {"a": [1.1, 1.2, 2.5, 2.6, 2.7], "b": around(1)})  # fmt: skip
        assert status(answer)["a"] == "unresolved" and answer.verdict == "unresolved"
        assert row(answer, "a").p_value > 0.05 and row(answer, "a").detectable > 1.1
        assert main(["regress", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 1
        assert "1 that may hide a slowdown above the threshold" in \
            " ".join(capsys.readouterr().out.split())

    def test_a_ratio_above_the_threshold_that_would_have_been_found_but_is_not_significant(self, judged):
        """Most processes are equal; only the middle process differs, and so do the medians."""
        before, after = [1] * 8 + [1.2] * 7, [1] * 7 + [1.2] * 8
        answer = judged({"a": before}, {"a": after}, threshold=0.15)
        assert row(answer, "a").detectable < 1.15 < row(answer, "a").ratio
        assert status(answer)["a"] == "not significant" and answer.verdict == "pass"

    def test_a_faster_benchmark_is_an_improvement(self, judged):
        answer = judged({"a": around(1.0)}, {"a": around(0.5)})
        assert status(answer) == {"a": "improvement"} and answer.verdict == "pass"
        assert row(answer, "a").p_value == pytest.approx(1 / 252)

    def test_calibration_cancels_a_slower_clock(self, judged):
        """All times, including the calibration, are 1.5 times as long: no regression."""
        before = {"calibration": around(0.5), "a": around(1.0), "b": around(3.0)}
        after = {name: [1.5 * t for t in times] for name, times in before.items()}
        answer = judged(before, after)
        assert set(status(answer).values()) == {"same"} and answer.verdict == "pass"
        assert row(answer, "a").ratio == pytest.approx(1) and row(answer, "a").raw_ratio == 1.5
        assert any("takes 1.50 times" in note for note in answer.notes)
        assert row(answer, "calibration").p_value is None and "calibration" not in status(answer)

    def test_each_process_is_divided_by_its_own_calibration(self, judged):
        """Three processes ran at half speed; by hand 2/2, 1/1: all are equal."""
        slow = [1, 2, 1, 2, 2]
        answer = judged({"calibration": [1] * 5, "a": [1.0, 1.01, 1.02, 1.03, 1.04]},
                        {"calibration": slow, "a": [s * t for s, t in zip(slow, around(1.02))]})  # fmt: skip
        assert row(answer, "a").raw_ratio > 1.9
        assert row(answer, "a").ratio == pytest.approx(1.02 * 1.004 / 1.02)

    def test_several_calibrations_count_by_their_geometric_mean(self, judged):
        """Slower by factors of 2 and 8: slower by a factor of 4."""
        info = {"calibrate": {"calibration": True}}
        answer = judged({"calibration[x]": [1] * 5, "calibrate": [1] * 5, "a": [1] * 5},
                        {"calibration[x]": [2] * 5, "calibrate": [8] * 5, "a": around(4)},
                        first=info, second=info)  # fmt: skip
        assert row(answer, "a").ratio == pytest.approx(1.004) and len(answer.calibration) == 2

    def test_a_calibration_that_a_process_lacks_is_not_used(self, judged):
        answer = judged({"calibration": [1] * 4, "a": around(1)}, {"calibration": [2] * 5, "a": around(1)})
        assert row(answer, "a").ratio == 1 and "raw times" in answer.notes[0]

    def test_real_slowness_shows_through_calibration(self, judged):
        answer = judged({"calibration": around(1), "a": around(1)},
                        {"calibration": around(2), "a": around(2.6)})  # fmt: skip
        assert status(answer) == {"a": "regression"}
        assert row(answer, "a").ratio == pytest.approx(1.3)

    def test_vanished_renamed_and_new_benchmarks_have_their_status(self, judged):
        answer = judged({"a": around(1), "train[small]": around(1), "gone": around(1)},
                        {"a": around(1), "train[smaller]": around(1)})  # fmt: skip
        assert status(answer) == {"a": "same", "train[small]": "vanished", "gone": "vanished",
                                  "train[smaller]": "new"}  # fmt: skip
        assert answer.verdict == "fail"
        assert "train[smaller]" in row(answer, "train[small]").note

    def test_a_vanished_calibration_is_vanished_too(self, judged):
        answer = judged({"a": around(1), "calibration": around(1)}, {"a": around(1)})
        assert status(answer)["calibration"] == "vanished" and answer.verdict == "fail"

    def test_another_input_is_reported_and_not_compared(self, judged):
        answer = judged({"a": around(1), "b": around(1)}, {"a": around(9), "b": around(1)},
                        first={"a": {"input": "one"}}, second={"a": {"input": "two"}})  # fmt: skip
        assert status(answer) == {"a": "other input", "b": "same"} and answer.verdict == "pass"
        assert row(answer, "a").note == "input one, now two" and row(answer, "a").p_value is None

    def test_nothing_left_to_compare_is_no_pass(self, judged):
        answer = judged({"a": around(1)}, {"a": around(9)},
                        first={"a": {"input": 1}}, second={"a": {"input": 2}})  # fmt: skip
        assert answer.verdict == "unresolved"


class TestPower:
    def many(self, factor, count=20, processes=5):
        before = {f"b{i}": around(1 + i, processes) for i in range(count)}
        return before, {**before, "b3": around(4 * factor, processes)}

    def test_without_power_a_large_ratio_is_unresolved(self, judged, tmp_path, capsys):
        answer = judged(*self.many(1.5))
        assert status(answer)["b3"] == "unresolved" and answer.verdict == "unresolved"
        assert main(["regress", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 1
        out = " ".join(capsys.readouterr().out.split())
        assert "with 5 and 5 processes and 20 benchmarks no slowdown can be significant" in out
        assert "use at least 6 on each side" in out and "UNRESOLVED: 20 that may hide a slowdown" in out

    def test_with_as_many_as_it_asks_for_it_is_a_regression(self, judged):
        assert status(judged(*self.many(1.5, processes=6)))["b3"] == "regression"

    def test_without_power_nothing_large_is_no_pass_either(self, judged):
        answer = judged(*self.many(1.05))
        assert answer.verdict == "unresolved" and "no slowdown can be significant" in answer.notes[0]

    @pytest.mark.parametrize("spread, verdict", [(0.02, "pass"), (0.6, "unresolved")])
    def test_a_recording_that_is_too_noisy_to_show_the_threshold_is_no_pass(
            self, judged, spread, verdict):
        answer = judged({"a": around(1, 8, spread)}, {"a": around(1, 8, spread)})
        assert answer.verdict == verdict
        assert (row(answer, "a").detectable > 1.1) == (verdict == "unresolved")

    @pytest.mark.parametrize("processes, num_benchmarks", [(5, 1), (8, 10), (8, 40), (12, 40)])
    def test_the_slowdown_that_is_stated_is_found_in_8_of_10_cases(self, processes, num_benchmarks):
        """Simulates lognormal times with a known spread, judged by the exact test itself."""
        draw, spread, level = random.Random(processes), 0.1, 0.05 / num_benchmarks
        sample = sorted(draw.gauss(0, 1) for _ in range(processes))
        mean = sum(sample) / processes
        sd = math.sqrt(sum((x - mean) ** 2 for x in sample) / (processes - 1))
        times = [math.exp(spread * (x - mean) / sd) for x in sample]
        ratio, found = detectable_ratio(times, times, level), 0
        for _ in range(1000):
            a, b = ([math.exp(draw.gauss(0, spread)) for _ in range(processes)] for _ in range(2))
            found += rank_test_tails(a, [x * ratio for x in b])[0] <= level
        assert found / 1000 == pytest.approx(0.8, abs=0.05)

    def test_no_slowdown_is_found_where_none_can_be_significant(self):
        assert detectable_ratio([1, 1.1, 1.2], [1, 1.1, 1.2], 0.01) == math.inf

    def test_below_five_processes_nothing_is_judged(self, judged):
        with pytest.raises(UsageError, match="a.json has 4, .*b.json has 5; each side needs at least 5"):
            judged({"a": around(1, 4)}, {"a": around(9)})

    def test_a_vanished_benchmark_needs_no_processes(self, judged):
        answer = judged({"a": [1], "b": [1]}, {"a": [9]})
        assert status(answer) == {"b": "vanished", "a": "too few"} and answer.verdict == "fail"

    def test_one_benchmark_with_too_few_is_no_pass(self, judged):
        answer = judged({"a": around(1), "b": around(1)}, {"a": around(1), "b": around(1, 3)})
        assert status(answer) == {"a": "same", "b": "too few"} and answer.verdict == "unresolved"

    def test_equal_recordings_raise_an_alarm_at_most_once_in_twenty(self, judged):
        """250 comparisons of 6 equal benchmarks with noise far above the threshold."""
        draw, alarms = random.Random(3), 0
        for _ in range(250):
            recordings = [{f"b{i}": [draw.lognormvariate(0, 0.5) for _ in range(6)] for i in range(6)}
                          for _ in range(2)]  # fmt: skip
            alarms += judged(*recordings, threshold=0).verdict == "fail"
        assert alarms / 250 <= 0.05 + 3 * (0.05 * 0.95 / 250) ** 0.5


class TestMachines:
    @pytest.mark.parametrize("change, words", [
        ({"cpu": {**MACHINE["cpu"], "brand_raw": "Other"}}, "cpu: Some CPU, now Other"),
        ({"cpu": {**MACHINE["cpu"], "count": 8}}, "cores: 2, now 8"),
        ({"machine": "aarch64"}, "architecture: x86_64, now aarch64"),
        ({"python_version": "3.12.1"}, "python: CPython 3.11, now CPython 3.12"),
        ({"cpu": {}}, "cpu: Some CPU, now unknown")])  # fmt: skip
    def test_another_machine_exits_1_and_is_named(self, judged, tmp_path, capsys, change, words):
        times = {"a": around(1), "b": around(1)}
        other = {**MACHINE, **change}
        with pytest.raises(UsageError, match=words):
            judged(times, {"a": around(9)}, second={"machine": other})
        assert main(["regress", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 1
        done = capsys.readouterr()
        assert done.out == "" and len(done.err.splitlines()) == 1 and words in done.err

    def test_another_model_of_one_name_is_another_machine(self, judged):
        """Both processor generations of a cloud have the same name."""
        def made(**cpu):
            return {"machine": {**MACHINE, "cpu": {**MACHINE["cpu"], **cpu}}}

        times, old = {"a": around(1)}, made(family=25, model=17)
        with pytest.raises(UsageError, match="model: family 25, model 17, now family 26, model 2"):
            judged(times, times, first=old, second=made(family=26, model=2))
        assert status(judged(times, times, first=old, second=old)) == {"a": "same"}
        # A recording without this information is accepted.
        assert status(judged(times, times, first=old)) == {"a": "same"}

    def test_other_environments_are_notes(self, judged):
        other = {**MACHINE, "node": "elsewhere", "python_version": "3.11.9",
                 "packages": {"numpy": "2"}}  # fmt: skip
        answer = judged({"a": around(1)}, {"a": around(1)}, second={"machine": other})
        text = "\n".join(answer.notes)
        for words in ("python: 3.11.7, now 3.11.9", "host: host, now elsewhere", "numpy: unknown, now 2"):
            assert words in text


@pytest.mark.parametrize("text, share", [
    ("10%", 0.1), ("0.1", 0.1), (" 5 % ", 0.05), (".25", 0.25), ("0", 0.0), ("150%", 1.5)])  # fmt: skip
def test_thresholds(text, share):
    assert parse_threshold(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "ten", "10", "-5%", "nan", "inf%", "1e-1", "10%%", "٣%", "9" * 99])
def test_wrong_thresholds_exit_1_with_one_line(text, capsys):
    assert main(["regress", "a", "b", f"--threshold={text}"]) == 1
    assert "--threshold" in capsys.readouterr().err


class TestNotes:
    def test_only_the_mark_makes_a_calibration_never_a_name(self, judged, shared_dir, capsys):
        plain = {"test_calibration_curve": around(1), "a": around(1)}
        answer = judged(plain, {"test_calibration_curve": around(1.5), "a": around(1.5)})
        assert set(status(answer).values()) == {"regression"} and not answer.calibration
        assert any("raw times are compared" in note for note in answer.notes)
        folder = shared_dir / "cases" / "regress" / "regress_calibration_name"
        assert main(["regress", str(folder / "a"), str(folder / "b")]) == 2
        assert "PASS" not in capsys.readouterr().out

    def test_another_number_of_iterations_is_told(self, tmp_path):
        for name, iterations in (("a.json", 1), ("b.json", 10)):
            content = document({"a": around(1), "b": around(1)})
            for e in content["benchmarks"]:
                e["stats"]["iterations"] = iterations if e["name"] == "b" else 3
            write(tmp_path / name, content)
        answer = compare_files(str(tmp_path / "a.json"), str(tmp_path / "b.json"), 0.1)
        assert any(note.startswith("test_x.py::b ran 1 iterations per round, now 10")
                   for note in answer.notes)

    def test_a_baseline_of_another_day_is_told(self, tmp_path):
        for name, day in (("a.json", "2026-11-21"), ("b.json", "2026-11-30")):
            write(tmp_path / name, {**document({"a": around(1)}), "datetime": f"{day}T10:00:00"})
        answer = compare_files(str(tmp_path / "a.json"), str(tmp_path / "b.json"), 0.1)
        assert any("recorded on 2026-11-21, the new recording on 2026-11-30" in note
                   and "--against REV" in note for note in answer.notes)
        same = compare_files(str(tmp_path / "a.json"), str(tmp_path / "a.json"), 0.1)
        assert not any("recorded on" in note for note in same.notes)


class TestOutput:
    def files(self, tmp_path):
        write(tmp_path / "a.json", document({"calibration": around(1), "a|b*": around(1), "c": around(2)}))
        write(tmp_path / "b.json", document({"calibration": around(1), "a|b*": around(3), "c": around(2)}))
        return [str(tmp_path / "a.json"), str(tmp_path / "b.json")]

    def test_json_has_the_whole_answer(self, tmp_path, capsys):
        assert main(["regress", *self.files(tmp_path), "--format", "json"]) == 2
        data = json.loads(capsys.readouterr().out)
        assert data["schema_version"] == 1 and data["verdict"] == "fail" and data["compared"] == 2
        assert data["baseline"]["processes"] == 5 and data["counts"]["regression"] == 1
        assert data["benchmarks"][0] == {
            "name": "tests/benchmarks/test_x.py::a|b*", "status": "regression",
            "baseline_s": pytest.approx(1.004), "new_s": pytest.approx(3.012),
            "ratio": pytest.approx(3), "raw_ratio": pytest.approx(3),
            "p_holm": pytest.approx(2 / 252), "processes": [5, 5],
            "detectable_ratio": pytest.approx(1, abs=0.05), "note": ""}  # fmt: skip
        assert [r["name"].split("::")[1] for r in data["calibration"]] == ["calibration"]

    def test_table_markdown_and_csv(self, tmp_path, capsys):
        files = self.files(tmp_path)
        assert main(["regress", *files]) == 2
        table = capsys.readouterr().out
        assert table.splitlines()[2].split() == [
            "test_x.py::a|b*", "1.004", "s", "3.012", "s", "3.000", "3.000", "0.0079", "0%", "regression"]  # fmt: skip
        assert "FAIL: 1 slower, 2 benchmarks compared, 5 and 5 processes, threshold 10%" in table
        assert main(["regress", *files, "--format", "markdown"]) == 2
        text = capsys.readouterr().out
        assert "| `test_x.py::a\\|b*` |" in text and text.startswith("## FAIL: 1 slower, 2 bench")
        assert main(["regress", *files, "--format", "csv"]) == 2
        first = capsys.readouterr().out.splitlines()[1]
        assert first.startswith("tests/benchmarks/test_x.py::a|b*,regression,1.004,3.012,3.0,3.0,")

    @pytest.mark.parametrize("output_format", ["table", "markdown", "csv", "json"])
    def test_names_cannot_play_with_the_terminal_and_output_is_bounded(self, tmp_path, capsys, output_format):
        bad = {f"\x1b[2J\n{'x' * 900}{i}\u202e": around(1) for i in range(300)}
        for name in ("a.json", "b.json"):
            write(tmp_path / name, document(bad))
        assert main(["regress", *self.paths(tmp_path), "--format", output_format]) == 1
        out = capsys.readouterr().out
        assert "\x1b" not in out and len(out) < 2_000_000
        assert output_format == "json" or "\u202e" not in out
        if output_format in ("table", "markdown"):
            assert "100 more benchmarks" in " ".join(out.split()) and len(out) < 100_000

    def paths(self, tmp_path):
        return [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
