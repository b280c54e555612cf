"""The dataclasses of a loaded track; they mirror the YAML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRACKS_DIR = Path(__file__).resolve().parent
BUILTIN_TRACKS: tuple[str, ...] = (
    "ml-100k", "ml-1m", "ml-1m-paper", "ml-20m", "ml-20m-synthetic", "ml-1m-4x4",
    "ml-1m-16x32")
DATASET_KINDS = ("ratings", "given_split", "synthetic", "fractal")
SHUFFLES = ("axes", "blocks")
# Names of the scoring rules; compliance/results/scoring.py has their definitions.
OLYMPIC_MEAN, V05_FIRST_50 = "olympic-mean", "v0.5-ncf-first-50-of-100"
SCORING_RULES = (OLYMPIC_MEAN, V05_FIRST_50)
DIVISIONS = ("closed", "open")
OPTIMIZERS = ("adam", "lazy_adam")
FREE_SETTINGS = ("batch_size", "eval_batch_size", "learning_rate", "beta1", "beta2",
                 "epsilon", "optimizer", "precision", "engine")


@dataclass(frozen=True)
class TrackDataset:
    """The source of the data, and its required properties once it is loaded.

    Digests are lower-case hex. Counts are None if the track does not fix them (open division).
    A track file may omit only the keys `columns`, `fractal` and `file`.

    Attributes:
      name: The dataset's name in messages, caches and logs.
      kind: One of DATASET_KINDS.
      url: The URL of the archive, or None.
      archive_md5: MD5 of the archive, or None.
      archive_sha256: SHA-256 of the archive, or None.
      archive_member: The file in the archive with the ratings, or None.
      package: A package on PyPI with a copy of the data, as name==version, or None.
      package_member: The file in the package with the ratings, or None.
      package_member_sha256: SHA-256 of that file, or None.
      min_ratings: Users with fewer ratings are removed from the dataset.
      split_digest: SHA-256 of the canonical split, or None.
      synthetic: num_users, num_items, num_ratings and seed of a generated dataset; None for
        other kinds.
      num_users: Users after filtering.
      num_items: Items after filtering.
      num_ratings: Ratings after filtering.
      num_positives: Training pairs, after one rating of each user has been held out.
      columns: The columns of user, item and timestamp in the ratings file: their names in the
        header, or their positions, from 1, in a file without a header. The timestamp is None if
        the file has no times. None for a file in a known format.
      fractal: The source, user_factor, item_factor, seed and shuffle of a fractal expansion;
        `url` to `columns` then describe the source dataset. None for other kinds.
      file: The ratings file of a user's own track, as an absolute path; None if the file is
        fetched or is in the data folder.
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
    columns: dict[str, str | int | None] | None = None
    fractal: dict[str, Any] | None = None
    file: str | None = None


@dataclass(frozen=True)
class TrackModel:
    """The sizes and the L2 factors of NeuMF.

    Attributes:
      mf_dim: Width of the GMF embeddings.
      mlp_layers: Widths of the MLP; the first is the concatenated user and item input.
      l2_mf: L2 factor of the GMF embeddings.
      l2_mlp: One L2 factor for each entry of `mlp_layers`; the first is for the MLP
        embeddings.
    """

    mf_dim: int
    mlp_layers: tuple[int, ...]
    l2_mf: float
    l2_mlp: tuple[float, ...]


@dataclass(frozen=True)
class TrackSampling:
    """How training examples are sampled.

    Attributes:
      train_negatives: Negatives per training positive; new ones are drawn for each epoch.
    """

    train_negatives: int


@dataclass(frozen=True)
class TrackEvaluation:
    """How the hit rate is measured.

    Attributes:
      negatives: Negatives against which each held-out item is ranked.
      given: Whether the negatives come with the data; otherwise they are drawn.
      top_k: A held-out item among this many top candidates is a hit.
    """

    negatives: int
    given: bool
    top_k: int


@dataclass(frozen=True)
class TrackHyperparameters:
    """Defaults of the settings that a submitter may choose.

    Attributes:
      batch_size: Training examples per step over all devices.
      eval_batch_size: Scored pairs per evaluation step over all devices.
      optimizer: One of OPTIMIZERS.
      learning_rate: Adam's learning rate.
      beta1: Adam's decay of the first moment.
      beta2: Adam's decay of the second moment.
      epsilon: Adam's epsilon, in the same place of the formula as in Keras.
    """

    batch_size: int
    eval_batch_size: int
    optimizer: str
    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float


@dataclass(frozen=True)
class Track:
    """One benchmark.

    Attributes:
      name: The track's name, the value of `--track`.
      benchmark: The name of its results folder.
      division_default: The division of a run with default settings: one of DIVISIONS.
      description: A one-line description.
      dataset: Source, digests and counts of the data.
      model: Sizes of the model.
      sampling: Training negatives.
      evaluation: The protocol of the evaluation.
      target: The hit rate at which a run stops; None if the track is never scored.
      max_epochs: The epoch cap: a run that has not reached the target by then has failed.
      hyperparameters: Defaults of the free settings.
      runs: The number of runs that a score requires.
      scoring: One of SCORING_RULES.
      free: The settings, from FREE_SETTINGS, that a submitter may choose in the closed
        division; it fixes all others.
      path: The YAML file.
      runs_at_most: The largest number of runs that a score takes, if the number was fixed before
        the first run; None if a score takes exactly `runs`.
    """

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
    runs_at_most: int | None = None

    @property
    def most_runs(self) -> int:
        """The largest number of runs that a score takes."""
        return self.runs_at_most or self.runs

    def runs_in_words(self) -> str:
        """Returns the numbers of runs that a score takes: "5", or "5 to 30"."""
        return f"{self.runs}" if self.most_runs == self.runs else f"{self.runs} to {self.most_runs}"

    @property
    def is_builtin(self) -> bool:
        """Whether this is a built-in track."""
        return Path(self.path).parent == TRACKS_DIR

    @property
    def train_samples(self) -> int | None:
        """Examples in one epoch: each positive with its negatives; None if unknown."""
        positives = self.dataset.num_positives
        return None if positives is None else positives * (1 + self.sampling.train_negatives)

    @property
    def eval_samples(self) -> int | None:
        """Pairs in one evaluation: each user's held-out item with its negatives."""
        users = self.dataset.num_users
        return None if users is None else users * (1 + self.evaluation.negatives)
