"""Which room may import which, and that TensorFlow stays out of judging."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("reference_model", "harness", "compliance")
FORBIDDEN = {
    "reference_model": {"harness", "compliance", "absl", "mlperf_logging", "time"},
    "compliance": {"harness", "reference_model", "tensorflow", "keras", "absl"},
    "harness": set(),
}
# TensorFlow is in the trial process only; these may import it when they are used.
TENSORFLOW_MODULES = {
    "adam", "sparse_adam", "folded", "fused", "fused_drawing", "fused_evaluation",
    "fused_math", "fused_programs", "fused_scoring",
    "fused_sampling", "neumf", "optimizers", "order", "replicas", "replicated", "shards", "training",
}


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    """First parts of all absolute imports in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room):
    for path in modules(room):
        wrong = imported(path) & FORBIDDEN[room]
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_only_the_model_imports_tensorflow_on_its_own():
    for room in ROOMS:
        for path in modules(room):
            found = imported(path, top_level_only=True) & {"tensorflow", "keras"}
            allowed = room == "reference_model" and path.stem in TENSORFLOW_MODULES
            assert allowed or not found, f"{path.relative_to(ROOT)} imports {sorted(found)}"


def test_the_package_of_the_model_imports_nothing():
    assert imported(ROOT / "reference_model" / "__init__.py") <= {"__future__"}


@pytest.mark.parametrize(
    "code",
    [
        "import compliance, compliance.checker, compliance.scoring, compliance.__main__",
        "import harness.__main__, harness.trials",
        "from harness.__main__ import main; main(['--help'])",
        "from harness.__main__ import main; main(['--engine=nothing'])",
        "import harness.trial",
        "import reference_model.cache, reference_model.synthetic, reference_model.sampling",
    ],
)
def test_tensorflow_stays_out(code, tmp_path):
    code += "\nimport sys\nassert not {'tensorflow', 'keras'} & set(sys.modules), 'is in'"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_package_list_is_complete():
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"packages = \[(.*?)\]", text, re.DOTALL).group(1)
    found = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for room in ROOMS
        for path in modules(room)
    }
    assert set(re.findall(r'"([\w.]+)"', listed)) == found
