#!/bin/bash
# Prints the first Python that is new enough; PYTHON names another.
set -euo pipefail

for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "$candidate"
        exit
    fi
done
echo "Python 3.11 or newer was not found. Install it, or name it: make PYTHON=/path/to/python3" >&2
exit 1
