#!/usr/bin/env bash
# Compares this project's speed with its peers': scripts/peers.sh [options].
# docs/performance.md has the options and what they gave.
# Sets up .venv as run_and_time.sh does, or uses NEUMF_PYTHON; the model garden gets an
# environment of its own under .peers.
set -u
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)" || exit 1
. "$root/scripts/environment.sh"

if [ -n "$(asks_for_help "$@")" ]; then
  print_usage "$0"
  # The options themselves, where an environment is there.
  [ ! -x "$root/.venv/bin/python" ] || PYTHONSAFEPATH=1 PYTHONPATH="$root" \
    "$root/.venv/bin/python" -m scripts.peers.compare --help
  exit 0
fi
prepare_python ""
exec "$python" -m scripts.peers.compare "$@"
