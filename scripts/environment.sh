# Shared by the scripts: finds a Python and creates an environment, which is .venv for CPUs,
# .venv-gpu for GPUs and .venv-tpu for TPUs. Creating one never removes another.
# To be sourced, with $root set to the project's folder. Sets $python.

setup_log="$root/.venv-setup.log"
constraints="$root/requirements/constraints.txt"
needed_modules="absl mlperf_logging numpy pandas yaml"

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# Succeeds if $1 is a working Python with a version (such as 3.10) from $2 to below $3.
python_between() {
  "$1" -c 'import sys
low, high = (tuple(map(int, text.split("."))) for text in sys.argv[1:])
sys.exit(not low <= sys.version_info[:2] < high)' "$2" "$3" >/dev/null 2>&1
}

# Prints the first suitable Python: preferably a version that TensorFlow supports, else a newer
# one. For a virtual environment's Python, prints the base Python, since the environment may be
# removed.
find_python() {
  local high candidate
  for high in 3.14 4.0; do
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
      if python_between "$candidate" 3.10 "$high"; then
        "$candidate" -c 'import os, sys
name = "python%d.%d" % sys.version_info[:2]
base = os.path.join(sys.base_prefix, "bin", name)
print(base if sys.prefix != sys.base_prefix and os.access(base, os.X_OK) else "")' |
          grep . || command -v "$candidate"
        return 0
      fi
    done
  done
  return 1
}

# Prints the help flags among the arguments; nothing if there are none.
asks_for_help() {
  local word
  for word in "$@"; do
    case "$word" in
      --) return ;;
      --help | -help | -h | --helpfull) echo "$word" ;;
    esac
  done
}

# Prints the extra tune if the arguments ask for the tuner; nothing if they do not.
asks_for_tuner() {
  local word
  for word in "$@"; do
    case "$word" in
      --) return ;;
      --tune | -tune | --tune=true | --tune=True | --tune=1) echo tune; return ;;
    esac
  done
}

# Prints the comment at the head of the script $1, which describes its usage.
print_usage() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1"
}

# Prints the value of --tpu among the flags; nothing if it is not given.
tpu_value() {
  local before="" word
  for word in "$@"; do
    case "$word" in --tpu=* | -tpu=*) echo "${word#*=}"; return ;; esac
    case "$before" in --tpu | -tpu) echo "$word"; return ;; esac
    before="$word"
  done
}

# Prints the extra for the given harness flags and this machine: tpu, gpu or cpu.
choose_extra() {
  local before="" word gpus
  for word in "$@"; do
    case "$word" in
      --device=tpu | -device=tpu | --tpu | -tpu | --tpu=?* | -tpu=?*) echo tpu; return ;;
    esac
    case "$before $word" in "--device tpu" | "-device tpu") echo tpu; return ;; esac
    before="$word"
  done
  if [ -e /dev/accel0 ] || [ -n "${TPU_NAME:-}" ] || [ -n "${TPU_ACCELERATOR_TYPE:-}" ]; then
    echo tpu
  elif gpus="$(nvidia-smi -L 2>/dev/null)" && [ -n "$gpus" ]; then
    echo gpu
  else
    echo cpu
  fi
}

# Prints a checksum of the environment's inputs; if it changes, the packages are installed again.
fingerprint() {
  {
    printf '%s\n' "$root"
    "$1" -c 'import sys; print(sys.version)'
    cat "$root/pyproject.toml" "$constraints"
  } | cksum
}

# Prints one line on why an installation failed, from pip's output.
explain_failure() {
  if grep -qiE 'No space left on device|Errno 28' "$setup_log"; then
    echo "the disk is full"
  elif grep -qiE 'NewConnectionError|name resolution|Connection refused|unreachable|ConnectTimeout|ReadTimeout|ProxyError|Max retries|SSLError|getaddrinfo|timed out' "$setup_log"; then
    echo "the package index cannot be reached; check the network, or use NEUMF_PYTHON"
  elif grep -q 'from versions: none' "$setup_log"; then
    # pip also prints this if it stopped trying to connect without an error message.
    echo "the package index cannot be reached, or lacks $(grep -oE 'satisfies the requirement [^ ]+' "$setup_log" | tail -n 1 | cut -d ' ' -f 4); check the network, or use NEUMF_PYTHON"
  elif grep -qE 'No matching distribution|Could not find a version' "$setup_log"; then
    echo "the package index lacks a package: $(grep -E 'No matching distribution|Could not find' "$setup_log" | tail -n 1 | cut -c 1-120)"
  else
    echo "$(grep -iE 'error' "$setup_log" | tail -n 1 | cut -c 1-160)"
  fi
}

fail_setup() {
  die "cannot set up $venv: $(explain_failure) (pip's output: $setup_log)"
}

