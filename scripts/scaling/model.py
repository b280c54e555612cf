"""What should limit a step on accelerators: a roofline, nothing measured.

`python -m scripts.scaling.model` prints the table of docs/scaling.md. Assumptions: every
byte below moves once through the device's memory at its peak, products run at theirs, the
longer of both counts, and the all-reduce comes after. Model 64 / 256-256-128-64, float32
tables, Adam on every row.
"""

from __future__ import annotations

from dataclasses import dataclass

MF, LAYERS = 64, (256, 256, 128, 64)
HALF, FIRST = LAYERS[0] // 2, LAYERS[1]
BATCH, EXAMPLES = 1_048_576, 5  # an epoch has so many examples a positive


@dataclass(frozen=True)
class Data:
    users: int
    items: int
    positives: int


@dataclass(frozen=True)
class Machine:
    """Of one chip: bytes/s of memory, FLOP/s of products, bytes/s it sends to others."""

    chips: int
    memory: float
    products: float
    link: float


DATA = {
    "ml-20m": Data(138_493, 26_744, 19_861_770),
    "ml-20m-x10": Data(1_384_930, 26_744, 198_617_700),
    "ml-20m 16 x 32": Data(2_197_225, 855_776, 1_223_962_043),
}
MACHINES = {
    "A100": Machine(1, 2.039e12, 156e12, 300e9),
    "8 A100": Machine(8, 2.039e12, 156e12, 300e9),
    "v5e-16": Machine(16, 0.819e12, 197e12, 200e9),
}


@dataclass(frozen=True)
class Step:
    """One step: seconds by what takes them; FLOP and bytes of one example."""

    flop: float
    row_bytes: int
    table_bytes: int
    rows: float
    tables: float
    products: float
    reduce: float

    @property
    def seconds(self) -> float:
        return max(self.rows + self.tables, self.products) + self.reduce


def step(data: Data, machine: Machine, batch: int = BATCH) -> Step:
    """A global batch, divided over the chips."""
    share = batch // machine.chips
    # A side is folded where a chip's batch has more rows than its table.
    folded = sum(rows for rows in (data.users, data.items) if rows < share)
    unfolded = sum(rows >= share for rows in (data.users, data.items))
    upper = sum(a * b for a, b in zip(LAYERS[1:], LAYERS[2:])) + MF + LAYERS[-1]
    # Forward, and twice as much backward; 2 FLOP a multiply-add.
    flop = 6 * (upper + unfolded * HALF * FIRST + folded * HALF * FIRST / share)
    # Two rows are read and their gradients added (read, written); activations and their
    # gradients are written and read once.
    row_bytes = 3 * 2 * 4 * (MF + FIRST) + 4 * 4 * sum(LAYERS[1:])
    table_bytes = 4 * (data.users + data.items) * (MF + HALF)
    # Adam reads weight, gradient and moments, writes all but the gradient; a projected
    # table is written, its gradient written and read.
    fixed = 7 * table_bytes + 3 * 4 * folded * (MF + FIRST)
    sent = 2 * (machine.chips - 1) / machine.chips * table_bytes  # a ring
    return Step(
        flop,
        row_bytes,
        table_bytes,
        rows=share * row_bytes / machine.memory,
        tables=fixed / machine.memory,
        products=share * flop / machine.products,
        reduce=sent / machine.link,
    )


def table() -> str:
    """The page's table."""
    lines = [
        "| data | on | rows, ms | tables, ms | products, ms | all-reduce, ms | step, ms "
        "| M examples/s | epoch, s |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, data in DATA.items():
        for where, machine in MACHINES.items():
            found = step(data, machine)
            parts = (found.rows, found.tables, found.products, found.reduce, found.seconds)
            rate = BATCH / found.seconds
            lines.append(
                f"| {name} | {where} | " + " | ".join(f"{1e3 * x:.2f}" for x in parts)
                + f" | {rate / 1e6:,.0f} | {EXAMPLES * data.positives / rate:,.1f} |"
            )  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
