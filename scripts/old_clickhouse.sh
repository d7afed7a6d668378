#!/bin/bash
# Debian's old but real ClickHouse, for tests: its client, and of its server the program alone, since
# the package would add a service. Tests that miss them say so and are not run.
set -euo pipefail

[[ $(id -u) == 0 && $(uname -m) == x86_64 ]] && grep -qs '^ID=debian' /etc/os-release || exit 0
command -v clickhouse-client >/dev/null && command -v clickhouse-server >/dev/null && exit 0

export DEBIAN_FRONTEND=noninteractive
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
apt-get update -qq >/dev/null
apt-get install -qq -y --no-install-recommends clickhouse-client >/dev/null
apt-get download -qq -o APT::Sandbox::User=root clickhouse-server >/dev/null
dpkg --extract clickhouse-server_*.deb .
install usr/sbin/clickhouse-server /usr/local/bin/
