"""Whether all shards of a cluster are there."""

from __future__ import annotations

from jts_storage.clickhouse.manager import ClickHouseManager


def check_shards(manager: ClickHouseManager) -> None:
    """See that the server reaches each shard of its cluster; nothing is asked without a cluster.

    :raises ConnectionFailed: one does not answer, with any of its replicas.
    """
    if (cluster := manager.config.cluster) is not None:
        # Core knows no table functions of a cluster.
        manager.execute(f"SELECT count() FROM cluster({cluster}, system, one)")
