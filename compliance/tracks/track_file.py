"""Reads a track file strictly: a missing key, an unknown key or a wrong type is an error.

Every error message contains the file, the line and the key.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from compliance.base.strict_yaml import DataFileError, LineTrackedDict, load_mapping
from compliance.tracks.track import (
    BUILTIN_TRACKS,
    DATASET_KINDS,
    DIVISIONS,
    FREE_SETTINGS,
    OLYMPIC_MEAN,
    OPTIMIZERS,
    SCORING_RULES,
    SHUFFLES,
    V05_FIRST_50,
    Track,
    TrackDataset,
    TrackEvaluation,
    TrackHyperparameters,
    TrackModel,
    TrackSampling,
)


def read_track(path: Path) -> Track:
    """Reads and checks a track file.

    Args:
      path: The YAML file.

    Raises:
      DataFileError: The file cannot be read or does not describe a track.
    """
    top = _Section(path, "", load_mapping(path))
    _refuse_missing_keys(top)
    # `target: null` is allowed; a missing key is not.
    target = top.take("target") if top.data.get("target", 0) is None \
        else top.number("target", 0.0, 1.0)
    track = Track(
        name=top.text("name"), benchmark=top.text("benchmark"),
        division_default=top.text("division_default", DIVISIONS),
        description=top.text("description"),
        dataset=_dataset(top.section("dataset")), model=_model(top.section("model")),
        sampling=_sampling(top.section("sampling")),
        evaluation=_evaluation(top.section("evaluation")),
        target=target, max_epochs=top.integer("max_epochs", 1),
        hyperparameters=_hyperparameters(top.section("hyperparameters")),
        runs=top.integer("runs", 1), scoring=top.text("scoring", SCORING_RULES),
        free=_free_settings(top), path=str(top.path), runs_at_most=_runs_at_most(top))
    top.refuse_unread_keys()
    _check_consistency(track, top)
    return track


class _Section:
    """One mapping of the file: returns typed values and refuses keys that were not read.

    Attributes:
      path: The file, for messages.
      prefix: The path of this mapping, such as "dataset.", for messages.
      data: The mapping.
      unread: Its keys that have not been taken yet.
    """

    def __init__(self, path: Path, prefix: str, data: LineTrackedDict) -> None:
        self.path, self.prefix, self.data = path, prefix, data
        self.unread = set(data)

    def error(self, key: str, message: str) -> DataFileError:
        """Returns the error about a key, with the key's line."""
        line = self.data.key_lines.get(key, self.data.line)
        return DataFileError(self.path, line, f"'{self.prefix}{key}' {message}")

    def take(self, key: str) -> Any:
        """Returns the value of a required key, of any type."""
        if key not in self.data:
            raise self.error(key, "is missing")
        self.unread.discard(key)
        return self.data[key]

    def section(self, key: str) -> _Section:
        """Returns a value that must be a mapping."""
        value = self.take(key)
        if not isinstance(value, LineTrackedDict):
            raise self.error(key, "must be a mapping")
        return _Section(self.path, f"{self.prefix}{key}.", value)

    def text(self, key: str, one_of: tuple[str, ...] = ()) -> str:
        """Returns a value that must be text, and one of these words if any are given."""
        value = self.take(key)
        if not isinstance(value, str) or not value:
            raise self.error(key, f"must be text, not {value!r}")
        if one_of and value not in one_of:
            raise self.error(key, f"must be one of {', '.join(one_of)}, not '{value}'")
        return value

    def optional_text(self, key: str) -> str | None:
        """Returns a value that must be text or null; the key itself is required."""
        return None if self.data.get(key, 0) is None and self.take(key) is None \
            else self.text(key)

    def digest(self, key: str, length: int) -> str | None:
        """Returns a value that must have this many lower-case hex digits, or be null."""
        value = self.optional_text(key)
        if value is not None and (len(value) != length
                                  or set(value) - set("0123456789abcdef")):
            raise self.error(key, f"must be {length} lower-case hex digits or null")
        return value

    def integer(self, key: str, minimum: int) -> int:
        """Returns a value that must be a whole number (true and false are not)."""
        value = self.take(key)
        if type(value) is not int or value < minimum:
            raise self.error(key, f"must be a whole number from {minimum} up, not {value!r}")
        return value

    def optional_integer(self, key: str, minimum: int) -> int | None:
        """Returns a value that must be a whole number or null."""
        if key in self.data and self.data[key] is None:
            return self.take(key)
        return self.integer(key, minimum)

    def number(self, key: str, low: float, high: float) -> float:
        """Returns a value that must be a finite number within the bounds."""
        value = self.take(key)
        if type(value) not in (int, float) or not math.isfinite(value) \
                or not low <= value <= high:
            hint = " (YAML reads 1e-8 as text: write 1.0e-8)" if isinstance(value, str) else ""
            raise self.error(key, f"must be a number from {low:g} to {high:g}, not {value!r}{hint}")
        return float(value)

    def boolean(self, key: str) -> bool:
        """Returns a value that must be true or false."""
        value = self.take(key)
        if type(value) is not bool:
            raise self.error(key, f"must be true or false, not {value!r}")
        return value

    def refuse_unread_keys(self) -> None:
        """Raises an error about the first key that was not read."""
        for key in sorted(self.unread):
            raise self.error(key, "is not a key of a track file")


