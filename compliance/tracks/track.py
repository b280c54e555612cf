"""What a track holds once it is loaded: frozen dataclasses that mirror the YAML file."""

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
    """Where the data comes from and how it must look once it is loaded.

    Digests are lower-case hex.  Counts are None where the track leaves them to the data
    (open division).  A track file may leave out `columns`, `fractal` and `file`, and no other key.

    Attributes:
      name: The dataset's name in messages, caches and logs.
      kind: One of DATASET_KINDS.
      url: Where the archive is fetched from, or None.
      archive_md5: MD5 of the archive, or None.
      archive_sha256: SHA-256 of the archive, or None.
      archive_member: The file in the archive that holds the ratings, or None.
      package: A package of the Python index that holds a copy of the data, as
        name==version, or None.
      package_member: The file in the package that holds the ratings, or None.
      package_member_sha256: SHA-256 of that file, or None.
      min_ratings: Ratings that a user needs to stay in the dataset.
      split_digest: SHA-256 of the canonical split, or None.
      synthetic: num_users, num_items, num_ratings and seed of a generated dataset; None for
        other kinds.
      num_users: Users after filtering.
      num_items: Items after filtering.
      num_ratings: Ratings after filtering.
      num_positives: Training pairs, after one rating of each user has been held out.
      columns: The names by which the header of the ratings file calls user, item and
        timestamp (None: the file has no times), or their positions, from 1, in a file without
        header.  None where its format is a known one.
      fractal: Of a fractal expansion: source, user_factor, item_factor, seed, shuffle.
        `url` to `columns` then describe the source dataset.
      file: The ratings file of a track of one's own, as an absolute path; None where the file
        is fetched or lies in the data folder.
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
      mlp_layers: Widths of the MLP, the concatenated user and item input first.
      l2_mf: L2 factor of the GMF embeddings.
      l2_mlp: One L2 factor for each entry of `mlp_layers`; the first one is that of the
        MLP embeddings.
    """

    mf_dim: int
    mlp_layers: tuple[int, ...]
    l2_mf: float
    l2_mlp: tuple[float, ...]


@dataclass(frozen=True)
class TrackSampling:
    """How training examples are sampled.

    Attributes:
      train_negatives: Negatives drawn for each training positive, anew each epoch.
    """

    train_negatives: int


@dataclass(frozen=True)
class TrackEvaluation:
    """How the hit rate is measured.

    Attributes:
      negatives: Negatives against which each held-out item is ranked.
      given: Whether the negatives come with the data; else they are drawn.
      top_k: A hit is a held-out item among this many best ones.
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
      epsilon: Adam's epsilon, placed as Keras places it.
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
      name: The track's name; `--track` takes it.
      benchmark: The name of the folder of its results.
      division_default: The division of a run that changes nothing: one of DIVISIONS.
      description: One line for people.
      dataset: Source, digests and counts of the data.
      model: Sizes of the model.
      sampling: Training negatives.
      evaluation: The protocol of the evaluation.
      target: The hit rate at which a run stops; None: the track is never scored.
      max_epochs: The cap: a run that has not reached the target by then has failed.
      hyperparameters: Defaults of the free settings.
      runs: Runs that a score requires.
      scoring: One of SCORING_RULES.
      free: The settings that the closed division leaves to the submitter, out of
        FREE_SETTINGS; it fixes everything else.
      path: The YAML file.
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

    @property
    def is_builtin(self) -> bool:
        """Whether this is one of the tracks that come with the project."""
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
