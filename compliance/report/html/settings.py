"""What a set was run with: hyperparameters, what the track fixes, the system."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

from compliance.base.untrusted_files import read_bounded, why_no_member
from compliance.report.html.limits import MAX_FIELDS, short
from compliance.report.html.runs import RunView
from compliance.report.html.tables import Table, table
from compliance.results.run_set import RunSet
from compliance.tracks import Track

_MAX_JSON = 1 << 20
_DIGEST = re.compile(r"\b([0-9a-f]{16})[0-9a-f]{48}\b")
_IN_LOGS = ("versions", "source", "environment", "python")  # of our system.json
# label, keys in MLLOG and v0.5, the track's own name, the track's value
Row = tuple[str, tuple[str, ...], str, Callable[[Track], Any]]
FREE: tuple[Row, ...] = (
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
FIXED: tuple[Row, ...] = (
    ("target HR@k", ("eval_target",), "", lambda t: t.target),
    ("k (a hit is among the best k)", ("eval_top_k",), "", lambda t: t.evaluation.top_k),
    ("dataset", ("dataset_name",), "", lambda t: t.dataset.name),
    ("digest of the split (SHA-256)", ("dataset_digest",), "", lambda t: t.dataset.split_digest),
    ("ratings a user needs", ("dataset_min_ratings", "preproc_hp_min_ratings"), "",
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
    ("widths of the MLP", ("model_mlp_layer_sizes", "model_hp_mlp_layer_sizes"), "",
     lambda t: list(t.model.mlp_layers)),
    ("L2 factor, GMF", ("model_l2_mf",), "", lambda t: t.model.l2_mf),
    ("L2 factors, MLP", ("model_l2_mlp",), "", lambda t: list(t.model.l2_mlp)))


def settings_tables(key: str, runs: RunSet, views: Sequence[RunView]) -> list[Table]:
    """What the submitter chose, and what the track fixes."""
    track = runs.track
    open_division = {f.facts.division for f in runs.files} == {"open"}
    chosen = [[label, said(views, keys), _text(value(track)) if track else "-",
               "-" if not track else "free" if name in track.free else "fixed"]
              for label, keys, name, value in FREE]
    fixed = []
    for label, keys, _, value in FIXED:
        wanted = _text(value(track)) if track else "-"
        fixed.append([label, shown(said(views, keys)), shown(wanted),
                      _agree(_values(views, keys), wanted)])
    if track:
        fixed += [["epoch cap", "-", str(track.max_epochs), "not in the log"],
                  ["runs required", str(len(runs.runs)), str(track.runs),
                   "same" if len(runs.runs) == track.runs else "differs"],
                  ["score", "-", track.scoring, "not in the log"]]
    name = f"track {track.name}" if track else "no built-in track"
    note = "Open division: nothing is fixed; the track's values are shown for comparison." \
        if open_division else ""
    return [
        table(f"{key}-free", f"Hyperparameters ({name})",
              ("setting", "in the logs", "track's default", "closed division"), chosen),
        table(f"{key}-fixed", f"What the track fixes ({name})",
              ("setting", "in the logs", "track", "agreement"), fixed, note)]


def _values(views: Sequence[RunView], keys: tuple[str, ...]) -> Counter[str]:
    """The values in the logs, each with its number of runs; "-" where a log has none."""
    values: Counter[str] = Counter()
    for view in views:
        about = view.run.line.about
        value = next((about[k][0] for k in keys if k in about and about[k][0] is not None), None)
        if isinstance(value, dict):
            value = value.get("value")
        values[_text(value)] += 1
    return values


def said(views: Sequence[RunView], keys: tuple[str, ...]) -> str:
    """The value in the logs; where they differ, each with its number of runs."""
    values = _values(views, keys)
    if len(values) == 1:
        return next(iter(values))
    shown = [f"{'not logged' if text == '-' else text} ({n} run{'s'[:n - 1]})"
             for text, n in values.most_common(4)]
    return short(", ".join(shown) + (f", and {len(values) - 4} more" if len(values) > 4 else ""))


def shown(text: str) -> str:
    """The text with digests cut to what tells them apart."""
    return _DIGEST.sub(r"\1…", text)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 1e15 else short(value, 40)
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, (list, tuple)):
        return short(", ".join(_text(v) for v in value))
    return short(value)


def _agree(values: Counter[str], wanted: str) -> str:
    """Whether what is logged is what the track says."""
    logged = set(values) - {"-"}
    if wanted == "-":
        return "not fixed"
    if not logged:
        return "not in the log"
    if logged != {wanted}:
        return "differs"
    return "same" if len(values) == 1 else "same where logged"


def system_tables(key: str, runs: RunSet, views: Sequence[RunView]) -> list[Table]:
    """The description beside the logs, and what the logs say of system and software."""
    logged = [[label, text] for label, text in _logged(views) if text != "-"]
    tables = []
    where, described = description(Path(runs.path))
    if described is not None:
        rows = [[name, text] for name, text in islice(_flat(described), 10 * MAX_FIELDS)
                if text not in ("", "N/A") and name.split(".")[0] not in _IN_LOGS]
        more = len(rows) - MAX_FIELDS
        tables.append(table(f"{key}-system", f"System, from {where}", ("field", "value"),
                            rows[:MAX_FIELDS], f"{more:,} more fields are in {where}"
                            if more > 0 else ""))
    tables.append(table(f"{key}-logged", "System and software, from the logs",
                        ("field", "value"), logged[:MAX_FIELDS]))
    return tables


_LOGGED = (("submitter", "submission_org", ""), ("platform", "submission_platform", ""),
           ("availability", "submission_status", ""), ("device", "device", ""),
           ("number of devices", "device", "num_devices"), ("name of the device", "device", "name"),
           ("caches cleared", "cache_clear", ""), ("clock source", "clock_source", ""),
           ("SHA-256 of the source", "source", ""), ("commit", "source", "commit"),
           ("uncommitted changes", "source", "dirty"))


def _logged(views: Sequence[RunView]) -> Iterator[tuple[str, str]]:
    for label, key, member in _LOGGED:
        values: Counter[str] = Counter()
        for view in views:
            value, meta = view.run.line.about.get(key, (None, {}))
            values[_text(meta.get(member) if member and isinstance(meta, dict) else value)] += 1
        yield label, ", ".join(text for text, _ in values.most_common(3)) + (
            f", and {len(values) - 3} more" if len(values) > 3 else "")
    seen: set[tuple[str, str]] = set()
    for view in views:
        versions = view.run.line.about.get("versions", (None, None))[0]
        for name, value in (versions if isinstance(versions, dict) else {}).items():
            pair = (short(name, 60), _text(value))
            if pair not in seen and len(seen) < MAX_FIELDS:
                seen.add(pair)
                yield pair


def description(folder: Path) -> tuple[str, Any]:
    """(name, content) of the system's description that belongs to a set; or ("", None).

    Ours is system.json above the set's folder, MLPerf's systems/<system>.json in the tree,
    that of v0.5 entry.json in the set's folder or above it.
    """
    folder = folder.absolute()
    system = folder.parent
    for path in (system / "system.json", folder / "system.json",
                 system.parent.parent / "systems" / f"{system.name}.json",
                 folder / "entry.json", system / "entry.json"):
        try:
            if why_no_member(path) is None:
                return path.name, json.loads(read_bounded(path, _MAX_JSON))
        except (OSError, ValueError, RecursionError):
            continue
    return "", None


def _flat(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """A description as names and texts: nodes[0].cpu."""
    if isinstance(value, dict) and depth < 6:
        for key, item in list(value.items())[:MAX_FIELDS]:
            inner = f"{name}.{short(key, 60)}" if name else short(key, 60)
            yield from _flat(item, inner, depth + 1)
    elif isinstance(value, list) and depth < 6:
        for i, item in enumerate(value[:MAX_FIELDS]):
            yield from _flat(item, f"{name}[{i}]", depth + 1)
    else:
        yield short(name, 120), _text(value) if value is not None else ""
