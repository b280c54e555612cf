"""Makes the tables of the comparison from the JSON lines of the measurements.

Ratios are taken within a round, whose measurements are close to each other in time, and then
their median over the rounds: a machine that is slow for a while slows both peers down.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterable

from scripts.peers.jobs import PEERS, SETTINGS

Record = dict[str, Any]

# Notes below the table on what each rate counts.
_COUNTING_NOTES = (
    "- M trains whole epochs after its first (batch 2,048: its first from step 50 on) while "
    "its producer makes as many. Its seconds to the target run from its producer's start to "
    "its first lists, then over its loop, less what its first step and first evaluation took "
    "longer than later ones.",
    "- Pairs of an evaluation are those in its lists, whoever evaluates. M and K compute every "
    "score; ours as many as decide HR@10 and NDCG@10, the fewer the less the model has learnt: "
    "in a row of training it has for a few epochs, on the way to the target for all of them, of "
    "M those after its first.",
    "- K's batches lie ready in memory; nothing is sampled, ordered or padded.",
    "- Ours trains whole epochs after the first, negatives and order included. Its seconds to "
    "the target run from before the dataset is read; compilation is before that.",
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
      less_is_better: Whether a smaller value is the better one.
      scale: Factor to the unit of the title.
      digits: Decimals in the table.
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
    Quantity("eval_scores_per_s", "scores computed in it, M/s", ("train", "target"), scale=1e-6),
    Quantity("seconds_to_target", "seconds to the target", ("target",), True, digits=1),
    Quantity("epochs", "epochs to the target", ("target",), True, digits=0),
    Quantity("hr", "HR@10 reached", ("target",), digits=4),
    Quantity("peak_mib", "peak memory, MiB", ("train", "target"), True, digits=0),
    Quantity("children_mib", "its children's own memory, MiB", ("train",), True, digits=0),
    Quantity("sampling_examples_per_s", "negatives and order alone, M examples/s",
             ("sampling",), scale=1e-6),
)  # fmt: skip
# Ratios of these say nothing about speed.
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
        """Returns a quantity by round; rounds without it are left out."""
        return {
            record["round"]: record[key]
            for record in self.measurements
            if (record["setting"], record["peer"]) == (setting, peer)
            and record.get(key) is not None
        }


def read_session(path: Path) -> Session:
    """Reads a file of measurements.

    Raises:
      SummaryError: It cannot be read, is not such a file, or holds no measurement.
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
                # Raises KeyError where one of them is missing.
                record["round"], record["setting"], record["peer"]
                session.measurements.append(record)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise SummaryError(f"{path}, line {number} is no measurement") from error
    if not session.measurements:
        raise SummaryError(f"{path} holds no measurements")
    return session


def format_spread(values: Iterable[float], scale: float = 1.0, digits: int = 2) -> str:
    """Formats values as "median (least-most)", or as "-" where there are none.

    Args:
      values: In any order.
      scale: Factor to the unit shown.
      digits: Decimals shown.
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
    """Computes how many times better ours is, in each round in which both have a value.

    Args:
      quantity: Says whether less is better.
      ours: Our values by round.
      peer: The peer's values by round.
    """
    rounds = [r for r in sorted(ours.keys() & peer.keys()) if ours[r] and peer[r]]
    if quantity.less_is_better:
        return [peer[r] / ours[r] for r in rounds]
    return [ours[r] / peer[r] for r in rounds]


def table_row(session: Session, setting: str, quantity: Quantity) -> list[str] | None:
    """Makes one row of the table: setting, quantity, peers, ratios, number of rounds.

    Returns:
      The cells; None where no peer has the quantity.
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
    """Makes all rows of the table, in the order of the settings."""
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
    """Makes a Markdown table.

    Args:
      header: Titles of the columns.
      rows: Cells of each row.
      is_right_aligned: Whether the column of an index, from 0, is aligned right.
    """
    marks = ["---:" if is_right_aligned(column) else "---" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, marks, *rows])


def command_line_note(command: Record) -> str:
    """Makes the note on one command: date, machine, source, command line."""
    return (
        f"- {command.get('date', 'no date')}, {command.get('cpu', 'unknown processor')}, "
        f"{command.get('cpus', '?')} processors; source {command.get('source', 'unknown')}; "
        f"`{command.get('command', '')}`"
    )


def version_notes(session: Session) -> list[str]:
    """Makes a note per peer on its versions; several where they changed between commands."""
    notes: set[str] = set()
    for record in session.measurements:
        if "versions" in record:
            parts = [f"{name} {version}" for name, version in record["versions"].items()]
            if record.get("engine"):
                parts.insert(0, f"engine {record['engine']}")
            notes.add(f"- {record['peer']}: {', '.join(parts)}")
    return sorted(notes)


def sampling_share_note(session: Session) -> list[str]:
    """Makes a note on the share of our epochs that sampling alone would take.

    Returns:
      One note, or none where sampling was not measured.
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
    return [f"- negatives and order alone, ours: {', '.join(parts)}"] if parts else []


def summary_text(session: Session) -> str:
    """Makes the whole summary as Markdown: the table and the notes below it."""
    header = ["setting", "quantity", "M: model garden", "K: Keras fit, no sampling", "ours",
              "ours / M", "ours / K", "n"]  # fmt: skip
    parts = [
        markdown_table(header, table_rows(session), lambda column: column >= 2),
        "",
        "Median (least-most) over n rounds; ratios are taken round by round, and more "
        "than 1 means that ours is better. Memory is a process's peak.",
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
