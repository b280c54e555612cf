#!/usr/bin/env bash
# Sets up .venv with the test extra if need be, then runs the tests:
#   ./run_tests.sh [--slow] [--benchmarks] [pytest arguments]
# --slow adds the tests that take long; --benchmarks runs tests/benchmarks alone.
set -u
root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)" || exit 1
. "$root/scripts/environment.sh"

arguments=()
benchmarks=""
for word in "$@"; do
  case "$word" in
    --benchmarks) benchmarks=yes ;;
    *) arguments+=("$word") ;;
  esac
done
if [ -n "$benchmarks" ]; then
  [ -d "$root/tests/benchmarks" ] || die "there are no benchmarks in tests/benchmarks"
  arguments=(--slow tests/benchmarks ${arguments[@]+"${arguments[@]}"})
fi

prepare_python test
cd "$root" || exit 1
exec "$python" -m pytest ${arguments[@]+"${arguments[@]}"}