def _refuse_missing_keys(top: _Section) -> None:
    """Refuses a file with missing keys; the message lists all of them."""
    wanted: dict[str, list[str]] = {"": _required_fields(Track)}
    wanted[""].remove("path")
    for section, kind in (("dataset", TrackDataset), ("model", TrackModel),
                          ("sampling", TrackSampling), ("evaluation", TrackEvaluation),
                          ("hyperparameters", TrackHyperparameters)):
        wanted[section] = _required_fields(kind)
    missing = []
    for section, names in wanted.items():
        data = top.data if not section else top.data.get(section)
        if isinstance(data, LineTrackedDict):
            prefix = f"{section}." if section else ""
            missing += [f"'{prefix}{name}'" for name in names if name not in data]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise DataFileError(top.path, None, f"{', '.join(missing)} {verb} missing")


def _required_fields(kind: type) -> list[str]:
    return [field.name for field in fields(kind) if field.default is MISSING]


def _check_consistency(track: Track, top: _Section) -> None:
    """Refuses a track whose values do not fit together."""
    if not all(c.isalnum() or c in "-_." for c in track.name + track.benchmark) \
            or track.name.startswith(".") or track.benchmark.startswith("."):
        raise top.error("name", "and 'benchmark' name folders: use only letters, digits, - _ .")
    if not track.is_builtin and track.name in BUILTIN_TRACKS:
        raise top.error("name", f"'{track.name}' is a built-in track's name; choose another one")
    if not track.is_builtin and track.division_default != "open":
        raise top.error("division_default", "must be open in your own track file")
    if track.scoring == "olympic-mean" and track.runs < 3:
        raise top.error("runs", "must be at least 3: the score drops the fastest and the slowest")
    if track.scoring == V05_FIRST_50 and track.runs != 100:
        raise top.error("runs", f"must be 100 with scoring {V05_FIRST_50}")


def _runs_at_most(top: _Section) -> int | None:
    """The largest number of runs of a scored set; the key may be left out."""
    if top.data.get("runs_at_most") is None:
        top.unread.discard("runs_at_most")
        return None
    value = top.integer("runs_at_most", 1)
    if top.data["scoring"] != OLYMPIC_MEAN:
        raise top.error("runs_at_most", f"must be left out unless scoring is {OLYMPIC_MEAN}")
    if value < top.data["runs"]:
        raise top.error("runs_at_most", f"must be at least 'runs', {top.data['runs']}, not {value}")
    return value


def _dataset(section: _Section) -> TrackDataset:
    kind = section.text("kind", DATASET_KINDS)
    shape = None
    if section.data.get("synthetic", 0) is None:
        section.take("synthetic")
    else:
        given = section.section("synthetic")
        shape = {key: given.integer(key, 0 if key == "seed" else 1)
                 for key in ("num_users", "num_items", "num_ratings", "seed")}
        given.refuse_unread_keys()
    if (kind == "synthetic") != (shape is not None):
        raise section.error("synthetic",
                            "must contain the shape if kind is synthetic, else be null")
    dataset = TrackDataset(
        name=section.text("name"), kind=kind, url=section.optional_text("url"),
        archive_md5=section.digest("archive_md5", 32),
        archive_sha256=section.digest("archive_sha256", 64),
        archive_member=section.optional_text("archive_member"),
        package=section.optional_text("package"),
        package_member=section.optional_text("package_member"),
        package_member_sha256=section.digest("package_member_sha256", 64),
        min_ratings=section.integer("min_ratings", 1),
        split_digest=section.digest("split_digest", 64), synthetic=shape,
        num_users=section.optional_integer("num_users", 1),
        num_items=section.optional_integer("num_items", 1),
        num_ratings=section.optional_integer("num_ratings", 1),
        num_positives=section.optional_integer("num_positives", 1),
        columns=_columns(section, kind), fractal=_fractal(section, kind),
        file=_file(section, kind))
    section.refuse_unread_keys()
    return dataset


