"""All that a source asks of the caller, where one thing that it asks for is refused."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

import numpy as np

from jts_storage.domain.columns import PRICES
from jts_storage.errors import InvalidData
from jts_storage.readers.blocks import Reader, Source
from jts_storage.readers.moments import whole
from jts_storage.readers.owners import Labels, Owners
from jts_storage.readers.refusals import OptionMissing
from jts_storage.readers.rows import may_stand_aside
from jts_storage.readers.time_formats import formats_of, spelled
from jts_storage.readers.values import ValueReader, remedy_for

_ROWS: Final = 10_000


def needs(reader: Reader, owners: Owners, source: Source) -> list[str]:
    """What the first rows of a source need, each once.

    :param reader: has read nothing yet.
    """
    with closing(_tables(source)) as tables:
        table = next(tables, None)
    if table is None:
        return []
    table = table.slice(0, _ROWS)
    columns = {name: whole(table.column(name)) for name in table.column_names}
    errors = [*owners.unsaid(columns), *_of_moments(reader, columns, source)]
    errors += _of_values(reader.values, columns, source)
    found = [remedy_for(error) for error in errors if not may_stand_aside(error)]
    return list(dict.fromkeys(remedy for remedy in found if remedy))


def _tables(source: Source) -> Generator[Any]:
    try:
        yield from source.tables([])
    except InvalidData:
        return


def _of_moments(
    reader: Reader, columns: Mapping[str, Any], source: Source
) -> Iterator[InvalidData]:
    owners = reader.owners
    if owners is not None and owners.wanted.timeframe is None:
        return  # what they need depends on it
    try:
        reader.settle(source)
        reader.stamps(columns, Labels())
    except InvalidData as exc:
        yield exc
        if isinstance(exc, OptionMissing) and (form := _proposed_format(exc)):
            # What is read by the format may lack a zone.
            timestamps = replace(reader.timestamps, format=form, unit=None)
            yield from _of_moments(replace(reader, timestamps=timestamps), columns, source)


def _proposed_format(error: InvalidData) -> str | None:
    """The format that the remedy of an error names."""
    if not isinstance(error.value, str) or error.remedy != spelled(error.value):
        return None
    return next(iter(formats_of(error.value)), None)


def _of_values(
    values: ValueReader, columns: Mapping[str, Any], source: Source
) -> Iterator[InvalidData]:
    """Read the numbers, each time with the option that the last one lacked."""
    stamps = np.zeros(len(next(iter(columns.values()))), np.int64)
    while True:
        try:
            values.parsed(columns, stamps, source)
            return
        except InvalidData as exc:
            yield exc
            if exc.field in PRICES and not values.rounds_prices:
                values = replace(values, rounds_prices=True)
            elif exc.field == "volume" and values.volume.fractions == "refuse":
                values = replace(values, volume=replace(values.volume, fractions="round"))
            else:
                return
