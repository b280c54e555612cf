"""The process of one version, for `versions.py`.

Its source is run by `python -c` in the version's folder, so all imported modules belong to that
version. It may use only names that older versions also have, or must fall back to older names.
The first line of standard input is a job; each further line requests one more epoch. The answer
to each line is one line of JSON.
"""

import dataclasses
import json
import os
import sys
import time

# First in the path, before any folder with an installed version of this project.
sys.path.insert(0, os.getcwd())

from scripts.peers import ours
from scripts.peers.jobs import Job


def packages_from_elsewhere() -> list[str]:
    """Returns this project's packages that were imported from outside the version's folder."""
    here = os.getcwd() + os.sep
    packages = ("compliance", "harness", "reference_model", "scripts")
    return [name for name in packages if not sys.modules[name].__path__[0].startswith(here)]


def make_engine(job: Job):
    """Creates the engine with the version's `make_engine`, or as versions without it did."""
    if hasattr(ours, "make_engine"):
        return ours.make_engine(job)
    ours.devices.hide_accelerators()
    engine = ours.load_engine_class(job.engine)(ours.engine_config(job), ours.NullSink(), "cpu")
    engine.prepare()
    engine.reset(job.seed)
    return engine


def main() -> None:
    """Sets the engine up, then trains or samples one epoch for each line of input."""
    if packages_from_elsewhere():
        sys.exit(f"{os.getcwd()} has no {' and no '.join(packages_from_elsewhere())}")
    out = os.dup(1)
    # Redirect the output of libraries to the log.
    os.dup2(2, 1)

    def answer(**line) -> None:
        os.write(out, (json.dumps(line) + "\n").encode())

    # An older version may lack fields of a job.
    known_fields = {field.name for field in dataclasses.fields(Job)}
    values = json.loads(sys.stdin.readline())
    job = Job.from_json(json.dumps({k: v for k, v in values.items() if k in known_fields}))
    engine = make_engine(job)
    engine.load(ours.job_split(job))
    if job.goal == "sampling":
        run_epoch = getattr(engine, "sample_epoch", None) or engine.epoch_batches
    else:
        run_epoch = engine.train_epoch
    # During the first two epochs, the background work of `load` ends and caches warm up.
    run_epoch(1)
    run_epoch(2)
    epoch = 2
    answer(ready=True)
    for _ in sys.stdin:
        epoch += 1
        start = time.perf_counter()
        result = run_epoch(epoch)
        seconds = time.perf_counter() - start
        answer(seconds=seconds, loss=getattr(result, "loss", None))
    # Exit instead of return: a thread that prepares the next epoch must not keep the process
    # alive.
    os._exit(0)


main()
