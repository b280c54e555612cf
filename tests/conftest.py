"""Shared fixtures and the --slow option.

The project contains no real data. A test that needs real data is skipped, with a reason, if the
data is missing.
"""

from __future__ import annotations

import os
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from reference_model.base.errors import DataError
from reference_model.data.sources import DatasetSpec, locate_dataset
from tests.support.paths import ROOT


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the slow tests")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes long; runs with --slow only")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """$NEUMF_SHARED, or the folder `shared` beside the checkout."""
    folder = Path(os.environ.get("NEUMF_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set NEUMF_SHARED to the shared folder")
    return folder


def track_spec(name: str) -> DatasetSpec:
    """The dataset of a built-in track."""
    from compliance.tracks import load_track

    values = asdict(load_track(name).dataset)
    return DatasetSpec(**{f.name: values[f.name] for f in fields(DatasetSpec)})


def _packaged(name: str) -> Path:
    """Returns the dataset's file, downloaded into the user's cache if it is missing."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("NEUMF_DATA_DIR") or Path(cache) / "neumf-bench")
    try:
        return locate_dataset(track_spec(name), folder)
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def ml_100k_file() -> Path:
    """A MovieLens 100K ratings file, in any supported format."""
    return _packaged("ml-100k")


@pytest.fixture(scope="session")
def ml_1m_file() -> Path:
    """A MovieLens 1M ratings file, in any supported format."""
    return _packaged("ml-1m")


@pytest.fixture
def server():
    """A local web server that serves a toy archive."""
    from tests.support.archives import Server

    server = Server()
    yield server
    server.close()
