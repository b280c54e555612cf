"""Tests of `package`, and of `check` on submission trees."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from compliance.__main__ import main
from compliance.checking.checker import check_paths
from compliance.submission.tree_check import TREE_RULES, add_tree_results
from tests.support.logs.log_builder import bad_log, good_log, write_log
from tests.support.logs.run_sets import write_results, write_set
from tests.support.paths import ROOT


@pytest.fixture
def pack(tmp_path, capsys):
    """Packs a results folder; returns (exit code, the text on stderr, the tree)."""
    def call(folder=tmp_path / "results", name="tree"):
        code = main(["package", str(folder), "--output", str(tmp_path / name)])
        return code, capsys.readouterr().err, tmp_path / name
    return call


def judge(tree):
    """Returns (verdict, the ids of the violations and warnings of the tree itself)."""
    result = add_tree_results([tree], check_paths([tree]))
    own = [f for f in result.files if f.ruleset == "submission-tree"]
    return result.verdict, {v.rule for f in own for v in f.errors.list() + f.warnings.list()}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A packed tree; tests change only copies of it."""
    folder = tmp_path_factory.mktemp("packed")
    write_results(folder / "results")
    assert main(["package", str(folder / "results"), "--output", str(folder / "tree")]) == 0
    return folder / "tree"


def test_a_tree_has_every_piece_and_passes(packed):
    impl = packed / "benchmarks" / "ncf-ml-100k" / "implementations"
    for piece in ("setup.sh", "init_datasets.sh", "run_and_time.sh", "README.md",
                  "laptop_neumf-bench.json"):
        assert (impl / "laptop" / piece).is_file()
    assert (impl / "neumf-bench" / "harness" / "__main__.py").is_file()
    assert not list(packed.rglob("__pycache__"))
    assert (packed / "systems" / "laptop.json").is_file() and (packed / "README.md").is_file()
    source = packed.parent / "results" / "laptop" / "ncf-ml-100k"
    for log in source.iterdir():
        copy = packed / "results" / "laptop" / "ncf-ml-100k" / log.name
        assert copy.read_bytes() == log.read_bytes()
    assert judge(packed) == ("pass", set())


def test_its_scripts_are_shell_and_say_how_it_was_run(packed):
    place = packed / "benchmarks" / "ncf-ml-100k" / "implementations" / "laptop"
    for script in place.glob("*.sh"):
        assert os.access(script, os.X_OK)
        assert subprocess.run(["bash", "-n", script], capture_output=True).returncode == 0
    said = (place / "run_and_time.sh").read_text()
    assert "--track=ml-100k" in said and "--batch_size=4096" in said and "--beta1=" in said


def change_records(folder, key, change):
    """Applies `change` to the value of the first record of a key in each log of a set."""
    for log in folder.glob("result_*.txt"):
        lines = log.read_text().splitlines()
        for i, line in enumerate(lines):
            record = json.loads(line.partition(" ")[2])
            if record["key"] == key:
                record["value"] = change(record["value"])
                lines[i] = f":::MLLOG {json.dumps(record)}"
        log.write_text("\n".join(lines) + "\n")


def test_its_run_script_has_every_flag_of_the_set(pack, tmp_path):
    results = write_results(tmp_path / "results", epochs=[7, 8, 9, 7, 8, 9])
    folder = results / "laptop" / "ncf-ml-100k"
    change_records(folder, "submission_org", lambda _: "Example Labs; rm -rf *")
    change_records(folder, "configuration", lambda value: {
        **value, "org": "Example Labs; rm -rf *", "required_runs": 6, "max_epochs": 20,
        "num_devices": None, "intra_op_threads": 2, "strategy": "auto", "runtime": "pjrt",
        "clear_caches": "skip"})
    code, said, tree = pack()
    assert code == 0, said
    script = (tree / IMPL / "laptop" / "run_and_time.sh").read_text()
    words = shlex.split(script.splitlines()[-1])
    assert {"--org=Example Labs; rm -rf *", "--num_runs=6", "--max_epochs=20", "--runtime=pjrt",
            "--intra_op_threads=2", "--clear_caches=skip", "--device=cpu"} <= set(words)
    assert not any(word.startswith(("--num_devices", "--strategy", "--target", "--division"))
                   for word in words)
    # The new results are made where the script is called, not inside the tree.
    assert 'results="$PWD/results"' in script and "--results_dir=$results" in words


