"""The devices and the runtime of a run, found by a child process."""

from __future__ import annotations

import importlib.util
from typing import Any

from compliance.cli.requirements import install_command
from harness.config.engine_loader import EngineError, check_engine_name
from harness.config.run_config import ConfigError, RunConfig
from harness.devices import tf_config, tpu
from harness.devices.runtime import TENSORFLOW, check_runtime, choose_runtime
from harness.doctor.findings import NOT_FIT, NOTE, OK, UNKNOWN, Finding
from harness.processes.child_process import child_environment, run_child
from reference_model.base.errors import DataError

_CHILD = "harness.doctor.device_process"


def examine_devices(config: RunConfig) -> list[Finding]:
    """Returns the findings about engine, runtime, devices and bfloat16.

    A child process sets the devices up as a run does, so it takes the seconds in which TensorFlow
    or JAX starts.
    """
    try:
        check_engine_name(config.engine, config.programs is None)
        cluster = tf_config.read_cluster(config)
        check_runtime(config, cluster is not None)
        if config.device == "tpu":
            tpu.check_addresses(config)
    except (ConfigError, DataError, EngineError, tf_config.ClusterError) as error:
        return [Finding(NOT_FIT, "device", str(error), "follow the message")]
    if cluster is not None and cluster.num_workers > 1:
        return [Finding(UNKNOWN, "device", f"{cluster.num_workers} workers by TF_CONFIG are not "
                        "asked", "unset TF_CONFIG to examine this machine alone")]  # fmt: skip
    runtime = choose_runtime(config)
    if runtime == TENSORFLOW and importlib.util.find_spec("tensorflow") is None:
        return [Finding(NOT_FIT, "device", "TensorFlow is not installed", install_command("cpu"))]
    answer = _ask_child(config)
    if answer.get("error"):
        return [Finding(NOT_FIT, "device", answer["error"], "see docs/devices.md")]
    findings = [Finding(OK, "device", answer["device"]),
                Finding(OK, "engine", f"{config.engine}, runtime {answer['runtime']}")]
    return [*findings, _bfloat16(config, answer)]


def _ask_child(config: RunConfig) -> dict[str, Any]:
    """Returns the child's answer, or {"error": one line}."""
    environment = {**child_environment(), "PYTHONDONTWRITEBYTECODE": "1"}
    result = run_child(_CHILD, {"config": config.to_json()}, environment)
    if result.message.get("type") == "found":
        return result.message
    if result.message.get("type") == "failed":
        return {"error": result.message.get("message") or "no reason was given"}
    how = f"by signal {-result.returncode}" if result.returncode < 0 else \
        f"with exit code {result.returncode}"  # fmt: skip
    return {"error": f"the process that sets the devices up ended {how}: {result.output_line}"}


def _bfloat16(config: RunConfig, answer: dict[str, Any]) -> Finding:
    """Returns the finding about products of bfloat16 operands."""
    if answer["kind"] != "cpu":
        return Finding(OK, "bfloat16", f"{answer['kind']} devices multiply bfloat16 operands")
    if answer["bfloat16"] is None:
        return Finding(UNKNOWN, "bfloat16", "measured for the fused engine on one CPU only")
    if answer["bfloat16"]:
        return Finding(OK, "bfloat16", "this CPU multiplies bfloat16 operands faster than float32")
    if config.precision != "bfloat16":
        return Finding(OK, "bfloat16", "this CPU has no fast products of bfloat16 operands")
    return Finding(NOTE, "bfloat16", "this CPU has no fast products of bfloat16 operands",
                   "--precision=float32 is as fast")  # fmt: skip
