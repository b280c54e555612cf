"""How often the loops of an HLO module run.

XLA records the trip count of a loop when it knows it. Its TPU compiler drops the record, so the
count is also derived from a counter that starts at a constant, changes by a constant and is
compared with a constant.
"""

from __future__ import annotations

import math
import re
from typing import Mapping, NamedTuple

from scripts.accelerators.hlo_text import Computation, Instruction, Module

# Operations that pass their operand on.
_PASS = {"copy", "bitcast", "reshape", "convert", "copy-done", "broadcast"}


class _Value(NamedTuple):
    """A number: constant, or an element of the loop's state plus a constant.

    Attributes:
      element: position in the tuple that the loop carries; None for a constant.
      offset: the constant.
    """

    element: int | None
    offset: int


def known_trips(module: Module, caller: Computation, loop: Instruction) -> int | None:
    """Returns how often a loop runs; None if that depends on data.

    Args:
      module: the module.
      caller: the computation of the loop.
      loop: a "while" instruction.
    """
    if match := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes):
        return int(match.group(1))
    condition = module.called(loop, "condition")
    body = module.called(loop, "body")
    comparison, values = _comparison(module, condition)
    if comparison is None or values[0] is None or values[1] is None:
        return None
    (counter, shift), (other, limit) = values
    if counter is None or other is not None:
        return None
    start = _tuple_element(module, caller, loop.operands[0], counter)
    change = _tuple_element(module, body, body.root_name, counter)
    if start is None or start.element is not None or change is None or change.element != counter:
        return None
    return _count(start.offset + shift, change.offset, limit, comparison.attribute("direction"))


def _count(start: int, step: int, limit: int, direction: str | None) -> int | None:
    """Counts the values start, start + step, ... until the comparison with the limit fails."""
    if direction == "LT" and step > 0:
        return max(0, math.ceil((limit - start) / step))
    if direction == "LE" and step > 0:
        return max(0, (limit - start) // step + 1)
    if direction == "GT" and step < 0:
        return max(0, math.ceil((start - limit) / -step))
    if direction == "GE" and step < 0:
        return max(0, (start - limit) // -step + 1)
    return None


def _comparison(module: Module, condition: Computation) -> tuple:
    """Returns (the comparison of a loop's condition, its two operands as values)."""
    root, scope, inputs = condition.root, condition, {}
    if root.opcode == "fusion":
        inner = module.called(root)
        inputs = _inputs(inner, [_value(module, scope, name, inputs) for name in root.operands])
        root, scope = inner.root, inner
    if root.opcode != "compare":
        return None, ()
    return root, [_value(module, scope, name, inputs) for name in root.operands]


def _inputs(inner: Computation, values: list) -> Mapping[str, _Value | None]:
    return {parameter.name: value for parameter, value in zip(inner.parameters, values)}


def _tuple_element(module: Module, scope: Computation, name: str, index: int) -> _Value | None:
    """Returns the value of an element of a tuple."""
    made = scope.instructions[name]
    if made.opcode != "tuple":
        return None
    return _value(module, scope, made.operands[index], {})


def _value(
    module: Module, scope: Computation, name: str, inputs: Mapping[str, _Value | None]
) -> _Value | None:
    """Returns the value of a scalar integer; None if it is neither of the two kinds."""
    made = scope.instructions[name]
    if name in inputs:
        return inputs[name]
    if made.opcode == "constant":
        found = re.fullmatch(r"\{?(-?\d+)\}?", made.literal.strip())
        return _Value(None, int(found.group(1))) if found else None
    if made.opcode in _PASS:
        return _value(module, scope, made.operands[0], inputs)
    if made.opcode == "get-tuple-element":
        source = scope.instructions[made.operands[0]]
        index = int(made.attribute("index"))
        if source.opcode == "parameter":
            return _Value(index, 0) if source.is_tuple else None
        if source.opcode == "tuple":
            return _value(module, scope, source.operands[index], inputs)
        return _of_fusion(module, scope, source, index, inputs)
    if made.opcode in ("add", "subtract"):
        return _sum(made.opcode, *(_value(module, scope, x, inputs) for x in made.operands))
    return _of_fusion(module, scope, made, None, inputs)


def _sum(opcode: str, left: _Value | None, right: _Value | None) -> _Value | None:
    if left is None or right is None or (opcode == "subtract" and right.element is not None):
        return None
    if left.element is not None and right.element is not None:
        return None
    sign = 1 if opcode == "add" else -1
    element = left.element if left.element is not None else right.element
    return _Value(element, left.offset + sign * right.offset)


def _of_fusion(module, scope, fusion, index, inputs) -> _Value | None:
    """Returns the value of a fusion's result, or of an element of it."""
    if fusion.opcode not in ("fusion", "call"):
        return None
    inner = module.called(fusion)
    values = _inputs(inner, [_value(module, scope, name, inputs) for name in fusion.operands])
    name = inner.root_name
    if index is not None:
        if inner.root.opcode != "tuple":
            return None
        name = inner.root.operands[index]
    return _value(module, inner, name, values)
