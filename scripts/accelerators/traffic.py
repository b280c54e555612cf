"""What the instructions of an optimized HLO program read, write and compute.

Bytes are those in the main memory of the device. Values that the compiler keeps in a TPU's vector
memory move no bytes; padding of tiled layouts does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from scripts.accelerators.access import access_of, main_memory
from scripts.accelerators.hlo_text import (
    CALLS,
    Computation,
    Instruction,
    Module,
    Shape,
    element_bits,
)
from scripts.accelerators.products import flops_of

# Instructions that move nothing: names for values, and ends of what a "-start" began.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "opt-barrier", "domain", "add-dependency",
}  # fmt: skip
# Custom calls that are notes to the compiler.
_FREE_TARGETS = {
    '"AllocateBuffer"', '"AssumeGatherIndicesInBound"', '"ConcatBitcast"', '"Sharding"',
}  # fmt: skip
_COLLECTIVES = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
    "collective-broadcast", "ragged-all-to-all",
)  # fmt: skip
# Operations that read a part of an operand, or write a part of their result.
_PARTIAL = ("gather", "scatter", "dynamic-slice", "dynamic-update-slice", "slice")
# Sorts that XLA leaves to CUB: one or two arrays, integers as keys.
_RADIX_KEYS = {"u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64"}
_SMALLEST_RADIX_SORT = 16_385  # XLA, sort_rewriter.cc
_MOVES = {"copy", "pad", "concatenate", "slice", "transpose", "reshape", "reverse", "convert"}


@dataclass(frozen=True)
class Kernel:
    """The cost of one instruction of a scheduled computation, each time that it runs.

    Attributes:
      instruction: the instruction.
      main: the operation that dominates it: of a fusion, the product, scatter or gather in it.
      read, written: bytes from and to the main memory.
      flops: floating-point operations of matrix products.
      collective_bytes: bytes that a chip sends to others.
      cycles: the compiler's estimate; 0 if it has none.
      op_names: the framework's names of the operations in it, the most important one first.
      only_moves: whether it only moves or converts data: a copy, a pad, a slice, a transpose.
      launches: how many kernels a GPU launches for it.
    """

    instruction: Instruction
    main: Instruction
    read: int
    written: int
    flops: int = 0
    collective_bytes: float = 0
    cycles: int = 0
    op_names: tuple[str, ...] = ()
    only_moves: bool = False
    launches: int = 1

    @property
    def bytes(self) -> int:
        """Bytes read and written."""
        return self.read + self.written


def is_free(instruction: Instruction) -> bool:
    """Whether an instruction moves nothing and launches nothing."""
    if instruction.opcode in _FREE or instruction.opcode.endswith(("-done", "-update")):
        return True
    return (
        instruction.opcode == "custom-call"
        and instruction.attribute("custom_call_target") in _FREE_TARGETS
    )


def kernel_of(
    module: Module, scope: Computation, instruction: Instruction, chips: int = 1
) -> Kernel:
    """Returns the cost of an instruction that is neither free nor control flow.

    Args:
      module: the module.
      scope: the computation of the instruction.
      instruction: the instruction.
      chips: number of chips among which collectives exchange.
    """
    operands = list(scope.operands(instruction))
    opcode = instruction.opcode.removesuffix("-start")
    fused = _fused(module, instruction, operands)
    if fused is not None:
        access = access_of(module, fused)
        read = sum(
            n for n, operand in zip(access.reads, operands) if not _is_fast(operand)
        ) + access.read_extra
        written = access.written
        main = main_operation(module, fused)
    elif opcode in ("copy", "slice") and instruction.opcode.endswith("-start"):
        read, written, main = *_asynchronous(instruction, opcode), instruction
    else:
        read = sum(main_memory(operand.shapes) for operand in operands)
        written, main = main_memory(_results(instruction)), instruction
    return Kernel(
        instruction,
        main,
        read,
        written,
        flops_of(module, scope, instruction),
        _sent(instruction, opcode, operands, chips),
        instruction.estimated_cycles,
        _op_names(main, instruction, fused),
        _only_moves(module, instruction),
    )


def as_radix_sort(kernel: Kernel) -> Kernel:
    """Returns the cost of a sort by CUB's radix sort, if XLA uses it on a GPU.

    XLA needs the GPU to compile that call. Without one it takes a bitonic sort, of many more kernels.
    CUB's one-sweep sort takes 8 bits of the keys in a pass, which reads and writes keys and values,
    after a histogram, which reads the keys, and a prefix sum (Adinets and Merrill 2022, "Onesweep: A
    faster least significant digit radix sort for GPUs").
    """
    shapes = kernel.main.shapes
    is_radix = (
        kernel.main.opcode == "sort" and len(shapes) <= 2
        and all(len(shape.dims) == 1 for shape in shapes)
        and shapes[0].dtype in _RADIX_KEYS and shapes[0].elements >= _SMALLEST_RADIX_SORT
    )  # fmt: skip
    if not is_radix:
        return kernel
    passes = element_bits(shapes[0].dtype) // 8
    each = sum(shape.bytes for shape in shapes)
    # Keys and values are computed or copied before the first pass.
    return replace(
        kernel,
        read=kernel.read + shapes[0].bytes + passes * each,
        written=kernel.written + passes * each,
        launches=passes + 3,
    )


def _fused(module: Module, instruction: Instruction, operands: list) -> Computation | None:
    """Returns the computation of a fusion; makes one of a partial operation outside a fusion."""
    if instruction.opcode in CALLS:
        return module.called(instruction)
    if instruction.opcode not in _PARTIAL:
        return None
    alone = Computation("alone", {x.name: _parameter(k, x) for k, x in enumerate(operands)})
    alone.instructions[instruction.name] = instruction
    alone.root_name = instruction.name
    return alone


def _op_names(
    main: Instruction, instruction: Instruction, fused: Computation | None
) -> tuple[str, ...]:
    inside = reversed(list(fused.instructions.values())) if fused else ()
    return tuple(x.op_name for x in (main, instruction, *inside) if x.op_name)


def _only_moves(module: Module, instruction: Instruction) -> bool:
    """Whether an instruction writes values that it read, and nothing else.

    Asynchronous copies between the memories of a TPU are no copies in this sense: a kernel that
    follows reads the values. Copies by another core, "call-start", are.
    """
    if instruction.opcode not in (*CALLS, "call-start"):
        return instruction.opcode in _MOVES
    inner = [
        x for x in module.called(instruction).instructions.values()
        if not is_free(x)
    ]  # fmt: skip
    return bool(inner) and all(_only_moves(module, x) for x in inner)


def _is_fast(operand: Instruction) -> bool:
    return bool(operand.shapes) and all(shape.memory_space for shape in operand.shapes)


def _results(instruction: Instruction) -> tuple[Shape, ...]:
    # The second result of a library call on a GPU is its workspace.
    is_library_call = instruction.opcode == "custom-call" and instruction.is_tuple
    shapes = instruction.shapes
    if instruction.opcode.endswith("-start") and len(shapes) > len(instruction.operands):
        # The operands are among the results of an operation that runs beside others.
        return tuple(shape for shape in shapes[len(instruction.operands) :] if shape.dims)
    if is_library_call and len(shapes) > 1 and shapes[-1].dtype in ("s8", "u8"):
        return shapes[:-1]
    return shapes


def _asynchronous(instruction: Instruction, opcode: str) -> tuple[int, int]:
    """Bytes of a copy between memories that runs beside the kernels.

    The results are (destination, source, context) of a copy, ((source), destination, context) of
    a slice.
    """
    destination, source = instruction.shapes[:2] if opcode == "copy" else (
        instruction.shapes[1], instruction.shapes[0])  # fmt: skip
    moved = destination.bytes
    return moved * (not source.memory_space), moved * (not destination.memory_space)


def _parameter(number: int, value: Instruction) -> Instruction:
    return Instruction(value.name, "parameter", value.shapes, value.is_tuple, (), "", str(number))


def _sent(instruction: Instruction, opcode: str, operands: list, chips: int) -> float:
    """Bytes that each chip sends for a collective, by the ring algorithms."""
    if opcode not in _COLLECTIVES or chips < 2:
        return 0.0
    sizes = sum(shape.bytes for operand in operands for shape in operand.shapes)
    share = (chips - 1) / chips
    if opcode == "all-reduce":
        return 2 * share * sizes
    if opcode == "all-gather":  # the operand is this chip's part
        return (chips - 1) * sizes
    return share * sizes if opcode in ("reduce-scatter", "all-to-all") else float(sizes)


def main_operation(module: Module, fused: Computation) -> Instruction:
    """Returns the operation that dominates a fusion."""
    found: dict[str, Instruction] = {}

    def visit(computation: Computation) -> None:
        for instruction in computation.instructions.values():
            if instruction.opcode == "fusion":
                visit(module.called(instruction))
            found.setdefault(instruction.opcode, instruction)

    visit(fused)
    for opcode in ("dot", "convolution", "scatter", "sort", "gather", "reduce", "custom-call"):
        if opcode in found:
            return found[opcode]
    root = fused.root
    if root.opcode == "tuple" and root.operands:
        return fused.instructions[root.operands[0]]
    return root
