"""Makes the text of small HLO modules for the tests."""

from __future__ import annotations

from scripts.accelerators.hlo_text import Instruction, Module, parse
from scripts.accelerators.traffic import Kernel, kernel_of

ADD = """
%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}
"""


def module(*computations: str, entry: str) -> Module:
    """Parses computations, each a header and instructions, with the entry computation last."""
    lines = "\n".join([*computations, f"ENTRY {entry}"]).splitlines()
    return parse("HloModule test\n" + "\n".join(line.strip() for line in lines))


def kernel(module_: Module, name: str, chips: int = 1) -> Kernel:
    """Returns the cost of an instruction of the entry computation."""
    instruction: Instruction = module_.entry.instructions[name]
    return kernel_of(module_, module_.entry, instruction, chips)
