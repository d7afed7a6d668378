#!/bin/bash
# Installs what no Python package brings; says nothing when all is there.
set -euo pipefail

python=$("$(dirname "$0")/find_python.sh")
needed=()
wished=()

if [[ ! -x .venv/bin/python ]] && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    needed+=("$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')")
fi

# The local MongoDB server is linked against libcurl; it exists for this platform only.
if [[ $(uname -sm) == "Linux x86_64" ]] && ! "$python" -c 'import ctypes; ctypes.CDLL("libcurl.so.4")' 2>/dev/null; then
    needed+=(libcurl4)
fi

# A test opens the coverage page in a browser, and is skipped where there is none. Ubuntu's package
# of that name only points to a snap.
if grep -qs '^ID=debian' /etc/os-release && ! command -v chromium >/dev/null; then
    wished+=(chromium fonts-dejavu-core) # without a font no text is drawn
fi

# Tests try the alert rules and dashboards on a real Prometheus, and are skipped where there is none.
if grep -qs '^ID=debian' /etc/os-release && ! command -v promtool >/dev/null; then
    wished+=(prometheus prometheus-alertmanager)
fi

# Tests put a real nginx before a gateway, and are skipped where there is none.
if grep -qs '^ID=debian' /etc/os-release && [[ ! -x /usr/sbin/nginx ]] && ! command -v nginx >/dev/null; then
    wished+=(nginx)
fi

"$(dirname "$0")/old_clickhouse.sh" || echo "Without Debian's old ClickHouse some tests are not run." >&2

missing=("${needed[@]}" "${wished[@]}")
[[ ${#missing[@]} -gt 0 ]] || exit 0

if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    # Tests start what they need themselves: no package may start its service.
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
    fi
    apt-get update -qq >/dev/null
    apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
elif [[ ${#needed[@]} -gt 0 ]]; then
    echo "These system packages are missing: ${missing[*]}. On Debian and Ubuntu:" >&2
    echo "    sudo apt-get update && sudo apt-get install -y ${missing[*]}" >&2
    exit 1
fi
