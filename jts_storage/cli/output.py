"""What commands print, and how they end.

Exit codes: 0 all is well; 1 what was looked at is not as it should be; 2 it could not be done;
130 interrupted.
"""

from __future__ import annotations

import asyncio
import csv
import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from jts_storage._runtime.surface import use_command_line
from jts_storage.cli import Debug
from jts_storage.errors import StorageError

# What takes long to import comes when it is used: a mistake on the command line is told at once.
if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod
    from rich.progress import Progress

    from jts_storage.settings import StorageSettings
    from jts_storage.storage import Storage

T = TypeVar("T")

NOT_WELL = 1
FAILED = 2
INTERRUPTED = 130

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_PIPE_WIDTH = 1_000  # wide enough that what another program reads is never wrapped
_PATIENCE = 1.0
"""How many seconds something may take before its progress is shown."""
_MOMENT = 0.3
"""How many seconds something may take before a spinner says that it is going on."""


def out() -> Console:
    # Made anew, because tests and pipes change what standard output is.
    # No highlighting: it would colour numbers within names and ids.
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(soft_wrap=True, highlight=False, width=_PIPE_WIDTH)


def with_storage(
    work: Callable[[Storage], Awaitable[T]],
    *,
    settings: StorageSettings | None = None,
    stopped: Callable[[], str] = lambda: "Stopped; what was committed stays.",
) -> T:
    """Open a storage, call `work` with it, and return what it returned.

    :param settings: which storage; None opens the one of the environment.
    :param stopped: what to say when the user has interrupted it.
    """

    async def opened() -> T:
        from jts_storage.domain import kept_sessions
        from jts_storage.settings import StorageSettings
        from jts_storage.storage import Storage

        named = settings or StorageSettings.load()
        kept_sessions.keep_in(named.data_dir.absolute() / "calendars")
        async with opened_storage(Storage.open(named)) as storage:
            return await work(storage)

    return finished(opened, stopped=stopped)


def with_reader(
    work: Callable[[Storage], Awaitable[T]],
    *,
    bookkeeping: bool = False,
    stopped: Callable[[], str] = lambda: "Stopped.",
) -> T:
    """As `with_storage`, for work that only reads candles and symbols.

    Other stores are opened only where a commit may be unfinished.

    :param bookkeeping: the work also reads `storage.ingestion`.
    """

    async def opened() -> T:
        from jts_storage.domain import kept_sessions
        from jts_storage.reading import ReadingBackend
        from jts_storage.settings import StorageSettings
        from jts_storage.storage import Storage

        settings = StorageSettings.load()
        kept_sessions.keep_in(settings.data_dir.absolute() / "calendars")
        if settings.url is None:
            reader = Storage(ReadingBackend(settings, bookkeeping=bookkeeping))
        else:
            reader = Storage.open(settings)
        async with opened_storage(reader) as storage:
            return await work(storage)

    return finished(opened, stopped=stopped)


@asynccontextmanager
async def opened_storage(storage: Storage) -> AsyncIterator[Storage]:
    """The storage, open; a terminal shows that it is being opened, if that takes a while."""
    with waiting("Opening the stores"):
        await storage.open_stores()
    async with storage:
        yield storage


