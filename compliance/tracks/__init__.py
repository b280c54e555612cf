"""Tracks: what a benchmark fixes, as data that harness and checker both read.

A track is one YAML file.  The built-in ones lie in `tracks/` beside this module;
a file of the user's own is always open division.  Loading is strict: a missing
or unknown key or a wrong type is a `TrackError` naming file, line and key.

Imports: base; nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from compliance.base.strict_yaml import DataFileError, LinedDict, load_mapping

TRACKS_DIR = Path(__file__).resolve().parent
BUILTIN_TRACKS: tuple[str, ...] = (
    "ml-100k", "ml-1m", "ml-1m-paper", "ml-20m", "ml-20m-synthetic", "ml-1m-4x4",
    "ml-1m-16x32")
DATASET_KINDS = ("ratings", "given_split", "synthetic", "fractal")
SHUFFLES = ("axes", "blocks")
SCORING_RULES = ("olympic-mean", "v0.5-ncf-first-50-of-100")
DIVISIONS = ("closed", "open")
OPTIMIZERS = ("adam", "lazy_adam")
FREE_SETTINGS = ("batch_size", "eval_batch_size", "learning_rate", "beta1", "beta2",
                 "epsilon", "optimizer", "precision", "engine")


class TrackError(ValueError):
    """A track that does not exist or cannot be used: one line for the user."""


@dataclass(frozen=True)
class TrackDataset:
    """Where the data comes from and what it must look like once loaded.

    Digests are lower-case hex.  Counts are None where the track leaves them to
    the data (open division).  `num_positives` is training pairs, after one
    rating of each user has been held out.  `columns`: what the header of the
    ratings file calls user, item and timestamp (None: it has no times), where its
    format is none of the known ones.  `fractal`: which dataset is expanded, by which
    factors; where that one comes from is what `url` to `columns` say.  These two are
    the only keys that a track file may leave out.
    """

    name: str
    kind: str
    url: str | None
    archive_md5: str | None
    archive_sha256: str | None
    archive_member: str | None
    package: str | None
    package_member: str | None
    package_member_sha256: str | None
    min_ratings: int
    split_digest: str | None
    synthetic: dict[str, int] | None
    num_users: int | None
    num_items: int | None
    num_ratings: int | None
    num_positives: int | None
    columns: dict[str, str | None] | None = None
    fractal: dict[str, Any] | None = None


@dataclass(frozen=True)
class TrackModel:
    """NeuMF's sizes; `mlp_layers[0]` is the width of the concatenated input.

    `l2_mlp` has a factor for each entry of `mlp_layers`; the first one is for
    the MLP part's embeddings.
    """

    mf_dim: int
    mlp_layers: tuple[int, ...]
    l2_mf: float
    l2_mlp: tuple[float, ...]


@dataclass(frozen=True)
class TrackSampling:
    """Negatives drawn for each training positive, anew each epoch."""

    train_negatives: int


@dataclass(frozen=True)
class TrackEvaluation:
    """Negatives beside each held-out item; `given`: they come with the data."""

    negatives: int
    given: bool
    top_k: int


@dataclass(frozen=True)
class TrackHyperparameters:
    """Defaults of what a submitter may choose."""

    batch_size: int
    eval_batch_size: int
    optimizer: str
    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float


@dataclass(frozen=True)
class Track:
    """One benchmark.  `free`: what the closed division leaves to the submitter;
    everything else in here is fixed there.  `target` None: never scored."""

    name: str
    benchmark: str
    division_default: str
    description: str
    dataset: TrackDataset
    model: TrackModel
    sampling: TrackSampling
    evaluation: TrackEvaluation
    target: float | None
    max_epochs: int
    hyperparameters: TrackHyperparameters
    runs: int
    scoring: str
    free: tuple[str, ...]
    path: str

    @property
    def builtin(self) -> bool:
        """Whether this is one of the tracks that come with the project."""
        return Path(self.path).parent == TRACKS_DIR

    @property
    def train_samples(self) -> int | None:
        """Examples in one epoch: each positive with its negatives."""
        positives = self.dataset.num_positives
        return None if positives is None else positives * (1 + self.sampling.train_negatives)

    @property
    def eval_samples(self) -> int | None:
        """Pairs in one evaluation: each user's held-out item with its negatives."""
        users = self.dataset.num_users
        return None if users is None else users * (1 + self.evaluation.negatives)


