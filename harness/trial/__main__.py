"""`python -m harness.trial`: the process of one timed run."""

import sys

from harness.trial.run import main

if __name__ == "__main__":
    sys.exit(main())
