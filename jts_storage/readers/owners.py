"""Find the series of each row, from the columns of the source and what the caller passed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jts_storage._runtime.surface import column_option, option
from jts_storage.domain.candle import SeriesKey, series_key
from jts_storage.domain.checks import composed
from jts_storage.domain.columns import Int64Array, ranked
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers.looking import Looked
from jts_storage.readers.moments import whole
from jts_storage.readers.spellings import timeframes_meant

ANY_SYMBOL = "*"
LABELS = ("symbol", "exchange", "timeframe", "market", "deleted")
"""Columns that say which series a row belongs to, and whether it was deleted."""
MARKETS = frozenset({"symbol", "exchange", "market"})
"""Columns that say which market a symbol is of."""
_NO_SYMBOL = {"-", "NaN", "nan", "null", "N/A", "n/a"}
"""What programs write for a missing value. In capitals these words may be tickers: NAN is one."""
_NOT_DELETED = {"", "0", "false"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The series the caller passed; None and "" take it from the columns of the source.

    Symbol and exchange are normalised to NFC, as those of the source are: see decision 0033.
    """

    symbol: str | None = None
    timeframe: Timeframe | None = None
    exchange: str = ""

    def __post_init__(self) -> None:
        for name in ("symbol", "exchange"):
            if isinstance(given := getattr(self, name), str):
                object.__setattr__(self, name, composed(given))
        key = SeriesKey(self.symbol or ANY_SYMBOL, self.timeframe or Timeframe.M1, self.exchange)
        if self.timeframe is not None:
            object.__setattr__(self, "timeframe", key.timeframe)

    @property
    def key(self) -> SeriesKey | None:
        """The series of all rows, if the source has no column for its exchange."""
        if self.symbol is None or self.timeframe is None:
            return None
        return SeriesKey(self.symbol, self.timeframe, self.exchange)

    def described(self) -> list[str]:
        timeframe = self.timeframe.value if self.timeframe else ANY_SYMBOL
        return [self.symbol or ANY_SYMBOL, timeframe, self.exchange]


@dataclass(frozen=True, slots=True)
class Labels:
    """The series of some rows.

    :param keys: of a whole block by their `sort_key`, each once; before, as they come.
    :param which: for each row, the index of its key in `keys`; None if all rows have the first.
    """

    keys: tuple[SeriesKey, ...] = ()
    which: Int64Array | None = None

    def taken(self, rows: Any) -> Labels:
        """The labels of some of the rows, by their numbers or a slice."""
        if self.which is None:
            return self
        left, which = np.unique(self.which[rows], return_inverse=True)
        keys = tuple(self.keys[number] for number in left.tolist())
        return Labels(keys, which) if len(keys) > 1 else Labels(keys)


def joined(parts: Sequence[Labels], rows: Sequence[int]) -> Labels:
    """The labels of rows that follow each other, each key once and by its `sort_key`."""
    came: dict[SeriesKey, int] = {}
    numbers = [
        np.array([came.setdefault(key, len(came)) for key in part.keys], np.int64) for part in parts
    ]
    if len(came) <= 1:
        return Labels(tuple(came))
    keys = list(came)
    order, place = ranked([key.sort_key for key in keys])
    which = [
        # Of the few keys of a part, before each of its rows takes one.
        np.full(count, place[of_keys[0]]) if part.which is None else place[of_keys][part.which]
        for part, of_keys, count in zip(parts, numbers, rows, strict=True)
    ]
    return Labels(tuple(keys[at] for at in order), np.concatenate(which))


@dataclass(frozen=True, slots=True)
class _Names:
    """A column of names: those that occur, and which of them each row has."""

    target: str
    names: list[str]
    which: Int64Array

    def row_of(self, number: int) -> int:
        return int(np.argmax(self.which == number))

    def error(self, rule: str, number: int, remedy: str | None = None) -> InvalidData:
        return InvalidData(
            rule,
            field=self.target,
            value=self.names[number],
            row=self.row_of(number),
            remedy=remedy,
        )


