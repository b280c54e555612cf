#!/usr/bin/env bash
# Compares this project's speed with its peers': scripts/peers.sh [options], see --help.
# Sets up .venv as run_and_time.sh does, or uses NEUMF_PYTHON; the model garden gets an
# environment of its own under .peers.
set -u
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)" || exit 1
. "$root/scripts/environment.sh"

prepare_python ""
exec "$python" -m scripts.peers.compare "$@"
