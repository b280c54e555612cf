"""What a set of shards says of itself: its header, which is read without TensorFlow.

The header is written last, under a name that it takes when it is whole: a set without one
is none. It holds the SHA-256 of every shard's records, one after the other. The shards
themselves are written and read by `shards.py`.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields

from reference_model.base.errors import DataError

FORMAT_VERSION = 1
HEADER = "header.json"
EVAL_RECORD_BYTES = 4 << 20
_MAX_HEADER = 64 << 20
_TYPES = {"int": int, "str": str}


class ShardError(DataError):
    """Shards that are not there or cannot be used; the message is one line."""


@dataclass(frozen=True)
class MadeFor:
    """What a set of shards is made for: all that its content depends on.

    `order` is the engine whose order and negatives they are; counts are those of the split.
    """

    track: str
    order: str
    seed: int
    batch_size: int
    train_negatives: int
    eval_negatives: int
    num_users: int
    num_items: int
    num_positives: int
    split_digest: str

    @property
    def examples(self) -> int:
        """Real examples in one epoch."""
        return self.num_positives * (1 + self.train_negatives)

    @property
    def steps(self) -> int:
        return -(-self.examples // self.batch_size)

    @property
    def eval_rows(self) -> int:
        """Users in one record of the evaluation."""
        return max(1, min(self.num_users, EVAL_RECORD_BYTES // (4 * (self.eval_negatives + 1))))

    @property
    def folder(self) -> str:
        """Name of the folder that holds such a set."""
        return f"{self.track}-{self.order}-b{self.batch_size}-s{self.seed}"


@dataclass(frozen=True)
class Shard:
    """One file: `epoch` 0 is the evaluation; `first` is the number of its first record
    within the epoch; `bytes` is the file's size, `sha256` that of its records."""

    name: str
    epoch: int
    first: int
    records: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardHeader:
    """What is known of a set of shards without reading one of them."""

    made_for: MadeFor
    epochs: int
    steps_per_epoch: int
    examples: int
    eval_rows: int
    sampler: str
    dataset_name: str
    min_ratings: int
    masked_duplicates: int
    shards: tuple[Shard, ...]
    format_version: int = FORMAT_VERSION

    @classmethod
    def of(cls, text: bytes) -> "ShardHeader":
        """Raises ValueError, KeyError or TypeError where it is none."""
        values = json.loads(text)
        if not isinstance(values, dict) or values.get("format_version") != FORMAT_VERSION:
            raise ValueError("another format")
        made_for = MadeFor(**values.pop("made_for"))
        shards = tuple(Shard(**shard) for shard in values.pop("shards"))
        header = cls(made_for=made_for, shards=shards, **values)
        for part in (header, made_for, *shards):
            for field in fields(part):
                wanted = _TYPES.get(field.type)
                if wanted and type(getattr(part, field.name)) is not wanted:
                    raise TypeError(field.name)
        return header

    def of_epoch(self, epoch: int) -> list[Shard]:
        """The shards of an epoch (0: the evaluation), first to last."""
        found = [shard for shard in self.shards if shard.epoch == epoch]
        return sorted(found, key=lambda shard: shard.first)

    @property
    def is_whole(self) -> bool:
        """Whether it names every step of every epoch, and every user, exactly once."""
        made = self.made_for
        counts = (self.steps_per_epoch, self.examples, self.eval_rows)
        wanted = {0: -(-made.num_users // made.eval_rows)}
        wanted.update({epoch: made.steps for epoch in range(1, self.epochs + 1)})
        if counts != (made.steps, made.examples, made.eval_rows):
            return False
        for epoch, records in wanted.items():
            place = 0
            for shard in self.of_epoch(epoch):
                if shard.first != place or shard.records < 1 or "/" in shard.name:
                    return False
                place += shard.records
            if place != records:
                return False
        return True


def join(folder: str, name: str) -> str:
    """A path inside a folder or URL."""
    return f"{folder.rstrip('/')}/{name}"


def is_url(path: str) -> bool:
    """Whether only TensorFlow can open it."""
    return "://" in path


def open_header(folder: str, wanted: MadeFor, epochs: int, remedy: str = "") -> ShardHeader:
    """The header of shards that serve, held against the sizes of the files.

    Reads nothing of the shards; imports TensorFlow only for a URL. `remedy` ends each
    message: what the user can do. Raises ShardError.
    """
    header = _read(folder, remedy)
    made, wanted_values = asdict(header.made_for), asdict(wanted)
    wrong = [name for name, value in wanted_values.items() if made[name] != value]
    problem = None
    if wrong:
        problem = f"its shards are of {wrong[0]} {made[wrong[0]]}, not {wanted_values[wrong[0]]}"
    elif header.epochs < epochs:
        problem = f"its shards are of {header.epochs} epochs, not {epochs}"
    elif not header.is_whole:
        problem = "its header does not name every step"
    else:
        sizes = ((shard, _size(join(folder, shard.name))) for shard in header.shards)
        for shard, size in sizes:
            if size != shard.bytes:
                found = "is missing" if size is None else f"has {size} bytes, not {shard.bytes}"
                problem = f"{shard.name} {found}"
                break
    if problem:
        raise ShardError(f"{folder}: {problem}{remedy}")
    return header


def _read(folder: str, remedy: str) -> ShardHeader:
    path = join(folder, HEADER)
    if _size(path) is None:
        raise ShardError(f"{folder}: there are no shards{remedy}")
    try:
        return ShardHeader.of(_contents(path))
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{folder}: its header is damaged{remedy}") from error
    except OSError as error:
        raise ShardError(f"{folder}: {error.strerror or error}{remedy}") from error


def _contents(path: str) -> bytes:
    if not is_url(path):
        with open(path, "rb") as file:
            return file.read(_MAX_HEADER)
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read(_MAX_HEADER)
    except tf.errors.OpError as error:
        raise OSError(0, " ".join(error.message.split())) from error


def _size(path: str) -> int | None:
    """Bytes of a file; None where there is none that can be seen."""
    if not is_url(path):
        try:
            return os.stat(path).st_size
        except OSError:
            return None
    import tensorflow as tf

    try:
        return tf.io.gfile.stat(path).length
    except (tf.errors.OpError, OSError):
        return None
