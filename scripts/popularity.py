"""Prints the HR@10 of a ranking by popularity, which a model must exceed.

    python -m scripts.popularity TRACK [--seeds N] [--data_dir DIR]

TRACK is a built-in track or a track file. An item's score is its number of training positives. As
in the harness, the held-out item ranks behind equal scores. Each seed draws other candidates.
"""

from __future__ import annotations

import statistics
import sys

import numpy as np

from compliance.tracks import load_track
from harness.config.run_config import default_data_dir
from harness.config.trial_spec import dataset_spec
from reference_model.base.metrics import hit_rate_at, ranks
from reference_model.base.usage_parser import UsageParser
from reference_model.data.prepare import load_split, prepare_split
from reference_model.sampling.evaluation_lists import draw_evaluation_lists
from reference_model.sampling.negatives import make_sampler
from reference_model.sampling.random_streams import STREAM_EVALUATION, stream


def main(argv: list[str] | None = None) -> int:
    parser = UsageParser(
        prog="python -m scripts.popularity", description=__doc__.splitlines()[0])
    parser.add_argument("track", help="a built-in track or a track file")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (5)")
    parser.add_argument("--data_dir", default=default_data_dir(), help="folder of the datasets")
    args = parser.parse_args(argv)
    track = load_track(args.track)
    prepare_split(dataset_spec(track), args.data_dir)
    split = load_split(dataset_spec(track), args.data_dir)
    counts = np.bincount(split.train_item, minlength=split.num_items).astype(np.float32)
    sampler, top_k, found = make_sampler(split), track.evaluation.top_k, []
    for seed in range(args.seeds):
        lists = draw_evaluation_lists(
            split, track.evaluation.negatives, sampler, stream(seed, STREAM_EVALUATION))
        found.append(hit_rate_at(ranks(counts[lists.items], lists.masked), top_k))
    print(f"{track.name}: HR@{top_k} of popularity {statistics.mean(found):.4f} "
          f"({min(found):.4f} to {max(found):.4f}, {args.seeds} seeds)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
