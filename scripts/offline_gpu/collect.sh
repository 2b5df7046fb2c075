#!/usr/bin/env bash
# Merges what came back. Run it in the repository's root, after each call of run.sh:
#
#   bash scripts/offline_gpu/collect.sh FOLDER
#
# FOLDER is where the files of OUT lie. Records go to build/<profile>/records, what a benchmark
# measured to build/<profile>/figures or, with other repeats than the profile's, to
# build/<profile>/custom, and a bundle of all records is written for prepare.sh.
set -euo pipefail

. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/settings.sh"
from=$1
target=build/$PROFILE/records
mkdir -p "$target"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat "$from"/records.tgz.* | tar -xz -C "$work"
new=0
known=0
differ=0
while IFS= read -r -d '' path; do
  name=$(basename "$path")
  if ! test -f "$target/$name"; then
    cp "$path" "$target/"
    new=$((new + 1))
  elif cmp --silent "$path" "$target/$name"; then
    known=$((known + 1))
  else
    # Trained in both places: seconds and the machine differ, so neither is wrong.
    echo "differs, ours is kept: $name"
    differ=$((differ + 1))
  fi
done < <(find "$work/records" -name '*.json' -print0)
if test -f "$from/results.tgz"; then tar -xzf "$from/results.tgz"; fi

echo "records: $new new, $known known, $differ differ"
find "$target" -name '*.json' -printf '%f\n' | sed -E 's/-.*//' | sort | uniq -c
bundle=.kit-records-$(date +%Y%m%dT%H%M%S).tgz
tar -czf "$bundle" -C "$target" .
echo "bundle for the next time: $bundle"
