#!/usr/bin/env bash
# Merges what came back. Run it in the repository's root, after each call of run.sh:
#
#   bash scripts/offline_gpu/collect.sh FOLDER
#
# FOLDER is where the files of OUT lie. PROJECT_PYTHON names the project's Python
# (.venv/bin/python). Records go to build/<profile>/records, what a benchmark
# measured to build/<profile>/figures or, with other repeats than the profile's, to
# build/<profile>/custom, and a bundle of all records is written for prepare.sh.
set -euo pipefail

. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/settings.sh"
from=${1:?usage: collect.sh FOLDER, with what came back}
python=${PROJECT_PYTHON:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! test -f "$from/records.zip.0"; then
  echo "there is no records.zip.0 in $from: name the folder that OUT named, with what came back" >&2
  exit 2
fi
if test -f "$from/results.tgz"; then tar -xzf "$from/results.tgz" "build/$PROFILE"; fi
cat "$from"/records.zip.* > "$work/records.zip"
# Exit code 1: some records differ from those here, which are kept, and it has said which.
status=0
"$python" -m sympo records import "$work/records.zip" --profile "$PROFILE" || status=$?
test $status -le 1
"$python" -m sympo records status --profile "$PROFILE"
"$python" -m sympo records export ".kit-records-$PROFILE-$(date +%Y%m%dT%H%M%S).zip" --profile "$PROFILE"
