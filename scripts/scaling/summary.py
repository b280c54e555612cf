"""Creates a Markdown table of measurements and regression lines of memory against positives."""

from __future__ import annotations

from typing import Iterable

MIB = 1 << 20
# Below about the size of ml-20m, most of the memory does not depend on the data.
_LARGE_POSITIVES = 1e7


def markdown_summary(lines: Iterable[dict]) -> str:
    """Creates a table of all measurements, then a regression line for each stage.

    Args:
      lines: Measurements printed by `stages.py`; the rows are in the same order.

    Returns:
      Markdown. There is no regression line for a stage with fewer than three sizes.
    """
    lines = list(lines)
    rows = [
        "| size | positives | stage | seconds | peak, MiB | bytes a positive | kept after | "
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
        large = [point for point in points if point[0] > _LARGE_POSITIVES]
        for subset, part in (("all", points), ("from ml-20m on", large)):
            if len(part) >= 3:
                slope, intercept, r2 = fit_line(part)
                rows.append(
                    f"- {stage}, {subset}: {slope:.2f} bytes a positive and "
                    f"{intercept / MIB:,.0f} MiB, R^2 {r2:.4f}"
                )
    return "\n".join(rows)


def fit_line(points: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Fits a least-squares line.

    Args:
      points: (x, y), at least two.

    Returns:
      (Slope, intercept, R^2.)
    """
    count = len(points)
    mean_x, mean_y = (sum(point[axis] for point in points) / count for axis in (0, 1))
    xx = sum((x - mean_x) ** 2 for x, _ in points)
    yy = sum((y - mean_y) ** 2 for _, y in points)
    xy = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return xy / xx, mean_y - xy / xx * mean_x, xy * xy / (xx * yy)
