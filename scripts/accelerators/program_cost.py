"""The cost of one step of a compiled program.

A program is a loop with work before and after it. A step is one iteration of that loop; the rest
is divided among the steps of a call.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from scripts.accelerators.hlo_text import Computation, Instruction, Module
from scripts.accelerators.loops import known_trips
from scripts.accelerators.traffic import Kernel, as_radix_sort, is_free, kernel_of

# What is not counted on GPUs; TPUs have neither atomic additions nor caches.
ATOMICS = "serialized atomic additions to the same row"
BITONIC_SORT = "passes of a sort after the first"
RADIX_SORT = "the bitonic sort that replaces CUB's radix sort where the compiler has no GPU"
CACHE_HITS = "cache hits of gathers, and partly used cache lines"
# Instructions that exchange data with the host.
_HOST = {"infeed", "outfeed", "send", "recv", "host-compute"}


@dataclass
class StepCost:
    """The cost of one step on one chip.

    Attributes:
      bytes: bytes read and written.
      flops: floating-point operations of matrix products.
      kernels: number of kernels.
      cycles: sum of the compiler's estimates.
      collective_bytes: bytes sent to other chips.
      runs: the kernels and how often each runs in a step.
      is_gpu: whether sorts are those of a GPU.
      host_transfers: instructions in the step that exchange data with the host.
      not_counted: what the figures leave out.
    """

    bytes: float = 0
    flops: float = 0
    kernels: float = 0
    cycles: float = 0
    collective_bytes: float = 0
    runs: list[tuple[Kernel, float]] = field(default_factory=list)
    is_gpu: bool = False
    host_transfers: list[str] = field(default_factory=list)
    not_counted: set[str] = field(default_factory=set)

    def add(self, kernel: Kernel, times: float) -> None:
        """Adds a kernel that runs `times` in a step."""
        self.bytes += times * kernel.bytes
        self.flops += times * kernel.flops
        self.cycles += times * kernel.cycles
        self.collective_bytes += times * kernel.collective_bytes
        self.runs.append((kernel, times))

    def largest(self, count: int) -> list[tuple[Kernel, float]]:
        """Returns the kernels that move the most bytes in a step, and how often they run."""
        return sorted(self.runs, key=lambda run: run[0].bytes * run[1], reverse=True)[:count]


def step_cost(
    module: Module, steps_per_call: int, chips: int = 1, is_gpu: bool = False
) -> StepCost:
    """Computes the cost of a step.

    Args:
      module: the optimized program of one chip.
      steps_per_call: number of steps among which the work outside the loop is divided.
      chips: number of chips that run the program together.
      is_gpu: whether it was compiled for a GPU.
    """
    cost = StepCost(is_gpu=is_gpu)
    loop = step_loop(module)
    for name in ("body", "condition"):
        _add_computation(cost, module, module.called(loop, name), 1.0, chips)
    cost.kernels = sum(times * kernel.launches for kernel, times in cost.runs)
    _add_computation(cost, module, module.entry, 1.0 / steps_per_call, chips, skip=loop)
    return cost


def step_loop(module: Module) -> Instruction:
    """Returns the loop over steps: the loop of the entry computation with the longest body."""
    loops = [x for x in module.entry.instructions.values() if x.opcode == "while"]
    if not loops:
        raise ValueError("the program has no loop over steps")
    return max(loops, key=lambda x: len(module.called(x, "body").instructions))


def _add_computation(
    cost: StepCost, module: Module, scope: Computation, times: float, chips: int,
    skip: Instruction | None = None,
) -> None:
    """Adds the instructions of a scheduled computation that runs `times` in a step."""
    for instruction in scope.instructions.values():
        if instruction is skip or is_free(instruction):
            continue
        if instruction.opcode in _HOST or _is_on_host(instruction):
            cost.host_transfers.append(instruction.name)
        if instruction.opcode == "while":
            _add_loop(cost, module, scope, instruction, times, chips)
        elif instruction.opcode == "conditional":
            # Which branch runs depends on data; the most expensive one is counted.
            _add_most_expensive(cost, module, instruction, times, chips)
        elif instruction.opcode == "call":
            for name in instruction.called:
                _add_computation(cost, module, module.computations[name], times, chips)
        else:
            kernel = kernel_of(module, scope, instruction, chips)
            if cost.is_gpu:
                kernel = as_radix_sort(kernel)
            cost.add(kernel, times)
            _note(cost, module, instruction)
            if kernel.main.opcode == "sort":
                cost.not_counted.add(RADIX_SORT if kernel.launches > 1 else BITONIC_SORT)


def _add_loop(cost, module, scope, loop: Instruction, times: float, chips: int) -> None:
    trips = known_trips(module, scope, loop)
    if trips is None:
        cost.not_counted.add("further iterations of loops with a data-dependent trip count")
        trips = 1
    # The condition is evaluated once more, when the loop ends.
    for name, runs in (("body", trips), ("condition", trips + 1)):
        _add_computation(cost, module, module.called(loop, name), times * runs, chips)


def _add_most_expensive(cost, module, instruction: Instruction, times, chips) -> None:
    branches = []
    for name in instruction.called:
        branch = StepCost(is_gpu=cost.is_gpu)
        _add_computation(branch, module, module.computations[name], times, chips)
        branches.append(branch)
    if branches:
        worst = max(branches, key=lambda branch: branch.bytes)
        for kernel, runs in worst.runs:
            cost.add(kernel, runs)
        cost.not_counted |= worst.not_counted
        cost.not_counted.add("data-dependent branches other than the most expensive one")
        cost.host_transfers += worst.host_transfers


def _is_on_host(instruction: Instruction) -> bool:
    """Whether a result is in the host's memory, which has the memory space 5."""
    return any(shape.memory_space == 5 for shape in instruction.shapes)


def _note(cost: StepCost, module: Module, instruction: Instruction) -> None:
    opcodes = Counter({instruction.opcode: 1})
    for name in instruction.called:
        if instruction.opcode == "fusion":
            opcodes.update(x.opcode for x in module.computations[name].instructions.values())
    if opcodes["scatter"]:
        cost.not_counted.add(ATOMICS)
    if opcodes["gather"]:
        cost.not_counted.add(CACHE_HITS)