def test_an_installed_program_packs_a_checkout(tmp_path, capsys):
    write_results(tmp_path / "results")
    command = ["package", str(tmp_path / "results"), "--output", str(tmp_path / "tree"), "--source"]
    (tmp_path / "site").mkdir()
    for wrong, words in (("site", "give a checkout of the source with --source DIR"),
                         ("nowhere", "no such folder")):
        assert main([*command, str(tmp_path / wrong)]) == 1
        said = capsys.readouterr().err
        assert words in said and len(said.splitlines()) == 1 and not (tmp_path / "tree").exists()
    assert main([*command, str(ROOT)]) == 0
    assert (tmp_path / "tree" / IMPL / "neumf-bench" / "harness" / "__main__.py").is_file()


def test_the_verdict_counts_logs_apart_from_what_the_tree_lacks(packed, tmp_path, capsys):
    tree = tmp_path / "tree"
    shutil.copytree(packed, tree)
    (tree / "systems/laptop.json").unlink()
    for script in (tree / IMPL).rglob("setup.sh"):
        script.unlink()
    assert main(["check", str(tree)]) == 2
    assert capsys.readouterr().out.splitlines()[-1] == (
        "not compliant: a submission tree violates 2 rules; 5 of 5 logs compliant under ncf-closed")


def test_its_own_copy_of_the_checker_judges_it(packed):
    source = packed / "benchmarks" / "ncf-ml-100k" / "implementations" / "neumf-bench"
    done = subprocess.run([sys.executable, "-m", "compliance", "check", packed], cwd=source,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "compliant: 5 logs under ncf-closed and a submission tree"


@pytest.mark.parametrize("level", ["", "laptop", "laptop/ncf-ml-100k"])
def test_any_level_of_the_results_can_be_given(pack, tmp_path, level):
    results = write_results(tmp_path / "results")
    write_set(results / "laptop" / "attempts" / "ncf-ml-100k" / "set_1", [3])
    code, _, tree = pack(results / level)
    assert code == 0 and len(list(tree.rglob("result_*.txt"))) == 5


@pytest.mark.parametrize("spoil, words, code", [
    (lambda s: (s / "system.json").unlink(), "system.json is missing", 1),
    (lambda s: (s / "system.json").write_text("{"), "cannot be read as JSON", 1),
    (lambda s: (s / "system.json").write_text('{"division": "closed"}'), "lacks submitter", 1),
    (lambda s: (s / "system.json").write_text(
        (s / "system.json").read_text().replace("closed", "open")), "the logs name closed", 1),
    (lambda s: (s / "ncf-ml-100k" / "result_4.txt").unlink(), "4 of 5 runs", 2),
    (lambda s: (s / "ncf-ml-100k").rename(s / "ncf"), "belong in a folder named ncf-ml-100k", 1),
    (lambda s: s.rename(s.parent / "desktop"), "the logs are of system laptop", 1),
    (lambda s: write_log(s / "ncf-ml-100k" / "result_0.txt", bad_log("top k")[0]),
     "NCF-TOP-K", 2),
    (lambda s: write_log(s / "ncf-ml-100k" / "result_0.txt", bad_log("no run_stop")[0]),
     "NCF-RUN-STOP", 3)])
def test_what_is_missing_is_said_and_nothing_written(pack, tmp_path, spoil, words, code):
    results = write_results(tmp_path / "results")
    spoil(results / "laptop")
    found, said, tree = pack()
    assert words in said and "Traceback" not in said
    assert found in (code, 2) if code == 3 else found == code
    assert not tree.exists() and sorted(p.name for p in tmp_path.iterdir()) == ["results"]


def test_a_source_that_is_no_checkout_is_refused(tmp_path):
    from compliance.submission.package import PackagingError, package_results

    write_results(tmp_path / "results")
    (tmp_path / "site").mkdir()
    with pytest.raises(PackagingError, match="checkout of the source"):
        package_results(tmp_path / "results", tmp_path / "tree", tmp_path / "site")


@pytest.mark.parametrize("place, words", [
    ("tree", "exists"), ("no/such/tree", "no such folder"), ("results/tree", "outside")])
def test_nothing_is_overwritten_or_put_into_the_results(pack, tmp_path, place, words):
    write_results(tmp_path / "results")
    (tmp_path / "tree").mkdir()
    code, said, _ = pack(name=place)
    assert code == 1 and words in said and list((tmp_path / "tree").iterdir()) == []


# -- check TREE -----------------------------------------------------------------

SETS = "results/laptop/ncf-ml-100k"
IMPL = "benchmarks/ncf-ml-100k/implementations"


def rewrite(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("spoil, rule", [
    (lambda t: (t / "systems/laptop.json").rename(t / "systems/desk.json"), "NCF-TREE-SYSTEM"),
    (lambda t: (t / "systems/laptop.json").write_text("[]"), "NCF-TREE-SYSTEM-FIELDS"),
    (lambda t: rewrite(t / "systems/laptop.json", framework=""), "NCF-TREE-SYSTEM-FIELDS"),
    (lambda t: rewrite(t / "systems/laptop.json", cooling=""), "NCF-TREE-SYSTEM-EMPTY"),
    (lambda t: rewrite(t / "systems/laptop.json", division="open"), "NCF-TREE-DIVISION"),
    (lambda t: (t / SETS).rename(t / "results/laptop/ncf"), "NCF-TREE-BENCHMARK"),
    (lambda t: (t / SETS / "result_2.txt").rename(t / SETS / "result_7.txt"), "NCF-TREE-NUMBERS"),
    (lambda t: (t / SETS / "notes.txt").write_text("x"), "NCF-TREE-FILES"),
    (lambda t: (t / SETS / "result_4.txt").unlink(), "NCF-TREE-SCORE"),
    (lambda t: shutil.rmtree(t / IMPL), "NCF-TREE-CODE"),
    (lambda t: [p.unlink() for p in t.rglob("README*")], "NCF-TREE-README"),
    (lambda t: [p.unlink() for p in (t / IMPL).rglob("run_and_time.sh")], "NCF-TREE-SCRIPTS"),
    (lambda t: shutil.copy(t / "systems/laptop.json", t / "systems/desk.json"),
     "NCF-TREE-NO-RESULTS")])
def test_a_spoilt_tree_breaks_the_rule(packed, tmp_path, spoil, rule):
    tree = tmp_path / "tree"
    shutil.copytree(packed, tree)
    spoil(tree)
    verdict, rules = judge(tree)
    assert rule in rules
    assert verdict == ("fail" if any(TREE_RULES[r].severity == "error" for r in rules) else "pass")


def test_logs_of_another_system_are_noticed(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "tree")
    records = good_log(seed=1, epochs=7)
    next(r for r in records if r["key"] == "submission_platform")["value"] = "desktop"
    write_log(tmp_path / "tree" / SETS / "result_0.txt", records)
    assert "NCF-TREE-PLATFORM" in judge(tmp_path / "tree")[1]


@pytest.mark.parametrize("change", [
    lambda text: text,
    # One loss differs, or all losses differ.
    lambda text: text.replace('"loss": 0.4', '"loss": 0.5', 2),
    lambda text: re.sub(r'"loss": 0\.\d+', '"loss": 0.123', text)])
def test_a_run_is_the_result_of_one_system(packed, tmp_path, change):
    tree = tmp_path / "tree"
    shutil.copytree(packed, tree)
    shutil.copytree(tree / "results" / "laptop", tree / "results" / "desk")
    shutil.copy(tree / "systems" / "laptop.json", tree / "systems" / "desk.json")
    for log in (tree / "results" / "desk" / "ncf-ml-100k").iterdir():
        log.write_text(change(log.read_text().replace('"laptop"', '"desk"')))
    assert "NCF-TREE-RUN-TWICE" in judge(tree)[1]


def test_other_runs_of_one_track_are_results_of_two_systems(packed, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(packed, tree)
    write_set(tree / "results" / "desk" / "ncf-ml-100k", [9, 8, 9, 7, 9])
    for k, log in enumerate(sorted((tree / "results" / "desk" / "ncf-ml-100k").iterdir())):
        write_log(log, good_log(seed=100 + k, epochs=12 + k, start_ms=1_900_000_000_000 + k * 10**8))
    shutil.copy(tree / "systems" / "laptop.json", tree / "systems" / "desk.json")
    assert "NCF-TREE-RUN-TWICE" not in judge(tree)[1]


def test_sets_of_one_system_that_overlap_in_time_are_told(packed, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(packed, tree)
    write_set(tree / "results" / "laptop" / "ncf-ml-1m", [9, 9, 9, 9, 9], track_name="ml-1m")
    shutil.copytree(tree / IMPL, tree / IMPL.replace("ncf-ml-100k", "ncf-ml-1m"))
    for log in (tree / "results" / "laptop" / "ncf-ml-1m").iterdir():
        log.write_text(re.sub(r'"seed", "value": (\d+)', r'"seed", "value": 9\1', log.read_text()))
    assert "NCF-TREE-PARALLEL" in judge(tree)[1]


def test_the_command_judges_trees_and_says_so(packed, capsys):
    for path in (packed, packed.parent):
        assert main(["check", str(path), "--format", "json"]) == 0
        data = json.loads(capsys.readouterr().out)
        (tree,) = [f for f in data["files"] if f["path"] == str(packed)]
        assert tree["dialect"] is None and tree["verdict"] == "pass"
    assert main(["rules", "submission-tree"]) == 0
    out = capsys.readouterr().out
    assert all(rule in out for rule in TREE_RULES) and "source: " in out


def v05_tree(shared_dir, root, entries):
    logs = shared_dir / "logs_v05"
    if not logs.is_dir():
        pytest.skip("the shared folder has no v0.5 logs")
    for entry in entries:
        place = root / "results" / entry
        (place / "ncf").mkdir(parents=True)
        shutil.copy(logs / entry / "entry.json", place / "entry.json")
        for log in (logs / entry).glob("result_*.txt"):
            shutil.copy(log, place / "ncf" / log.name)
    return root


def test_a_tree_of_v05_is_judged_by_its_entry_json(shared_dir, tmp_path):
    """The verdict on Intel's closed logs under level 2 agrees with gold.json."""
    tree = v05_tree(shared_dir, tmp_path / "intel", ["intel_skx8180"])
    gold = json.loads((shared_dir / "logs_v05/gold.json").read_text())["submissions"]
    passes = all(f["level2"] for f in gold["intel_skx8180"]["files"].values())
    assert judge(tree) == ("pass" if passes else "fail", {"NCF-TREE-V05-CODE"})
    (tree / "results/intel_skx8180/entry.json").write_text('{"division": "closed"}')
    assert "NCF-TREE-SYSTEM-FIELDS" in judge(tree)[1]
    for i in range(60):
        (tree / f"results/intel_skx8180/ncf/result_{i}.txt").unlink()
    assert {"NCF-TREE-NUMBERS", "NCF-TREE-SCORE"} <= judge(tree)[1]
