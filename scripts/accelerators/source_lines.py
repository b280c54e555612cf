"""Finds the line of our source from which an operation of a compiled program comes.

The compiler keeps the names of TensorFlow's graph, and the graph keeps where each operation was
made. The metadata in the program has only TensorFlow's own innermost line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Mapping

from reference_model.fused.programs import Program

ROOT = Path(__file__).resolve().parents[2]


def source_lines(program: Program) -> dict[str, str]:
    """Traces a program.

    Args:
      program: the program.

    Returns:
      {operation name: innermost lines of this project}, such as
      "reference_model/fused_math/gradients.py:190 > plan.py:121".
    """
    import tensorflow as tf

    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in program.inputs]
    function = tf.function(program.function, jit_compile=True, autograph=False)
    lines: dict[str, str] = {}
    for operation in _operations(function.get_concrete_function(*specs).graph):
        if line := _line(operation.traceback):
            lines.setdefault(operation.name, line)
    return lines


def _operations(graph: Any) -> Iterator[Any]:
    """Yields the operations of a graph and of the loops and branches in it.

    The graph that Python made of a loop's body is an attribute of the loop. One made from its
    definition would lack the lines.
    """
    for operation in graph.get_operations():
        yield operation
        for name in ("_body_graph", "_cond_graph", "_true_graph", "_false_graph"):
            if inner := getattr(operation, name, None):
                yield from _operations(inner)


def _line(traceback: Any) -> str | None:
    frames = []
    for frame in traceback or ():
        path = Path(frame.filename)
        if path.is_relative_to(ROOT / "reference_model"):
            frames.append((path.relative_to(ROOT), frame.lineno))
    if not frames:
        return None
    (path, line), *_ = frames[-1:]
    # A helper that many callers share says little: name its caller, too.
    callers = [frame for frame in frames if frame[0] != path]
    inner = f"{path.as_posix()}:{line}"
    if not callers or callers[-1][0].parent != path.parent:
        return inner
    return f"{callers[-1][0].as_posix()}:{callers[-1][1]} > {path.name}:{line}"


def find_line(lines: Mapping[str, str], op_name: str) -> str | None:
    """Looks up the line of a compiled operation.

    Args:
      lines: those of `source_lines`.
      op_name: the name in the compiled program, which has a prefix of JAX.
    """
    parts = op_name.split("/")
    for start in range(len(parts)):
        if line := lines.get("/".join(parts[start:])):
            return line
    return None
