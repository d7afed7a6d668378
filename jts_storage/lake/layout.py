"""Where files lie: ``frame=1m/symbol=AAPL/date=2024-01-01/<job>.parquet``.

The layout is Hive's, so that ClickHouse, chDB, DuckDB, Spark and pyarrow read the tree directly.
They disagree on encoded names, so a name that would need encoding is refused, not encoded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from jts_storage.domain import checks
from jts_storage.domain.enums import Timeframe, member
from jts_storage.errors import InvalidData

SUFFIX = ".parquet"
TEMPORARY = ".tmp"
LOCKS = ".locks"

_LONGEST_BYTES = 200  # of the 255 that a file name may have: prefix and suffix come on top
_FRAMES = frozenset(timeframe.value for timeframe in Timeframe)
_UNSAFE = frozenset('/\\:*?"<>|%{}[]`\n\r\t')
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", "__hive_default_partition__"]
    + [f"{device}{n}" for device in ("com", "lpt") for n in range(1, 10)]
)


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One symbol and day of one timeframe: the folder of its job files."""

    frame: str
    symbol: str
    trading_day: date

    @classmethod
    def of(cls, frame: Timeframe | str, symbol: str, trading_day: date) -> Partition:
        """:raises InvalidData: one of them cannot be a folder's name."""
        return cls(
            member(Timeframe, frame, "frame").value,
            safe_name(symbol, "symbol"),
            checks.day(trading_day, "trading_day"),
        )

    @property
    def folder(self) -> Path:
        """Relative to the root of the store."""
        return Path(str(self))

    def __str__(self) -> str:
        return f"frame={self.frame}/symbol={self.symbol}/date={self.trading_day.isoformat()}"


def safe_name(value: object, field: str) -> str:
    """A symbol or job id, if every file system and every reader of Hive layouts takes it as it is.

    :raises InvalidData: it does not.
    """
    name = checks.name(value, field)
    unsafe = sorted(_UNSAFE & set(name))
    if unsafe:
        raise InvalidData(
            f"must not hold {' '.join(unsafe)}, which is unsafe in a file's name",
            field=field,
            value=name,
            remedy="Use another spelling, such as BTC-USDT for BTC/USDT.",
        )
    if name[0] in "._" or name[-1] == ".":
        # Readers of Hive layouts skip what begins so; .. is a folder of its own.
        raise InvalidData("must not begin with . or _ nor end with .", field=field, value=name)
    # On Windows CON.parquet is the console, whatever follows the point.
    if name.partition(".")[0].lower() in _RESERVED:
        raise InvalidData("is a name reserved by file systems", field=field, value=name)
    if len(name.encode()) > _LONGEST_BYTES:
        raise InvalidData(f"must have at most {_LONGEST_BYTES} bytes", field=field, value=name)
    return name


def partitions(
    root: Path, frame: str | None = None, symbol: str | None = None
) -> Iterator[Partition]:
    """The partitions there are, in order; folders of other names are not ours."""
    for frame_name in _values(root, "frame", frame):
        if frame_name not in _FRAMES:
            continue
        frame_folder = root / f"frame={frame_name}"
        for symbol_name in _values(frame_folder, "symbol", symbol):
            for day in _values(frame_folder / f"symbol={symbol_name}", "date", None):
                if (trading_day := _day(day)) is not None:
                    yield Partition(frame_name, symbol_name, trading_day)


def job_paths(root: Path, partition: Partition) -> list[Path]:
    """The job files of a partition by name; none where it is gone."""
    folder = root / str(partition)
    try:
        names = os.listdir(folder)  # noqa: PTH208 - hundreds of folders a read: twice as quick
    except FileNotFoundError:
        return []
    return [
        folder / name
        for name in sorted(names)
        if name.endswith(SUFFIX) and not name.startswith((".", "_"))
    ]


def temporary_paths(folder: Path) -> list[Path]:
    """Return the temporary files that killed writers left."""
    return sorted(folder.glob(f".*{TEMPORARY}"))


def _values(parent: Path, field: str, wanted: str | None) -> list[str]:
    """Return what the folders of a level stand for, or `wanted` if there is such a folder."""
    prefix = f"{field}="
    if wanted is not None:
        return [wanted] if (parent / f"{prefix}{wanted}").is_dir() else []
    try:
        with os.scandir(parent) as entries:
            names = sorted(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
