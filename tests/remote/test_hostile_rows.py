"""Rows of declared tables that a client stages are checked by value, as those of a caller are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jts_storage import Storage
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.models.names import BASE, GONE, READ
from jts_storage.models.tables import AnyTable
from jts_storage.proto.jts.storage.v1 import work_pb2 as work
from tests.declared import balances, fill_records, fills, fundamentals, ticks
from tests.remote.gateways import served
from tests.remote.wire import Told, channel, staged

MODELS = (ticks, fundamentals, balances, fills, fill_records)
NOW = datetime(2024, 1, 2, tzinfo=UTC)
STATE = {GONE: False, BASE: 0, READ: ""}
TICK = {"symbol": "A", "timestamp": NOW, "price": Decimal(1), "size": 1}
FIGURE = {"symbol": "A", "published": date(2024, 1, 2), "eps": None, **STATE}
BALANCE = {"account": "A", "cash": Decimal(1), "changed_at": NOW, "version": 1, **STATE}
FILL = {"number": 1, "asked_at": NOW, "version": 1, **STATE}
GOOD: dict[str, dict[str, Any]] = {
    "ticks": TICK,
    "fundamentals": FIGURE,
    "balances": BALANCE,
    "fill_records": FILL,
}


@pytest.fixture
async def to(tmp_path: Path) -> AsyncIterator[Any]:
    backend = InMemoryBackend(models=MODELS)
    async with (
        Storage(backend),
        served(backend, tmp_path) as found,
        channel(found.address) as to,
    ):
        yield to


async def sent(to: Any, name: str, *rows: dict[str, Any]) -> Told:
    model: AnyTable[Any] = next(each for each in MODELS if each.name == name)
    schema = model.schema if model.mode == "append" else model.changes_schema
    columns = [pa.array([row.get(each.name) for row in rows], each.type) for each in schema]
    table = pa.Table.from_arrays(columns, schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_table(table)
    names = ("candles", "bars", "symbols", "aggregates", "checkpoints")
    described: dict[str, Any] = {name: [] for name in names} | {
        "source": "",
        "tables": [[model.name, model.store, model.mode]],
    }
    return await staged(
        to,
        work.Chunk(kind="work", data=json.dumps(described).encode()),
        work.Chunk(kind="table", data=sink.getvalue().to_pybytes(), table=model.name),
    )


@pytest.mark.parametrize("name", GOOD)
async def test_rows_as_clients_send_them_are_taken(to: Any, name: str) -> None:
    assert (await sent(to, name, GOOD[name])).code == "OK"


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("ticks", {"symbol": None}),
        ("ticks", {"price": None}),
        ("ticks", {"timestamp": datetime(1850, 1, 1, tzinfo=UTC)}),
        ("fundamentals", {"symbol": None}),
        ("fundamentals", {"published": date(1850, 1, 1)}),
        ("fundamentals", {"published": date(1850, 1, 1), GONE: True}),
        ("fundamentals", {GONE: None}),
        ("fundamentals", {BASE: None}),
        ("fundamentals", {READ: None}),
        ("balances", {"cash": None}),
        ("balances", {"changed_at": None}),
        ("balances", {"version": 7}),
        ("balances", {"version": 0, BASE: -1}),
        ("balances", {BASE: 2**63 - 1, "version": -(2**63)}),
        ("fill_records", {"slippage": float("nan")}),
        ("fill_records", {"asked_at": datetime(2299, 12, 31, tzinfo=UTC).replace(year=9999)}),
    ],
)
async def test_values_that_a_caller_may_not_save_are_refused(
    to: Any, name: str, changed: dict[str, Any]
) -> None:
    told = await sent(to, name, {**GOOD[name], **changed})
    assert told.code == "INVALID_ARGUMENT", told


@pytest.mark.parametrize("name", ["fundamentals", "balances"])
async def test_a_key_is_changed_only_once(to: Any, name: str) -> None:
    told = await sent(to, name, GOOD[name], GOOD[name])
    assert told.code == "INVALID_ARGUMENT", told
    assert "twice" in told.details
