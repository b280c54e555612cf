"""Reads the text of an optimized HLO module: computations, instructions, shapes.

The grammar is that of `HloModule::ToString` in XLA. Only the parts that affect the cost are parsed:
shapes with layouts, operands, called computations and a few attributes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Iterator

_BITS = {
    "pred": 8, "s2": 2, "u2": 2, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16,
    "s32": 32, "u32": 32, "s64": 64, "u64": 64, "bf16": 16, "f16": 16, "f32": 32, "f64": 64,
    "c64": 64, "c128": 128, "token": 0, "opaque": 0,
}  # fmt: skip
_SHAPE = re.compile(r"([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = ")
_COMMENT = re.compile(r"/\*.*?\*/")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)"
)


# Instructions that run a computation as one kernel.
CALLS = ("fusion", "fusion-start", "async-start", "call")


class HloError(ValueError):
    """The text is not that of an HLO module; the message is one line."""


@dataclass(frozen=True)
class Shape:
    """The shape of one array.

    Attributes:
      dtype: XLA's name of the element type.
      dims: the sizes of the dimensions.
      order: the dimensions from the most minor to the most major one.
      tile: the sizes of the first tile of the layout; () if it has none.
      memory_space: 0 is the device's main memory, 1 the vector memory of a TPU, 5 the host's;
        others occur.
    """

    dtype: str
    dims: tuple[int, ...]
    order: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    memory_space: int = 0

    @cached_property
    def elements(self) -> int:
        """Number of elements, without padding."""
        count = 1
        for size in self.dims:
            count *= size
        return count

    @cached_property
    def bytes(self) -> int:
        """Bytes in memory; a layout with tiles pads the minor dimensions to whole tiles."""
        sizes = [self.dims[k] for k in reversed(self.order)] if self.order else list(self.dims)
        for k, tile in enumerate(reversed(self.tile), 1):
            if k <= len(sizes):
                sizes[-k] = -(-sizes[-k] // tile) * tile
        count = 1
        for size in sizes:
            count *= size
        return -(-count * element_bits(self.dtype) // 8)


def element_bits(dtype: str) -> int:
    """Returns the bits of an element; numbers of 8 bits have many names (f8e4m3fn, ...)."""
    return _BITS.get(dtype, 8)


@dataclass
class Instruction:
    """One instruction.

    Attributes:
      name: its name, without "%".
      opcode: such as "fusion".
      shapes: the shape of the result; those of all leaves if it is a tuple.
      is_tuple: whether the result is a tuple.
      operands: the names of the operands.
      attributes: the text after the operands.
      literal: the text between the parentheses, for constants and parameters.
    """

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    is_tuple: bool
    operands: tuple[str, ...]
    attributes: str
    literal: str = ""

    @cached_property
    def called(self) -> tuple[str, ...]:
        """The names of the computations that it calls, in the order of the text."""
        names = list(_CALLED.findall(self.attributes))
        if branches := re.search(r"branch_computations=\{([^}]*)\}", self.attributes):
            names += [name.strip().lstrip("%") for name in branches.group(1).split(",")]
        return tuple(names)

    def attribute(self, name: str) -> str | None:
        """Returns the value of an attribute in braces or of one word; None if it is missing."""
        found = re.search(rf"\b{name}=(\{{[^}}]*\}}|[^\s,]+)", self.attributes)
        return found.group(1).strip("{}") if found else None

    def integers(self, name: str) -> tuple[int, ...]:
        """Returns the integers of an attribute such as `dimensions={0,1}`."""
        return tuple(int(x) for x in re.findall(r"\d+", self.attribute(name) or ""))

    @property
    def op_name(self) -> str:
        """The name that the framework gave to the operation; "" if it is missing."""
        found = re.search(r'\bop_name="([^"]*)"', self.attributes)
        return found.group(1) if found else ""

    @property
    def estimated_cycles(self) -> int:
        """The cycles that the TPU's compiler estimates; 0 if it names none."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.attributes)
        return int(found.group(1)) if found else 0


