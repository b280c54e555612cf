"""From the kept JSON lines to the tables of the comparison.

A ratio is taken within a round, whose measurements stand next to each other in time,
and then its median over the rounds: a machine that is slow for a while slows both.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterable

from scripts.peers.jobs import PEERS, SETTINGS

Line = dict[str, Any]

_COUNTED = (
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
    """A file of measurements that cannot be read; the message is one line."""


@dataclass(frozen=True)
class Figure:
    """One quantity that is compared: its key in a line and how to print it."""

    key: str
    title: str
    goals: tuple[str, ...]
    less_is_better: bool = False
    scale: float = 1.0
    digits: int = 2


FIGURES = (
    Figure("train_examples_per_s", "training, M examples/s", ("train", "target"), scale=1e-6),
    Figure("eval_pairs_per_s", "evaluation, M pairs/s", ("train", "target"), scale=1e-6),
    Figure("eval_scores_per_s", "scores computed in it, M/s", ("train", "target"), scale=1e-6),
    Figure("seconds_to_target", "seconds to the target", ("target",), True, digits=1),
    Figure("epochs", "epochs to the target", ("target",), True, digits=0),
    Figure("hr", "HR@10 reached", ("target",), digits=4),
    Figure("peak_mib", "peak memory, MiB", ("train", "target"), True, digits=0),
    Figure("children_mib", "its children's own memory, MiB", ("train",), True, digits=0),
    Figure("sampling_examples_per_s", "negatives and order alone, M examples/s",
           ("sampling",), scale=1e-6),
)  # fmt: skip
_NO_RATIO = ("epochs", "hr", "children_mib")


@dataclass
class Session:
    """A file of measurements: what was run (a line per command), and what was measured."""

    about: list[Line] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    @property
    def failures(self) -> list[Line]:
        return [line for line in self.lines if "error" in line]

    def values(self, setting: str, peer: str, key: str) -> dict[int, float]:
        """The quantity by round; rounds that did not give it are absent."""
        return {
            line["round"]: line[key]
            for line in self.lines
            if (line["setting"], line["peer"]) == (setting, peer) and line.get(key) is not None
        }


def read(path: Path) -> Session:
    """The session in a file of JSON lines. Raises SummaryError."""
    session = Session()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SummaryError(f"cannot read {path}: {error.strerror or error}") from error
    for number, row in enumerate(text.splitlines(), start=1):
        try:
            line = json.loads(row)
            if line.pop("kind") == "session":
                session.about.append(line)
            else:
                line["round"], line["setting"], line["peer"]
                session.lines.append(line)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise SummaryError(f"{path}, line {number} is no measurement") from error
    if not session.lines:
        raise SummaryError(f"{path} holds no measurements")
    return session


def spread(values: Iterable[float], scale: float = 1.0, digits: int = 2) -> str:
    """"median (least-most)", or "-" where there is nothing."""
    found = [value * scale for value in values]
    if not found:
        return "-"
    middle = f"{statistics.median(found):,.{digits}f}"
    low, high = (f"{value:,.{digits}f}" for value in (min(found), max(found)))
    return middle if low == high else f"{middle} ({low}-{high})"


def ratios(figure: Figure, ours: dict[int, float], peer: dict[int, float]) -> list[float]:
    """How many times better ours is, round by round, where both have a value."""
    rounds = [r for r in sorted(ours.keys() & peer.keys()) if ours[r] and peer[r]]
    if figure.less_is_better:
        return [peer[r] / ours[r] for r in rounds]
    return [ours[r] / peer[r] for r in rounds]


def row(session: Session, setting: str, figure: Figure) -> list[str] | None:
    """One row of the table; None where nobody has the quantity."""
    found = {peer: session.values(setting, peer, figure.key) for peer in PEERS}
    if not any(found.values()):
        return None
    cells = [spread(found[peer].values(), figure.scale, figure.digits) for peer in PEERS]
    for peer in PEERS[:-1]:
        compared = [] if figure.key in _NO_RATIO else ratios(figure, found["ours"], found[peer])
        cells.append(spread(compared))
    counts = sorted({len(values) for values in found.values() if values})
    return [setting, figure.title, *cells, "-".join(map(str, counts))]


def rows(session: Session) -> list[list[str]]:
    """All rows, in the order of the settings."""
    table = []
    for name, setting in SETTINGS.items():
        for figure in FIGURES:
            hidden = figure.key.startswith("eval_") and not setting.evaluate
            if setting.goal in figure.goals and not hidden:
                table.append(row(session, name, figure))
    return [cells for cells in table if cells]


def markdown(header: list[str], body: list[list[str]], right: Callable[[int], bool]) -> str:
    """A markdown table; `right` says which columns are aligned right."""
    marks = ["---:" if right(column) else "---" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, marks, *body])


def origin(about: Line) -> str:
    """When, where and by which command."""
    return (
        f"- {about.get('date', 'no date')}, {about.get('cpu', 'unknown processor')}, "
        f"{about.get('cpus', '?')} processors; source {about.get('source', 'unknown')}; "
        f"`{about.get('command', '')}`"
    )


def versions(session: Session) -> list[str]:
    """One line per peer: what it ran with; several where that changed on the way."""
    found: dict[str, None] = {}
    for line in session.lines:
        if "versions" in line:
            parts = [f"{name} {version}" for name, version in line["versions"].items()]
            if line.get("engine"):
                parts.insert(0, f"engine {line['engine']}")
            found[f"- {line['peer']}: {', '.join(parts)}"] = None
    return sorted(found)


def shares(session: Session) -> list[str]:
    """What part of our training time negatives and order would take alone."""
    alone = session.values("sampling", "ours", "sampling_examples_per_s").values()
    if not alone:
        return []
    parts = []
    for name in SETTINGS:
        train = session.values(name, "ours", "train_examples_per_s").values()
        if train and SETTINGS[name].goal == "train":
            share = statistics.median(train) / statistics.median(alone)
            parts.append(f"{share:.1%} of an epoch of {name}")
    return [f"- negatives and order alone, ours: {', '.join(parts)}"] if parts else []


def text(session: Session) -> str:
    """The whole summary as markdown."""
    header = ["setting", "quantity", "M: model garden", "K: Keras fit, no sampling", "ours",
              "ours / M", "ours / K", "n"]  # fmt: skip
    parts = [
        markdown(header, rows(session), lambda column: column >= 2),
        "",
        "Median (least-most) over n rounds; ratios are taken round by round, and more "
        "than 1 means that ours is better. Memory is a process's peak.",
        "",
        *_COUNTED,
        *[origin(about) for about in session.about],
        *versions(session),
        *shares(session),
    ]
    for line in session.failures:
        what = f"{line['peer']}, {line['setting']}, round {line['round']}"
        parts.append(f"- **failed**: {what}: {line['error']}")
    return "\n".join(parts) + "\n"
