#!/bin/bash
# Resolves pyproject.toml for every supported Python and platform into constraints.txt.
# Versions already there are kept where they fit; name packages to upgrade: UPGRADE="numpy pandas".
set -euo pipefail

uv=$1
upgrades=()
for name in ${UPGRADE:-}; do upgrades+=(--upgrade-package "$name"); done

resolved=$(mktemp)
trap 'rm -f "$resolved"' EXIT
grep -v '^#' constraints.txt > "$resolved"
"$uv" pip compile --quiet --universal --python-version 3.11 \
    --all-extras --group build --group dev --group docs \
    --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
    --no-emit-package jts-storage "${upgrades[@]}" --output-file "$resolved" pyproject.toml
{ grep '^#' constraints.txt; cat "$resolved"; } > constraints.txt.new
mv constraints.txt.new constraints.txt