@dataclass
class Computation:
    """A computation: instructions in the order of the text, by name."""

    name: str
    instructions: dict[str, Instruction] = field(default_factory=dict)
    root_name: str = ""

    @property
    def root(self) -> Instruction:
        """The instruction whose result is that of the computation."""
        return self.instructions[self.root_name]

    @cached_property
    def parameters(self) -> tuple[Instruction, ...]:
        """The parameters, by their number."""
        found = [x for x in self.instructions.values() if x.opcode == "parameter"]
        return tuple(sorted(found, key=lambda x: int(x.literal)))

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """The instructions that take each instruction as an operand."""
        found: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self.instructions.values():
            for name in set(instruction.operands):
                if name in found:
                    found[name].append(instruction)
        return found

    def operands(self, instruction: Instruction) -> Iterator[Instruction]:
        """Yields the operands of an instruction."""
        for name in instruction.operands:
            yield self.instructions[name]


@dataclass
class Module:
    """An HLO module: computations by name."""

    computations: dict[str, Computation]
    entry: Computation

    def called(self, instruction: Instruction, role: str | None = None) -> Computation:
        """Returns the computation that an instruction calls.

        Args:
          instruction: the instruction.
          role: the attribute that names it, such as "body"; None for the first one.
        """
        name = instruction.attribute(role).lstrip("%") if role else instruction.called[0]
        return self.computations[name]


def parse_shapes(text: str) -> tuple[Shape, ...]:
    """Reads the shapes of an array or of the leaves of a tuple."""
    return tuple(_shape(*match) for match in _SHAPE.findall(text))


def _shape(dtype: str, dims: str, layout: str) -> Shape:
    order, _, tiling = layout.partition(":")
    tile = re.search(r"T\(([\d,]+)\)", tiling)
    space = re.search(r"S\((\d+)\)", tiling)
    return Shape(
        dtype,
        _integers(dims),
        _integers(order),
        _integers(tile.group(1)) if tile else (),
        int(space.group(1)) if space else 0,
    )


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(x) for x in re.findall(r"\d+", text))


def parse(text: str) -> Module:
    """Reads a module.

    Args:
      text: the module as `Compiled.as_text` of JAX returns it.

    Raises:
      HloError: the text has no entry computation, or an instruction cannot be read.
    """
    computations: dict[str, Computation] = {}
    entry = current = None
    for line in text.splitlines():
        if current is None:
            if match := _HEADER.match(line):
                current = computations[match.group(2)] = Computation(match.group(2))
                entry = current if match.group(1) else entry
        elif line.startswith("}"):
            current = None
        elif match := _INSTRUCTION.match(line):
            instruction = _parse_instruction(match.group(2), line[match.end() :])
            current.instructions[instruction.name] = instruction
            if match.group(1):
                current.root_name = instruction.name
    if entry is None:
        raise HloError("the text has no entry computation: it is not an HLO module")
    return Module(computations, entry)


def _parse_instruction(name: str, text: str) -> Instruction:
    text = _COMMENT.sub("", text)
    is_tuple = text.startswith("(")
    end = _closing(text, 0) + 1 if is_tuple else text.find(" ")
    kind, rest = text[:end], text[end:].lstrip()
    opening = rest.find("(")
    if end < 1 or opening < 0:
        raise HloError(f"cannot read the HLO instruction %{name}")
    closing = _closing(rest, opening)
    opcode, inner, attributes = rest[:opening], rest[opening + 1 : closing], rest[closing + 1 :]
    operands = () if opcode in ("constant", "parameter") else _operands(inner)
    return Instruction(name, opcode, parse_shapes(kind), is_tuple, operands, attributes, inner)


def _operands(text: str) -> tuple[str, ...]:
    # Operands are "%name", preceded by their shape in the long form.
    found = re.findall(r"%([\w.\-]+)", text)
    return tuple(found or [x.split()[-1] for x in text.split(",") if x.strip()])


def _closing(text: str, start: int) -> int:
    """Returns the position of the parenthesis that closes the one at `start`."""
    depth, is_quoted = 0, False
    for k in range(start, len(text)):
        char = text[k]
        if char == '"' and text[k - 1] != "\\":
            is_quoted = not is_quoted
        elif is_quoted:
            continue
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth == 0:
                return k
    raise HloError(f"unbalanced parentheses: {text[:60]}")
