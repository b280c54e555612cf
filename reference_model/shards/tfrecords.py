"""Writes and reads TFRecord shards of training batches and evaluation lists.

A set of shards is a folder, local or at any URL that TensorFlow can open. It contains a JSON
header (`header.py`) and the shards that the header lists.

A training record is one step: user int32 [B], item int32 [B] and label uint8 [B], concatenated,
little-endian. The last step of an epoch is padded; the header field `examples` is the number of
examples per epoch, excluding padding. An evaluation record contains the lists of `eval_rows`
users, int32 [eval_rows, N + 1], with the held-out item last; a masked candidate i is encoded as
~i. The last record is padded with zeros. All shapes are static, so records can be decoded inside
a compiled program.

Reading verifies the SHA-256 of the records of each shard against the header, and TensorFlow
verifies the CRC of each record.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict
from typing import Callable, Iterator

import numpy as np
import tensorflow as tf

from reference_model.base.errors import Cancelled
from reference_model.base.progress import Progress, no_progress
from reference_model.sampling.epoch_batches import EpochBatches
from reference_model.sampling.evaluation_lists import EvaluationLists
from reference_model.sampling.negatives import sampler_name
from reference_model.shards.header import (
    HEADER_NAME,
    Shard,
    ShardError,
    ShardHeader,
    ShardSetSpec,
    join_path,
    load_header,
)

# A shard ends before the record that would make it larger than this.
_SHARD_BYTES = 128 << 20


def path_exists(path: str) -> bool:
    """Whether a file, a folder or a URL exists; False if it is inaccessible."""
    try:
        return tf.io.gfile.exists(path)
    except (tf.errors.OpError, OSError):
        return False


def error_reason(error: Exception) -> str:
    """Returns the reason for a file error of TensorFlow or the system, in one line."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return " ".join(str(getattr(error, "message", error)).split())[:200]


def remove_shards(folder: str) -> None:
    """Removes a set of shards if it exists; ignores errors."""
    try:
        tf.io.gfile.rmtree(folder)
    except (tf.errors.OpError, OSError):
        pass


# -- writing --------------------------------------------------------------------


class ShardWriter:
    """Writes a set of shards; the set is valid only after `finish`."""

    def __init__(self, folder: str, spec: ShardSetSpec):
        """Creates an empty folder, removing an existing one.

        Args:
          folder: folder or URL.
          spec: the parameters of the set.

        Raises:
          ShardError: the folder cannot be written.
        """
        self.folder, self.spec = folder, spec
        self.shards: list[Shard] = []
        self.num_masked = 0
        with _storage_errors(folder):
            if tf.io.gfile.exists(folder):
                # Remove the header first, so that an interrupted removal leaves no valid set.
                if tf.io.gfile.exists(join_path(folder, HEADER_NAME)):
                    tf.io.gfile.remove(join_path(folder, HEADER_NAME))
                tf.io.gfile.rmtree(folder)
            tf.io.gfile.makedirs(folder)

    def write_epoch(self, epoch: int, batches: EpochBatches) -> None:
        """Writes the batches of one epoch.

        Args:
          epoch: the epoch number, from 1.
          batches: the batches, with the sizes in `spec`.

        Raises:
          ShardError: the shards cannot be written.
        """
        spec = self.spec
        if (batches.steps, batches.examples) != (spec.steps, spec.examples):
            raise ValueError(f"epoch {epoch} has {batches.steps} steps, not {spec.steps}")
        arrays = zip(batches.user, batches.item, batches.label)
        records = (
            np.asarray(user, "<i4").tobytes() + np.asarray(item, "<i4").tobytes()
            + np.asarray(label, "u1").tobytes() for user, item, label in arrays
        )  # fmt: skip
        self._write_records(f"train-{epoch:04d}", epoch, records)

    def write_lists(self, lists: EvaluationLists) -> None:
        """Writes the evaluation lists; raises ShardError as `write_epoch`."""
        rows = self.spec.eval_rows
        # A masked candidate i is encoded as ~i.
        encoded = np.where(lists.masked, ~lists.items, lists.items)
        self.num_masked = int(lists.masked.sum())

        def records() -> Iterator[bytes]:
            for low in range(0, len(encoded), rows):
                part = np.zeros((rows, encoded.shape[1]), "<i4")
                part[: len(encoded) - low] = encoded[low : low + rows]
                yield part.tobytes()

        self._write_records("evaluation", 0, records())

    def _write_records(self, name: str, epoch: int, records: Iterator[bytes]) -> None:
        """Writes records to shards; each shard has at least one record."""
        first, number, record = 0, 0, next(records, None)
        while record is not None:
            file, count, size, digest = f"{name}-{number:03d}.tfrecord", 0, 0, hashlib.sha256()
            path = join_path(self.folder, file)
            with _storage_errors(path), tf.io.TFRecordWriter(path) as out:
                while record is not None and (not count or size + len(record) <= _SHARD_BYTES):
                    out.write(record)
                    digest.update(record)
                    count, size = count + 1, size + len(record)
                    record = next(records, None)
            with _storage_errors(path):
                file_bytes = tf.io.gfile.stat(path).length
            self.shards.append(Shard(file, epoch, first, count, file_bytes, digest.hexdigest()))
            first, number = first + count, number + 1

    def header(self, epochs: int, dataset_name: str = "", min_ratings: int = 0) -> ShardHeader:
        """Returns the header of all shards written so far.

        Args:
          epochs: number of epochs in the set.
          dataset_name: name of the dataset.
          min_ratings: users with fewer ratings were excluded from the dataset.
        """
        spec = self.spec
        sampler = sampler_name(spec.num_users, spec.num_items)
        return ShardHeader(
            spec, epochs, spec.steps, spec.examples, spec.eval_rows, sampler, dataset_name,
            min_ratings, self.num_masked, tuple(self.shards),
        )  # fmt: skip

    def finish(self, epochs: int, dataset_name: str, min_ratings: int) -> ShardHeader:
        """Writes the header, which completes the set; for the arguments see `header`.

        Raises:
          ShardError: the header cannot be written.
        """
        header = self.header(epochs, dataset_name, min_ratings)
        path = join_path(self.folder, HEADER_NAME)
        with _storage_errors(path):
            # Rename the file, so that the header never exists incomplete.
            with tf.io.gfile.GFile(path + ".part", "wb") as file:
                file.write(json.dumps(asdict(header), indent=1).encode())
            tf.io.gfile.rename(path + ".part", path, overwrite=True)
        return header


