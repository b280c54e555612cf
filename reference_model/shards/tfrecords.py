"""An epoch's batches and the evaluation lists as TFRecord shards, for input that is made ahead.

A set of shards is a folder, local or under any URL that TensorFlow can open: one JSON
header and the shards that it names. A training record is one step: user int32 [B], item
int32 [B] and label uint8 [B], one after the other, little-endian; the last step of an
epoch is padded, and the header's `examples` says how many entries of an epoch are real.
An evaluation record is so many users' lists, int32 [eval_rows, N + 1], the held-out item
last and ~i for a candidate i that is masked; the last record is padded with zeros. All
shapes are static, so that each record can be decoded inside a compiled program.

The header is written last, under a name that it takes when it is whole: a set without one
is none. It holds the SHA-256 of every shard's records, one after the other; reading
recomputes it, and TensorFlow checks the frame around each record.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any, Callable, Iterator

import numpy as np
import tensorflow as tf

from reference_model.base.errors import Cancelled
from reference_model.base.progress import Progress, no_progress
from reference_model.data.dataset_facts import say_dataset
from reference_model.data.split import Split
from reference_model.events import EventSink
from reference_model.sampling.epoch_batches import EpochBatches
from reference_model.sampling.evaluation_lists import EvaluationLists
from reference_model.sampling.negatives import sampler_name
from reference_model.shards.header import (
    HEADER,
    MadeFor,
    Shard,
    ShardError,
    ShardHeader,
    join,
    open_header,
)

# A shard ends with the first record beyond this many bytes.
_SHARD_BYTES = 128 << 20


def exists(path: str) -> bool:
    try:
        return tf.io.gfile.exists(path)
    except (tf.errors.OpError, OSError):
        return False


def reason(error: Exception) -> str:
    """What TensorFlow or the system says of a file, in one line."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return " ".join(str(getattr(error, "message", error)).split())[:200]


# -- writing --------------------------------------------------------------------


class ShardWriter:
    """Writes a set of shards; nothing of it counts before `finish`."""

    def __init__(self, folder: str, made_for: MadeFor):
        self.folder, self.made_for = folder, made_for
        self.shards: list[Shard] = []
        self.masked = 0
        with _writing(folder):
            if tf.io.gfile.exists(folder):
                # The header first: what is left of a removal that is cut short is no set.
                if tf.io.gfile.exists(join(folder, HEADER)):
                    tf.io.gfile.remove(join(folder, HEADER))
                tf.io.gfile.rmtree(folder)
            tf.io.gfile.makedirs(folder)

    def write_epoch(self, epoch: int, batches: EpochBatches) -> None:
        made = self.made_for
        if (batches.steps, batches.examples) != (made.steps, made.examples):
            raise ValueError(f"epoch {epoch} has {batches.steps} steps, not {made.steps}")
        arrays = zip(batches.user, batches.item, batches.label)
        records = (
            np.asarray(u, "<i4").tobytes() + np.asarray(i, "<i4").tobytes()
            + np.asarray(y, "u1").tobytes() for u, i, y in arrays
        )  # fmt: skip
        self._write(f"train-{epoch:04d}", epoch, records)

    def write_lists(self, lists: EvaluationLists) -> None:
        rows, coded = self.made_for.eval_rows, np.where(lists.masked, ~lists.items, lists.items)
        self.masked = int(lists.masked.sum())

        def records() -> Iterator[bytes]:
            for low in range(0, len(coded), rows):
                part = np.zeros((rows, coded.shape[1]), "<i4")
                part[: len(coded) - low] = coded[low : low + rows]
                yield part.tobytes()

        self._write("evaluation", 0, records())

    def _write(self, name: str, epoch: int, records: Iterator[bytes]) -> None:
        first, number, record = 0, 0, next(records, None)
        while record is not None:
            file, count, size, digest = f"{name}-{number:03d}.tfrecord", 0, 0, hashlib.sha256()
            path = join(self.folder, file)
            with _writing(path), tf.io.TFRecordWriter(path) as out:
                while record is not None and (not count or size + len(record) <= _SHARD_BYTES):
                    out.write(record)
                    digest.update(record)
                    count, size = count + 1, size + len(record)
                    record = next(records, None)
            with _writing(path):
                stored = tf.io.gfile.stat(path).length
            self.shards.append(Shard(file, epoch, first, count, stored, digest.hexdigest()))
            first, number = first + count, number + 1

    def header(self, epochs: int, dataset_name: str = "", min_ratings: int = 0) -> ShardHeader:
        """What has been written so far."""
        made = self.made_for
        sampler = sampler_name(made.num_users, made.num_items)
        return ShardHeader(
            made, epochs, made.steps, made.examples, made.eval_rows, sampler, dataset_name,
            min_ratings, self.masked, tuple(self.shards),
        )  # fmt: skip

    def finish(self, epochs: int, dataset_name: str, min_ratings: int) -> ShardHeader:
        """Writes the header, with which the set is there."""
        header = self.header(epochs, dataset_name, min_ratings)
        path = join(self.folder, HEADER)
        with _writing(path):
            with tf.io.gfile.GFile(path + ".part", "wb") as file:
                file.write(json.dumps(asdict(header), indent=1).encode())
            tf.io.gfile.rename(path + ".part", path, overwrite=True)
        return header


