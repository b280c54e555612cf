"""`report --html` and `compare --html`: the content, and safety against hostile logs."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from compliance.__main__ import main
from compliance.report.formatting import format_number
from compliance.report.html.findings import read_lines
from compliance.report.html.limits import (
    MAX_BYTES,
    MAX_DETAIL_BYTES,
    clip_text,
    downsample,
    evenly_spaced,
)
from compliance.report.html.page import keep_words_whole
from compliance.report.html.plot_style import FASTEST, ROLES, SLOWEST
from compliance.report.html.settings import read_system_description
from tests.support.html_reader import Node, parse_page
from tests.support.logs.log_builder import bad_log, good_log, index_of, line_of, write_log
from tests.support.logs.run_sets import without_gaps, write_results, write_set
from tests.support.paths import ROOT


@pytest.fixture
def page(tmp_path, capsys):
    """Creates the page of a folder; returns the parsed page and its text."""
    def make(*args, verb="report", code=0) -> tuple[Node, str]:
        file = tmp_path / "page.html"
        assert main([verb, *map(str, args), "--html", str(file)]) == code, capsys.readouterr().err
        capsys.readouterr()
        text = file.read_text(encoding="utf-8")
        return parse_page(text), text
    return make


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> tuple[Node, str, Path]:
    """The page of a typical set, created once: parsed, as text, and the folder of the set."""
    folder = write_set(tmp_path_factory.mktemp("usual") / "s", [7, 8, 9, 6, 8])
    file = folder.parent / "page.html"
    assert main(["report", str(folder), "--html", str(file)]) == 0
    text = file.read_text(encoding="utf-8")
    return parse_page(text), text, folder


@pytest.fixture
def score(capsys):
    def ask(folder):
        main(["score", str(folder), "--format", "json"])
        return json.loads(capsys.readouterr().out)
    return ask


# -- the page of a set ----------------------------------------------------


def test_it_opens_with_the_verdict_and_the_score(usual, score):
    root, _, folder = usual
    known = score(folder)
    hero = root.find_all("article")[0].find_all("div")[0].text
    assert hero.startswith("✓ PASS") and f"{known['seconds']:.3f} s" in hero
    assert "no 95% interval with fewer than 10 runs" in hero
    main_text = root.find_all("main")[0].text
    assert "are dropped, and the rest are averaged" in main_text
    order = [h.text for h in root.find_all("h1", "h2", "h3")]
    assert [h for h in order if h in (
        "HR@10 by epoch", "HR@10 by wall time", "Time to train", "Time by stage",
        "Throughput by epoch", "Hyperparameters and values fixed by the track", "System",
        "Violations and warnings", "Raw numbers")] == [
        "HR@10 by epoch", "HR@10 by wall time", "Time to train", "Time by stage",
        "Throughput by epoch", "Hyperparameters and values fixed by the track", "System",
        "Violations and warnings", "Raw numbers"]


def test_the_interval_is_there_where_score_has_one(page, score, shared_dir):
    folder = shared_dir / "logs_v05" / "nvidia_dgx1"
    if not folder.is_dir():
        pytest.skip("the shared folder has no v0.5 logs")
    root, text = page(folder)
    low, high = score(folder)["ci95_s"]
    assert f"95% interval {low:.3f} to {high:.3f} s" in root.find_all("article")[0].text
    assert len(text.encode()) < MAX_BYTES
    assert "Tesla V100-SXM2-16GB" in root.find_id("set-system").text
    assert "not taken: after the first 50" in root.find_id("set-runs").text


def test_the_dropped_runs_are_named(usual, score):
    root, _, folder = usual
    rows = root.find_id("set-runs").rows()
    role = rows[0].index("in the score")
    assert [row[role] for row in rows[1:]] == [
        "counted", "counted", "dropped: slowest", "dropped: fastest", "counted"]
    seconds = [run["seconds"] for run in score(folder)["per_run"]]
    assert [row[rows[0].index("time to train (s)")] for row in rows[1:]] == [
        f"{s:.3f}" for s in seconds]
    tips = [n.text for n in root.find_id("set-times").find_all("title")]
    assert sum("dropped: slowest" in tip for tip in tips) == 2  # in the wide and in the narrow plot


def test_the_fastest_and_the_slowest_dropped_run_look_different():
    fastest, slowest = ROLES[FASTEST], ROLES[SLOWEST]
    assert fastest.colour != slowest.colour and fastest.marker != slowest.marker
    assert fastest.hatch and slowest.hatch and fastest.hatch != slowest.hatch


def test_no_pattern_of_a_plot_is_large(usual):
    """A pattern of dots is a third of a megabyte, and a page of several sets would omit some."""
    assert len(usual[1].encode()) < 400_000


def test_a_page_that_fails_begins_with_the_violations(page, tmp_path):
    def headings(folder):
        root, _ = page(folder)
        return [h.text for h in root.find_all("h2")], root

    good = write_set(tmp_path / "good", [7, 8, 9, 7, 8])
    assert headings(good)[0].index("Violations and warnings") > 2
    write_log(good / "result_0.txt", bad_log("top k")[0])
    found, root = headings(good)
    assert found[0] == "Violations and warnings"
    assert root.find_all("nav")[0].find_all("a")[0].text.startswith("Violations and warnings")


def test_each_point_of_a_few_curves_has_its_values(usual):
    root, _, _ = usual
    for key, y in (("set-hr-epoch", "HR@10"), ("set-ndcg", "NDCG@10"), ("set-loss", "loss")):
        tips = [n.text for n in root.find_id(key).find_all("title")]
        points = [tip for tip in tips if re.fullmatch(rf"result_\d, epoch \d: {y} [\d.]+", tip)]
        assert len(points) == 2 * (7 + 8 + 9 + 6 + 8)  # in the wide and in the narrow plot
    tips = [n.text for n in root.find_id("set-hr-time").find_all("title")]
    assert any(re.fullmatch(r"result_0, [\d.]+ s: HR@10 [\d.]+", tip) for tip in tips)


@pytest.mark.parametrize("text, html", [
    ("1.45439e-07", '<span class="nb">1.45439e-07</span>'),
    ("ml-100k on amd-epyc-2cpu",
     '<span class="nb">ml-100k</span> on <span class="nb">amd-epyc-2cpu</span>'),
    ("a <b-c>", 'a <span class="nb">&lt;b-c&gt;</span>'), ("795 k to 2.94 M", "795\u00a0k to 2.94\u00a0M"),
    ("- 3 sets", "- 3 sets"), ("x-" * 20, "x-" * 20)])
def test_no_line_breaks_inside_a_number_or_a_name(text, html):
    assert keep_words_whole(text) == html


def test_a_run_without_the_target_is_marked_in_words(page, tmp_path):
    root, _ = page(write_set(tmp_path / "t", [25, 8, 25, 7, 8], missed=[0, 2]))
    assert "did not converge" in root.find_id("set-times").text
    assert "result_2 (missed)" in root.find_id("set-hr-epoch").text
    assert "No score 2 of 5 runs did not reach the target" in root.find_all("article")[0].text


def test_every_epoch_is_in_the_raw_numbers(usual):
    root, _, _ = usual
    rows = root.find_id("set-epochs").rows()
    assert rows[0] == ["run", "epoch", "since run_start (s)", "HR@10", "NDCG@10", "loss",
                       "training examples/s", "evaluation pairs/s"]
    logged = without_gaps(good_log(epochs=7, seed=1, start_ms=10**12))
    values = [r["value"] for r in logged if r["key"] == "eval_accuracy"]
    stats = [r["value"]["throughput"] for r in logged if r["key"] == "tracked_stats"]
    assert len(rows) == 1 + 7 + 8 + 9 + 6 + 8
    for row, value, rate in zip(rows[1:], values, stats):
        assert float(row[3]) == pytest.approx(value, rel=1e-8)
        assert float(row[6].replace(",", "")) == pytest.approx(rate, abs=1)


def test_stages_are_seconds_and_shares_that_add_up(usual):
    root, _, _ = usual
    header, *rows = root.find_id("set-stage-table").rows()
    shares = [i for i, name in enumerate(header) if name.endswith("(%)")]
    assert [header[i] for i in shares] == [
        f"{s} (%)" for s in ("data", "sampling", "training", "evaluation", "other")]
    for row in rows:
        assert sum(float(row[i]) for i in shares) == pytest.approx(100, abs=0.3)
        assert sum(float(row[i - 1]) for i in shares) == pytest.approx(float(row[1]), abs=0.005)


def test_settings_tell_what_is_free_fixed_and_different(page, tmp_path):
    root, _ = page(write_set(tmp_path / "s", [7, 8], values={"eval_num_negatives": 99}))
    free = {row[0]: row[1:] for row in root.find_id("set-free").rows()}
    assert free["batch size"] == ["4,096", "4,096", "free"]
    fixed = {row[0]: row[1:] for row in root.find_id("set-fixed").rows()}
    assert fixed["evaluation negatives per user"] == ["99", "999", "⚠ differs"]
    assert fixed["widths of the MLP layers"] == ["64, 32, 16, 8", "64, 32, 16, 8", "same"]
    assert fixed["target HR@k"][2] == "same"


def test_violations_quote_the_line_and_say_the_fix(page, tmp_path):
    write_set(tmp_path / "s", [7, 8, 9, 7])
    records, rule, line = bad_log("top k")
    write_log(tmp_path / "s" / "result_4.txt", records)
    root, _ = page(tmp_path / "s")
    (found,) = [a for a in root.find_all("article") if a.text.startswith(f"VIOLATION {rule}")]
    assert f"result_4.txt, line {line}:" in found.text and "Fix: " in found.text
    assert found.find_all("code")[0].text == line_of(records[line - 1])
    assert root.find_all("article")[0].text.startswith("✗ FAIL")


def test_the_system_comes_from_the_description_and_the_logs(page, tmp_path):
    write_results(tmp_path / "r", system="box")
    path = tmp_path / "r" / "box" / "system.json"
    path.write_text(json.dumps({"framework": "TF 2", "nodes": [{"cpu": "fast"}]}))
    root, _ = page(tmp_path / "r")
    assert ["nodes[0].cpu", "fast"] in root.find_id("set-system").rows()
    assert ["platform", "laptop"] in root.find_id("set-logged").rows()


def test_a_description_that_cannot_be_used_is_left_out(tmp_path):
    path = write_results(tmp_path / "r", system="box") / "box" / "system.json"
    for text in ("[" * 100_000, "", "{", " " * 2_000_000, "\udcff"):
        path.write_text(text, errors="surrogateescape")
        assert read_system_description(path.parent / "ncf-ml-100k") == ("", None)
    path.unlink()
    os.mkfifo(path)
    assert read_system_description(path.parent / "ncf-ml-100k") == ("", None)


def test_several_sets_have_an_index_first(page, tmp_path):
    write_set(tmp_path / "r" / "a", [7, 8, 9, 7, 8])
    write_set(tmp_path / "r" / "b", [7, 8])
    root, _ = page(tmp_path / "r")
    header, first, second = root.find_id("sets").rows()
    assert first[1:3] == second[1:3] == ["✓ PASS", "every log is compliant"]
    assert first[4] != "-" and second[5] == "2 of 5 runs"
    links = [a.attributes["href"] for a in root.find_id("sets").find_all("a")]
    assert [n.attributes["id"] for n in root.find_all("article")
            if "set" in n.attributes.get("class", "").split()] == [link[1:] for link in links]
    assert [h.tag for h in root.find_all("h1")] == ["h1"]


def test_logs_without_anything_to_draw_still_make_a_page(page, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "result_0.txt").write_text("nothing\n")
    root, _ = page(tmp_path / "s")
    assert root.find_all("article")[0].text.startswith("✗ FAIL") and not root.find_all("svg")
    assert "nothing to plot" in root.text


# -- compare --------------------------------------------------------------------


def test_compare_gives_the_answer_first(page, tmp_path, capsys):
    a = write_set(tmp_path / "a", [7, 8, 9, 7, 8])
    b = write_set(tmp_path / "b", [7, 8, 9, 7, 8], epoch_ms=500)
    root, _ = page(a, b, verb="compare")
    assert main(["compare", str(a), str(b), "--format", "json"]) == 0
    known = json.loads(capsys.readouterr().out)
    hero = root.find_all("main")[0].text
    assert hero.startswith("▲ FASTER B is faster than A B takes")
    low, high = known["time"]["ci95"]
    assert f"95% {low:.3f} to {high:.3f}" in hero and f"p {known['p_value']:.4g}" in hero
    rows = {row[0]: row[1:] for row in root.find_id("ratios").rows()}
    assert rows["time to train (s), mean"] == [
        format_number(v, 4) for v in (known["a"]["mean_s"], known["b"]["mean_s"],
                                      known["time"]["ratio"], low, high)]
    assert [row[0] for row in root.find_id("stages").rows()[1:]] == [
        "data", "sampling", "training", "evaluation", "other"]


def test_compare_says_where_too_little_is_known(page, tmp_path):
    a, b = write_set(tmp_path / "a", [7, 8]), write_set(tmp_path / "b", [7, 8, 9])
    root, _ = page(a, b, verb="compare")
    assert "Too few runs to tell" in root.find_all("h1")[0].text
    assert "no interval" in root.find_all("dl")[0].text


def test_compare_marks_the_settings_that_differ(page, tmp_path):
    a = write_set(tmp_path / "a", [7, 8])
    b = write_set(tmp_path / "b", [7, 8], values={"precision": "bfloat16"})
    root, _ = page(a, b, verb="compare")
    rows = {row[0]: row[1:] for row in root.find_id("settings").rows()}
    assert rows["precision"] == ["float32", "bfloat16", "⚠ differs"]
    assert rows["batch size"][2] == "same"


# -- hostile logs -----------------------------------------------------

HOSTILE = ("</title></script><script>alert(1)</script><img src=x onerror=alert(2)>"
           "\"'&$x^2$ javascript:alert(3)")


def hostile_set(folder: Path) -> Path:
    """A set with markup in every text of every record, in the description and in file names."""
    for i in range(2):
        records = good_log(epochs=3, seed=i)
        for record in records:
            if isinstance(record["value"], str) and record["key"] != "submission_benchmark":
                record["value"] = HOSTILE
            elif isinstance(record["value"], dict):
                record["value"][HOSTILE] = HOSTILE
            record["metadata"][HOSTILE] = HOSTILE
            record["metadata"]["file"] = HOSTILE
        records.insert(3, {**records[0], "key": "versions", "value": {HOSTILE: HOSTILE}})
        records[index_of(records, "run_stop")]["metadata"]["reason"] = HOSTILE
        name = f"result_{i}<svg onload=alert(4)>&{{{{7*7}}}}.txt"
        write_log(folder / name, records)
    (folder / "entry.json").write_text(json.dumps({HOSTILE: HOSTILE, "nodes": [{HOSTILE: 1}]}))
    return folder


ALLOWED = frozenset(
    "html head meta title link style body a div span strong button main article p h1 h2 h3 h4 "
    "dl dt dd nav ul ol li section figure figcaption header pre b code table caption thead "
    "tbody tr th td details summary footer script "
    "svg g path defs use rect text clippath pattern".split())


@pytest.mark.parametrize("verb", ["report", "compare"])
def test_markup_in_every_field_shows_as_text(page, tmp_path, verb):
    folder = hostile_set(tmp_path / f"s{'<b>'}")
    root, text = page(*[folder] * (2 if verb == "compare" else 1), verb=verb)
    assert HOSTILE.split('"')[0][:20] in root.text  # shown as text
    assert len(root.find_all("script")) == 1 and not root.find_all("img", "iframe", "object", "embed")
    assert {n.tag for n in root.find_all()} <= ALLOWED
    for node in root.find_all():
        assert not [name for name in node.attributes if name.startswith("on")]
        for name in ("href", "src", "xlink:href", "action"):
            assert node.attributes.get(name, "#").startswith(("#", "data:,"))
    assert "49" not in root.find_all("title")[0].text  # not expanded as a template


def test_only_its_own_script_may_run(usual):
    import base64
    import hashlib

    root, text, _ = usual
    policy = next(n.attributes["content"] for n in root.find_all("meta")
                  if n.attributes.get("http-equiv") == "Content-Security-Policy")
    script = text[text.index("<script>") + 8:text.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'") and f"script-src 'sha256-{digest}'" in policy


def test_it_asks_for_nothing_outside_itself(page, tmp_path):
    root, text = page(hostile_set(tmp_path / "s"))
    assert not re.search(r"@import|url\((?!#)", text)
    for node in root.find_all("link", "script", "use"):
        assert "src" not in node.attributes
        assert node.attributes.get("href", "#").startswith(("#", "data:,"))


def test_control_characters_and_broken_text_are_shown_as_escapes(page, tmp_path):
    values = {"submission_org": "a\x00b\u202ec\ud800d", "submission_platform": "x\x1b[31m"}
    root, text = page(write_set(tmp_path / "s", [3], values=values))
    assert r"a\x00b\u202ec" in root.text and "\x1b" not in text and "\u202e" not in text


def test_absurd_numbers_are_left_out_of_the_plots(page, tmp_path):
    records = good_log(epochs=4)
    for i, value in enumerate((-5, 10**300, 1e308)):
        records[index_of(records, "eval_accuracy", i)]["value"] = value
    for i, value in enumerate((1e308, -1, 10**300)):
        records[index_of(records, "tracked_stats", i)]["value"]["throughput"] = value
    records[index_of(records, "run_stop")]["time_ms"] = 10**17
    write_log(tmp_path / "s" / "result_0.txt", records)
    root, _ = page(tmp_path / "s")
    assert root.find_id("set-hr-epoch")


# -- size, files, output ----------------------------------------------------------


def fat_log(epochs: int, seed: int) -> list:
    """Returns a run of many epochs whose texts are as long as a record allows."""
    records = good_log(epochs=epochs, seed=seed, epoch_ms=3, converged=False)
    long = ("submission_org", "engine", "opt_name")
    return [{**r, "value": "x" * 5000} if r["key"] in long else r for r in records]


@pytest.mark.parametrize("runs, epochs", [
    (3, 3000), (60, 40), pytest.param(3000, 1, marks=pytest.mark.slow)])
def test_any_set_stays_below_a_megabyte_and_says_what_is_left_out(page, tmp_path, runs, epochs):
    for i in range(runs):
        write_log(tmp_path / "s" / f"result_{i}.txt", fat_log(epochs, i))
    root, text = page(tmp_path / "s")
    assert len(text.encode()) < MAX_BYTES
    assert re.search(r"[\d,]+ of [\d,]+ epochs are shown, to keep the page small", root.text)
    if epochs > 1000:
        assert "Curves are reduced" in root.text
    if runs > 1000:
        assert re.search(r"\d+ of 3,000 runs are shown, to keep the page small", root.text)
        assert "120 of 3000 runs are drawn" in root.text


@pytest.mark.parametrize("sets, full", [
    (4, 250_000), pytest.param(14, MAX_DETAIL_BYTES, marks=pytest.mark.slow)])
def test_many_sets_stay_small_and_are_all_in_the_index(page, tmp_path, monkeypatch, sets, full):
    monkeypatch.setattr("compliance.report.html.page.MAX_DETAIL_BYTES", full)
    for i in range(sets):
        write_set(tmp_path / "r" / f"s{i}", [12] * 9 if sets > 4 else [3, 4])
    root, text = page(tmp_path / "r")
    assert 0.5 * full < len(text.encode()) < full + 60_000 < MAX_BYTES
    assert len(root.find_id("sets").rows()) == 1 + sets
    written = len([n for n in root.find_all("article") if n.attributes.get("id", "").startswith("set-")])
    assert 2 <= written < sets and \
        re.search(rf"\b{sets - written} sets? without a link", root.text)


def test_downsampling_keeps_ends_peaks_and_dips():
    points = [(float(i), float(i % 7)) for i in range(1000)]
    points[500], points[501] = (500.0, 99.0), (501.0, -99.0)
    kept = downsample(points, 40)
    assert len(kept) <= 40 and kept == sorted(kept)
    assert {points[0], points[-1], points[500], points[501]} <= set(kept)
    assert downsample(points[:10], 40) == points[:10]
    assert evenly_spaced(range(100), 5) == [0, 25, 50, 74, 99] and evenly_spaced([1, 2], 5) == [1, 2]
    assert clip_text("a" * 500, 10) == "a" * 10 + "… (490 more characters)"


def test_lines_are_quoted_by_their_own_numbers(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"one\r\ntwo\rstill two\n" + b"x" * 200_000 + b"\nfour\n\xff\xfe\nend")
    found = read_lines(str(path), {1, 2, 3, 4, 5, 6, 9})
    assert found[1] == "one" and found[2] == r"two\rstill two" and found[4] == "four"
    assert found[3].startswith("xxx") and len(found[3]) < 400 and found[3].endswith(("…", ")"))
    assert found[5] == r"\xff\xfe" and found[6] == "end" and 9 not in found


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: data.decode().encode("utf-16")])
def test_lines_of_a_wrapped_log_are_quoted(tmp_path, pack):
    path = tmp_path / "log"
    path.write_bytes(pack(b"one\n" + b"x" * 200_000 + b"\nthree"))
    found = read_lines(str(path), {1, 2, 3, 4})
    assert found[1] == "one" and found[3] == "three" and 4 not in found
    assert found[2].startswith("xxx") and len(found[2]) < 400


def test_the_page_quotes_a_line_of_a_compressed_log(page, tmp_path):
    folder = write_set(tmp_path / "r" / "s", [7, 8, 9, 7, 8])
    log = folder / "result_1.txt"
    log.write_bytes(gzip.compress(log.read_bytes().replace(b'"ml-100k"', b'"ml-999k"')))
    root, _ = page(tmp_path / "r")
    assert "ml-999k" in root.text and '"key": "track"' in root.text


def test_the_same_set_gives_the_same_page(usual, page):
    _, text, folder = usual
    assert page(folder)[1] == text


def test_ids_are_unique_and_references_lead_somewhere(page, tmp_path):
    for i in range(2):
        write_set(tmp_path / "r" / f"s{i}", [7, 25, 9], missed=[1])
    root, _ = page(tmp_path / "r")
    ids = [n.attributes["id"] for n in root.find_all() if "id" in n.attributes]
    assert len(ids) == len(set(ids))
    named = {value[1:] for n in root.find_all() for name, value in n.attributes.items()
             if name == "href" and value.startswith("#")}
    named |= {i for n in root.find_all() for value in n.attributes.values()
              for i in re.findall(r"url\(#([^)]+)\)", value)}
    named |= {n.attributes[k] for n in root.find_all() for k in ("aria-labelledby", "data-table")
              if k in n.attributes}
    assert named <= set(ids)


def test_plots_use_only_colours_of_the_page(usual):
    plots = "".join(re.findall(r"<svg.*?</svg>", usual[1], re.DOTALL))
    assert "var(--c0)" in plots
    assert set(re.findall(r"#[0-9a-f]{6}\b", plots)) == set()


def test_plots_have_descriptions_for_screen_readers(usual):
    root, _, _ = usual
    assert root.find_all("html")[0].attributes["lang"] == "en"
    for svg in root.find_all("svg"):
        assert svg.attributes["role"] == "img" and len(svg.attributes["aria-label"]) > 20
    assert all(table.find_all("caption")[0].text for table in root.find_all("table"))
    assert all(cell.attributes["scope"] == "col" for t in root.find_all("thead") for cell in t.find_all("th"))
    levels = [int(h.tag[1]) for h in root.find_all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:]))


@pytest.mark.parametrize("output_format", ["table", "json"])
def test_the_last_line_is_the_verdict_and_the_page(tmp_path, capsys, output_format):
    folder, file = write_set(tmp_path / "s", [7, 8]), tmp_path / "p.html"
    assert main(["report", str(folder), "--format", output_format]) == 0
    plain = capsys.readouterr().out
    assert main(["report", str(folder), "--format", output_format, "--html", str(file)]) == 0
    printed = capsys.readouterr()
    verdict = "PASS: valid, unscored: 2 of 5 runs"
    last = f"{verdict}; report: {file}"
    if output_format == "table":
        assert printed.out.splitlines()[-1] == last and printed.out.count(verdict) == 1
    else:  # for programs
        assert printed.out == plain and printed.err.splitlines()[-1] == last


@pytest.mark.parametrize("name", ["no/p.html", ".", "s/result_7.txt"])
def test_where_it_cannot_be_written_one_line_says_so(tmp_path, capsys, name):
    folder = write_set(tmp_path / "s", [7])
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", str(folder), "--html", str(tmp_path / name)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1 and sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    folder = write_set(tmp_path / "s", [7])
    out = tmp_path / "out"
    out.mkdir()
    code = ("import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
            "import matplotlib.font_manager; from compliance.__main__ import main;"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
            f"page = {str(out / 'p.html')!r};"
            f"raise SystemExit(main(['report', {str(folder)!r}, '--html', page]))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "cannot be written" in done.stderr and not list(out.iterdir())


def test_without_the_extra_one_line_says_how_to_get_it(tmp_path):
    folder = write_set(tmp_path / "s", [7])
    code = ("import sys\nclass Absent:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name.split('.')[0] in ('jinja2', 'matplotlib', 'markupsafe'):\n"
            "            raise ModuleNotFoundError(name)\n"
            "sys.meta_path.insert(0, Absent())\n"
            "from compliance.__main__ import main\n"
            f"assert main(['report', {str(folder)!r}]) == 0\n"
            f"raise SystemExit(main(['report', {str(folder)!r}, '--html', 'p.html']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "[report]" in done.stderr and "PASS: valid, unscored: 1 of 5 runs" in done.stdout
