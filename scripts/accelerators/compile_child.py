"""The child process that compiles a program: `python -m scripts.accelerators.compile_child`.

It reads a JSON object from standard input and writes the optimized program to a file. Its answer,
also JSON, goes to another file, since compilers write to both outputs.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from scripts.accelerators.settings import Settings, workload
from scripts.accelerators.targets import Target, parse_target

# Without hardware, libtpu must not look for it, and needs no lock on it.
_TPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
}


def devices_of(target: Target) -> list[Any]:
    """Returns JAX's device descriptions for a target; no hardware is used."""
    from jax.experimental import topologies

    if target.chip.kind == "tpu":
        return list(topologies.get_topology_desc(
            platform="tpu", topology_name=target.topology).devices)[: target.chips]
    return list(topologies.get_topology_desc(
        platform="cuda", topology_name="", target_config=target.gpu_description,
        topology=target.topology).devices)


def assembler() -> Path | None:
    """Returns the path of the CUDA assembler of this environment, which JAX's compiler calls."""
    for name in ("nvidia-cuda-nvcc-cu12", "nvidia-cuda-nvcc"):
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.name == "ptxas":
                return Path(file.locate())
    return None


def compiler_name(target: Target) -> str:
    """Returns the compilers' names and versions."""
    if target.chip.kind == "tpu":
        return f"libtpu {importlib.metadata.version('libtpu')}"
    answer = subprocess.run([str(assembler()), "--version"], capture_output=True, text=True)
    release = re.search(r"V(\d[\d.]*)", answer.stdout)
    plugin = importlib.metadata.version("jax-cuda12-pjrt")
    return f"jax-cuda12-pjrt {plugin}, ptxas {release.group(1) if release else 'unknown'}"


def compile_program(request: dict[str, Any]) -> dict[str, Any]:
    """Compiles a program.

    Args:
      request: {"settings", "program": one of PROGRAMS, "target", "code": file of the portable
        artifact, "hlo": where to write the optimized program}.

    Returns:
      {"compiler", "memory": {"arguments", "temporaries", "output"}}, or {"no_target": why the
      compiler has no such target}.
    """
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from reference_model.pjrt.client import jax_platform, lower_artifact

    jax.config.update("jax_enable_x64", True)
    settings, target = Settings.from_json(request["settings"]), parse_target(request["target"])
    program = workload(settings, request["program"]).program
    try:
        mesh = Mesh(np.array(devices_of(target)), ("batch",))
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        return {"no_target": " ".join(str(error).split())[:300]}
    replicated = NamedSharding(mesh, PartitionSpec())
    divided = NamedSharding(mesh, PartitionSpec(None, "batch"))
    shardings = tuple(
        # The order of the examples, [steps, batch size], is divided among the chips. From that
        # XLA derives a data-parallel program.
        divided if target.chips > 1 and spec.shape[1:] == (settings.batch_size,) else replicated
        for spec in program.inputs
    )
    lowered = lower_artifact(
        jax, jax_platform(target.chip.kind), program, Path(request["code"]).read_bytes(), shardings,
        tuple(replicated for _ in program.outputs),
    )
    compiled = lowered.compile()
    Path(request["hlo"]).write_text(compiled.as_text())
    memory = compiled.memory_analysis()
    return {
        "compiler": compiler_name(target),
        "memory": {
            "arguments": int(memory.argument_size_in_bytes),
            "temporaries": int(memory.temp_size_in_bytes),
            # Results that reuse the memory of arguments need none.
            "output": int(memory.output_size_in_bytes - memory.alias_size_in_bytes),
        },
    }


def main() -> int:
    request = json.load(sys.stdin)
    os.environ.update(_TPU_ENVIRONMENT)
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    try:
        answer = compile_program(request)
    except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
        answer = {"error": " ".join(str(error).split())[:400] or type(error).__name__}
    Path(request["answer"]).write_text(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
