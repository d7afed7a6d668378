#!/bin/bash
# Prints .env.example with a random value for every empty one, and with who calls it as the user of
# what reads his certificates, unless that is root.
set -euo pipefail
umask 077

while IFS= read -r line; do
    if [[ $line =~ ^[A-Z_]+=$ ]]; then
        line+=$(od -An -tx1 -N24 /dev/urandom | tr -d ' \n')
    elif [[ $line == "#STACK_UID="* && $(id -u) != 0 ]]; then
        line=STACK_UID=$(id -u)
    elif [[ $line == "#STACK_GID="* && $(id -u) != 0 ]]; then
        line=STACK_GID=$(id -g)
    fi
    echo "$line"
done < "$(dirname "$0")/../.env.example"
