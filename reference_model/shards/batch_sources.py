"""Batch sources that use TFRecord shards; see `precomputed_engine.BatchSource`."""

from __future__ import annotations

from typing import Any, Callable

from reference_model.data.dataset_facts import log_dataset
from reference_model.data.split import Split
from reference_model.events import EventSink
from reference_model.sampling.epoch_batches import EpochBatches
from reference_model.sampling.evaluation_lists import EvaluationLists
from reference_model.sampling.negatives import sampler_name
from reference_model.shards.header import ShardSetSpec
from reference_model.shards.tfrecords import ShardReader, ShardWriter, remove_shards


class PreparedShardSource:
    """Reads shards written before the run."""

    drawn_when = "before_clock"

    def __init__(self, reader: ShardReader, epochs: int):
        """Stores its arguments; `epochs` is the maximum number of epochs of the run."""
        self._reader, self.epochs, self.sampler = reader, epochs, reader.header.sampler

    def prepare(self) -> None:
        pass

    def load(self, split: Split | None, sink: EventSink) -> None:
        """Logs the facts about the dataset from the header; ignores `split`."""
        header = self._reader.header
        spec = header.made_for
        sizes = (spec.num_users, spec.num_items, spec.num_positives)
        log_dataset(sink, header.dataset_name, spec.split_digest, header.min_ratings, *sizes)

    def lists(self) -> EvaluationLists:
        return self._reader.lists()

    def epoch(self, epoch: int, is_cancelled: Callable[[], bool]) -> EpochBatches:
        return self._reader.epoch(epoch, is_cancelled)

    def redraw_epoch(self, epoch: int) -> EpochBatches:
        return self._reader.epoch(epoch)

    def redraw_lists(self) -> EvaluationLists:
        return self._reader.lists()

    def close(self) -> None:
        pass


class TimedShardSource:
    """Writes and reads shards during the run, each epoch just before it trains."""

    drawn_when = "in_run"

    def __init__(self, folder: str, drawer: Any, spec: ShardSetSpec, epochs: int, seed: int):
        """Stores its arguments.

        Args:
          folder: folder or URL of the shards; removed by `close`.
          drawer: an engine that draws the batches, with the methods `prepare_sampling`,
            `load_for_sampling`, `epoch_batches` and `evaluation_lists`.
          spec: the parameters of the shards.
          epochs: maximum number of epochs of the run.
          seed: the run's seed.
        """
        self._folder, self._drawer, self.epochs = folder, drawer, epochs
        self._spec, self._seed = spec, seed
        self.sampler = sampler_name(spec.num_users, spec.num_items)

    def prepare(self) -> None:
        self._drawer.prepare_sampling()

    def load(self, split: Split | None, sink: EventSink) -> None:
        self._drawer.load_for_sampling(split, self._seed)
        self._writer = ShardWriter(self._folder, self._spec)

    def _reader(self) -> ShardReader:
        """Returns a reader of all shards written so far; the header is not written to disk."""
        return ShardReader(self._folder, self._writer.header(self.epochs))

    def lists(self) -> EvaluationLists:
        self._writer.write_lists(self._drawer.evaluation_lists())
        return self._reader().lists()

    def epoch(self, epoch: int, is_cancelled: Callable[[], bool]) -> EpochBatches:
        self._writer.write_epoch(epoch, self._drawer.epoch_batches(epoch))
        return self._reader().epoch(epoch, is_cancelled)

    def redraw_epoch(self, epoch: int) -> EpochBatches:
        return self._drawer.epoch_batches(epoch)

    def redraw_lists(self) -> EvaluationLists:
        return self._drawer.evaluation_lists()

    def close(self) -> None:
        remove_shards(self._folder)
