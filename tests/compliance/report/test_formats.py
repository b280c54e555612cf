"""`--format csv` and `--format markdown` of every verb, read with pandas and GitHub's parser."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser

import cmarkgfm
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compliance.__main__ import main
from compliance.base.text import printable_line
from compliance.report import markdown
from compliance.report.tables import to_csv
from tests.support.logs.log_builder import bad_log, good_log, index_of, write_log
from tests.support.logs.run_sets import without_gaps, write_set
from tests.support.paths import DATA

RECORDED = DATA / "regress"
# Text in a log that attacks users who paste its report or open it in a spreadsheet.
NASTY = "=1+1|`x` <img src=x> **b** [l](http://evil.example) @octocat #12 www.evil.example\n\x1b[2J"
FLOAT, INT, BOOL, TEXT = "float", "int", "bool", "text"
# Columns and the types that pandas infers.
RUN = {"verdict": TEXT, "status": TEXT, "converged": BOOL, "time_to_train_seconds": FLOAT,
       "epochs": INT, "final_hit_rate": FLOAT, "best_hit_rate": FLOAT, "target_hit_rate": FLOAT,
       "seed": INT}  # fmt: skip
COLUMNS = {
    "check": {"log": TEXT, "ruleset": TEXT, **RUN, "severity": TEXT, "rule": TEXT, "line": INT,
              "message": TEXT, "fix": TEXT},
    "score": {"time_to_train_seconds": FLOAT, "converged": BOOL, "counted": BOOL,
              "score_rule": TEXT, "score_seconds": FLOAT, "median_seconds": FLOAT},
    "report": {"set": TEXT, "log": TEXT, "track": TEXT, "batch_size": INT, **RUN,
               "training_seconds": FLOAT, "hidden_sampling_seconds": FLOAT,
               "train_examples_per_second": FLOAT, "eval_pairs_per_second": FLOAT,
               "counted_in_score": BOOL, "violations": INT, "warnings": INT},
    "compare": {"set": TEXT, "path": TEXT, "runs": INT, "converged": INT,
                "mean_time_to_train_seconds": FLOAT, "seconds_per_epoch": FLOAT,
                "mean_training_seconds": FLOAT, "time_ratio": FLOAT, "p": FLOAT},
    "convergence": {"set": TEXT, "verdict": TEXT, "batch_size": INT, "runs": INT,
                    "mean_epochs": FLOAT, "reference_mean_epochs": FLOAT, "p": FLOAT},
    "rules": {"ruleset": TEXT, "rule": TEXT, "severity": TEXT, "fix": TEXT},
    "regress": {"benchmark": TEXT, "status": TEXT, "baseline_seconds": FLOAT, "ratio": FLOAT,
                "new_processes": INT, "verdict": TEXT},
}  # fmt: skip
IS = {FLOAT: pd.api.types.is_float_dtype, INT: pd.api.types.is_integer_dtype,
      BOOL: pd.api.types.is_bool_dtype, TEXT: pd.api.types.is_string_dtype}  # fmt: skip


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> dict[str, list[str]]:
    """Arguments of each verb; `check` gets a log that breaks a rule in one line."""
    root = tmp_path_factory.mktemp("sets")
    write_set(root / "a", [7, 8, 9, 7, 8])
    write_set(root / "b", [4, 5, 4, 5, 4])
    bad = write_log(root / "bad" / "result_0.txt", bad_log("top k")[0])
    return {
        "check": ["check", str(bad)], "score": ["score", str(root / "a")],
        "report": ["report", str(root / "a")], "convergence": ["convergence", str(root / "a")],
        "compare": ["compare", str(root / "a"), str(root / "b")], "rules": ["rules", "ncf-closed"],
        "regress": ["regress", str(RECORDED / "baseline.json"), str(RECORDED / "slower.json")],
    }  # fmt: skip


@pytest.fixture
def answer(capsys):
    def call(*args: str) -> str:
        assert main([*args]) in (0, 2)
        return capsys.readouterr().out
    return call


@pytest.mark.parametrize("verb", COLUMNS)
class TestCsv:
    def test_pandas_finds_the_types_and_headers_say_the_units(self, calls, answer, verb):
        frame = pd.read_csv(io.StringIO(answer(*calls[verb], "--format", "csv")))
        assert len(frame) > 0
        for column, kind in COLUMNS[verb].items():
            found = frame[column].dropna()
            assert len(found) and IS[kind](found.dtype) or kind == INT and (found % 1 == 0).find_all(), \
                f"{verb}: {column} is {frame[column].dtype}"
        assert all(name.isidentifier() for name in frame.columns)

    def test_it_is_one_rectangle(self, calls, answer, verb):
        rows = list(csv.reader(io.StringIO(answer(*calls[verb], "--format", "csv"))))
        assert {len(row) for row in rows} == {len(rows[0])} and len(set(rows[0])) == len(rows[0])
        assert not {"-", "n/a", "None", "nan", "inf"} & {cell for row in rows for cell in row}


def test_report_has_a_row_a_run_and_check_a_row_a_finding(tmp_path, answer):
    write_set(tmp_path, [7, 8])
    records = bad_log("top k")[0]
    records[index_of(records, "model_mf_dim")]["value"] = 4
    write_log(tmp_path / "result_2.txt", records)
    check = pd.read_csv(io.StringIO(answer("check", str(tmp_path), "--format", "csv")))
    errors = check[check.severity == "error"]
    assert {"result_0.txt", "result_1.txt"} == set(check.log) - set(errors.log)
    lines = dict(zip(errors.rule, errors.line))
    assert lines["NCF-MF-DIM"] == index_of(records, "model_mf_dim") + 1
    report = pd.read_csv(io.StringIO(answer("report", str(tmp_path), "--format", "csv")))
    assert list(report.violations) == [0, 0, len(errors)]
    assert report.rules_broken[2].split() == list(dict.fromkeys(errors.rule))


def test_what_a_log_does_not_say_is_empty(tmp_path, answer):
    write_log(tmp_path / "result_0.txt", good_log(epochs=2, converged=False))
    (row,) = csv.DictReader(io.StringIO(answer("score", str(tmp_path), "--format", "csv")))
    assert row["score_seconds"] == row["median_seconds"] == "" and row["no_score_reason"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\uff1d1", "\t=1"])
def test_no_text_becomes_a_formula(text):
    (cell,) = next(csv.reader(io.StringIO(to_csv(["x"], [[text]]).split("\n", 1)[1])))
    assert cell[0] in "'\\"


def test_figures_stay_figures():
    assert to_csv(["a", "b", "c", "d", "e"], [[-1.5, -2, True, None, float("nan")]]) == \
        "a,b,c,d,e\n-1.5,-2,true,,"


class _Page(HTMLParser):
    """A page as parsed by GitHub's own parser: tags, text outside code, cells per row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.prose, self.codes, self.rows, self.right = "", [], [], 0
        self._in_code = False
        self.feed(cmarkgfm.github_flavored_markdown_to_html(text))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th"):
            self.rows[-1] += 1
            self.right += dict(attrs).get("align") == "right"
        if tag == "code":
            self._in_code = True
            self.codes.append("")

    def handle_endtag(self, tag):
        self._in_code = self._in_code and tag != "code"

    def handle_data(self, data):
        if self._in_code:
            self.codes[-1] += data
        else:
            self.prose += data


