#!/usr/bin/env bash
# Fills a folder with all packages that an installation requires, for machines without network:
#   scripts/wheels.sh FOLDER [extra ...]      extras: cpu (default), gpu, tpu, test
# Run it on a machine with the same operating system and Python version as the target machine.
# Then copy FOLDER to the target machine and run there:
#   NEUMF_WHEELS=FOLDER ./run_and_time.sh
set -u
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)" || exit 1
. "$root/scripts/environment.sh"

if [ -n "$(asks_for_help "$@")" ]; then
  print_usage "$0"
  exit 0
fi
[ "$#" -ge 1 ] || die "usage: scripts/wheels.sh FOLDER [extra ...]"
case "$1" in -*) die "usage: scripts/wheels.sh FOLDER [extra ...]" ;; esac
mkdir -p "$1" 2>/dev/null || die "$1 cannot be created"
folder="$(cd "$1" && pwd -P)" || exit 1
shift
extras="$(IFS=,; printf '%s' "${*:-cpu}")"
base="$(find_python)" || die "Python 3.10 or newer is needed; install one"
setup_log="$folder/.download.log"
part="$(mktemp -d "$folder/.part.XXXXXX")" || die "$folder cannot be written to"
trap 'rm -rf "$part"' EXIT

# The project's build dependencies are not among its runtime dependencies, so they are added.
if ! (cd "$root" && "$base" -m pip download --no-input --disable-pip-version-check -q \
      -c "$constraints" -d "$part" ".[$extras]" pip "setuptools>=77" wheel) >"$setup_log" 2>&1; then
  die "cannot fill $folder: $(explain_failure) (pip's output: $setup_log)"
fi
# The project itself is installed from its source.
rm -f "$part"/neumf_bench-* "$part"/neumf-bench-*
mv -f "$part"/* "$folder"/ || die "$folder cannot be written to"
rm -f "$setup_log"
printf '%s packages for %s and %s in %s\n' "$(find "$folder" -maxdepth 1 -type f | wc -l)" \
  "$("$base" --version)" "$extras" "$folder"
