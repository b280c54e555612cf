"""The pytest plug-in: options and fixtures. docs/regression-tracking.md has an example project.

pytest imports this module in every run, so it imports nothing of this project, TensorFlow or
pytest-benchmark before a fixture is used. Without these fixtures it changes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, NoReturn

import pytest

if TYPE_CHECKING:
    from harness.regression.subject import Subject, Workplace

# Packages whose versions are recorded, because they affect the times.
_PACKAGES = ("neumf-bench", "numpy", "tensorflow", "tensorflow-cpu", "tensorflow-tpu", "keras",
             "jax")  # fmt: skip
_IS_USED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options."""
    group = parser.getgroup("neumf", "neumf-bench: measures a training engine (fixture neumf)")
    group.addoption("--neumf-engine", default="fused", metavar="ENGINE",
                    help="fused (default), reference or module:Class")
    group.addoption("--neumf-track", default="ml-100k", metavar="TRACK",
                    help="a built-in track, or a track file (default: ml-100k)")
    group.addoption("--neumf-data-dir", default=None, metavar="DIR",
                    help="datasets and caches (default: ~/.cache/neumf-bench)")
    group.addoption("--neumf-device", default="cpu", metavar="TYPE",
                    help="device type that the engine is given (default: cpu)")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Adds the calibrations to a run that measures, so that `regress` can use its recording."""
    if not any("neumf" in getattr(item, "fixturenames", ()) for item in items):
        return
    config.stash[_IS_USED] = True
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError(
            "the fixture neumf needs pytest-benchmark; pip install pytest-benchmark"
        )
    from harness.regression import calibration

    # A short node id, so that a recording does not depend on where the package is installed.
    module = pytest.Module.from_parent(
        session, path=Path(calibration.__file__), nodeid="neumf_calibration"
    )
    module.obj = calibration
    items[:0] = [
        pytest.Function.from_parent(module, name=function.__name__, callobj=function)
        for function in calibration.CALIBRATIONS
    ]


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Records the versions of the packages if a test used the fixture neumf."""
    if not config.stash.get(_IS_USED, False):
        return
    from importlib.metadata import PackageNotFoundError, version

    found = machine_info.setdefault("packages", {})
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass


@pytest.fixture(scope="session")
def neumf_settings() -> dict[str, Any]:
    """Fields of EngineConfig that replace the track's; override it in conftest.py."""
    return {}


@pytest.fixture(scope="session")
def _neumf_workplace(
    request: pytest.FixtureRequest, neumf_settings: dict[str, Any]
) -> Iterator[Workplace]:
    """The engine, compiled once for all tests of the session."""
    from harness.engine_conformance import silence_tensorflow
    from harness.regression.subject import SubjectError, open_workplace

    silence_tensorflow()
    option = request.config.getoption
    workplace, problem = None, ""
    try:
        workplace = open_workplace(
            option("--neumf-engine"), option("--neumf-track"), option("--neumf-data-dir"),
            option("--neumf-device"), neumf_settings,
        )  # fmt: skip
    except SubjectError as error:
        problem = str(error)
    if workplace is None:  # outside `except`, so that the user sees one line and no traceback
        _fail(problem)
    yield workplace
    workplace.engine.close()


def _fail(problem: str) -> NoReturn:
    """Fails the test with one line that names the plug-in's option instead of the harness's."""
    pytest.fail(problem.replace("--engine=", "--neumf-engine="), pytrace=False)


@pytest.fixture
def neumf(_neumf_workplace: Workplace, benchmark: Any) -> Subject:
    """Measures the engine: `train_epoch`, `evaluate`, `time_to_train`, `measure`; once a test."""
    from harness.regression.subject import Subject

    return Subject(_neumf_workplace, benchmark)


@pytest.fixture
def neumf_conformance(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Compares the engine with the reference engine: `neumf_conformance(problems=2)`."""
    from harness import engine_conformance
    from harness.config.engine_loader import EngineError

    engine_conformance.silence_tensorflow()
    engine_class, problem = None, ""
    try:
        engine_class = engine_conformance.load_engine(request.config.getoption("--neumf-engine"))
    except EngineError as error:
        problem = str(error)
    if engine_class is None:
        _fail(problem)

    def compare(problems: int = 2) -> None:
        __tracebackhide__ = True
        for seed in range(problems):
            config, split = engine_conformance.numbered_problem(seed)
            findings = engine_conformance.compare_with_reference(engine_class, config, split, seed)
            wrong = [f"{finding.quantity} differs by {finding.difference:.3g} (allowed "
                     f"{finding.allowed:.3g})" for finding in findings if not finding.is_ok]
            assert not wrong, f"problem {seed + 1}: {'; '.join(wrong)}"

    return compare
