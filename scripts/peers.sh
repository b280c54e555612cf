#!/usr/bin/env bash
# Compares this project's speed with that of its peers: scripts/peers.sh [options].
# docs/performance.md describes the options and the results.
# Sets up .venv as run_and_time.sh does, or uses NEUMF_PYTHON. The model garden gets a separate
# environment under .peers.
set -u
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)" || exit 1
. "$root/scripts/environment.sh"

if [ -n "$(asks_for_help "$@")" ]; then
  print_usage "$0"
  # If the environment exists, print the options, too.
  [ ! -x "$root/.venv/bin/python" ] || PYTHONSAFEPATH=1 PYTHONPATH="$root" \
    "$root/.venv/bin/python" -m scripts.peers.compare --help
  exit 0
fi
prepare_python ""
exec "$python" -m scripts.peers.compare "$@"
