"""The number of runs of a score, and why a set can have none, said before the first run."""

from __future__ import annotations

from typing import Any, Mapping

from compliance.tracks.track import V05_FIRST_50, Track


def required_runs(track: Track, num_runs: int) -> int:
    """Returns the number of runs that a score of a set with `num_runs` runs requires.

    In a built-in track it is never below `num_runs`, so that the first runs of a larger set cannot
    be scored by themselves.
    """
    if num_runs > track.runs and (track.is_builtin or num_runs <= track.most_runs):
        return num_runs
    return track.runs


def score_notes(
    given: Mapping[str, Any], track: Track, num_runs: int, log_format: str
) -> list[str]:
    """Returns the reasons why a set with these settings can have no score, one note for each.

    `compliance.results.scoring` decides after the runs; these notes save a user from runs that
    cannot lead to a score.

    Args:
      given: Values of the flags that were given, by name.
      track: The track.
      num_runs: The number of runs.
      log_format: The value of `--log_format`.
    """
    if given.get("prepare_only") or given.get("export"):
        return []  # no run
    notes = []
    if given.get("synthetic_batches"):
        notes.append("--synthetic_batches: the runs reach no target")
    elif not track.is_builtin:
        notes.append(f"track {track.name} is your own: only built-in tracks have scores")
    elif track.target is None:
        notes.append(f"track {track.name} has no target")
    elif log_format == "v0.5" and track.scoring != V05_FIRST_50:
        notes.append("--log_format=v0.5: the rule of this dialect scores 100 runs of track ml-20m")
    runs = "1 run" if num_runs == 1 else f"{num_runs} runs"
    if not notes and not track.runs <= num_runs <= track.most_runs:
        notes.append(f"{runs}, but a score takes {track.runs_in_words()}")
    return [f"no score: {note}" for note in notes]
