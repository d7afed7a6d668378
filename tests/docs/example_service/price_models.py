"""What the service keeps beside the kit's own: quotes, and alerts that change state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

from beanie import DecimalAnnotation
from clickhouse_sqlalchemy import types
from sqlalchemy import Column, MetaData, Table

from jts_storage import (
    DocumentModel,
    DocumentRepository,
    Mapper,
    TableModel,
    VersionedDocument,
)
from jts_storage.mongo import decimal


@dataclass(frozen=True)
class Quote:
    symbol: str
    timestamp: datetime
    bid: Decimal
    ask: Decimal


quote_table = Table(
    "quotes",
    MetaData(),
    Column("symbol", types.LowCardinality(types.String), nullable=False),
    Column("timestamp", types.DateTime64(3, "UTC"), nullable=False),
    Column("bid", types.Decimal(18, 4), nullable=False),
    Column("ask", types.Decimal(18, 4), nullable=False),
    Column("version", types.UInt64, nullable=False),
)


def quote_to_row(quote: Quote) -> Mapping[str, Any]:
    return {
        "symbol": quote.symbol,
        "timestamp": quote.timestamp,
        "bid": quote.bid,
        "ask": quote.ask,
    }


def quote_from_row(row: Mapping[str, Any]) -> Quote:
    return Quote(row["symbol"], row["timestamp"], row["bid"], row["ask"])


quotes = TableModel(
    Quote,
    quote_table,
    Mapper(quote_to_row, quote_from_row),
    mode="append",
    key=("symbol", "timestamp"),
)


class AlertState(StrEnum):
    WAITING = "waiting"
    RAISED = "raised"


@dataclass(frozen=True)
class Alert:
    symbol: str
    above: Decimal
    state: AlertState = AlertState.WAITING
    id: str | None = None
    version: int = 1


class AlertDocument(VersionedDocument):
    collection: ClassVar[str] = "alerts"

    symbol: str
    above: DecimalAnnotation
    state: AlertState


def alert_to_document(alert: Alert) -> AlertDocument:
    return AlertDocument.holding(
        id=alert.id,
        symbol=alert.symbol,
        above=alert.above,
        state=alert.state,
        version=alert.version,
    )


def alert_from_document(document: AlertDocument) -> Alert:
    return Alert(
        id=str(document.id),
        symbol=document.symbol,
        above=decimal(document.above),
        state=AlertState(document.state),
        version=document.version or 1,
    )


class Alerts(DocumentRepository[Alert]):
    async def waiting(self) -> Sequence[Alert]:
        return await self.list(where=lambda alert: alert.state == AlertState.WAITING)


alerts = DocumentModel(
    Alert,
    AlertDocument,
    Mapper(alert_to_document, alert_from_document),
    repository=Alerts,
)

MODELS = (quotes, alerts)
