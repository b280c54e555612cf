"""The first records of a log: submitter, run and source."""

from __future__ import annotations

from compliance.chain.attempt_record import ATTEMPT_KEY
from harness.base import page_cache
from harness.config.trial_spec import TrialSpec
from harness.logs import provenance
from reference_model.events import EventSink


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
