"""Floating-point operations of the matrix products in an HLO program."""

from __future__ import annotations

import math
import re

from scripts.accelerators.hlo_text import CALLS, Computation, Instruction, Module


def flops_of(module: Module, scope: Computation, instruction: Instruction) -> int:
    """Returns the FLOPs of the products in an instruction: 2 per multiply-add.

    Args:
      module: the module.
      scope: the computation of the instruction.
      instruction: a product, a library call, or an instruction that calls a computation.
    """
    if instruction.opcode == "dot":
        return 2 * instruction.shapes[0].elements * _contracted(scope, instruction)
    if instruction.opcode == "convolution":
        return _convolution(scope, instruction)
    if instruction.opcode == "custom-call":
        return _library_product(scope, instruction)
    if instruction.opcode in CALLS:
        inner = module.called(instruction)
        return sum(flops_of(module, inner, x) for x in inner.instructions.values())
    return 0


def _contracted(scope: Computation, dot: Instruction) -> int:
    left = scope.instructions[dot.operands[0]].shapes[0]
    return math.prod(left.dims[k] for k in dot.integers("lhs_contracting_dims"))


def _convolution(scope: Computation, instruction: Instruction) -> int:
    """A TPU's compiler turns products into convolutions; each output sums over kernel positions."""
    labels = re.search(r"dim_labels=\w+_(\w+)->", instruction.attributes)
    kernel = scope.instructions[instruction.operands[1]].shapes[0]
    if labels is None:
        return 0
    summed = math.prod(
        size for label, size in zip(labels.group(1), kernel.dims) if label != "o"
    )
    return 2 * instruction.shapes[0].elements * summed


def _library_product(scope: Computation, instruction: Instruction) -> int:
    """Returns the FLOPs of a cuBLAS call; `backend_config` has the contracting dimensions."""
    found = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', instruction.attributes)
    if found is None or not instruction.operands:
        return 0
    left = scope.instructions[instruction.operands[0]].shapes[0]
    contracted = math.prod(left.dims[int(k)] for k in re.findall(r"\d+", found.group(1)))
    return 2 * instruction.shapes[0].elements * contracted
