"""The settings of a set: hyperparameters, values fixed by the track, the system."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

from compliance.base.untrusted_files import read_bounded, unsafe_path_reason
from compliance.report.formatting import format_yes_no
from compliance.report.html.limits import MAX_FIELDS, clip_text
from compliance.report.html.runs import RunView
from compliance.report.html.tables import HtmlTable, make_table
from compliance.results.run_set import RunSet
from compliance.tracks import Track

_MAX_JSON = 1 << 20
# A SHA-256 digest, or the SHA-1 of a commit.
_DIGEST = re.compile(r"\b([0-9a-f]{16})(?:[0-9a-f]{48}|[0-9a-f]{24})\b")
# Fields of system.json that the logs also contain; they are not shown twice.
_FIELDS_IN_LOGS = ("versions", "source", "environment", "python")
# (label, keys in MLLOG and v0.5, name of the setting in the track, the track's value)
SettingRow = tuple[str, tuple[str, ...], str, Callable[[Track], Any]]
FREE_ROWS: tuple[SettingRow, ...] = (
    ("batch size", ("global_batch_size", "input_batch_size"), "batch_size",
     lambda t: t.hyperparameters.batch_size),
    ("evaluation batch size (pairs)", ("eval_batch_size",), "eval_batch_size",
     lambda t: t.hyperparameters.eval_batch_size),
    ("optimizer", ("opt_name",), "optimizer", lambda t: t.hyperparameters.optimizer),
    ("learning rate", ("opt_base_learning_rate", "opt_learning_rate"), "learning_rate",
     lambda t: t.hyperparameters.learning_rate),
    ("Adam beta1", ("opt_adam_beta_1", "opt_hp_Adam_beta1"), "beta1",
     lambda t: t.hyperparameters.beta1),
    ("Adam beta2", ("opt_adam_beta_2", "opt_hp_Adam_beta2"), "beta2",
     lambda t: t.hyperparameters.beta2),
    ("Adam epsilon", ("opt_adam_epsilon", "opt_hp_Adam_epsilon"), "epsilon",
     lambda t: t.hyperparameters.epsilon),
    ("precision", ("precision",), "precision", lambda t: None),
    ("engine", ("engine",), "engine", lambda t: None))
FIXED_ROWS: tuple[SettingRow, ...] = (
    ("target HR@k", ("eval_target",), "", lambda t: t.target),
    ("k (a hit is among the best k)", ("eval_top_k",), "", lambda t: t.evaluation.top_k),
    ("dataset", ("dataset_name",), "", lambda t: t.dataset.name),
    ("digest of the split (SHA-256)", ("dataset_digest",), "", lambda t: t.dataset.split_digest),
    ("minimum ratings per user", ("dataset_min_ratings", "preproc_hp_min_ratings"), "",
     lambda t: t.dataset.min_ratings),
    ("users", ("dataset_num_users", "eval_hp_num_users"), "", lambda t: t.dataset.num_users),
    ("items", ("dataset_num_items",), "", lambda t: t.dataset.num_items),
    ("training positives", ("dataset_num_positives", "input_size"), "",
     lambda t: t.dataset.num_positives),
    ("training negatives per positive", ("train_num_negatives", "input_hp_num_neg"), "",
     lambda t: t.sampling.train_negatives),
    ("evaluation negatives per user", ("eval_num_negatives", "eval_hp_num_neg"), "",
     lambda t: t.evaluation.negatives),
    ("width of the GMF embeddings", ("model_mf_dim", "model_hp_mf_dim"), "",
     lambda t: t.model.mf_dim),
    ("widths of the MLP layers", ("model_mlp_layer_sizes", "model_hp_mlp_layer_sizes"), "",
     lambda t: list(t.model.mlp_layers)),
    ("L2 factor, GMF", ("model_l2_mf",), "", lambda t: t.model.l2_mf),
    ("L2 factors, MLP", ("model_l2_mlp",), "", lambda t: list(t.model.l2_mlp)))


def settings_tables(key: str, run_set: RunSet, views: Sequence[RunView]) -> list[HtmlTable]:
    """Makes the tables of free hyperparameters and of values that the track fixes.

    Args:
      key: The prefix of the ids of the tables.
      run_set: The set.
      views: Its runs.

    Returns:
      Both tables.
    """
    track = run_set.track
    is_open = {f.summary.division for f in run_set.files} == {"open"}
    chosen = [[label, logged_value(views, keys), _format_value(value(track)) if track else "-",
               "-" if not track else "free" if name in track.free else "fixed"]
              for label, keys, name, value in FREE_ROWS]
    fixed = []
    for label, keys, _, value in FIXED_ROWS:
        track_value = _format_value(value(track)) if track else "-"
        fixed.append([label, shorten_digests(logged_value(views, keys)),
                      shorten_digests(track_value),
                      _agreement(_count_values(views, keys), track_value)])
    if track:
        fixed += [["epoch cap", "-", str(track.max_epochs), "not in the log"],
                  ["runs required", str(len(run_set.runs)), track.runs_in_words(),
                   "same" if track.runs <= len(run_set.runs) <= track.most_runs else "differs"],
                  ["score", "-", track.scoring, "not in the log"]]
    name = f"track {track.name}" if track else "no built-in track"
    note = "Open division: nothing is fixed; the track's values are shown for comparison." \
        if is_open else ""
    return [
        make_table(f"{key}-free", f"Hyperparameters ({name})",
                   ("setting", "in the logs", "track's default", "closed division"), chosen),
        make_table(f"{key}-fixed", f"Values fixed by the track ({name})",
                   ("setting", "in the logs", "track", "agreement"), fixed, note)]


def _count_values(views: Sequence[RunView], keys: tuple[str, ...]) -> Counter[str]:
    """Counts the runs that log each value; "-" is the value of logs without one."""
    values: Counter[str] = Counter()
    for view in views:
        about = view.run.timeline.descriptions
        value = next((about[k][0] for k in keys if k in about and about[k][0] is not None), None)
        if isinstance(value, dict):
            value = value.get("value")
        values[_format_value(value)] += 1
    return values


def logged_value(views: Sequence[RunView], keys: tuple[str, ...]) -> str:
    """Returns the value in the logs; if they differ, each value with its number of runs.

    Args:
      views: The runs.
      keys: The keys under which a log may contain the value.
    """
    values = _count_values(views, keys)
    if len(values) == 1:
        return next(iter(values))
    shown = [f"{'not logged' if text == '-' else text} ({n} run{'s'[:n - 1]})"
             for text, n in values.most_common(4)]
    more = f", and {len(values) - 4} more" if len(values) > 4 else ""
    return clip_text(", ".join(shown) + more)


def shorten_digests(text: str) -> str:
    """Shortens digests and commits in a text to their first 16 digits."""
    return _DIGEST.sub(r"\1…", text)


def _format_value(value: Any) -> str:
    """Formats a value from a log or a track."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return format_yes_no(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 1e15 else clip_text(value, 40)
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, (list, tuple)):
        return clip_text(", ".join(_format_value(v) for v in value))
    return clip_text(value)


