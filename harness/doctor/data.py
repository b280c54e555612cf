"""The track's dataset: at hand, or reachable."""

from __future__ import annotations

from pathlib import Path

from harness.config.run_config import RunConfig
from harness.config.trial_spec import dataset_spec
from harness.doctor.findings import NOT_FIT, OK, UNKNOWN, Finding
from reference_model.base.errors import DataError
from reference_model.data.availability import local_source, remote_source


def examine_data(config: RunConfig) -> Finding:
    """Returns the finding about the dataset of the track."""
    if config.synthetic_batches:
        return Finding(OK, "data", "none is needed (--synthetic_batches)")
    name = config.track.dataset.name
    if config.data_url:
        return Finding(UNKNOWN, "data", f"{name} at {config.data_url} is not looked for",
                       "--prepare_only gets it before the first run")  # fmt: skip
    spec, folder = dataset_spec(config.track), Path(config.data_dir)
    try:
        local = local_source(spec, folder)
    except DataError as error:
        return Finding(NOT_FIT, "data", f"{name}: {error}", "follow the message")
    if local is not None:
        return Finding(OK, "data", f"{name}: {local}")
    remote, failures = remote_source(spec)
    if remote is not None:
        note = f" ({failures})" if failures else ""
        return Finding(OK, "data", f"{name} is not in {folder}; it {remote}{note}")
    return Finding(NOT_FIT, "data", f"{name} is not in {folder}, and cannot be fetched: {failures}",
                   "put its files there (docs/running.md), or give their --data_dir")  # fmt: skip