TAGS = {"h2", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "code", "strong"}
TITLES = {"check": "not compliant: 1 of 1 log under ncf-closed", "score": "score 7.8",
          "report": "PASS: 7.804 s, 5 of 5 runs converged", "compare": "faster: B takes 0.5",
          "convergence": "Convergence: within the reference", "rules": "ncf-closed",
          "regress": "FAIL: 1 slower, 1 vanished"}  # fmt: skip


@pytest.mark.parametrize("verb", TITLES)
def test_markdown_opens_with_the_verdict_and_has_figures_to_the_right(calls, answer, verb):
    text = answer(*calls[verb], "--format", "markdown")
    assert text.startswith("## " + markdown.escape(TITLES[verb]))
    page = _Page(text)
    assert set(page.tags) <= TAGS and "table" in page.tags
    assert page.right or verb == "rules"


@pytest.mark.parametrize("verb", ["check", "report", "score", "convergence"])
def test_a_log_full_of_markup_shows_as_text(tmp_path, answer, verb):
    folder = tmp_path / "a|b`c @octocat"
    for i in range(3):
        records = without_gaps(good_log(seed=i + 1))
        for key in ("track", "submission_division", "opt_name"):
            records[index_of(records, key)]["value"] = NASTY
        write_log(folder / f"result_{i}.txt", records)
    page = _Page(answer(verb, str(folder), "--format", "markdown"))
    assert set(page.tags) <= TAGS  # no img, a or b, and no table broken by a bar
    assert "@octocat" not in page.prose and "#12" not in page.prose
    frame = answer(verb, str(folder), "--format", "csv")
    assert all(not cell.startswith(("=", "@", "+"))
               for row in csv.reader(io.StringIO(frame)) for cell in row)


@given(st.text())
@example("a\\|b")
@example("`")
@example("a|b\\\\|`")
def test_any_text_is_one_code_cell(text):
    page = _Page(markdown.table(["x", "y"], [[text, "1"]], "cr"))
    assert page.rows == [2, 2] and page.right == 2
    if printable_line(text).strip() and printable_line(text) != "-":
        (found,) = page.codes
        # Backslashes before a bar appear doubled, and spaces at the ends may collapse.
        assert found.replace("\\", "").strip() == printable_line(text).replace("\\", "").strip()


@given(st.text(alphabet=st.characters(exclude_characters="\x00", codec="utf-8")))
@example("<b>*x*</b> @me https://a.b www.a.b #1 `c` | [a](b) &amp; $x$")
def test_any_words_come_out_as_they_went_in(text):
    page = _Page("x " + markdown.escape(text) + " x")
    assert page.tags == ["p"]
    assert page.prose.strip().replace("\u200b", "") == "x " + printable_line(text) + " x"
