#!/usr/bin/env bash
# Sets up an environment if needed, then runs the benchmark: ./run_and_time.sh [harness flags]
# The environment is .venv for CPUs, .venv-gpu for GPUs and .venv-tpu for TPUs.
# NEUMF_PYTHON=/path/to/python skips the set-up and uses that environment.
set -u
root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)" || exit 1
. "$root/scripts/environment.sh"

if [ -n "$(asks_for_help "$@")" ]; then  # needs no environment
  python="${NEUMF_PYTHON:-$(find_python)}"
  command -v "$python" >/dev/null 2>&1 || die "${NEUMF_PYTHON:+NEUMF_PYTHON=$NEUMF_PYTHON is not a program; }Python 3.10 or newer is needed"
  NEUMF_CALLED_AS="$0" PYTHONSAFEPATH=1 PYTHONPATH="$root" exec "$python" -m harness --help
fi
prepare_python "$(asks_for_tuner "$@")" "$@"
exec "$python" -m harness "$@"
