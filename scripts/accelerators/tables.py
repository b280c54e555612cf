"""Tables of estimates, and comparisons with an earlier report."""

from __future__ import annotations

from typing import Any, Callable, Sequence

# Column title, and how a cell is made of an estimate.
_COLUMNS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("target", lambda e: e["target"]),
    ("program", lambda e: e["program"]),
    ("precision", lambda e: e["precision"]),
    ("memory, GB", lambda e: _memory(e)),
    ("kernels", lambda e: _number(e["kernels"])),
    ("kB/example", lambda e: _number(e["bytes_per_example"], 1e3, 2)),
    ("copied kB", lambda e: _number(e["copied_bytes_per_example"], 1e3, 2)),
    ("MFLOP/example", lambda e: _number(e["flops_per_example"], 1e6, 3)),
    ("collective kB", lambda e: _number(e["collective_bytes_per_example"], 1e3, 2)),
    ("M cycles", lambda e: _number(e["estimated_cycles"], 1e6, 1)),
    ("bound, M/s", lambda e: _number(e["bound_examples_per_s"], 1e6, 0)),
    ("limited by", lambda e: e["limited_by"] or "-"),
)
_LARGEST = ("kB/example", "runs", "operation", "kernel", "result", "source")
# Figures that a comparison shows; smaller is better for all but the last.
COMPARED = (
    "bytes_per_example", "copied_bytes_per_example", "kernels", "flops_per_example",
    "collective_bytes_per_example", "estimated_cycles", "bound_examples_per_s",
)  # fmt: skip
_KEY = ("target", "program", "track", "precision", "batch_size")


def _number(value: float | None, unit: float = 1, digits: int = 0) -> str:
    if value is None:
        return "-"
    # Small figures keep two significant digits.
    value = value / unit
    return f"{value:,.{digits}f}" if abs(value) >= 1 or not value else f"{value:.2g}"


def used_bytes(memory: dict[str, int]) -> int:
    """Returns the bytes that a program needs, of the `memory` of an estimate."""
    return memory["arguments"] + memory["temporaries"] + memory["output"]


def _memory(estimate: dict[str, Any]) -> str:
    memory = estimate["memory"]
    if memory is None:
        return "-"
    return f"{used_bytes(memory) / 1e9:.2f} of {memory['limit'] / 1e9:.0f}"


def summary(estimates: Sequence[dict[str, Any]], is_markdown: bool) -> str:
    """Makes the table of all programs."""
    rows = [[cell(e) for _, cell in _COLUMNS] for e in estimates]
    return table([title for title, _ in _COLUMNS], rows, is_markdown)


def details(estimate: dict[str, Any], is_markdown: bool) -> str:
    """Makes the table of a program's largest kernels, and names what is not counted."""
    heading = "{target}, {program}, {precision}, batch size {batch_size:,}".format(**estimate)
    if "error" in estimate:
        return f"{heading}: does not compile: {estimate['error']}"
    if not estimate["fits"]:
        heading += f": does not fit: {_memory(estimate)} GB"
    rows = [
        [_number(k["bytes_per_example"], 1e3, 2), f"{k['runs']:g}", k["operation"], k["name"],
         " ".join(k["result"][:2]) + " ..." * (len(k["result"]) > 2), k["source"] or "-"]
        for k in estimate["largest_kernels"]
    ]  # fmt: skip
    lines = [f"**{heading}**\n" if is_markdown else heading, table(_LARGEST, rows, is_markdown)]
    if estimate["host_transfers"]:
        lines.append(f"Leaves the device: {', '.join(estimate['host_transfers'])}")
    lines.append("Not counted: " + "; ".join(estimate["not_counted"]) + ".")
    lines.append(f"Compiler: {estimate['compiler']}.")
    return "\n".join(lines)


def comparison(
    old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]], is_markdown: bool
) -> str:
    """Makes the table of new figures divided by old ones, of the programs in both."""
    before = {tuple(e[key] for key in _KEY): e for e in old}
    rows = []
    for estimate in new:
        earlier = before.get(tuple(estimate[key] for key in _KEY))
        if earlier is None:
            continue
        for figure in COMPARED:
            a, b = earlier.get(figure), estimate.get(figure)
            if a is None or b is None or (not a and not b):
                continue
            ratio = f"{b / a:.3f}" if a else "new"
            rows.append([estimate["target"], estimate["program"], estimate["precision"], figure,
                         f"{a:,.0f}", f"{b:,.0f}", ratio])  # fmt: skip
    titles = ["target", "program", "precision", "figure", "old", "new", "new / old"]
    return table(titles, rows, is_markdown) if rows else "the two reports have no program in common"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], is_markdown: bool) -> str:
    """Makes a table with columns as wide as their cells."""
    widths = [max(len(row[k]) for row in (titles, *rows)) for k in range(len(titles))]
    edge = "| " if is_markdown else ""
    gap, end = (" | ", " |") if is_markdown else ("  ", "")

    def line(cells: Sequence[str]) -> str:
        text = gap.join(cell.ljust(width) for cell, width in zip(cells, widths))
        return (edge + text + end).rstrip()

    rule = [line(["-" * width for width in widths])]
    return "\n".join([line(titles), *rule, *map(line, rows)])