@dataclass(slots=True)
class Owners:
    """Finds the series of rows, a part of the source at a time.

    :param where: the name of the source.
    """

    wanted: Wanted
    where: str
    _empty: frozenset[str] = field(default=frozenset(), init=False)

    def look(self, source: Looked) -> None:
        """Find columns that are empty in every row, where the caller says what they should hold.

        They are ignored; one that is empty in some rows only is refused at the first of these.
        """
        said = {
            target
            for target, wanted in (
                ("symbol", self.wanted.symbol),
                ("exchange", self.wanted.exchange),
                ("timeframe", self.wanted.timeframe),
            )
            if wanted
        }
        empty: set[str] | None = None
        for table in source.columns(said):
            if empty is None:
                empty = said.intersection(table.column_names)
            empty -= {name for name in empty if _has_text(table.column(name))}
            if not empty:
                break
        self._empty = frozenset(empty or ())

    def look_at_markets(self, tables: Iterable[tuple[Int64Array, Any]]) -> None:
        """Refuse two markets for one symbol: they may be two series, and no exchange says so.

        :param tables: with the number of each row in its source.
        :raises InvalidData: with the row that gives a symbol another market than rows before it.
        """
        markets = dict[str, str]()
        for rows, table in tables:
            wanted = MARKETS & set(table.column_names)
            found = self._names_in({name: whole(table.column(name)) for name in wanted})
            if "market" not in found or "exchange" in found:
                return
            _check_market(found["market"], found.get("symbol"), markets, rows)

    def _names_in(self, columns: Mapping[str, Any]) -> dict[str, _Names]:
        return {
            target: _names(columns[target], target)
            for target in LABELS
            if target in columns and target not in self._empty
        }

    def labels(self, columns: Mapping[str, Any], rows: int) -> Labels:
        """The series of each row.

        :raises InvalidData: with the row and column of the first label that is missing, unknown,
            or different from what the caller passed.
        """
        found = self._names_in(columns)
        self._refuse_deleted(found.get("deleted"))
        symbols = self._symbols(found.get("symbol"))
        exchanges = self._exchanges(found.get("exchange"))
        timeframes = self._timeframes(found.get("timeframe"))
        parts = [found.get(target) for target in ("symbol", "exchange", "timeframe")]
        if all(part is None or len(part.names) == 1 for part in parts):
            return Labels((SeriesKey(symbols[0], timeframes[0], exchanges[0]),))
        which, at = _combined(parts, rows)
        # Two spellings of a timeframe are one series, which is found when parts are joined.
        keys = [
            series_key(symbols[s], timeframes[t], exchanges[e]) for s, e, t in zip(*at, strict=True)
        ]
        return Labels(tuple(keys), which)

    def unsaid(self, columns: Collection[str]) -> list[InvalidData]:
        """What neither the caller nor a column of the source says."""
        given = {"symbol": self.wanted.symbol, "timeframe": self.wanted.timeframe}
        return [
            self._unsaid(target)
            for target, wanted in given.items()
            if wanted is None and target not in columns
        ]

    def _unsaid(self, target: str) -> InvalidData:
        column = f", or name its column: {column_option(target, 'HEADER')}"
        return InvalidData(
            f"{self.where} does not say which {target} it holds.",
            remedy=f"Pass {option(target)}{column if target == 'symbol' else ''}.",
        )

    def _symbols(self, found: _Names | None) -> list[str]:
        wanted = self.wanted.symbol
        if found is None:
            if wanted is None:
                raise self._unsaid("symbol")
            return [wanted]
        for number, name in enumerate(found.names):
            if not name or (name in _NO_SYMBOL and name != wanted):
                raise found.error("names no symbol", number, _ignore("symbol"))
            if wanted not in (None, name):
                raise found.error(f"is not {wanted}", number, _omit("symbol"))
        return found.names

    def _exchanges(self, found: _Names | None) -> list[str]:
        wanted = self.wanted.exchange
        if found is None or not wanted:
            return [wanted] if found is None else found.names
        self._refuse_partly_empty(found, wanted)
        for number, name in enumerate(found.names):
            if name not in ("", wanted):
                raise found.error(f"is not {wanted}", number, _omit("exchange"))
        return [wanted] * len(found.names)

    def _timeframes(self, found: _Names | None) -> list[Timeframe]:
        wanted = self.wanted.timeframe
        if found is None:
            if wanted is None:
                raise self._unsaid("timeframe")
            return [wanted]
        if wanted is not None:
            self._refuse_partly_empty(found, wanted.value)
        return [self._timeframe(found, number) for number in range(len(found.names))]

    def _timeframe(self, found: _Names, number: int) -> Timeframe:
        wanted = self.wanted.timeframe
        name = found.names[number]
        if not name:
            if wanted is None:
                raise found.error("names no timeframe", number)
            return wanted
        meant = timeframes_meant(name)
        if not meant:
            known = ", ".join(frame.value for frame in Timeframe)
            raise found.error(f"is none of {known}", number, _ignore("timeframe"))
        if wanted is not None:
            if wanted not in meant:
                raise found.error(f"is not {wanted.value}", number, _omit("timeframe"))
            return wanted
        if len(meant) > 1:
            either = " or ".join(frame.value for frame in meant)
            remedy = f"Say which: {option('timeframe', meant[0].value)}."
            raise found.error(f"could be {either}", number, remedy)
        return meant[0]

    def _refuse_partly_empty(self, found: _Names, wanted: str) -> None:
        """Refuse a column that is empty in some rows only; one that is empty in all is ignored."""
        if "" in found.names:
            raise found.error(
                f"is empty in some rows only, so it is unclear which rows are {wanted}",
                found.names.index(""),
                "Fill it. " + _ignore(found.target),
            )

    def _refuse_deleted(self, found: _Names | None) -> None:
        for number, name in enumerate(found.names if found else ()):
            assert found is not None
            if name.casefold() not in _NOT_DELETED:
                raise found.error(
                    "marks a candle that was deleted",
                    number,
                    "Leave such rows and old versions out: SELECT ... FINAL WHERE is_deleted = 0.",
                )


