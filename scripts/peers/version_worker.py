"""One version's process for `versions.py`.

Its text is run by `python -c` in that version's folder, so all that it imports is that
version's; it calls only what older versions have, too. A job comes in on the first line; each further line asks for one more turn,
and each gets one line of JSON back.
"""

import dataclasses
import json
import os
import sys
import time

sys.path.insert(0, os.getcwd())  # before wherever a version is installed

from scripts.peers import ours
from scripts.peers.jobs import Job


def foreign() -> list[str]:
    """This project's packages that were found elsewhere, since the folder lacks them."""
    here = os.getcwd() + os.sep
    packages = ("compliance", "harness", "reference_model", "scripts")
    return [name for name in packages if not sys.modules[name].__path__[0].startswith(here)]


def make_engine(job: Job):
    """The version's own `make_engine`, or what versions without one did in its place."""
    if hasattr(ours, "make_engine"):
        return ours.make_engine(job)
    ours.devices.hide_accelerators()
    engine = ours.load_engine_class(job.engine)(ours.engine_config(job), ours.NullSink(), "cpu")
    engine.prepare()
    engine.reset(job.seed)
    return engine


def main() -> None:
    if foreign():
        sys.exit(f"{os.getcwd()} has no {' and no '.join(foreign())}")
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints goes to the log

    def say(**line) -> None:
        os.write(out, (json.dumps(line) + "\n").encode())

    known = {field.name for field in dataclasses.fields(Job)}
    given = json.loads(sys.stdin.readline())
    job = Job.from_json(json.dumps({k: v for k, v in given.items() if k in known}))
    engine = make_engine(job)
    engine.load(ours.job_split(job))
    if job.goal == "sampling":
        turn = getattr(engine, "sample_epoch", None) or engine.epoch_batches
    else:
        turn = engine.train_epoch
    # The first two epochs bring what `load` set going, and the caches, to rest.
    turn(1)
    turn(2)
    epoch = 2
    say(ready=True)
    for _ in sys.stdin:
        epoch += 1
        start = time.perf_counter()
        found = turn(epoch)
        seconds = time.perf_counter() - start
        say(seconds=seconds, loss=getattr(found, "loss", None))
    os._exit(0)  # a thread that prepares the next epoch must not keep the process


main()
