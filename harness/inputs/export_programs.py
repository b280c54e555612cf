"""`--export=DIR`: writes the fused engine's programs as StableHLO, for machines without TensorFlow.

`python -m harness.inputs.export_programs` is the child process that traces the programs. It needs
TensorFlow, but neither JAX nor the device.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from harness.base import machine
from harness.config.run_config import RunConfig
from harness.config.trial_spec import TrialSpec, engine_config
from harness.logs.provenance import source_digest
from harness.processes import tensorflow_process
from reference_model.base.errors import DataError
from reference_model.base.progress import Progress
from reference_model.data.split_file import SplitHeader


def run(config: RunConfig, header: SplitHeader, progress: Progress) -> str:
    """Exports the programs in a child process.

    Args:
      config: The settings of the set; `config.export` is the folder.
      header: Header of the dataset, for its sizes.
      progress: Called for each program.

    Returns:
      The digest of the manifest.

    Raises:
      DataError: The programs cannot be traced or written.
    """
    spec = TrialSpec(
        config=config, run=0, seed=0, attempt_log="", result_log="", attempt_record={},
        num_users=header.num_users, num_items=header.num_items,
        num_positives=header.num_positives,
    )  # fmt: skip
    request = {"spec": spec.to_json()}
    found = tensorflow_process.run_in_child("harness.inputs.export_programs", request, progress)
    return found["digest"]


def write_programs(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Traces and writes the programs of a trial.

    Args:
      request: {"spec": a TrialSpec as JSON}.
      progress: Called before each program.

    Returns:
      {"digest": digest of the manifest}.
    """
    from harness.devices.engine_settings import with_device_settings
    from harness.devices.setup import Device
    from reference_model.fused.programs import engine_programs
    from reference_model.pjrt.lowering import lower, versions
    from reference_model.pjrt.program_folder import export_programs

    spec = TrialSpec.from_json(request["spec"])
    device = export_device(spec.config)
    config = with_device_settings(engine_config(spec), Device(device, "", 1), None)
    programs = engine_programs(config, device)
    done = 0

    def lower_next(program: Any) -> bytes:
        nonlocal done
        progress("exporting programs", done, len(programs))
        done += 1
        return lower(program)

    facts = {"track": spec.config.track_name, "source": source_digest(), "versions": versions()}
    folder = Path(spec.config.export)
    try:
        return {"digest": export_programs(folder, config, device, programs, lower_next, facts)}
    except OSError as error:
        raise DataError(f"--export={folder}: {error.strerror or error}") from None


def export_device(config: RunConfig) -> str:
    """Returns the device type for which the programs are made."""
    if config.device != "auto":
        return config.device
    return "gpu" if machine.gpus() else "cpu"


if __name__ == "__main__":
    sys.exit(tensorflow_process.child_main("harness.inputs.export_programs", write_programs))