def _check_market(
    market: _Names, symbol: _Names | None, markets: dict[str, str], numbers: Int64Array
) -> None:
    """
    :param markets: those of the symbols of rows before these, to which theirs are added.
    :param numbers: those of these rows in their source.
    """
    pairs = market.which if symbol is None else symbol.which * len(market.names) + market.which
    each, rows = np.unique(pairs, return_index=True)
    for pair, row in zip(each.tolist(), rows.tolist(), strict=True):
        at, number = divmod(pair, len(market.names))
        name, owner = market.names[number], "" if symbol is None else symbol.names[at]
        known = markets.setdefault(owner, name) if name else name
        if known != name:
            raise InvalidData(
                f"is not {known} as in other rows" + (owner and f" of {owner}"),
                field="market",
                value=name,
                row=int(numbers[row]),
                remedy="If the column holds the exchange, say "
                f"{column_option('exchange', 'HEADER')}. " + _ignore("market"),
            )


def _has_text(column: Any) -> bool:
    text = column.cast(pa.string())
    return bool(pc.any(pc.match_substring_regex(text, r"\S")).as_py())


def _combined(parts: Sequence[_Names | None], rows: int) -> tuple[Int64Array, list[list[int]]]:
    """The combinations of names that occur.

    :returns: the number of each row's, and for each part the name that each combination has.
    """
    several = [part for part in parts if part is not None and len(part.names) > 1]
    if len(several) == 1:
        count = len(several[0].names)
        return several[0].which, [
            list(range(count)) if part is several[0] else [0] * count for part in parts
        ]
    # One number for each combination, so that one `unique` finds all.
    code = np.zeros(rows, np.int64)
    for part in several:
        code = code * len(part.names) + part.which
    _, first, which = np.unique(code, return_index=True, return_inverse=True)
    return which, [
        [0] * len(first) if part is None else part.which[first].tolist() for part in parts
    ]


def _names(column: Any, target: str) -> _Names:
    text = column.cast(pa.string())
    encoded = (pc.fill_null(text, "") if text.null_count else text).dictionary_encode()
    names = [composed(name.strip()) for name in encoded.dictionary.to_pylist()]
    which = np.asarray(encoded.indices).astype(np.int64)
    distinct = list(dict.fromkeys(names))
    if len(distinct) < len(names):  # some differed in blanks or in their composition alone
        which = np.array([distinct.index(name) for name in names], np.int64)[which]
    return _Names(target, distinct, which)


def _omit(target: str) -> str:
    return f"Do not pass a {target} to import every {target} of the source."


def _ignore(target: str) -> str:
    return f"To ignore the column, say {column_option(target, '')}."