def track_path(name_or_path: str | Path) -> Path:
    """The file of a built-in track, or the path itself if it is a file."""
    text = str(name_or_path)
    if text in BUILTIN_TRACKS:
        return TRACKS_DIR / f"{text}.yaml"
    if Path(text).is_file():
        return Path(text).resolve()
    raise TrackError(
        f"track '{text}' is neither built in ({', '.join(BUILTIN_TRACKS)}) "
        "nor a file; give one of these names or the path of a track file")


def load_track(name_or_path: str | Path) -> Track:
    """The track of that name or in that file.  Raises TrackError."""
    return _load(track_path(name_or_path))


@lru_cache(maxsize=16)
def _load(path: Path) -> Track:
    try:
        return _track(_Section(path, "", load_mapping(path)))
    except DataFileError as error:
        raise TrackError(str(error)) from None


class _Section:
    """Takes typed values out of a mapping, and complains about what is left."""

    def __init__(self, path: Path, name: str, data: LinedDict) -> None:
        self.path, self.name, self.data = path, name, data
        self.left = set(data)

    def error(self, key: str, message: str) -> TrackError:
        line = self.data.key_lines.get(key, self.data.line)
        return TrackError(f"{self.path}:{line}: '{self.name}{key}' {message}")

    def take(self, key: str) -> Any:
        if key not in self.data:
            raise self.error(key, "is missing")
        self.left.discard(key)
        return self.data[key]

    def section(self, key: str) -> _Section:
        value = self.take(key)
        if not isinstance(value, LinedDict):
            raise self.error(key, "must be a mapping")
        return _Section(self.path, f"{self.name}{key}.", value)

    def text(self, key: str, one_of: tuple[str, ...] = ()) -> str:
        value = self.take(key)
        if not isinstance(value, str) or not value:
            raise self.error(key, f"must be text, not {value!r}")
        if one_of and value not in one_of:
            raise self.error(key, f"must be one of {', '.join(one_of)}, not '{value}'")
        return value

    def optional_text(self, key: str) -> str | None:
        return None if self.data.get(key, 0) is None and self.take(key) is None \
            else self.text(key)

    def digest(self, key: str, length: int) -> str | None:
        value = self.optional_text(key)
        if value is not None and (len(value) != length
                                  or set(value) - set("0123456789abcdef")):
            raise self.error(key, f"must be {length} lower-case hex digits or null")
        return value

    def integer(self, key: str, minimum: int) -> int:
        value = self.take(key)
        if type(value) is not int or value < minimum:
            raise self.error(key, f"must be a whole number from {minimum} up, not {value!r}")
        return value

    def optional_integer(self, key: str, minimum: int) -> int | None:
        if key in self.data and self.data[key] is None:
            return self.take(key)
        return self.integer(key, minimum)

    def number(self, key: str, low: float, high: float) -> float:
        value = self.take(key)
        if type(value) not in (int, float) or not math.isfinite(value) \
                or not low <= value <= high:
            hint = " (YAML reads 1e-8 as text: write 1.0e-8)" if isinstance(value, str) else ""
            raise self.error(key, f"must be a number from {low:g} to {high:g}, not {value!r}{hint}")
        return float(value)

    def boolean(self, key: str) -> bool:
        value = self.take(key)
        if type(value) is not bool:
            raise self.error(key, f"must be true or false, not {value!r}")
        return value

    def end(self) -> None:
        for key in sorted(self.left):
            raise self.error(key, "is not a key of a track file")


def _track(top: _Section) -> Track:
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
        free=_free(top), path=str(top.path))
    top.end()
    if not all(c.isalnum() or c in "-_." for c in track.name + track.benchmark) \
            or track.name.startswith(".") or track.benchmark.startswith("."):
        raise top.error("name", "and 'benchmark' name folders: letters, digits, - _ . only")
    if not track.builtin and track.name in BUILTIN_TRACKS:
        raise top.error("name", f"'{track.name}' is a built-in track's; choose another")
    if not track.builtin and track.division_default != "open":
        raise top.error("division_default", "must be open in a track file of your own")
    if track.scoring == "olympic-mean" and track.runs < 3:
        raise top.error("runs", "must be at least 3: the fastest and the slowest are dropped")
    if track.scoring == "v0.5-ncf-first-50-of-100" and track.runs != 100:
        raise top.error("runs", "must be 100 under this scoring rule")
    return track


