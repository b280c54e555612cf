"""Tests of imports between folders; the compliance checker must not load TensorFlow.

The docstring of each code folder's `__init__.py` lists the imports that its files may use:

    Imports: base, data; numpy, tensorflow (late).

Folders and modules of the same top-level package come before the semicolon, all others after it;
`(late)` means inside functions only. The standard library and the folder's own files are always
allowed.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.paths import ROOT

ROOMS = ("reference_model", "harness", "compliance")
# Packages that a top-level package never imports, even if one of its folders lists them.
FORBIDDEN = {
    "reference_model": {"harness", "compliance", "absl", "mlperf_logging", "time"},
    "compliance": {"harness", "reference_model", "tensorflow", "keras", "absl"},
    "harness": set(),
}
# Folders of the reference model for processes without TensorFlow must not import it.
NUMPY_ONLY = {"base", "ratings", "data", "sampling", "engine_support"}
MOST_MODULES = 12


def packages() -> list[Path]:
    """Returns every code folder, relative to the project."""
    return sorted(
        path.parent.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("__init__.py")
    )


def modules(folder: Path) -> list[Path]:
    return sorted((ROOT / folder).glob("*.py"))


def imported(path: Path) -> list[tuple[str, bool]]:
    """Returns (dotted name, whether at top level) of every import of a file."""
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, top_level: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, top_level) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert not child.level, f"{path} has a relative import"
                # In `from room import module`, the module is what counts.
                in_room = child.module in ROOMS
                names = [f"{child.module}.{a.name}" for a in child.names] if in_room else [child.module]
                found.extend((name, top_level) for name in names)
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            visit(child, top_level and not inside)

    visit(ast.parse(path.read_text(encoding="utf-8")), True)
    return found


def place_of(name: str) -> str:
    """Returns the folder of one of our modules, or the module itself at the top of a package."""
    parts = name.split(".")
    while not (ROOT.joinpath(*parts).is_dir() or ROOT.joinpath(*parts).with_suffix(".py").is_file()):
        parts.pop()
    in_root = len(parts) == 2 or ROOT.joinpath(*parts).is_dir()
    return ".".join(parts if in_root else parts[:-1])


def declared(folder: Path) -> tuple[set[str], set[str]]:
    """Returns (names that the folder's files may import, the subset for functions only)."""
    doc = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text(encoding="utf-8")))
    stated = re.search(r"^Imports: (.*)\.\s*\Z", doc or "", re.DOTALL | re.MULTILINE)
    assert stated, f"the docstring of {folder}/__init__.py does not end with 'Imports: ... .'"
    own, _, others = " ".join(stated[1].split()).rpartition("; ")
    room = folder.parts[0]
    names = {f"{room}.{name}" for name in own.split(", ") if name and not name.startswith("nothing")}
    words = [word for word in others.split(", ") if not word.startswith("nothing")]
    late = {word.removesuffix(" (late)") for word in words if word.endswith(" (late)")}
    return names | {word.removesuffix(" (late)") for word in words}, late


@pytest.mark.parametrize("folder", [f for f in packages() if len(f.parts) > 1], ids=str)
def test_a_folder_imports_what_its_docstring_says(folder):
    allowed, late = declared(folder)
    own = ".".join(folder.parts)
    used = set()
    for path in modules(folder):
        for name, top_level in imported(path):
            package = name.split(".")[0]
            if package in sys.stdlib_module_names:
                continue
            name = place_of(name) if package in ROOMS else package
            if name == own or name.startswith(own + "."):
                continue
            where = f"{path.relative_to(ROOT)} imports {name}"
            assert name in allowed, f"{where}, which {folder}/__init__.py does not allow"
            assert name not in late or not top_level, f"{where} at its top level"
            used.add(name)
    assert used == allowed, f"{folder}/__init__.py lists unused imports: {allowed - used}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room):
    allowed, late = declared(Path(room))
    for folder in (f for f in packages() if f.parts[0] == room):
        for path in modules(folder):
            for name, top_level in imported(path):
                package = name.split(".")[0]
                where = f"{path.relative_to(ROOT)} imports {package}"
                assert package not in FORBIDDEN[room], where
                if package not in sys.stdlib_module_names and package != room:
                    assert package in allowed, f"{where}, which {room}/__init__.py does not allow"
                assert package not in late or not top_level, f"{where} at its top level"


@pytest.mark.parametrize("room", ROOMS)
def test_folders_of_a_room_form_no_circle(room):
    """Counts a subfolder as part of its folder; raises CycleError on a cycle."""
    graph: dict[str, set[str]] = {}
    for path in sorted((ROOT / room).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        source = parts[1]
        for name, _ in imported(path):
            target = name.split(".")
            if target[0] == room and len(target) > 1 and target[1] != source:
                graph.setdefault(source, set()).add(target[1])
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("folder", packages(), ids=str)
def test_a_folder_is_small_enough_to_look_through(folder):
    assert len(modules(folder)) - 1 <= MOST_MODULES


def test_folders_that_the_parent_process_loads_do_without_tensorflow():
    for name in NUMPY_ONLY:
        allowed, _ = declared(Path("reference_model", name))
        assert not {"tensorflow", "keras"} & allowed


def test_the_oracle_imports_nothing_of_the_engine_that_it_is_compared_with():
    allowed, _ = declared(Path("reference_model", "keras_engine"))
    assert not {name for name in allowed if name.startswith("reference_model.fused")}


@pytest.mark.parametrize(
    "code",
    [
        "import compliance, compliance.checking.checker, compliance.results.scoring, "
        "compliance.__main__",
        "import harness.__main__, harness.launcher.run_set",
        "from harness.__main__ import main; main(['--help'])",
        "from harness.__main__ import main; main(['--engine=nothing'])",
        "import harness.trial.run",
        "import reference_model.data.prepare, reference_model.data.synthetic, "
        "reference_model.sampling.negatives",
        "import reference_model.engine, reference_model.engine_support.log_facts",
    ],
)
def test_tensorflow_stays_out(code, tmp_path):
    code += "\nimport sys\nassert not {'tensorflow', 'keras'} & set(sys.modules), 'loaded'"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_package_list_is_complete():
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"packages = \[(.*?)\]", text, re.DOTALL).group(1)
    assert set(re.findall(r'"([\w.]+)"', listed)) == {".".join(f.parts) for f in packages()}
