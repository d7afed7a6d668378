"""The variables with which a program uses the stack. None of them shows a password."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from jts_storage.local_servers.mongod import REPLICA_SET
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.services.stack import HOST

DATABASE: Final = "jts"
_VARIABLES: Final = {
    "JTS_CLICKHOUSE_URL": "clickhouse",
    "JTS_MONGO_URL": "mongodb",
    "JTS_DATABASE_URL": "postgres",
    "JTS_REDIS_URL": "redis",
    "JTS_RATE_LIMITS_URL": "redis-limits",
}
_GATEWAY: Final = "JTS_URL"


def of_processes(names: Collection[str], ports: Mapping[str, int]) -> dict[str, str]:
    """Of services that are processes of this machine, where nobody is asked for a password."""
    urls = {
        "JTS_CLICKHOUSE_URL": f"clickhouse://{HOST}:{ports['clickhouse']}/{DATABASE}",
        "JTS_MONGO_URL": f"mongodb://{HOST}:{ports['mongodb']}/{DATABASE}?replicaSet={REPLICA_SET}",
        "JTS_DATABASE_URL": (
            f"postgresql://{LocalPostgres.user}@{HOST}:{ports['postgres']}/{DATABASE}"
        ),
        "JTS_REDIS_URL": f"redis://{HOST}:{ports['redis']}/0",
        "JTS_RATE_LIMITS_URL": f"redis://{HOST}:{ports['redis-limits']}/0",
    }
    return {name: url for name, url in urls.items() if _VARIABLES[name] in names}


def of_containers(names: Collection[str], ports: Mapping[str, int]) -> dict[str, str]:
    """Of services in containers: user names and passwords are references to the variables that
    `docker-compose.yml` takes them from, which the shell has to know.
    """
    urls = {
        "JTS_CLICKHOUSE_URL": (
            "clickhouse://${CLICKHOUSE_USER:-jts}:${CLICKHOUSE_PASSWORD}"
            f"@{HOST}:{ports['clickhouse']}/${{CLICKHOUSE_DATABASE:-jts}}"
        ),
        "JTS_MONGO_URL": (
            "mongodb://${MONGO_USER:-jts}:${MONGO_PASSWORD}"
            f"@{HOST}:{ports['mongodb']}/?replicaSet={REPLICA_SET}&authSource=admin"
        ),
        "JTS_DATABASE_URL": (
            "postgresql://${POSTGRES_USER:-jts}:${POSTGRES_PASSWORD}"
            f"@{HOST}:{ports['postgres']}/${{POSTGRES_DATABASE:-jts}}"
        ),
        "JTS_REDIS_URL": f"redis://:${{REDIS_PASSWORD}}@{HOST}:{ports['redis']}/0",
        "JTS_RATE_LIMITS_URL": (
            f"redis://:${{REDIS_LIMITS_PASSWORD}}@{HOST}:{ports['redis-limits']}/0"
        ),
    }
    return {name: url for name, url in urls.items() if _VARIABLES[name] in names}


def through_gateway(ports: Mapping[str, int]) -> dict[str, str]:
    """For a program that goes through the gateway, in place of the stores themselves."""
    return {_GATEWAY: f"grpc://{HOST}:{ports['gateway']}"}


def of_gateway(ports: Mapping[str, int], data: Path) -> dict[str, str]:
    """What the gateway itself gets: the stores of the stack, whatever the shell names."""
    return {
        **of_processes(_VARIABLES.values(), ports),
        _GATEWAY: "",
        # What the shell asks of other servers of PostgreSQL.
        "PGSSLMODE": "disable",
        "PGTARGETSESSIONATTRS": "any",
        "JTS_DATA_DIR": str(data),
        "JTS_MIGRATE": "true",
    }


def shell_lines(variables: Mapping[str, str]) -> str:
    """Lines for `eval`; references to other variables stay references. A shell that had the stores
    goes through the gateway then, or the other way round: settings refuse both at once.
    """
    others = _VARIABLES if _GATEWAY in variables else (_GATEWAY,)
    exports = [f"export {name}={_quoted(value)}" for name, value in variables.items()]
    return "\n".join([f"unset {' '.join(others)}", *exports])


def _quoted(value: str) -> str:
    if "$" not in value:
        return shlex.quote(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`") + '"'