def _dataset(part: _Section) -> TrackDataset:
    kind = part.text("kind", DATASET_KINDS)
    shape = None
    if part.data.get("synthetic", 0) is None:
        part.take("synthetic")
    else:
        given = part.section("synthetic")
        shape = {key: given.integer(key, 0 if key == "seed" else 1)
                 for key in ("num_users", "num_items", "num_ratings", "seed")}
        given.end()
    if (kind == "synthetic") != (shape is not None):
        raise part.error("synthetic", "gives the shape if and only if kind is synthetic")
    dataset = TrackDataset(
        name=part.text("name"), kind=kind, url=part.optional_text("url"),
        archive_md5=part.digest("archive_md5", 32),
        archive_sha256=part.digest("archive_sha256", 64),
        archive_member=part.optional_text("archive_member"),
        package=part.optional_text("package"),
        package_member=part.optional_text("package_member"),
        package_member_sha256=part.digest("package_member_sha256", 64),
        min_ratings=part.integer("min_ratings", 1),
        split_digest=part.digest("split_digest", 64), synthetic=shape,
        num_users=part.optional_integer("num_users", 1),
        num_items=part.optional_integer("num_items", 1),
        num_ratings=part.optional_integer("num_ratings", 1),
        num_positives=part.optional_integer("num_positives", 1),
        columns=_columns(part, kind), fractal=_fractal(part, kind))
    part.end()
    return dataset


def _columns(part: _Section, kind: str) -> dict[str, str | None] | None:
    if part.data.get("columns") is None:
        part.left.discard("columns")
        return None
    if kind not in ("ratings", "fractal"):
        raise part.error("columns", "name the columns of a ratings file; kind is another")
    given = part.section("columns")
    names = {"user": given.text("user"), "item": given.text("item"),
             "timestamp": given.optional_text("timestamp")}
    given.end()
    return names


def _fractal(part: _Section, kind: str) -> dict[str, Any] | None:
    if (kind == "fractal") != (part.data.get("fractal") is not None):
        raise part.error("fractal", "says what is expanded if and only if kind is fractal")
    if kind != "fractal":
        part.left.discard("fractal")
        return None
    given = part.section("fractal")
    shape = {"source": given.text("source"),
             "user_factor": given.integer("user_factor", 1),
             "item_factor": given.integer("item_factor", 1),
             "seed": given.integer("seed", 0), "shuffle": given.text("shuffle", SHUFFLES)}
    given.end()
    return shape


def _model(part: _Section) -> TrackModel:
    layers = part.take("mlp_layers")
    if not isinstance(layers, list) or not layers \
            or any(type(n) is not int or n < 1 for n in layers):
        raise part.error("mlp_layers", "must be a list of whole numbers from 1 up")
    if layers[0] % 2:
        raise part.error("mlp_layers", "must start with an even width: half a user, half an item")
    factors = part.take("l2_mlp")
    if not isinstance(factors, list) or len(factors) != len(layers) or any(
            type(x) not in (int, float) or not 0 <= x < math.inf for x in factors):
        raise part.error("l2_mlp", "must be a list of numbers from 0 up, one for each of mlp_layers")
    model = TrackModel(part.integer("mf_dim", 1), tuple(layers),
                       part.number("l2_mf", 0.0, math.inf), tuple(map(float, factors)))
    part.end()
    return model


def _sampling(part: _Section) -> TrackSampling:
    sampling = TrackSampling(part.integer("train_negatives", 0))
    part.end()
    return sampling


def _evaluation(part: _Section) -> TrackEvaluation:
    evaluation = TrackEvaluation(part.integer("negatives", 1), part.boolean("given"),
                                 part.integer("top_k", 1))
    part.end()
    return evaluation


def _hyperparameters(part: _Section) -> TrackHyperparameters:
    result = TrackHyperparameters(
        part.integer("batch_size", 1), part.integer("eval_batch_size", 1),
        part.text("optimizer", OPTIMIZERS), part.number("learning_rate", 0.0, math.inf),
        part.number("beta1", 0.0, 1.0), part.number("beta2", 0.0, 1.0),
        part.number("epsilon", 0.0, 1.0))
    part.end()
    return result


def _free(top: _Section) -> tuple[str, ...]:
    names = top.take("free")
    if not isinstance(names, list) or any(n not in FREE_SETTINGS for n in names):
        raise top.error("free", f"must be a list out of {', '.join(FREE_SETTINGS)}")
    return tuple(names)
