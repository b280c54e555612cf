"""The devices for which programs are compiled: `v5e`, `h200`, or several: `v5e:4x4`, `h200x8`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import yaml

CHIPS_FILE = Path(__file__).with_name("chips.yaml")
_TARGET = re.compile(r"([a-z]\w*?)(?::(\d+(?:x\d+)+)|x(\d+))?")
# Limits that all these GPUs share; CUDA C++ programming guide, technical specifications.
_GPU_LIMITS = """gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  shared_memory_per_block: 49152
{facts}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{name}"
"""


class TargetError(ValueError):
    """There is no such target; the message is one line."""


@dataclass(frozen=True)
class Chip:
    """A chip of `chips.yaml`, which says what the fields are."""

    id: str
    kind: str
    name: str
    memory: float
    bandwidth: float
    flops: dict[str, float]
    link: float
    clock: float | None
    source: str
    topology: str | None = None
    most_chips: int | None = None
    gpu: dict[str, Any] | None = None


@dataclass(frozen=True)
class Target:
    """One chip or several.

    Attributes:
      name: as the user wrote it.
      chip: the chip.
      topology: the slice of a TPU, in the words of its compiler; "1x1xN" for N GPUs.
      chips: number of chips that run the program together.
    """

    name: str
    chip: Chip
    topology: str
    chips: int

    @property
    def gpu_description(self) -> str:
        """A text-format GpuTargetConfigProto of XLA."""
        chip, facts = self.chip, dict(self.chip.gpu)
        major, minor = facts.pop("compute_capability")
        lines = [f"{key}: {value}" for key, value in facts.items()]
        lines += [
            f"memory_bandwidth: {chip.bandwidth:.0f}",
            f"device_memory_size: {chip.memory:.0f}",
            f"clock_rate_ghz: {chip.clock / 1e9:g}",
            f"cuda_compute_capability {{ major: {major} minor: {minor} }}",
        ]
        return _GPU_LIMITS.format(facts="\n".join(f"  {line}" for line in lines), name=chip.name)


@cache
def chips() -> dict[str, Chip]:
    """Reads the chips, by their short name."""
    entries = yaml.safe_load(CHIPS_FILE.read_text(encoding="utf-8"))
    return {name: Chip(id=name, **entry) for name, entry in entries.items()}


def parse_target(text: str) -> Target:
    """Reads a target.

    Args:
      text: a chip of `chips.yaml`; with a shape, such as `v5e:4x4`, for TPUs, or with a number,
        such as `h200x8`, for GPUs.

    Raises:
      TargetError: the text names no target.
    """
    match = _TARGET.fullmatch(text)
    chip = chips().get(match.group(1)) if match else None
    if chip is None:
        raise TargetError(f"{text}: no such target; use one of {', '.join(chips())}; for several "
                          "chips add a TPU's shape (v5e:4x4) or a number of GPUs (h200x8)")
    shape, number = match.group(2), match.group(3)
    if chip.kind == "tpu":
        if number:
            raise TargetError(f"{text}: a TPU takes a shape, such as {chip.topology}")
        if shape is None:
            return Target(text, chip, chip.topology, 1)
        sizes = [int(size) for size in shape.split("x")]
        if len(sizes) != chip.topology.count("x") + 1 or not 1 <= prod(sizes) <= chip.most_chips:
            raise TargetError(f"{text}: use a shape such as {chip.topology}, of at most "
                              f"{chip.most_chips} chips")
        return Target(text, chip, f"{chip.id}:{shape}", prod(sizes))
    if shape:
        raise TargetError(f"{text}: a GPU takes a number, such as {chip.id}x8")
    count = int(number or 1)
    if not 1 <= count <= 1024:
        raise TargetError(f"{text}: use 1 to 1024 GPUs")
    return Target(text, chip, f"1x1x{count}", count)