@contextlib.contextmanager
def _storage_errors(path: str) -> Iterator[None]:
    """Converts storage errors raised by the block to a ShardError for `path`."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise ShardError(
            f"no space left while writing {path}: free some space, or set "
            "--data_dir to another folder"
        ) from error
    except (tf.errors.OpError, OSError) as error:
        raise ShardError(
            f"cannot write {path}: {error_reason(error)}; set --data_dir to a "
            "writable folder"
        ) from error


# -- reading --------------------------------------------------------------------


class ShardReader:
    """Reads a set of shards and verifies the records against the header."""

    def __init__(self, folder: str, header: ShardHeader, remedy: str = ""):
        """Stores its arguments.

        Args:
          folder: folder or URL of the set.
          header: the header of the set.
          remedy: the end of every error message: an instruction to the user.
        """
        self.folder, self.header, self._remedy = folder, header, remedy

    @classmethod
    def open(
        cls, folder: str, wanted: ShardSetSpec, epochs: int, remedy: str = ""
    ) -> "ShardReader":
        """Reads and checks the header with `load_header`; reads no shard."""
        return cls(folder, load_header(folder, wanted, epochs, remedy), remedy)

    def epoch(self, epoch: int, is_cancelled: Callable[[], bool] = lambda: False) -> EpochBatches:
        """Reads the batches of one epoch.

        Args:
          epoch: the epoch number, from 1.
          is_cancelled: polled for each step; True cancels the work.

        Raises:
          ShardError: a shard cannot be read or is damaged.
          Cancelled: `is_cancelled` returned True.
        """
        spec = self.header.made_for
        shape, batch_size = (spec.steps, spec.batch_size), spec.batch_size
        user, item = np.empty(shape, np.int32), np.empty(shape, np.int32)
        label, id_bytes = np.empty(shape, bool), 4 * batch_size
        for step, record in self._records(epoch, 9 * batch_size, is_cancelled):
            user[step] = np.frombuffer(record, "<i4", batch_size)
            item[step] = np.frombuffer(record, "<i4", batch_size, id_bytes)
            label[step] = np.frombuffer(record, "u1", batch_size, 2 * id_bytes)
        return EpochBatches(user, item, label, spec.examples)

    def lists(self) -> EvaluationLists:
        """Reads the evaluation lists.

        Raises:
          ShardError: a shard cannot be read or is damaged.
        """
        spec = self.header.made_for
        rows, width = spec.eval_rows, spec.eval_negatives + 1
        encoded = np.empty((spec.num_users, width), np.int32)
        for k, record in self._records(0, 4 * rows * width):
            # Drop the padding of the last record.
            here = encoded[k * rows : (k + 1) * rows]
            here[:] = np.frombuffer(record, "<i4").reshape(rows, width)[: len(here)]
        masked = encoded < 0
        return EvaluationLists(np.where(masked, ~encoded, encoded), masked)

    def verify(self, progress: Progress = no_progress) -> None:
        """Reads and verifies the whole set.

        Args:
          progress: receives the bytes of training shards read so far.

        Raises:
          ShardError: a shard cannot be read or is damaged.
        """
        total, done = sum(shard.bytes for shard in self.header.shards), 0
        self.lists()
        for epoch in range(1, self.header.epochs + 1):
            self.epoch(epoch)
            done += sum(shard.bytes for shard in self.header.shards_of_epoch(epoch))
            progress(f"checking shards of seed {self.header.made_for.seed}", done, total)

    def _records(
        self, epoch: int, length: int, is_cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[int, bytes]]:
        """Yields (number, record) for all records of an epoch, each of `length` bytes."""
        for shard in self.header.shards_of_epoch(epoch):
            path, digest, count = join_path(self.folder, shard.name), hashlib.sha256(), 0
            try:
                with tf.device("/CPU:0"):
                    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
                        if is_cancelled():
                            raise Cancelled
                        if len(record) != length or count == shard.records:
                            raise self._error(f"{shard.name} is damaged")
                        digest.update(record)
                        yield shard.first + count, record
                        count += 1
            except (tf.errors.OpError, OSError) as error:
                raise self._error(
                    f"{shard.name} cannot be read: {error_reason(error)}"
                ) from error
            if count != shard.records or digest.hexdigest() != shard.sha256:
                raise self._error(f"{shard.name} is damaged (its SHA-256 differs)")

    def _error(self, problem: str) -> ShardError:
        """Returns the error for a problem with this set."""
        return ShardError(f"{self.folder}: {problem}{self._remedy}")
