"""Candles over HTTP: bars are written by PUT and read by GET."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated, TypedDict

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel

from jts_storage import Candle, SeriesKey, Storage, Timeframe
from jts_storage.errors import Conflict, InvalidData, NotFound, StorageError
from jts_storage.ports import UnitOfWork

router = APIRouter()


class State(TypedDict):
    storage: Storage


def opened_storage(request: Request) -> Storage:
    storage: Storage = request.state.storage
    return storage


OpenStorage = Annotated[Storage, Depends(opened_storage)]


async def begun_unit_of_work(storage: OpenStorage) -> AsyncIterator[UnitOfWork]:
    async with storage.unit_of_work() as uow:
        yield uow


Work = Annotated[UnitOfWork, Depends(begun_unit_of_work)]


def series_key(exchange: str, symbol: str, timeframe: Timeframe) -> SeriesKey:
    return SeriesKey(symbol, timeframe, exchange)


Key = Annotated[SeriesKey, Depends(series_key)]


class Bar(BaseModel):
    timestamp: AwareDatetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int


@router.put("/candles/{exchange}/{symbol}/{timeframe}")
async def put_candles(key: Key, bars: list[Bar], uow: Work) -> int:
    result = await uow.candles.save_many(key, [Candle(**dict(bar)) for bar in bars])
    await uow.commit()
    return result.written


@router.get("/candles/{exchange}/{symbol}/{timeframe}")
async def get_candles(
    key: Key, storage: OpenStorage, start: AwareDatetime, end: AwareDatetime
) -> list[Bar]:
    series = await storage.candles.get_range(key, start, end)
    return [Bar.model_validate(candle, from_attributes=True) for candle in series]


@router.get("/health")
async def health(storage: OpenStorage, response: Response) -> dict[str, bool]:
    found = await storage.health()
    if not all(found.values()):
        response.status_code = 503
    return {**found, "is_well": found.is_well}


STATUS: dict[type[StorageError], int] = {NotFound: 404, Conflict: 409, InvalidData: 422}


async def told(_: Request, error: Exception) -> Response:
    """Answer with what went wrong; what may succeed in a moment is a 503."""
    may_pass = isinstance(error, StorageError) and (error.transient or error.repeatable)
    others = 503 if may_pass else 500
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), others)
    return JSONResponse({"detail": str(error)}, status_code=status)


def create_app(open_storage: Callable[[], Storage] = Storage.open) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        async with open_storage() as storage:
            yield {"storage": storage}

    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    app.add_exception_handler(StorageError, told)
    return app
