"""`python -m scripts.accelerators`: usage, and the compiled programs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts.accelerators import tables
from scripts.accelerators.__main__ import main
from tests.support.paths import ROOT

MODULES = {"v5e": "libtpu", "h200": "jax_cuda12_plugin"}
BUDGETS = yaml.safe_load(Path(__file__).with_name("budgets.yaml").read_text())
FIELDS = {
    "target", "program", "track", "precision", "batch_size", "compiler", "fits", "memory",
    "kernels", "bytes_per_example", "flops_per_example", "collective_bytes_per_example",
    "estimated_cycles", "bound_examples_per_s", "limited_by", "not_counted",
}  # fmt: skip


def is_installed(target: str) -> bool:
    return all(importlib.util.find_spec(x) for x in (MODULES[target], "jax", "tensorflow"))


def needs(target: str):
    return pytest.mark.skipif(
        not is_installed(target),
        reason=f"the compiler for {target} is not installed: ./run_tests.sh --accelerators",
    )


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "scripts.accelerators", *arguments], cwd=ROOT,
                          capture_output=True, text=True)


def answer(*arguments: str) -> list[dict]:
    done = run(*arguments, "--format=json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("arguments, said", [
    ([], "the following arguments are required: TARGET"),
    (["k80"], "k80: no such target"),
    (["v5e", "--precision=tf32"], "--precision=tf32: v5e does not support this precision"),
    (["v5e", "--precision=float8"], "--precision=float8: use float32, tf32, bfloat16"),
    (["v5e", "--track=none"], "neither a built-in track"),
    (["v5e", "--batch_size=0"], "--batch_size=0: use 1 to"),
    (["v5e:4x4", "--batch_size=1000"], "is not a multiple of the 16 chips of v5e:4x4"),
    (["v5e", "--batch=5"], "unrecognized arguments: --batch=5"),
    (["v5e", "--hlo="], "--hlo is empty"),
    (["v5e", "--compare=x.json", "--format=json"], "--compare prints a table"),
    (["v5e", "--format=xml"], "invalid choice: 'xml'"),
])  # fmt: skip
def test_wrong_usage_is_one_line_and_exit_code_1(capsys, arguments, said):
    assert main(arguments) == 1
    text = capsys.readouterr().err
    assert said in text and len(text.splitlines()) == 1


@pytest.mark.parametrize("target", [x for x in MODULES if not is_installed(x)])
def test_a_missing_compiler_is_one_line(capsys, target):
    assert main([target]) == 1
    assert "is not installed; install the extra" in capsys.readouterr().err


ENTRY = {"target": "h200", "program": "training", "track": "ml-20m", "precision": "float32",
         "batch_size": 1}


@pytest.mark.parametrize("text", [
    "[", "{}", "[1]", '[{"target": "v5e"}]', json.dumps([{**ENTRY, "target": []}]),
    json.dumps([{**ENTRY, "bytes_per_example": "x"}]), json.dumps([{**ENTRY, "kernels": [1]}]),
])
@needs("v5e")
def test_an_old_report_that_cannot_be_read_is_refused_first(tmp_path, capsys, text):
    old = tmp_path / "old.json"
    old.write_text(text)
    assert main(["v5e", f"--compare={old}"]) == 1
    assert "is not a report written by --format=json" in capsys.readouterr().err


@pytest.mark.parametrize("budget", [
    pytest.param(entry, marks=needs(entry["target"]),
                 id="{track}-{target}-{precision}".format(**entry))
    for entry in BUDGETS
])  # fmt: skip
def test_programs_compile_fit_stay_on_the_device_and_keep_their_budget(budget):
    found = answer(budget["target"], f"--track={budget['track']}",
                   f"--batch_size={budget['batch_size']}", f"--precision={budget['precision']}")
    assert [x["program"] for x in found] == ["training", "evaluation"]
    for estimate in found:
        assert FIELDS <= estimate.keys()
        assert estimate["fits"] and estimate["host_transfers"] == []
        assert estimate["limited_by"] in ("bandwidth", "products", "cycles", "interconnect")
        over = {
            name: (estimate[name], limit)
            for name, limit in budget[estimate["program"]].items() if estimate[name] > limit
        }  # fmt: skip
        assert not over, f"{estimate['program']}: above the budget: {over}"
        # The largest kernels come from known lines of our source, except the compiler's copies.
        sources = [kernel["source"] for kernel in estimate["largest_kernels"]
                   if "copy" not in kernel["operation"]]
        assert all(source and source.startswith("reference_model/") for source in sources[:3])


@needs("h200")
def test_flops_are_those_of_the_layers():
    """ml-20m: the first layer is folded, so it is computed for each row of the tables.

    Multiply-adds: an example has 256 x 128 + 128 x 64 in the layers above; a row has 128 x 256.
    The backward pass takes twice the forward pass. The output layer is not a matrix product in the
    compiled program and is not counted.
    """
    (training, _) = answer("h200")
    per_example = 256 * 128 + 128 * 64
    per_row = 128 * 256 * (138_493 + 26_744) / 1_048_576
    exact = 6 * (per_example + per_row)
    assert training["flops_per_example"] == pytest.approx(exact, rel=0.01)


@needs("v5e")
def test_a_program_that_does_not_fit_is_exit_code_2():
    done = run("v5e", "--batch_size=16777216")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "does not compile" in done.stdout or " of 16 " in done.stdout
    assert "Traceback" not in done.stderr


@needs("h200")
def test_several_gpus_exchange_gradients(tmp_path):
    arguments = ("h200x8", "--track=ml-100k", "--batch_size=16384")
    training, evaluation = answer(*arguments)
    assert training["collective_bytes_per_example"] > 0
    assert evaluation["collective_bytes_per_example"] == 0
    old = tmp_path / "old.json"
    training["bytes_per_example"] *= 2
    old.write_text(json.dumps([training, evaluation]))
    done = run(*arguments, f"--compare={old}")
    line = next(x for x in done.stdout.splitlines() if " bytes_per_example" in x)
    assert line.split()[-1] == "0.500"


def test_a_table_has_one_line_for_each_program_and_the_same_width():
    rows = [["v5e", "training"], ["h200x8", "evaluation"]]
    text = tables.table(["target", "program"], rows, is_markdown=True)
    assert [line.count("|") for line in text.splitlines()] == [3] * 4
    assert len({len(line) for line in text.splitlines()}) == 1
