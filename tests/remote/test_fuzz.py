"""Whatever comes in at the port: the gateway goes on, and says what is wrong, without a trace."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe, new_unit_id
from jts_storage.backend import StoreBackend
from jts_storage.domain.enums import FormulaCategory, Market, Metric
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.proto.jts.storage.v1 import values_pb2 as pb
from jts_storage.proto.jts.storage.v1 import work_pb2 as work
from jts_storage.remote import trades, values
from jts_storage.remote.kinds import ENTITIES, MEMBERS, names_of
from jts_storage.remote.methods import IN_WORK, METHODS, Method
from jts_storage.remote.server.gateway import Gateway, Place
from jts_storage.remote.server.limits import Limits
from jts_storage.testing.factories import make_candles, make_formula, make_trade
from tests.declared import MODELS
from tests.remote.wire import Told, call, channel, unit_of_work

TEXTS: Final = (
    *("", "x", "\0", "NaN", "sNaN", "1e999999999", "-", "9" * 2_000, "A/1m/KRX", "1m", "close"),
    *("2024-01-01", "$where", "../x", "'; DROP TABLE candles --", "한글", "x" * 100_000),
)
TRADES: Final = trades.written([make_trade(), make_trade(1)])
NUMBERS: Final = (0, 1, -1, 2**31, 2**63 - 1, -(2**63))
KEY: Final = SeriesKey("A", Timeframe.M1, "KRX")
START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
ID: Final = "a" * 24
GOOD: Final[dict[str, Any]] = {
    "key": KEY,
    "keys": [KEY],
    "start": START,
    "end": END,
    "timeframe": Timeframe.M1,
    "target": Timeframe.D1,
    "count": 3,
    "market": Market.KRX if hasattr(Market, "KRX") else next(iter(Market)),
    "category": FormulaCategory.ENTRY,
    "metric": next(iter(Metric)),
    "tags": ["t"],
    "trading_day": START.date(),
    "result_ids": [ID],
    "model": "symbols",
    "where": None,
    "columns": None,
    "descending": False,
    "limit": 5,
    "after": None,
    "strict": True,
    "force": False,
    "block_rows": 1_000,
    "moment": START,
    "view": START,
    "asked": PanelQuery.of(Timeframe.M1, START, END, [KEY], None),
    "timezone": "UTC",
}
_SPECIAL: Final = ("list", "map", "entity", "entities", "columns", "page", "member", "trades")
_PLAIN: Final = tuple(each.name for each in pb.Value.DESCRIPTOR.fields if each.name not in _SPECIAL)


class Fuzz:
    """Makes inputs from a seed."""

    def __init__(self, seed: int) -> None:
        self.choice = Random(seed)

    def value(self, depth: int = 0) -> pb.Value:
        value, choice = pb.Value(), self.choice
        kind = choice.choice(_PLAIN if depth > 4 else (*_PLAIN, *_SPECIAL * 2, None))
        if kind is None:
            return value
        if kind in ("nothing", "truth"):
            setattr(value, kind, True)
        elif kind == "real":
            value.real = choice.choice([0.0, float("nan"), float("inf"), 1e308])
        elif kind in ("large", "decimal", "text"):
            setattr(value, kind, choice.choice(TEXTS))
        elif kind in ("broken_text", "data"):
            setattr(value, kind, choice.randbytes(choice.randrange(20)))
        elif kind in _PLAIN:
            setattr(value, kind, choice.choice([*NUMBERS, choice.getrandbits(62)]))
        else:
            getattr(self, f"_{kind}")(value, depth + 1)
        return value

    def _member(self, value: pb.Value, _: int) -> None:
        value.member.kind = self.choice.choice([*MEMBERS, "object"])
        value.member.value = self.choice.choice(TEXTS)

    def _list(self, value: pb.Value, depth: int) -> None:
        value.list.SetInParent()
        value.list.shape = self.choice.choice([0, 1, 2, 7])  # type: ignore[assignment]
        value.list.items.extend(self._some(depth))

    def _map(self, value: pb.Value, depth: int) -> None:
        value.map.SetInParent()
        value.map.keys.extend(self._some(depth))
        value.map.values.extend(self._some(depth))

    def _entity(self, value: pb.Value, depth: int) -> None:
        self._fields(value.entity, depth)

    def _entities(self, value: pb.Value, depth: int) -> None:
        self._fields(value.entities, depth)

    def _fields(self, message: pb.Entities, depth: int) -> None:
        choice = self.choice
        message.kind = choice.choice([*ENTITIES, "object"])
        message.count = choice.choice([1, 1, 1, 1, 0, 2, 2**32 - 1])
        known = message.kind in ENTITIES and choice.random() < 0.9
        message.names.extend(names_of(message.kind) if known else ["a", "b"])
        for name in message.names:
            is_good = name in GOOD and choice.random() < 0.5
            message.values.append(self.good(name) if is_good else self.value(depth))

    def _columns(self, value: pb.Value, _: int) -> None:
        value.columns.batches = self.choice.choice([0, 1, 2**31])
        value.columns.offsets.extend(self.choice.choices(NUMBERS, k=2))

    def _trades(self, value: pb.Value, _: int) -> None:
        data = bytearray(TRADES)
        for _each in range(self.choice.randrange(4)):
            data[self.choice.randrange(len(data))] = self.choice.randrange(256)
        value.trades.batch = bytes(data[: self.choice.choice((len(data), 100, 0))])
        value.trades.shape = self.choice.choice([0, 1, 7])  # type: ignore[assignment]

    def _page(self, value: pb.Value, depth: int) -> None:
        value.page.items.CopyFrom(self.value(depth))

    def _some(self, depth: int) -> list[pb.Value]:
        return [self.value(depth) for _ in range(self.choice.randrange(4))]

    def good(self, name: str) -> pb.Value:
        value = pb.Value()
        values.fill(value, GOOD.get(name, ID), name)
        return value

    def arguments(self, method: Method) -> pb.Arguments:
        choice, found = self.choice, pb.Arguments()
        for name in (*method.names, *(["view"] if method.as_of else [])):
            if choice.random() < 0.97:
                found.named[name].CopyFrom(
                    self.good(name) if choice.random() < 0.75 else self.value()
                )
        if choice.random() < 0.3:
            more = ("limit", "after", "fields", "as_of", "timezone", "last", "self", "\0")
            found.named[choice.choice(more)].CopyFrom(self.value())
        return found

    def mutated(self, data: bytes) -> bytes:
        found, choice = bytearray(data), self.choice
        for _ in range(choice.randrange(1, 4)):
            at, how = choice.randrange(len(found) + 1), choice.randrange(4)
            if how == 0 and at < len(found):
                found[at] = choice.randrange(256)
            elif how == 1:
                del found[at : at + choice.randrange(5)]
            elif how == 2:
                found[at:at] = choice.randbytes(choice.randrange(6))
            else:
                del found[at:]
        return bytes(found)

    def request(self, method: Method) -> bytes:
        data, fate = self.arguments(method).SerializeToString(), self.choice.random()
        if fate < 0.05:
            return self.choice.randbytes(self.choice.randrange(200))
        return self.mutated(data) if fate < 0.35 else data

    def steps(self) -> list[bytes]:
        """Those of a unit of work."""
        choice = self.choice
        identity = new_unit_id() if choice.random() < 0.95 else choice.choice(TEXTS)
        steps = [work.WorkRequest(begin=work.Begin(id=identity))]
        for _ in range(choice.randrange(1, 4)):
            fate = choice.random()
            if fate < 0.6:
                name = choice.choice(list(IN_WORK))
                text = work.CallText(method=name, arguments=self.arguments(IN_WORK[name]))
                piece = self.mutated(text.SerializeToString()) if fate < 0.1 else None
                call = work.Call(piece=piece or text.SerializeToString(), goes_on=fate > 0.58)
                steps.append(work.WorkRequest(call=call))
            elif fate < 0.8:
                kind = choice.choice(["work", "candles", "bars", "table", "?"])
                chunk = work.Chunk(kind=kind, data=choice.randbytes(30))
                steps.append(work.WorkRequest(chunk=chunk))
            else:
                commit = work.Commit(chunks=choice.randrange(3), events=self._events())
                steps.append(work.WorkRequest(commit=commit))
        found = [step.SerializeToString() for step in steps]
        return [self.mutated(each) if choice.random() < 0.1 else each for each in found]

    def _events(self) -> list[work.Event]:
        data = self.choice.choice([b"{}", b"[" * 5_000, b"\xff", b'{"id": 1}', b""])
        return [work.Event(id="x", type="t", class_name=self.choice.choice(TEXTS), data=data)]


async def at_methods(address: str, seed: int, count: int) -> Counter[str]:
    """As many calls of all methods in turn, and a quarter of it units of work."""
    fuzz, codes = Fuzz(seed), Counter[str]()
    names = list(METHODS)
    async with channel(address) as to:

        async def several(first: int) -> None:
            for number in range(first, count, 8):
                name = names[number % len(names)]
                note(codes, await call(to, name, fuzz.request(METHODS[name])))
                if number % 4 == 0:
                    note(codes, await unit_of_work(to, fuzz.steps()))

        await asyncio.gather(*(several(first) for first in range(8)))
    return codes


EXPECTED: Final = {
    *("OK", "INVALID_ARGUMENT", "NOT_FOUND", "ABORTED", "FAILED_PRECONDITION"),
    *("RESOURCE_EXHAUSTED", "UNKNOWN"),
}


def note(codes: Counter[str], told: Told) -> None:
    codes[told.code] += 1
    assert told.code in EXPECTED, told
    assert "Traceback" not in told.details
    assert "servicer" not in told.details
    assert told.code == "OK" or told.details


async def raw(address: str, seed: int, count: int) -> None:
    """Bytes that are no HTTP/2, and some that begin so."""
    choice = Random(seed)
    host, port = address.rsplit(":", 1)
    begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\0\0\0\4\0\0\0\0\0"
    for number in range(count):
        opened = await asyncio.to_thread(socket.create_connection, (host, int(port)), 5)
        with opened, suppress(OSError):
            opened.settimeout(0.005)
            noise = choice.randbytes(choice.randrange(300))
            opened.sendall((noise, begin + noise, begin + settings + noise)[number % 3])
            await asyncio.to_thread(opened.recv, 10)


async def answers(address: str) -> bool:
    async with Storage.open(StorageSettings(url=f"grpc://{address}")) as storage:
        async with storage.unit_of_work() as uow:
            await uow.formulas.save(make_formula(f"f{os.urandom(4).hex()}"))
            await uow.candles.save_many(KEY, make_candles(KEY, 10))
            await uow.commit()
        return len(await storage.candles.get_range(KEY, START, END)) >= 10


@pytest.fixture
async def address(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[str]:
    caplog.set_level(logging.CRITICAL, "jts_storage")  # what failed there is logged with its trace
    backend = InMemoryBackend(models=MODELS)
    async with Storage(backend):
        gateway = Gateway(backend, Place("127.0.0.1:0", limits=Limits(grace_seconds=1)))
        await gateway.start()
        yield gateway.address
        await gateway.stop()


async def fuzzed(address: str, seed: int, count: int) -> Counter[str]:
    """Fuzz, and look whether the gateway goes on with as many tasks and as little memory."""
    await at_methods(address, seed + 1, 200)
    await answers(address)
    gc.collect()
    tasks, memory = len(asyncio.all_tasks()), resident()
    codes = await at_methods(address, seed, count)
    await raw(address, seed, count // 10)
    assert await answers(address)
    for _ in range(100):  # the last calls are being taken apart
        if len(asyncio.all_tasks()) <= tasks:
            break
        await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) <= tasks
    gc.collect()
    assert resident() < memory + 300 * 2**20
    print(f"fuzzed {sum(codes.values()) + count // 10}: {dict(codes)}")
    return codes


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


async def test_a_gateway_takes_anything(address: str) -> None:
    codes = await fuzzed(address, seed=1, count=600)
    assert codes["INVALID_ARGUMENT"]
    assert codes["OK"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 4))
async def test_a_gateway_takes_ten_thousand_inputs(address: str, seed: int) -> None:
    await fuzzed(address, seed, count=10_000)


@pytest.mark.slow
async def test_a_gateway_over_real_stores_takes_anything(
    fresh_settings: StorageSettings, engine_used: Callable[[str], None]
) -> None:
    backend = StoreBackend(fresh_settings, models=MODELS)
    async with Storage(backend):
        gateway = Gateway(backend, Place("127.0.0.1:0", limits=Limits(grace_seconds=1)))
        await gateway.start()
        try:
            await fuzzed(gateway.address, seed=4, count=2_000)
        finally:
            await gateway.stop()


def nested(depth: int) -> bytes:
    """A list in a list in a list, as bytes: making it of messages would take as much stack."""
    data = b"\x08\x01"
    for _ in range(depth):
        inner = b"\x0a" + varint(len(data)) + data
        data = b"\x7a" + varint(len(inner)) + inner
    named = b"\x0a\x03key\x12" + varint(len(data)) + data
    return b"\x0a" + varint(len(named)) + named


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


@pytest.mark.parametrize("depth", [10, 45, 60, 1_000, 50_000])
async def test_deep_nesting(address: str, depth: int) -> None:
    async with channel(address) as to:
        told = await call(to, "Candles/GetCoverage", nested(depth))
    assert told.code == "INVALID_ARGUMENT", told
    assert await answers(address)


async def test_lists_of_millions(address: str) -> None:
    items = pb.Arguments()
    items.named["keys"].list.items.extend([pb.Value(nothing=True)] * 1_500_000)
    async with channel(address) as to:
        for method in ("Candles/GetRanges", "Backtests/GetMany"):
            told = await call(to, method, items.SerializeToString())
            assert told.code in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")
        named = pb.Arguments()
        for number in range(100_000):
            named.named[f"n{number}"].nothing = True
        told = await call(to, "Candles/GetRanges", named.SerializeToString())
        assert told.code == "INVALID_ARGUMENT"
        assert len(told.details) < 8_000
    assert await answers(address)