def _agreement(values: Counter[str], track_value: str) -> str:
    """Compares the logged values with the track's value, in words."""
    logged = set(values) - {"-"}
    if track_value == "-":
        return "not fixed"
    if not logged:
        return "not in the log"
    if logged != {track_value}:
        return "differs"
    return "same" if len(values) == 1 else "same if logged"


def system_tables(key: str, run_set: RunSet, views: Sequence[RunView]) -> list[HtmlTable]:
    """Makes the tables of the system's description and of system and software in the logs.

    Args:
      key: The prefix of the ids of the tables.
      run_set: The set.
      views: Its runs.

    Returns:
      One or two tables.
    """
    logged = [[label, text] for label, text in _logged_fields(views) if text != "-"]
    tables = []
    where, described = read_system_description(Path(run_set.path))
    if described is not None:
        rows = [[name, text] for name, text in islice(_flatten(described), 10 * MAX_FIELDS)
                if text not in ("", "N/A") and name.split(".")[0] not in _FIELDS_IN_LOGS]
        more = len(rows) - MAX_FIELDS
        tables.append(make_table(f"{key}-system", f"System, from {where}", ("field", "value"),
                                 rows[:MAX_FIELDS], f"{more:,} more fields are in {where}"
                                 if more > 0 else ""))
    tables.append(make_table(f"{key}-logged", "System and software, from the logs",
                             ("field", "value"), logged[:MAX_FIELDS]))
    return tables


_LOGGED_FIELDS = (("submitter", "submission_org", ""), ("platform", "submission_platform", ""),
                  ("availability", "submission_status", ""), ("device", "device", ""),
                  ("number of devices", "device", "num_devices"),
                  ("name of the device", "device", "name"),
                  ("caches cleared", "cache_clear", ""), ("clock source", "clock_source", ""),
                  ("SHA-256 of the source", "source", ""), ("commit", "source", "commit"),
                  ("uncommitted changes", "source", "dirty"))


def _logged_fields(views: Sequence[RunView]) -> Iterator[tuple[str, str]]:
    """Yields (label, value) of the system and of the versions of its software."""
    for label, key, member in _LOGGED_FIELDS:
        values: Counter[str] = Counter()
        for view in views:
            value, metadata = view.run.timeline.descriptions.get(key, (None, {}))
            if member and isinstance(metadata, dict):
                value = metadata.get(member)
            values[_format_value(value)] += 1
        yield label, ", ".join(shorten_digests(text) for text, _ in values.most_common(3)) + (
            f", and {len(values) - 3} more" if len(values) > 3 else "")
    seen: set[tuple[str, str]] = set()
    for view in views:
        versions = view.run.timeline.descriptions.get("versions", (None, None))[0]
        for name, value in (versions if isinstance(versions, dict) else {}).items():
            pair = (clip_text(name, 60), _format_value(value))
            if pair not in seen and len(seen) < MAX_FIELDS:
                seen.add(pair)
                yield pair


def read_system_description(folder: Path) -> tuple[str, Any]:
    """Finds and reads the description of the system that belongs to a set.

    The harness writes system.json into the parent of the set's folder. MLPerf's submission
    trees have systems/<system>.json; v0.5 trees have entry.json in the set's folder or its
    parent.

    Args:
      folder: The set's folder.

    Returns:
      (the file's name, its content), or ("", None) if there is none.
    """
    folder = folder.absolute()
    system = folder.parent
    for path in (system / "system.json", folder / "system.json",
                 system.parent.parent / "systems" / f"{system.name}.json",
                 folder / "entry.json", system / "entry.json"):
        try:
            if unsafe_path_reason(path) is None:
                return path.name, json.loads(read_bounded(path, _MAX_JSON))
        except (OSError, ValueError, RecursionError):
            continue
    return "", None


def _flatten(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yields the fields of a description as names and texts: nodes[0].cpu."""
    if isinstance(value, dict) and depth < 6:
        for key, item in list(value.items())[:MAX_FIELDS]:
            inner = f"{name}.{clip_text(key, 60)}" if name else clip_text(key, 60)
            yield from _flatten(item, inner, depth + 1)
    elif isinstance(value, list) and depth < 6:
        for i, item in enumerate(value[:MAX_FIELDS]):
            yield from _flatten(item, f"{name}[{i}]", depth + 1)
    else:
        yield clip_text(name, 120), _format_value(value) if value is not None else ""
