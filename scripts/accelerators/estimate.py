"""What a compiled program costs on a target, and the bound that follows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripts.accelerators.hlo_text import parse
from scripts.accelerators.program_cost import ATOMICS, CACHE_HITS, StepCost, step_cost
from scripts.accelerators.settings import Settings, workload
from scripts.accelerators.source_lines import find_line
from scripts.accelerators.tables import used_bytes
from scripts.accelerators.targets import Target
from scripts.accelerators.traffic import Kernel

LARGEST_KERNELS = 10


def estimate(
    target: Target, settings: Settings, name: str, answer: dict[str, Any], hlo: Path, sources: Path
) -> dict[str, Any]:
    """Describes a compiled program.

    Args:
      target: the target.
      settings: the settings.
      name: "training" or "evaluation".
      answer: that of `compile_child.compile_program`, or {"error"}.
      hlo: the optimized program.
      sources: the names of operations and their lines, from `lower_child`.

    Returns:
      The object that `--format json` prints; docs/accelerators.md explains its fields.
    """
    result = {
        "target": target.name,
        "program": name,
        "track": settings.track,
        "precision": settings.precision,
        "batch_size": settings.batch_size,
        "compiler": answer.get("compiler"),
    }
    if "error" in answer:
        return {**result, "fits": False, "error": answer["error"], **dict.fromkeys(
            ("memory", "kernels", "bytes_per_example", "flops_per_example",
             "copied_bytes_per_example", "collective_bytes_per_example", "estimated_cycles",
             "bound_examples_per_s", "limited_by")), "host_transfers": [], "bounds": {},
            "not_counted": [], "largest_kernels": []}  # fmt: skip
    work = workload(settings, name)
    has_cycles = target.chip.kind == "tpu"
    cost = step_cost(
        parse(hlo.read_text()), work.steps_per_call, target.chips, is_gpu=not has_cycles
    )
    bounds = bounds_of(target, settings.precision, cost, work.examples)
    limited_by = min(bounds, key=bounds.get)
    memory = {**answer["memory"], "limit": int(target.chip.memory)}
    per_example = target.chips / work.examples
    lines = json.loads(sources.read_text())
    return {
        **result,
        "fits": used_bytes(memory) <= memory["limit"],
        "memory": memory,
        "kernels": None if has_cycles else round(cost.kernels),
        "bytes_per_example": round(cost.bytes * per_example, 1),
        "flops_per_example": round(cost.flops * per_example),
        "copied_bytes_per_example": round(_copied_bytes(cost) * per_example, 1),
        "collective_bytes_per_example": round(cost.collective_bytes * per_example, 1),
        "estimated_cycles": round(cost.cycles) if has_cycles else None,
        "bound_examples_per_s": round(bounds[limited_by]),
        "limited_by": limited_by,
        "bounds": {key: round(value) for key, value in bounds.items()},
        "host_transfers": cost.host_transfers,
        "not_counted": not_counted(target, cost),
        "largest_kernels": [
            _describe(kernel, times, work.examples / target.chips, lines)
            for kernel, times in cost.largest(LARGEST_KERNELS)
        ],
    }


def bounds_of(target: Target, precision: str, cost: StepCost, examples: int) -> dict[str, float]:
    """Returns the examples/s that each resource allows, of all chips together.

    Args:
      target: the target.
      precision: that of the products.
      cost: the cost of a step on one chip.
      examples: examples of a step on all chips.
    """
    chip = target.chip
    seconds = {
        "bandwidth": cost.bytes / chip.bandwidth,
        "products": cost.flops / chip.flops[precision],
        "interconnect": cost.collective_bytes / chip.link,
    }
    if chip.kind == "tpu" and chip.clock:
        seconds["cycles"] = cost.cycles / chip.clock
    return {name: examples / value for name, value in seconds.items() if value}


def not_counted(target: Target, cost: StepCost) -> list[str]:
    """Returns what the figures leave out."""
    words = set(cost.not_counted)
    if target.chip.kind == "gpu":
        words.add("autotuning, which needs the GPU")
        words.add("the time to launch kernels")
    else:
        words -= {ATOMICS, CACHE_HITS}
        words.add("cycles of copies between memories")
        words.add("cycles of gathers and scatters")
        if target.chip.clock is None:
            words.add("the estimate by cycles, since the clock is not published")
    return sorted(words)


def _copied_bytes(cost: StepCost) -> float:
    return sum(times * kernel.bytes for kernel, times in cost.runs if kernel.only_moves)


def _describe(kernel: Kernel, times: float, examples: float, lines: dict) -> dict[str, Any]:
    sources = (find_line(lines, name) for name in kernel.op_names)
    return {
        "name": kernel.instruction.name,
        "operation": kernel.main.opcode,
        "runs": round(times, 3),
        "bytes_per_example": round(times * kernel.bytes / examples, 1),
        "flops_per_example": round(times * kernel.flops / examples),
        "result": [f"{s.dtype}[{','.join(map(str, s.dims))}]" for s in kernel.instruction.shapes],
        "source": next(filter(None, sources), None),
    }
