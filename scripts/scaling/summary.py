"""The measurements as Markdown: a table, and a line through memory against positives."""

from __future__ import annotations

from typing import Iterable

MIB = 1 << 20


def table(lines: Iterable[dict]) -> str:
    """Rows in the order of the lines, then the line of each stage with three sizes."""
    lines = list(lines)
    rows = [
        "| size | positives | stage | seconds | peak, MiB | bytes a positive | of it stays | "
        "process peak, MiB |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for line in lines:
        positives = line["positives"]
        rows.append(
            f"| {line['size']} | {positives:,} | {line['stage']} | {line['seconds']:,.2f} "
            f"| {line['peak_bytes'] / MIB:,.0f} | {line['peak_bytes'] / positives:.1f} "
            f"| {line['stays_bytes'] / positives:.1f} "
            f"| {line['process_peak_bytes'] / MIB:,.0f} |"
        )
    rows.append("")
    for stage in dict.fromkeys(line["stage"] for line in lines):
        points = sorted(
            (line["positives"], line["peak_bytes"]) for line in lines if line["stage"] == stage
        )
        # Below, what does not follow the data is most of it.
        for which, part in (("all", points), ("from ml-20m on", [p for p in points if p[0] > 1e7])):
            if len(part) >= 3:
                slope, start, r2 = line_through(part)
                rows.append(
                    f"- {stage}, {which}: {slope:.2f} bytes a positive and {start / MIB:,.0f} MiB, "
                    f"R^2 {r2:.4f}"
                )
    return "\n".join(rows)


def line_through(points: list[tuple[float, float]]) -> tuple[float, float, float]:
    """(slope, intercept, R^2) of the least-squares line."""
    count = len(points)
    mean_x, mean_y = (sum(p[k] for p in points) / count for k in (0, 1))
    xx = sum((x - mean_x) ** 2 for x, _ in points)
    yy = sum((y - mean_y) ** 2 for _, y in points)
    xy = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return xy / xx, mean_y - xy / xx * mean_x, xy * xy / (xx * yy)