def _columns(section: _Section, kind: str) -> dict[str, str | int | None] | None:
    if section.data.get("columns") is None:
        section.unread.discard("columns")
        return None
    if kind not in ("ratings", "fractal"):
        raise section.error("columns", f"must be left out if kind is {kind}: only ratings files "
                            "have columns")
    given = section.section("columns")
    columns = {key: given.take(key) for key in ("user", "item", "timestamp")}
    named = [value for value in columns.values() if value is not None]
    if columns["user"] is None or columns["item"] is None \
            or not all(type(value) is type(named[0]) in (str, int) and value for value in named) \
            or len(set(named)) < len(named) \
            or type(named[0]) is int and min(named) < 1:
        raise section.error(
            "columns", "must be names in the file's header, or positions from 1 in a file without "
            "a header, all different; timestamp may be null")
    given.refuse_unread_keys()
    return columns


def _file(section: _Section, kind: str) -> str | None:
    """The ratings file; a path may be relative to the track file's folder."""
    if section.data.get("file") is None:
        section.unread.discard("file")
        return None
    if kind != "ratings":
        raise section.error("file", f"must be left out if kind is {kind}: it is for kind ratings")
    return str((section.path.parent / section.text("file")).absolute())


def _fractal(section: _Section, kind: str) -> dict[str, Any] | None:
    if (kind == "fractal") != (section.data.get("fractal") is not None):
        raise section.error("fractal",
                            "must describe the expansion if kind is fractal, else be null")
    if kind != "fractal":
        section.unread.discard("fractal")
        return None
    given = section.section("fractal")
    shape = {"source": given.text("source"),
             "user_factor": given.integer("user_factor", 1),
             "item_factor": given.integer("item_factor", 1),
             "seed": given.integer("seed", 0), "shuffle": given.text("shuffle", SHUFFLES)}
    given.refuse_unread_keys()
    return shape


def _model(section: _Section) -> TrackModel:
    layers = section.take("mlp_layers")
    if not isinstance(layers, list) or not layers \
            or any(type(n) is not int or n < 1 for n in layers):
        raise section.error("mlp_layers", "must be a list of whole numbers from 1 up")
    if layers[0] % 2:
        raise section.error("mlp_layers",
                            "must start with an even width: half user, half item")
    factors = section.take("l2_mlp")
    if not isinstance(factors, list) or len(factors) != len(layers) or any(
            type(x) not in (int, float) or not 0 <= x < math.inf for x in factors):
        raise section.error("l2_mlp",
                            "must be a list of numbers from 0 up, one for each of mlp_layers")
    model = TrackModel(section.integer("mf_dim", 1), tuple(layers),
                       section.number("l2_mf", 0.0, math.inf), tuple(map(float, factors)))
    section.refuse_unread_keys()
    return model


def _sampling(section: _Section) -> TrackSampling:
    sampling = TrackSampling(section.integer("train_negatives", 0))
    section.refuse_unread_keys()
    return sampling


def _evaluation(section: _Section) -> TrackEvaluation:
    evaluation = TrackEvaluation(section.integer("negatives", 1), section.boolean("given"),
                                 section.integer("top_k", 1))
    section.refuse_unread_keys()
    return evaluation


def _hyperparameters(section: _Section) -> TrackHyperparameters:
    hyperparameters = TrackHyperparameters(
        section.integer("batch_size", 1), section.integer("eval_batch_size", 1),
        section.text("optimizer", OPTIMIZERS), section.number("learning_rate", 0.0, math.inf),
        section.number("beta1", 0.0, 1.0), section.number("beta2", 0.0, 1.0),
        section.number("epsilon", 0.0, 1.0))
    section.refuse_unread_keys()
    return hyperparameters


def _free_settings(top: _Section) -> tuple[str, ...]:
    names = top.take("free")
    if not isinstance(names, list) or any(n not in FREE_SETTINGS for n in names):
        raise top.error("free", f"must be a list with names from {', '.join(FREE_SETTINGS)}")
    return tuple(names)