@contextmanager
def waiting(title: str, *, quiet: bool = False) -> Iterator[None]:
    """A spinner on standard error, where that is a terminal, for what takes more than a moment."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    status = Console(stderr=True).status(Text(title))
    done = threading.Lock()

    def show() -> None:
        if done.acquire(blocking=False):
            try:
                status.start()
            finally:
                done.release()

    timer = threading.Timer(_MOMENT, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        done.acquire()  # held from now on: the spinner is shown, or never will be
        status.stop()


def finished(
    work: Callable[[], Awaitable[T]],
    *,
    stopped: Callable[[], str] = lambda: "Stopped; what was committed stays.",
) -> T:
    """Run `work` and return what it returned; its errors become one sentence and an exit code."""

    async def awaited() -> T:
        use_command_line()
        return await work()

    # The driver logs failures with a traceback, which Python prints if there is no handler.
    logging.getLogger("clickhouse_driver").addHandler(logging.NullHandler())
    try:
        return asyncio.run(awaited())
    except StorageError as exc:
        report(exc)
        raise typer.Exit(FAILED) from exc
    except KeyboardInterrupt as exc:
        typer.echo(stopped(), err=True)
        raise typer.Exit(INTERRUPTED) from exc


def told(made: Callable[[], T]) -> T:
    """Return what is made; an error of the kit becomes one sentence and an exit code."""
    try:
        return made()
    except StorageError as exc:
        report(exc)
        raise typer.Exit(FAILED) from exc


def report(error: StorageError) -> None:
    if Debug.wanted:
        traceback.print_exception(error)
    typer.echo(f"Error: {error}", err=True)


def report_system_error(error: OSError) -> None:
    """Report an error of the system that the user can fix: no space, no rights, a missing file."""
    if Debug.wanted:
        traceback.print_exception(error)
    where = f"{error.filename}: " if error.filename else ""
    typer.echo(f"Error: {where}{error.strerror or error}.", err=True)


def report_unexpected(error: Exception) -> None:
    """Report an error that is not the kit's own as a bug in it."""
    if Debug.wanted:
        traceback.print_exception(error)
    typer.echo(
        f"Error: {type(error).__name__}: {error} This was not expected: please report it, with "
        "what `jts-storage --debug` says.",
        err=True,
    )


def print_json(value: Any) -> None:
    typer.echo(as_json_text(value))


def as_json_text(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False)


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([plain(value) for value in row] for row in rows)


def plain(value: Any) -> Any:
    """A value as JSON has it: prices as text, moments as ISO 8601, entities as objects."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal | Path):
        return str(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """A table; columns of numbers are on the right."""
    from rich.table import Table
    from rich.text import Text

    listed = [list(row) for row in rows]
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None)
    for index, name in enumerate(columns):
        numbers = all(isinstance(row[index], int | float | Decimal | None) for row in listed)
        justify: JustifyMethod = "right" if numbers and listed else "left"
        table.add_column(name, justify=justify, overflow="fold")  # a cut id cannot be copied
    for row in listed:
        # Text is data: what is in brackets or between colons is no markup of ours.
        table.add_row(*(Text(_cell(value)) for value in row))
    out().print(table)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, Enum):
        return str(value.value)
    return str(value)


def counted(number: int, name: str) -> str:
    """A number with its noun: ``1 candle``, ``2 candles``."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def more_than(number: int, name: str) -> str:
    return f"There {'is' if number == 1 else 'are'} more than {counted(number, name)}"


def seconds(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def printable(text: str) -> str:
    """Text that moves no cursor and breaks no line."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


class Meter:
    """A progress bar that appears after a second, and only on a terminal."""

    def __init__(self, progress: Progress | None, title: str) -> None:
        self._progress = progress
        self._title = title
        self._started = time.monotonic()
        self._task: Any = None
        self.rows = 0

    def update(
        self, rows: int, fraction: float | None = None, read_bytes: int | None = None
    ) -> None:
        self.rows = rows
        elapsed = time.monotonic() - self._started
        if self._progress is None or (self._task is None and elapsed < _PATIENCE):
            return
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task(self._title, total=None, rate="")
        self._progress.update(
            self._task,
            total=None if fraction is None else 1.0,
            completed=fraction or 0.0,
            rate=_rate(rows, read_bytes, max(elapsed, 1e-9)),
        )


def _rate(rows: int, read_bytes: int | None, seconds: float) -> str:
    if read_bytes is None:
        return f"{rows:,} rows, {rows / seconds:,.0f} a second"
    return f"{read_bytes / 1e6:,.1f} MB, {read_bytes / 1e6 / seconds:,.1f} a second"


@contextmanager
def meter(title: str, *, quiet: bool = False) -> Iterator[Meter]:
    """Progress on standard error, where that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield Meter(None, title)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    try:
        yield Meter(progress, title)
    finally:
        progress.stop()
