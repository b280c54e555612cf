"""A roofline model of a training step on accelerators; it measures nothing.

`python -m scripts.scaling.model` prints the table in docs/scaling.md. Assumptions: every byte
counted below is transferred once from or to the device's memory at peak bandwidth; matrix
products run at peak speed; the time of a step is the longer of these two, followed by the
all-reduce. The model is 64 / 256-256-128-64 with float32 tables, and Adam updates every row.
"""

from __future__ import annotations

from dataclasses import dataclass

MF_DIM, MLP_LAYERS = 64, (256, 256, 128, 64)
# Width of an MLP embedding, and of the first dense layer that it enters.
MLP_EMBEDDING, FIRST_LAYER = MLP_LAYERS[0] // 2, MLP_LAYERS[1]
BATCH_SIZE = 1_048_576
EXAMPLES_PER_POSITIVE = 5  # the positive and four negatives


@dataclass(frozen=True)
class DatasetSize:
    """Numbers of users, items and training positives."""

    users: int
    items: int
    positives: int


@dataclass(frozen=True)
class Accelerator:
    """Number of chips and peak figures of a chip.

    Attributes:
      chips: Number of chips.
      memory: Memory bandwidth of a chip, bytes/s.
      products: Speed of matrix products on a chip, FLOP/s.
      link: Bandwidth from a chip to the other chips, bytes/s.
    """

    chips: int
    memory: float
    products: float
    link: float


DATASETS = {
    "ml-20m": DatasetSize(138_493, 26_744, 19_861_770),
    "ml-20m-x10": DatasetSize(1_384_930, 26_744, 198_617_700),
    "ml-20m 16 x 32": DatasetSize(2_197_225, 855_776, 1_223_962_043),
}
ACCELERATORS = {
    "A100": Accelerator(1, 2.039e12, 156e12, 300e9),
    "8 A100": Accelerator(8, 2.039e12, 156e12, 300e9),
    "v5e-16": Accelerator(16, 0.819e12, 197e12, 200e9),
}


@dataclass(frozen=True)
class StepEstimate:
    """The estimate of one step.

    Attributes:
      flop: FLOP per example.
      row_bytes: Bytes of embedding rows and activations per example.
      table_bytes: Bytes of all tables.
      rows: Seconds for the bytes of rows and activations.
      tables: Seconds for the bytes of the optimizer and of projected tables.
      products: Seconds for the matrix products.
      reduce: Seconds for the all-reduce.
    """

    flop: float
    row_bytes: int
    table_bytes: int
    rows: float
    tables: float
    products: float
    reduce: float

    @property
    def seconds(self) -> float:
        """Seconds of the step."""
        return max(self.rows + self.tables, self.products) + self.reduce


def estimate_step(
    data: DatasetSize, machine: Accelerator, batch_size: int = BATCH_SIZE
) -> StepEstimate:
    """Estimates one step on a global batch divided among the chips.

    Args:
      data: Sizes of the tables.
      machine: The chips.
      batch_size: Examples of the global batch.
    """
    share = batch_size // machine.chips
    # The first layer is folded into a table (users or items) if the table has fewer rows than
    # the chip's share of the batch: the table is projected once per step instead of once per
    # example.
    folded = sum(rows for rows in (data.users, data.items) if rows < share)
    unfolded = sum(rows >= share for rows in (data.users, data.items))
    # Multiply-adds per example of the layers above the first one, and of the output.
    upper_layers = sum(a * b for a, b in zip(MLP_LAYERS[1:], MLP_LAYERS[2:]))
    upper = upper_layers + MF_DIM + MLP_LAYERS[-1]
    # The backward pass costs twice as much as the forward pass; 2 FLOP per multiply-add.
    first_layer = MLP_EMBEDDING * FIRST_LAYER
    flop = 6 * (upper + unfolded * first_layer + folded * first_layer / share)
    # Two rows (user, item) per example: each row is read, and its gradient is read and written
    # to add to it: 3 x 2 x 4 bytes. Activations and their gradients are written and read once.
    row_bytes = 3 * 2 * 4 * (MF_DIM + FIRST_LAYER) + 4 * 4 * sum(MLP_LAYERS[1:])
    table_bytes = 4 * (data.users + data.items) * (MF_DIM + MLP_EMBEDDING)
    # Adam reads weight, gradient and two moments and writes all but the gradient: 7 accesses.
    # A projected table is written, and its gradient is written and read: 3 accesses.
    fixed = 7 * table_bytes + 3 * 4 * folded * (MF_DIM + FIRST_LAYER)
    # Bytes sent by each chip in a ring all-reduce.
    sent = 2 * (machine.chips - 1) / machine.chips * table_bytes
    return StepEstimate(
        flop,
        row_bytes,
        table_bytes,
        rows=share * row_bytes / machine.memory,
        tables=fixed / machine.memory,
        products=share * flop / machine.products,
        reduce=sent / machine.link,
    )


def markdown_table() -> str:
    """Creates the table in docs/scaling.md: every dataset on every accelerator."""
    lines = [
        "| data | on | rows, ms | tables, ms | products, ms | all-reduce, ms | step, ms "
        "| M examples/s | epoch, s |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for data_name, data in DATASETS.items():
        for machine_name, machine in ACCELERATORS.items():
            step = estimate_step(data, machine)
            seconds = (step.rows, step.tables, step.products, step.reduce, step.seconds)
            rate = BATCH_SIZE / step.seconds
            lines.append(
                f"| {data_name} | {machine_name} | "
                + " | ".join(f"{1e3 * part:.2f}" for part in seconds)
                + f" | {rate / 1e6:,.0f} "
                + f"| {EXAMPLES_PER_POSITIVE * data.positives / rate:,.1f} |"
            )  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown_table())
