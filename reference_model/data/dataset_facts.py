"""Logs the facts about a dataset."""

from __future__ import annotations

from reference_model.events import EventSink


def log_dataset(
    sink: EventSink,
    name: str,
    digest: str,
    min_ratings: int,
    users: int,
    items: int,
    positives: int,
) -> None:
    """Logs the dataset of a run and its sizes.

    Args:
      sink: receives the facts.
      name: the dataset's name in the track.
      digest: `Split.digest`.
      min_ratings: users with fewer ratings were excluded.
      users: number of users.
      items: number of items.
      positives: number of training positives.
    """
    sink.point("dataset_name", name)
    sink.point("dataset_digest", digest)
    sink.point("dataset_min_ratings", min_ratings)
    sink.point("dataset_num_users", users)
    sink.point("dataset_num_items", items)
    sink.point("dataset_num_positives", positives)
