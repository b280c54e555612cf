"""The header of a set of TFRecord shards; local headers are read without TensorFlow.

The header is a JSON file. It is written last and atomically, so a folder without a header is not
a set of shards. It contains the SHA-256 of the records of each shard. `tfrecords.py` writes and
reads the shards.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields

from reference_model.base.errors import DataError
from reference_model.base.urls import is_url

FORMAT_VERSION = 1
HEADER_NAME = "header.json"
# Approximate size of a record of evaluation lists.
EVAL_RECORD_BYTES = 4 << 20
_MAX_HEADER_BYTES = 64 << 20
# The field annotations that are type-checked; strings because of `from __future__ import
# annotations`.
_CHECKED_TYPES = {"int": int, "str": str}


class ShardError(DataError):
    """Shards are missing or unusable; the message is one line."""


@dataclass(frozen=True)
class ShardSetSpec:
    """All parameters that determine the content of a set of shards.

    Attributes:
      track: name of the track.
      order: name of the engine that draws the epoch order and the negatives.
      seed: the run's seed.
      batch_size: examples per batch.
      train_negatives: number of negatives per positive.
      eval_negatives: number of negatives per evaluation list.
      num_users: number of users.
      num_items: number of items.
      num_positives: number of training positives.
      split_digest: `Split.digest`.
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
        """Number of examples per epoch, excluding padding."""
        return self.num_positives * (1 + self.train_negatives)

    @property
    def steps(self) -> int:
        """Number of steps per epoch."""
        return -(-self.examples // self.batch_size)

    @property
    def eval_rows(self) -> int:
        """Number of users per record of evaluation lists."""
        return max(1, min(self.num_users, EVAL_RECORD_BYTES // (4 * (self.eval_negatives + 1))))

    @property
    def folder(self) -> str:
        """Folder name of the set."""
        return f"{self.track}-{self.order}-b{self.batch_size}-s{self.seed}"


@dataclass(frozen=True)
class Shard:
    """The header entry of one shard file.

    Attributes:
      name: file name.
      epoch: the epoch of the batches, from 1; 0 for evaluation lists.
      first: number of the first record within the epoch, from 0.
      records: number of records.
      bytes: file size.
      sha256: SHA-256 (hex) of the concatenated records.
    """

    name: str
    epoch: int
    first: int
    records: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardHeader:
    """The metadata of a set of shards.

    Attributes:
      made_for: the parameters that determine the content.
      epochs: number of epochs in the set.
      steps_per_epoch: `ShardSetSpec.steps`, for other readers of the file.
      examples: `ShardSetSpec.examples`, for other readers of the file.
      eval_rows: `ShardSetSpec.eval_rows`, for other readers of the file.
      sampler: name of the sampler that drew the negatives.
      dataset_name: name of the dataset.
      min_ratings: users with fewer ratings were excluded from the dataset.
      masked_duplicates: number of masked candidates in the evaluation lists.
      shards: the shards, in the order of writing.
      format_version: format version.
    """

    made_for: ShardSetSpec
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
    def parse(cls, text: bytes) -> "ShardHeader":
        """Parses the JSON text of a header.

        Raises:
          ValueError: the text is not a header of this format version.
          KeyError: a field is missing.
          TypeError: a field is unknown, missing or of the wrong type.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.get("format_version") != FORMAT_VERSION:
            raise ValueError("unsupported format")
        made_for = ShardSetSpec(**values.pop("made_for"))
        shards = tuple(Shard(**shard) for shard in values.pop("shards"))
        header = cls(made_for=made_for, shards=shards, **values)
        # Not `isinstance`, because a bool is an instance of int.
        for part in (header, made_for, *shards):
            for field in fields(part):
                wanted = _CHECKED_TYPES.get(field.type)
                if wanted and type(getattr(part, field.name)) is not wanted:
                    raise TypeError(field.name)
        return header

    def shards_of_epoch(self, epoch: int) -> list[Shard]:
        """Returns the shards of an epoch (0: the evaluation lists) in record order."""
        found = [shard for shard in self.shards if shard.epoch == epoch]
        return sorted(found, key=lambda shard: shard.first)

    @property
    def is_complete(self) -> bool:
        """Whether the shards cover every step of every epoch, and every user, exactly once."""
        spec = self.made_for
        counts = (self.steps_per_epoch, self.examples, self.eval_rows)
        if counts != (spec.steps, spec.examples, spec.eval_rows):
            return False
        num_records = {0: -(-spec.num_users // spec.eval_rows)}
        num_records.update({epoch: spec.steps for epoch in range(1, self.epochs + 1)})
        for epoch, wanted in num_records.items():
            next_record = 0
            for shard in self.shards_of_epoch(epoch):
                # A name with "/" could point outside the folder.
                if shard.first != next_record or shard.records < 1 or "/" in shard.name:
                    return False
                next_record += shard.records
            if next_record != wanted:
                return False
        return True


def join_path(folder: str, name: str) -> str:
    """Joins a folder or URL and a file name."""
    return f"{folder.rstrip('/')}/{name}"


def load_header(folder: str, wanted: ShardSetSpec, epochs: int, remedy: str = "") -> ShardHeader:
    """Reads the header of a set of shards and checks that the set is usable.

    It compares the sizes of all files with the header, but does not read the files. TensorFlow
    is imported only for a URL.

    Args:
      folder: folder or URL of the set.
      wanted: the required parameters.
      epochs: the minimum number of epochs.
      remedy: the end of every error message: an instruction to the user.

    Raises:
      ShardError: the set is missing, was made with other parameters, or is incomplete.
    """
    header = _read_header(folder, remedy)
    found_values, wanted_values = asdict(header.made_for), asdict(wanted)
    wrong = [name for name, value in wanted_values.items() if found_values[name] != value]
    problem = None
    if wrong:
        name = wrong[0]
        problem = f"the shards have {name} {found_values[name]}, not {wanted_values[name]}"
    elif header.epochs < epochs:
        plural = "" if header.epochs == 1 else "s"
        problem = f"the shards have {header.epochs} epoch{plural}, not {epochs}"
    elif not header.is_complete:
        problem = "the header does not name every step"
    else:
        sizes = ((shard, _file_size(join_path(folder, shard.name))) for shard in header.shards)
        for shard, size in sizes:
            if size != shard.bytes:
                found = "is missing" if size is None else f"has {size} bytes, not {shard.bytes}"
                problem = f"{shard.name} {found}"
                break
    if problem:
        raise ShardError(f"{folder}: {problem}{remedy}")
    return header


def _read_header(folder: str, remedy: str) -> ShardHeader:
    """Reads and parses the header; raises ShardError."""
    path = join_path(folder, HEADER_NAME)
    if _file_size(path) is None:
        raise ShardError(f"{folder}: there are no shards{remedy}")
    try:
        return ShardHeader.parse(_read_file(path))
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{folder}: the header is damaged{remedy}") from error
    except OSError as error:
        raise ShardError(f"{folder}: {error.strerror or error}{remedy}") from error


def _read_file(path: str) -> bytes:
    """Reads at most _MAX_HEADER_BYTES of a file or URL; raises OSError."""
    if not is_url(path):
        with open(path, "rb") as file:
            return file.read(_MAX_HEADER_BYTES)
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read(_MAX_HEADER_BYTES)
    except tf.errors.OpError as error:
        raise OSError(0, " ".join(error.message.split())) from error


def _file_size(path: str) -> int | None:
    """Returns the size of a file in bytes; None if it is missing or inaccessible."""
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
