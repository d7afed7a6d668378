"""Options that several commands have."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class StoreName(StrEnum):
    CLICKHOUSE = "clickhouse"
    MONGO = "mongo"
    RELATIONAL = "relational"


class ChainName(StrEnum):
    KIT = "kit"
    SERVICE = "service"


StoreOption = Annotated[
    list[StoreName] | None,
    typer.Option("--store", help="Only this store; may be repeated."),
]
PartitionByYear = Annotated[
    bool, typer.Option("--partition-by-year", help="Candles are partitioned by year.")
]


def names_of(stores: list[StoreName] | None) -> list[str]:
    return [store.value for store in stores or []]


ChainOption = Annotated[
    ChainName | None,
    typer.Option("--chain", help="Only the kit's migrations, or only the service's own."),
]
FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder", help="Where the service's own migrations are, if not in JTS_MIGRATIONS."
    ),
]
