"""What one run of a fused computation reads of its parameters and writes.

A kernel reads only the operand elements that its result needs: a gather reads the gathered rows, a
slice reads the sliced part, an elementwise operation reads as many elements as its own result must
provide. A scatter reads and writes the rows that it changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from scripts.accelerators.hlo_text import Computation, Instruction, Module, Shape

# Updates that a warp of a GPU takes in a scatter with sorted indices; seen with jaxlib 0.10.
_WARP_UPDATES = 8
# Operations that demand all of their operands, whatever part of their result is demanded.
_WHOLE = {"dot", "convolution", "reduce", "reduce-window", "sort", "scan", "custom-call", "rng"}
# Operations of which each element demands one element of each operand.
_VIEW = {"reshape", "bitcast", "transpose", "copy", "reverse", "get-tuple-element"}


class Demand(NamedTuple):
    """How many elements of a value are read.

    Attributes:
      once: elements read once, at most the size of the array.
      rows: elements read by gathers, counted each time.
    """

    once: int = 0
    rows: int = 0

    def __add__(self, other: "Demand") -> "Demand":
        return Demand(self.once + other.once, self.rows + other.rows)

    def at_most(self, elements: int) -> "Demand":
        return Demand(min(self.once, elements), self.rows)

    @property
    def total(self) -> int:
        return self.once + self.rows


@dataclass
class Access:
    """What one run of a fused computation reads of its parameters and writes.

    Attributes:
      reads: bytes read of each parameter.
      read_extra: further bytes read: rows that a scatter changes in place.
      written: bytes written.
    """

    reads: list[int]
    read_extra: int = 0
    written: int = 0


def main_memory(shapes: tuple[Shape, ...]) -> int:
    return sum(shape.bytes for shape in shapes if not shape.memory_space)


def access_of(module: Module, fused: Computation) -> Access:
    """Computes what one run of a fused computation reads and writes."""
    demands: dict[str, Demand] = {}
    access = Access([0] * len(fused.parameters))
    for leaf in _leaves(fused):
        whole = Demand(leaf.shapes[0].elements if leaf.shapes else 0)
        if leaf.opcode == "fusion":  # the compiler of TPUs nests fusions
            inner = access_of(module, module.called(leaf))
            access.written += inner.written
            access.read_extra += inner.read_extra
        # Operations that change their first operand in place write only a part of it.
        elif leaf.opcode == "dynamic-update-slice":
            update = fused.instructions[leaf.operands[1]]
            access.written += _sized(leaf.shapes[0], update.shapes[0].elements)
        elif leaf.opcode == "scatter":
            moved = _sized(leaf.shapes[0], _changed_elements(fused, leaf))
            access.written += moved
            if module.called(leaf).root.opcode != "parameter":
                access.read_extra += moved  # it adds to the rows
        elif leaf.opcode != "parameter":
            access.written += main_memory(leaf.shapes)
        demands[leaf.name] = demands.get(leaf.name, Demand()) + whole
    # From the results back: in the text, an instruction follows its operands.
    for instruction in reversed(list(fused.instructions.values())):
        demand = demands.get(instruction.name, Demand())
        if demand.total:
            elements = sum(shape.elements for shape in instruction.shapes)
            _ask(module, fused, instruction, demand.at_most(max(elements, 1)), demands)
    for number, parameter in enumerate(fused.parameters):
        demand = demands.get(parameter.name, Demand())
        if not parameter.is_tuple and parameter.shapes:
            shape = parameter.shapes[0]
            access.reads[number] = _sized(shape, demand.at_most(shape.elements).total)
        elif demand.total:
            access.reads[number] = main_memory(parameter.shapes)
    return access


def _changed_elements(fused: Computation, scatter: Instruction) -> int:
    """Counts the elements that a scatter reads and writes in memory.

    With sorted indices, XLA's kernel for GPUs adds up neighbouring updates of the same row in
    registers. A row is then changed once for each group of updates that a warp takes, at least
    _WARP_UPDATES, and once for each row.
    """
    updates = fused.instructions[scatter.operands[-1]].shapes[0].elements
    if scatter.attribute("indices_are_sorted") != "true":
        return updates
    return min(updates, updates // _WARP_UPDATES + scatter.shapes[0].elements)


def _leaves(fused: Computation) -> list[Instruction]:
    """Returns the instructions whose results the computation returns, views resolved."""
    root = fused.root
    names = root.operands if root.opcode == "tuple" else (fused.root_name,)
    leaves = []
    for name in names:
        leaf = fused.instructions[name]
        while leaf.opcode == "bitcast":
            leaf = fused.instructions[leaf.operands[0]]
        leaves.append(leaf)
    return leaves


def _sized(shape: Shape, elements: int) -> int:
    """Returns the bytes of some elements of an array, with their part of the padding."""
    if shape.memory_space or not shape.elements:
        return 0
    return round(shape.bytes * elements / shape.elements)


def _ask(module, fused: Computation, instruction: Instruction, demand: Demand, demands) -> None:
    """Adds to `demands` the elements that an instruction reads of each operand."""

    def ask(name: str, wanted: Demand) -> None:
        demands[name] = demands.get(name, Demand()) + wanted

    def all_of(name: str) -> Demand:
        return Demand(sum(shape.elements for shape in fused.instructions[name].shapes))

    opcode, operands = instruction.opcode, instruction.operands
    if not operands:
        return
    if opcode == "gather":
        ask(operands[0], Demand(0, demand.total))
        share = demand.total / max(instruction.shapes[0].elements, 1)
        ask(operands[1], Demand(round(all_of(operands[1]).once * min(share, 1))))
    elif opcode in ("dynamic-slice", "slice"):
        ask(operands[0], demand)
        for name in operands[1:]:
            ask(name, Demand(1))
    elif opcode in ("dynamic-update-slice", "scatter"):
        is_in_place = any(leaf.name == instruction.name for leaf in _leaves(fused))
        if not is_in_place:
            ask(operands[0], all_of(operands[0]))
        for name in operands[1:]:
            ask(name, all_of(name))
    elif opcode == "fusion":
        inner = module.called(instruction)
        for name, parameter, read in zip(
            operands, inner.parameters, access_of(module, inner).reads
        ):
            size = max(main_memory(parameter.shapes), 1)
            ask(name, Demand(0, round(all_of(name).once * read / size)))
    elif opcode in _WHOLE:
        for name in operands:
            ask(name, all_of(name))
    elif opcode in _VIEW:
        ask(operands[0], demand)
    else:
        # Elementwise operations, pads, broadcasts: as much as is needed, at most all.
        for name in operands:
            ask(name, Demand(min(demand.once, all_of(name).once), demand.rows
                             if all_of(name).once > 1 else 0))