class _writing:
    """In this block errors of the storage become a ShardError about `path`."""

    def __init__(self, path: str):
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, tf.errors.ResourceExhaustedError):
            raise ShardError(
                f"no space left while writing {self._path}: free some, or give another folder "
                "with --data_dir"
            ) from error
        if isinstance(error, (tf.errors.OpError, OSError)):
            raise ShardError(
                f"cannot write {self._path}: {reason(error)}; give a place that can be written "
                "with --data_dir"
            ) from error


# -- reading --------------------------------------------------------------------


class ShardReader:
    """Reads a set of shards, holding every record against the header."""

    def __init__(self, folder: str, header: ShardHeader, remedy: str = ""):
        self.folder, self.header, self._remedy = folder, header, remedy

    @classmethod
    def open(cls, folder: str, wanted: MadeFor, epochs: int, remedy: str = "") -> "ShardReader":
        """As `open_header`: none of the shards is read. Raises ShardError."""
        return cls(folder, open_header(folder, wanted, epochs, remedy), remedy)

    def epoch(self, epoch: int, cancelled: Callable[[], bool] = lambda: False) -> EpochBatches:
        """The batches of one epoch. Raises ShardError, or Cancelled."""
        made = self.header.made_for
        shape = (made.steps, made.batch_size)
        user, item = np.empty(shape, np.int32), np.empty(shape, np.int32)
        label, size = np.empty(shape, bool), 4 * made.batch_size
        for k, record in self._records(epoch, 9 * made.batch_size, cancelled):
            user[k] = np.frombuffer(record, "<i4", made.batch_size)
            item[k] = np.frombuffer(record, "<i4", made.batch_size, size)
            label[k] = np.frombuffer(record, "u1", made.batch_size, 2 * size)
        return EpochBatches(user, item, label, made.examples)

    def lists(self) -> EvaluationLists:
        """The evaluation lists of the run. Raises ShardError."""
        made = self.header.made_for
        rows, width = made.eval_rows, made.eval_negatives + 1
        coded = np.empty((made.num_users, width), np.int32)
        for k, record in self._records(0, 4 * rows * width):
            here = coded[k * rows : (k + 1) * rows]
            here[:] = np.frombuffer(record, "<i4").reshape(rows, width)[: len(here)]
        masked = coded < 0
        return EvaluationLists(np.where(masked, ~coded, coded), masked)

    def verify(self, progress: Progress = no_progress) -> None:
        """Reads everything. Raises ShardError."""
        total, done = sum(shard.bytes for shard in self.header.shards), 0
        self.lists()
        for epoch in range(1, self.header.epochs + 1):
            self.epoch(epoch)
            done += sum(shard.bytes for shard in self.header.of_epoch(epoch))
            progress(f"checking shards of seed {self.header.made_for.seed}", done, total)

    def _records(
        self, epoch: int, length: int, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[int, bytes]]:
        """(number, record) of all shards of an epoch, each `length` bytes."""
        for shard in self.header.of_epoch(epoch):
            path, digest, count = join(self.folder, shard.name), hashlib.sha256(), 0
            try:
                with tf.device("/CPU:0"):
                    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
                        if cancelled():
                            raise Cancelled
                        if len(record) != length or count == shard.records:
                            raise self._error(f"{shard.name} is damaged")
                        digest.update(record)
                        yield shard.first + count, record
                        count += 1
            except (tf.errors.OpError, OSError) as error:
                raise self._error(f"{shard.name} cannot be read: {reason(error)}") from error
            if count != shard.records or digest.hexdigest() != shard.sha256:
                raise self._error(f"{shard.name} is damaged (its SHA-256 differs)")

    def _error(self, what: str) -> ShardError:
        return ShardError(f"{self.folder}: {what}{self._remedy}")


