"""Creates the tables of the comparison from the JSON lines of the measurements.

A ratio is computed within each round, whose measurements are close in time; the table shows the
median over the rounds. A temporary slowdown of the machine therefore affects both peers.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterable

from scripts.peers.jobs import PEERS, SETTINGS

Record = dict[str, Any]

# Notes below the table that define each rate.
_COUNTING_NOTES = (
    "- M: training is measured over whole epochs after the first (batch 2,048: over the first "
    "epoch from step 50 on), while the producer prepares as many epochs. The seconds to the "
    "target are the time from the producer's start to its first evaluation lists plus the time "
    "of the training loop, less the extra time of the first step and the first evaluation.",
    "- Pairs are the (user, candidate) pairs in the evaluation lists, the same for all peers. M "
    "and K compute every score. Ours computes scores until HR@10 and NDCG@10 are decided, which "
    "takes fewer scores for a less trained model. The model is trained for a few epochs in a "
    "training setting; `target` covers the evaluations of all epochs, for M all but the first.",
    "- K: the batches are in memory already; nothing is sampled, ordered or padded.",
    "- Ours: training is measured over whole epochs after the first, including negatives and "
    "epoch order. The seconds to the target start after compilation and before the dataset is "
    "read.",
)


class SummaryError(ValueError):
    """A file of measurements cannot be read; the message is one line."""


@dataclass(frozen=True)
class Quantity:
    """One quantity that is compared, and how the table shows it.

    Attributes:
      key: Its name in a measurement.
      title: Its name in the table, with the unit.
      goals: Goals of the settings for which the table shows it.
      less_is_better: Whether a smaller value is better.
      scale: Conversion factor to the unit in the title.
      digits: Number of decimals in the table.
    """

    key: str
    title: str
    goals: tuple[str, ...]
    less_is_better: bool = False
    scale: float = 1.0
    digits: int = 2


QUANTITIES = (
    Quantity("train_examples_per_s", "training, M examples/s", ("train", "target"), scale=1e-6),
    Quantity("eval_pairs_per_s", "evaluation, M pairs/s", ("train", "target"), scale=1e-6),
    Quantity("eval_scores_per_s", "scores computed, M/s", ("train", "target"), scale=1e-6),
    Quantity("seconds_to_target", "seconds to the target", ("target",), True, digits=1),
    Quantity("epochs", "epochs to the target", ("target",), True, digits=0),
    Quantity("hr", "HR@10 reached", ("target",), digits=4),
    Quantity("peak_mib", "peak memory, MiB", ("train", "target"), True, digits=0),
    Quantity("children_mib", "private memory of children, MiB", ("train",), True, digits=0),
    Quantity("sampling_examples_per_s", "negatives and epoch order, M examples/s",
             ("sampling",), scale=1e-6),
)  # fmt: skip
# Quantities without ratios, which are not a measure of speed.
_WITHOUT_RATIO = ("epochs", "hr", "children_mib")


@dataclass
class Session:
    """A file of measurements.

    Attributes:
      commands: One record per command: date, machine, source, command line.
      measurements: One record per measurement, failed ones included.
    """

    commands: list[Record] = field(default_factory=list)
    measurements: list[Record] = field(default_factory=list)

    @property
    def failures(self) -> list[Record]:
        """The measurements that failed."""
        return [record for record in self.measurements if "error" in record]

    def values(self, setting: str, peer: str, key: str) -> dict[int, float]:
        """Returns the values of a quantity by round; rounds without a value are left out."""
        return {
            record["round"]: record[key]
            for record in self.measurements
            if (record["setting"], record["peer"]) == (setting, peer)
            and record.get(key) is not None
        }


def read_session(path: Path) -> Session:
    """Reads a file of measurements.

    Raises:
      SummaryError: It cannot be read, has another format, or contains no measurement.
    """
    session = Session()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SummaryError(f"cannot read {path}: {error.strerror or error}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            record = json.loads(line)
            if record.pop("kind") == "session":
                session.commands.append(record)
            else:
                # Raises KeyError if one of the keys is missing.
                record["round"], record["setting"], record["peer"]
                session.measurements.append(record)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise SummaryError(f"{path}, line {number}: not a measurement") from error
    if not session.measurements:
        raise SummaryError(f"{path} contains no measurements")
    return session


def format_spread(values: Iterable[float], scale: float = 1.0, digits: int = 2) -> str:
    """Formats values as "median (min-max)", or as "-" if there are no values.

    Args:
      values: The values, in any order.
      scale: Conversion factor to the unit in the table.
      digits: Number of decimals.
    """
    scaled = [value * scale for value in values]
    if not scaled:
        return "-"
    middle = f"{statistics.median(scaled):,.{digits}f}"
    low, high = (f"{value:,.{digits}f}" for value in (min(scaled), max(scaled)))
    return middle if low == high else f"{middle} ({low}-{high})"


def ratios_by_round(
    quantity: Quantity, ours: dict[int, float], peer: dict[int, float]
) -> list[float]:
    """Computes the ratio of ours to a peer for each round in which both have a value.

    A ratio above 1 means that ours is better.

    Args:
      quantity: The quantity of the values.
      ours: Our values by round.
      peer: The peer's values by round.
    """
    rounds = [r for r in sorted(ours.keys() & peer.keys()) if ours[r] and peer[r]]
    if quantity.less_is_better:
        return [peer[r] / ours[r] for r in rounds]
    return [ours[r] / peer[r] for r in rounds]


def table_row(session: Session, setting: str, quantity: Quantity) -> list[str] | None:
    """Creates one row of the table: setting, quantity, peers, ratios, number of rounds.

    Returns:
      The cells; None if no peer has the quantity.
    """
    values = {peer: session.values(setting, peer, quantity.key) for peer in PEERS}
    if not any(values.values()):
        return None
    cells = [
        format_spread(values[peer].values(), quantity.scale, quantity.digits) for peer in PEERS
    ]
    # The last peer is ours.
    for peer in PEERS[:-1]:
        ratios: list[float] = []
        if quantity.key not in _WITHOUT_RATIO:
            ratios = ratios_by_round(quantity, values["ours"], values[peer])
        cells.append(format_spread(ratios))
    counts = sorted({len(by_round) for by_round in values.values() if by_round})
    return [setting, quantity.title, *cells, "-".join(map(str, counts))]


def table_rows(session: Session) -> list[list[str]]:
    """Creates all rows of the table, in the order of the settings."""
    rows = []
    for name, setting in SETTINGS.items():
        for quantity in QUANTITIES:
            is_hidden = quantity.key.startswith("eval_") and not setting.evaluate
            if setting.goal in quantity.goals and not is_hidden:
                rows.append(table_row(session, name, quantity))
    return [cells for cells in rows if cells]


def markdown_table(
    header: list[str], rows: list[list[str]], is_right_aligned: Callable[[int], bool]
) -> str:
    """Creates a Markdown table.

    Args:
      header: Titles of the columns.
      rows: Cells of each row.
      is_right_aligned: Returns whether the column with an index, from 0, is right-aligned.
    """
    marks = ["---:" if is_right_aligned(column) else "---" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, marks, *rows])


def command_line_note(command: Record) -> str:
    """Creates the note on one command: date, machine, source, command line."""
    return (
        f"- {command.get('date', 'no date')}, {command.get('cpu', 'unknown processor')}, "
        f"{command.get('cpus', '?')} processors; source {command.get('source', 'unknown')}; "
        f"`{command.get('command', '')}`"
    )


def version_notes(session: Session) -> list[str]:
    """Creates a note per peer on its versions; several if they changed between commands."""
    notes: set[str] = set()
    for record in session.measurements:
        if "versions" in record:
            parts = [f"{name} {version}" for name, version in record["versions"].items()]
            if record.get("engine"):
                parts.insert(0, f"engine {record['engine']}")
            notes.add(f"- {record['peer']}: {', '.join(parts)}")
    return sorted(notes)


def sampling_share_note(session: Session) -> list[str]:
    """Creates a note on the time of sampling alone as a share of our epochs.

    Returns:
      One note, or an empty list if sampling was not measured.
    """
    sampling = session.values("sampling", "ours", "sampling_examples_per_s").values()
    if not sampling:
        return []
    parts = []
    for name in SETTINGS:
        training = session.values(name, "ours", "train_examples_per_s").values()
        if training and SETTINGS[name].goal == "train":
            share = statistics.median(training) / statistics.median(sampling)
            parts.append(f"{share:.1%} of an epoch of {name}")
    return [f"- negatives and epoch order, ours: {', '.join(parts)}"] if parts else []


def summary_text(session: Session) -> str:
    """Creates the whole summary as Markdown: the table and the notes below it."""
    header = ["setting", "quantity", "M: model garden", "K: Keras fit, no sampling", "ours",
              "ours / M", "ours / K", "n"]  # fmt: skip
    parts = [
        markdown_table(header, table_rows(session), lambda column: column >= 2),
        "",
        "Median (min-max) over n rounds. Ratios are computed within a round; above 1, ours is "
        "better. Memory is the peak of a process.",
        "",
        *_COUNTING_NOTES,
        *[command_line_note(command) for command in session.commands],
        *version_notes(session),
        *sampling_share_note(session),
    ]
    for failure in session.failures:
        where = f"{failure['peer']}, {failure['setting']}, round {failure['round']}"
        parts.append(f"- **failed**: {where}: {failure['error']}")
    return "\n".join(parts) + "\n"
