"""A ClickHouse table as a migration makes it: text, which does not follow today's models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

LOCAL: Final = "_local"
"""What the name of a table ends with that holds a cluster's rows."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A table as a migration makes it: frozen here, whatever the models say later.

    :param marker: a column and its type by which this table is told from the one before it; the
        type is None if it is told by having no such column. Without a marker it is told by its
        sort key, and has the columns of the one before it.
    :param sharded_by: the column by which a cluster spreads the rows; None gives each host a
        table of its own, as JTS had them.
    """

    columns: str
    engine: str
    order_by: str
    marker: tuple[str, str | None] | None = None
    arguments: str = ""
    partition_by: str | None = None
    sharded_by: str | None = None
    settings: Mapping[str, int] = field(default_factory=dict)

    def statements(self, name: str, final_name: str, cluster: str | None) -> list[str]:
        """What creates it as `name`; the rows of a cluster lie in ``<final_name>_local``."""
        on = f" ON CLUSTER {cluster}" if cluster else ""
        if cluster is None or self.sharded_by is None:
            return [self._create(f"{name}{on}", f"{self.engine}({self.arguments})", self.settings)]
        local = f"{final_name}{LOCAL}"
        return [
            self.replicated(local, cluster, path="/clickhouse/tables/{shard}/{database}/{table}"),
            self.distributed(name, over=local, by=self.sharded_by, cluster=cluster),
        ]

    def replicated(self, name: str, cluster: str, *, path: str) -> str:
        """What creates the table `name` on each host, its replicas meeting at `path`."""
        place = f"'{path}', '{{replica}}'"
        arguments = ", ".join(filter(None, (place, self.arguments)))
        settings = {
            name.replace("non_replicated", "replicated"): v for name, v in self.settings.items()
        }
        engine = f"Replicated{self.engine}({arguments})"
        return self._create(f"{name} ON CLUSTER {cluster}", engine, settings)

    def distributed(self, name: str, *, over: str, by: str, cluster: str) -> str:
        """What creates, as `name`, one table for the tables `over` of all hosts."""
        return (
            f"CREATE TABLE IF NOT EXISTS {name} ON CLUSTER {cluster} ({self.columns}) ENGINE = "
            f"Distributed({cluster}, currentDatabase(), {over}, cityHash64({by}))"
        )

    def _create(self, name: str, engine: str, settings: Mapping[str, int]) -> str:
        partition = f" PARTITION BY {self.partition_by}" if self.partition_by else ""
        listed = ", ".join(f"{setting} = {value}" for setting, value in settings.items())
        return (
            f"CREATE TABLE IF NOT EXISTS {name} ({self.columns}) ENGINE = {engine}{partition}"
            f" ORDER BY {self.order_by}" + (f" SETTINGS {listed}" if listed else "")
        )
