"""Tests that the documentation matches the program: generated pages, links, commands, lengths."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex

import pytest

from compliance.checking.ruleset import RULESETS, load_ruleset
from compliance.rcp.calibration import Calibration, target_from_curves
from compliance.report.log_page import COMMAND as LOG_COMMAND
from compliance.report.log_page import log_page
from compliance.report.rules_page import COMMAND as RULES_COMMAND
from compliance.report.rules_page import requirement, rules_page
from compliance.report.vocabulary_page import COMMAND as VOCABULARY_COMMAND
from compliance.report.vocabulary_page import vocabulary_page
from compliance.submission.tree_check import TREE_RULES
from compliance.tracks import load_track
from scripts.documented_commands import commands_in
from tests.project.test_imports import imported
from tests.support.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
MAX_LINES = 250
# The table of rules is a reference with one row per rule.
LONG_PAGES = {"docs/rules.md"}
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def anchors(text):
    """Returns the anchors that GitHub generates for the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


# --- generated pages ----------------------------------------------------------------


@pytest.mark.parametrize("page, make, command", [
    ("docs/rules.md", rules_page, RULES_COMMAND), ("docs/log-format.md", log_page, LOG_COMMAND),
    ("compliance/rules/README.md", vocabulary_page, VOCABULARY_COMMAND)])
def test_a_generated_page_is_the_one_that_is_committed(page, make, command):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text == make(), f"{page} is stale: {command}"
    assert command in text


def test_every_rule_is_on_its_page_with_what_it_requires_and_what_to_do():
    text = rules_page()
    for ruleset in map(load_ruleset, RULESETS):
        for rule in ruleset.rules:
            assert f"| `{rule.id}`" in text
            assert requirement(rule) or rule.check in ("attempt", "attempt_chain"), rule.id
    assert all(f"| `{rule}`" in text for rule in TREE_RULES)
    rows = [line for line in text.splitlines() if line.startswith("| `NCF")]
    assert all(len(re.split(r"(?<!\\)\|", row)) == 6 for row in rows)


# --- links of pages --------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and ROOT in [target, *target.parents], link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", [p for p in PAGES if name_of(p) not in LONG_PAGES], ids=name_of)
def test_a_page_is_short(page):
    assert len(page.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_every_page_of_docs_is_linked_from_the_front():
    front = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [p.name for p in (ROOT / "docs").glob("*.md") if f"docs/{p.name}" not in front] == []


# --- the diagram of the packages -----------------------------------------------------------


def test_the_rooms_are_drawn_as_the_code_imports():
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", text, re.MULTILINE))
    rooms = {room for arrow in drawn for room in arrow}
    assert rooms == {"reference_model", "harness", "compliance", "scripts", "tests"}
    code = {(room, other) for room in rooms for path in (ROOT / room).rglob("*.py")
            for name, _ in imported(path)
            for other in {name.partition(".")[0]} & (rooms - {room})}
    assert drawn == code


def test_modules_and_files_that_the_design_names_exist():
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    modules = set(re.findall(r"\b((?:harness|reference_model|compliance)\.\w+)\b", text))
    assert len(modules) >= 3 and all(importlib.util.find_spec(name) for name in modules)
    for path in re.findall(r"`((?:compliance|tests|harness)/[\w/.]*\w\.\w+)`", text):
        assert (ROOT / path).is_file(), path


# --- the example of a new track ----------------------------------------------------


def test_the_example_track_has_the_target_of_its_calibration():
    from harness.calibrate import summarize

    folder = ROOT / "docs" / "examples"
    track, curves = load_track(folder / "epinions.yaml"), folder / "epinions.json"
    assert track.target == target_from_curves(Calibration.read(curves))
    assert track.dataset.split_digest == json.loads(curves.read_text())["split_digest"]
    assert track.division_default == "open" and track.dataset.columns["timestamp"] is None
    page = (ROOT / "docs" / "adding-a-track.md").read_text(encoding="utf-8")
    assert all(f"    {line}\n" in page for line in summarize(curves).splitlines())


# --- commands ---------------------------------------------------------------------------


def parses(command):
    """Checks that the command exists and accepts these arguments. Raises AssertionError."""
    words = shlex.split(command, comments=True)
    if words[0].endswith(".sh"):
        script = ROOT / words[0]
        assert script.is_file(), f"{words[0]} does not exist"
        if script.name == "run_and_time.sh":
            harness_takes(words[1:])
        elif script.name == "peers.sh":
            from scripts.peers.compare import build_parser
            argparse_takes(build_parser(), words[1:])
        elif script.name == "gpu_pack.sh":
            from scripts.gpu_pack.__main__ import build_parser
            argparse_takes(build_parser(), words[1:] or ["--help"])  # alone: a mention
        else:
            text = script.read_text(encoding="utf-8")
            unknown = [w for w in words[1:] if w.startswith("-") and w not in text and w != "-k"]
            assert not unknown, f"{words[0]} has no option {unknown[0]}"
        return
    if words[0] in ("neumf-bench", "neumf-compliance"):
        module, words = words[0].replace("neumf-bench", "harness").replace("neumf-", ""), words[1:]
    else:
        module, words = words[2], words[3:]
    if words in ([], ["..."], ["VERB", "..."]) or module in ("pip", "venv", "pytest"):
        words = None
    assert module in ("pip", "venv") or importlib.util.find_spec(module), f"no module {module}"
    if words is None:
        return
    if module == "harness":
        harness_takes(words)
    elif module == "harness.calibrate":
        from harness.calibrate import build_parser
        argparse_takes(build_parser(), words)
    elif module == "scripts.accelerators":
        from scripts.accelerators.__main__ import parse_arguments
        parse_arguments(words)
    elif module == "compliance":
        from compliance.__main__ import build_parser
        # A verb alone, as mentioned in a sentence, need only exist.
        argparse_takes(build_parser(), words if len(words) > 1 else [*words, "--help"])


def harness_takes(words):
    from harness.flags import parse_flags
    if words not in (["--help"], ["[harness flags]"]):
        # The folder of a tuning, which the reader has.
        placeholder = ("--help", "--flagfile=FOLDER/tuned.flags")
        parse_flags([w for w in words if w not in placeholder])


def argparse_takes(parser, words):
    try:
        parser.parse_args(words)
    except SystemExit as left:
        assert not left.code, f"the command does not accept {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_exists_and_takes_its_words(page, capsys):
    for command in commands_in(page.read_text(encoding="utf-8")):
        try:
            parses(command)
        except Exception as error:  # absl raises its own types; each is an error of the page
            pytest.fail(f"{name_of(page)}: {command}: {error}")


@pytest.mark.parametrize("command", [
    "python -m compliance chek results", "python -m compliance score --format=table", "./run_and_tim.sh",
    "./run_and_time.sh --trak=ml-1m", "python -m harness.nothing", "./run_tests.sh --fast",
    "python -m harness.calibrate --track=ml-1m", "python -m compliance report results --colour=red"])
def test_a_command_that_does_not_exist_would_be_found(command, capsys):
    (found,) = commands_in(f"Text\n\n    $ {command}   # with a remark\n")
    with pytest.raises(Exception):
        parses(found)


def test_there_are_commands_to_try():
    text = (ROOT / "docs" / "submitting.md").read_text(encoding="utf-8")
    assert len(list(commands_in(text))) >= 6