# Creates or completes the environment for the extra $1 (cpu, gpu or tpu) with the further extras
# $2 ("" or words), and sets $venv. The remaining arguments are the flags.
#
# An environment is created in its final folder. It is complete when its stamp is written, which
# records its extras and the checksum of its inputs. An environment without a stamp was
# interrupted and is completed.
make_venv() {
  local extra="$1" more="$2" base stamp have="" held word extras is_complete=yes wheels=() tpu
  shift 2
  venv="$root/.venv"
  [ "$extra" = cpu ] || venv="$root/.venv-$extra"
  if [ -n "${NEUMF_WHEELS:-}" ]; then  # a folder of packages from scripts/wheels.sh
    [ -d "$NEUMF_WHEELS" ] || die "NEUMF_WHEELS=$NEUMF_WHEELS is not a folder"
    wheels=(--no-index --find-links "$(cd "$NEUMF_WHEELS" && pwd -P)")
  fi
  base="$(find_python)" || die "Python 3.10 or newer is needed, but the installed version is" \
    "$(python3 --version 2>/dev/null || echo none); install one, or set NEUMF_PYTHON"
  stamp="$extra $(fingerprint "$base")"
  if [ -f "$venv/.neumf-stamp" ]; then
    have="$(cat "$venv/.neumf-stamp")"
    # tensorflow and tensorflow-cpu write the same files: never install both in one environment.
    [ "${have%% *}" = "$extra" ] || die "$venv was made for ${have%% *} by an earlier version;" \
      "remove it, or set NEUMF_PYTHON"
  fi
  # A stamp is the extra, two numbers of the fingerprint, and the further extras.
  held="$(printf '%s\n' "$have" | cut -d ' ' -f 4-)"
  extras="$extra"
  for word in $held $more; do
    case ",$extras," in *",$word,"*) ;; *) extras="$extras,$word" ;; esac
  done
  for word in $more; do
    case " $held " in *" $word "*) ;; *) is_complete="" ;; esac
  done
  case "$have" in "$stamp" | "$stamp "*) ;; *) is_complete="" ;; esac
  if [ -n "$is_complete" ] && [ -x "$venv/bin/python" ]; then
    return
  fi
  # Complete only an environment that this script created: it has a stamp or a mark.
  if [ -e "$venv" ] && [ -z "$have" ] && [ ! -f "$venv/.neumf-setup" ]; then
    die "$venv exists and was not made by this script; remove it, or set" \
      "NEUMF_PYTHON=$venv/bin/python"
  fi
  tpu="$(tpu_value "$@")"
  if [ -n "$tpu" ]; then  # install nothing if the TPU does not answer
    (cd "$root" && PYTHONPATH="$root" "$base" -m harness.devices.tpu_address "$tpu") || exit 1
  fi
  { : >"$setup_log"; } 2>/dev/null || die "cannot write in $root: read-only, or the disk is full"
  check_space "$extra" "$more"
  printf '%s: setting up %s (%s) with %s; this happens once and takes minutes\n' \
    "${0##*/}" "$venv" "$extras" "$("$base" --version)" >&2
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    # --clear: the remains of an interrupted call cannot be used.
    if ! { mkdir -p "$venv" && : >"$venv/.neumf-setup" &&
           "$base" -m venv --clear "$venv" && : >"$venv/.neumf-setup"; } >>"$setup_log" 2>&1; then
      "$base" -c 'import venv, ensurepip' 2>/dev/null ||
        die "$base lacks the venv module; install it (on Debian: python3-venv)"
      fail_setup
    fi
  fi
  : >"$venv/.neumf-setup" && rm -f "$venv/.neumf-stamp"
  (cd "$root" && "$venv/bin/python" -m pip install --no-input ${wheels[@]+"${wheels[@]}"} \
    -c "$constraints" -e ".[$extras]") \
    >>"$setup_log" 2>&1 </dev/null || fail_setup
  word="$stamp${extras#"$extra"}"
  printf '%s\n' "${word//,/ }" >"$venv/.neumf-stamp.new" &&
    mv "$venv/.neumf-stamp.new" "$venv/.neumf-stamp" || fail_setup
}

# Dies with one line if the disk has too little space for the installation of the extra $1 with the
# further extras $2.
check_space() {
  local needed=2500 free
  [ "$1" = cpu ] || needed=9000
  case " $2 " in *" accelerators "*) needed=$((needed + 2000)) ;; esac
  free="$(df -Pk "$root" 2>/dev/null | awk 'NR == 2 { print int($4 / 1024) }')"
  if [ -n "$free" ] && [ "$free" -lt "$needed" ]; then
    die "the disk is full: $free MiB are free in $root, the set-up needs $needed MiB"
  fi
}

# Sets $python: NEUMF_PYTHON if it is set, else the Python of the matching environment.
# $1: further extras, "" or words: test, accelerators, tune. The remaining arguments are the flags.
prepare_python() {
  local more="$1" tests=""
  case " $more " in *" test "*) tests=pytest ;; esac
  shift
  export PIP_DISABLE_PIP_VERSION_CHECK=1
  # The current folder must not shadow the project's packages.
  export PYTHONSAFEPATH=1
  export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
  if [ -n "${NEUMF_PYTHON:-}" ]; then
    python="$NEUMF_PYTHON"
    command -v "$python" >/dev/null 2>&1 || die "NEUMF_PYTHON=$python is not a program"
    python_between "$python" 3.10 4.0 || die "NEUMF_PYTHON=$python is not Python 3.10 or newer"
    check_modules "$python" $needed_modules $tests
    return
  fi
  if command -v flock >/dev/null 2>&1 && { exec 9>"$root/.venv.lock"; } 2>/dev/null; then
    flock 9
  fi
  make_venv "$(choose_extra "$@")" "$more" "$@"
  { exec 9>&-; } 2>/dev/null
  python="$venv/bin/python"
}

# Dies with one line if the Python $1 lacks one of the modules in the other arguments.
check_modules() {
  local missing
  missing="$("$1" -c 'import importlib.util, sys
print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name) is None))' "${@:2}")"
  [ -z "$missing" ] || die "NEUMF_PYTHON=$1 lacks the modules: $missing"
}
