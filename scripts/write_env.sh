#!/bin/bash
# Prints .env.example with a random value for every empty one.
set -euo pipefail
umask 077

while IFS= read -r line; do
    if [[ $line =~ ^[A-Z_]+=$ ]]; then
        line+=$(od -An -tx1 -N24 /dev/urandom | tr -d ' \n')
    fi
    echo "$line"
done < "$(dirname "$0")/../.env.example"
