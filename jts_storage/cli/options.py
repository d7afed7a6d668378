"""Options that several commands have."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class StoreName(StrEnum):
    CLICKHOUSE = "clickhouse"
    MONGO = "mongo"
    RELATIONAL = "relational"


StoreOption = Annotated[
    list[StoreName] | None,
    typer.Option("--store", help="Only this store; may be repeated."),
]
PartitionByYear = Annotated[
    bool, typer.Option("--partition-by-year", help="Candles are partitioned by year.")
]
