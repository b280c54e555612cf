#!/usr/bin/env bash
# Sets up .venv if need be, then runs the benchmark: ./run_and_time.sh [harness flags]
# NEUMF_PYTHON=/path/to/python skips the set-up and uses that environment.
set -u
root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)" || exit 1
. "$root/scripts/environment.sh"

prepare_python "" "$@"
exec "$python" -m harness "$@"
