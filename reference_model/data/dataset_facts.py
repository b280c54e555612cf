"""TODO."""

from __future__ import annotations

from reference_model.events import EventSink


def say_dataset(
    sink: EventSink,
    name: str,
    digest: str,
    min_ratings: int,
    users: int,
    items: int,
    positives: int,
) -> None:
    """Which dataset a run reads, and its sizes."""
    sink.point("dataset_name", name)
    sink.point("dataset_digest", digest)
    sink.point("dataset_min_ratings", min_ratings)
    sink.point("dataset_num_users", users)
    sink.point("dataset_num_items", items)
    sink.point("dataset_num_positives", positives)
