#!/bin/bash
# Copies the primary, once, and follows it. What was copied by half is copied anew.
set -euo pipefail
umask 077

if [[ ! -e $PGDATA/.copied ]]; then
    find "$PGDATA" -mindepth 1 -delete
    pg_basebackup --pgdata "$PGDATA" --host "$PRIMARY_HOST" --port "${PRIMARY_PORT:-5432}" \
        --username replicator --no-password --checkpoint fast --wal-method stream \
        --slot replica --write-recovery-conf
    touch "$PGDATA/.copied"
fi
exec postgres -D "$PGDATA" -c hot_standby=on -c hba_file="${HBA_FILE:-/etc/jts/pg_hba.conf}" \
    -c listen_addresses='*' "$@"
