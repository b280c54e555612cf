#!/usr/bin/env bash
# Makes a pack for a machine with a GPU, Python, NumPy and JAX: scripts/gpu_pack.sh OUT [options].
# docs/accelerators.md describes it. Sets up .venv with the extra pjrt, or uses NEUMF_PYTHON.
set -u
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)" || exit 1
. "$root/scripts/environment.sh"

if [ -n "$(asks_for_help "$@")" ]; then  # needs no environment
  print_usage "$0"
  sed -n '3,8p' "$root/scripts/gpu_pack/__main__.py"
  exit 0
fi
prepare_python pjrt
exec "$python" -m scripts.gpu_pack "$@"
