"""The first records of a log: submitter, run, source and runtime."""

from __future__ import annotations

from compliance.chain.attempt_record import ATTEMPT_KEY
from harness.base import page_cache
from harness.config.trial_spec import TrialSpec
from harness.devices.setup import Device
from harness.logs import provenance
from harness.processes.parent_pipe import ParentPipe
from reference_model.events import EventSink
from reference_model.pjrt.program_folder import ProgramFolder


def log_submission(sink: EventSink, spec: TrialSpec) -> None:
    """Logs the submission, clears the system's caches if asked, logs the provenance.

    These are the first records of a log, written before devices are set up.

    Args:
      sink: The run's log.
      spec: The trial.
    """
    config = spec.config
    sink.point("submission_benchmark", "ncf")
    sink.point("submission_org", config.org)
    sink.point("submission_division", config.division)
    sink.point("submission_status", "onprem")
    sink.point("submission_platform", config.system)
    sink.point("track", config.track_name)
    sink.point("seed", spec.seed, deterministic=config.deterministic)
    sink.point(ATTEMPT_KEY, spec.attempt_record)
    cleared = page_cache.clear(config.clear_caches)
    sink.point("cache_clear", cleared.done, reason=cleared.reason)
    provenance.log_provenance(sink, config)


def log_runtime(
    sink: EventSink, parent: ParentPipe, device: Device, exported: ProgramFolder | None
) -> None:
    """Logs the runtime, and for PJRT its client and the digest of exported programs.

    Args:
      sink: The run's log.
      parent: Receives a note if the programs were exported from another source.
      device: The device of the run.
      exported: The exported programs of the run, if any.
    """
    metadata = {}
    if device.pjrt_client is not None:
        metadata["client"] = device.pjrt_client.version
    if exported is not None:
        metadata |= {"programs": exported.digest, "programs_source": exported.source}
        if exported.source != provenance.source_digest():
            parent.send("note", text="the programs were exported from another source")
    sink.point("runtime", device.runtime, **metadata)