def remove(folder: str) -> None:
    """Removes a set of shards, if it is there; says nothing where it cannot."""
    try:
        tf.io.gfile.rmtree(folder)
    except (tf.errors.OpError, OSError):
        pass


# -- where a run's batches come from ----------------------------------------------


class PreparedShards:
    """A set that was written before the run: see `given.BatchSource`."""

    where = "before_clock"

    def __init__(self, reader: ShardReader, epochs: int):
        self._reader, self.epochs, self.sampler = reader, epochs, reader.header.sampler

    def prepare(self) -> None:
        pass

    def load(self, split: Split | None, sink: EventSink) -> None:
        """The split itself is not needed: the header says what is to be said of it."""
        header = self._reader.header
        made = header.made_for
        sizes = (made.num_users, made.num_items, made.num_positives)
        say_dataset(sink, header.dataset_name, made.split_digest, header.min_ratings, *sizes)

    def lists(self) -> EvaluationLists:
        return self._reader.lists()

    def epoch(self, epoch: int, cancelled: Callable[[], bool]) -> EpochBatches:
        return self._reader.epoch(epoch, cancelled)

    def again(self, epoch: int) -> EpochBatches:
        return self._reader.epoch(epoch)

    def lists_again(self) -> EvaluationLists:
        return self._reader.lists()

    def close(self) -> None:
        pass


class TimedShards:
    """Shards that the run writes itself, each epoch's just before it is read."""

    where = "in_run"

    def __init__(self, folder: str, drawer: Any, made_for: MadeFor, epochs: int, seed: int):
        self._folder, self._drawer, self.epochs = folder, drawer, epochs
        self._made_for, self._seed = made_for, seed
        self.sampler = sampler_name(made_for.num_users, made_for.num_items)

    def prepare(self) -> None:
        self._drawer.prepare_drawing()

    def load(self, split: Split | None, sink: EventSink) -> None:
        self._drawer.draw_for(split, self._seed)
        self._writer = ShardWriter(self._folder, self._made_for)

    def _reader(self) -> ShardReader:
        return ShardReader(self._folder, self._writer.header(self.epochs))

    def lists(self) -> EvaluationLists:
        self._writer.write_lists(self._drawer.evaluation_lists())
        return self._reader().lists()

    def epoch(self, epoch: int, cancelled: Callable[[], bool]) -> EpochBatches:
        self._writer.write_epoch(epoch, self._drawer.epoch_batches(epoch))
        return self._reader().epoch(epoch, cancelled)

    def again(self, epoch: int) -> EpochBatches:
        return self._drawer.epoch_batches(epoch)

    def lists_again(self) -> EvaluationLists:
        return self._drawer.evaluation_lists()

    def close(self) -> None:
        remove(self._folder)
