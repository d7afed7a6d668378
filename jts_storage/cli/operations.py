"""``health``, ``recover`` and ``events``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jts_storage.cli.output import (
    NOT_WELL,
    AsJson,
    counted,
    finished,
    opened_storage,
    print_json,
    print_table,
)
from jts_storage.errors import StorageError

if TYPE_CHECKING:
    from jts_storage.backend import StoreBackend
    from jts_storage.ports.health import Health
    from jts_storage.remote.backend import GrpcBackend
    from jts_storage.settings import StorageSettings
    from jts_storage.storage import Storage
    from jts_storage.unit_of_work.recovery import Recovered

events = typer.Typer(help="Events of commits that not every handler has had.", no_args_is_help=True)


def health(as_json: AsJson = False) -> None:
    """Ask every store whether it answers; exits with 1 if one does not, or if data is lost."""
    from jts_storage.settings import StorageSettings
    from jts_storage.sharing.choice import backend_of
    from jts_storage.storage import Storage

    async def work(storage: Storage) -> tuple[Health, float]:
        started = perf_counter()
        return await storage.health(), perf_counter() - started

    async def opened() -> tuple[Health, float]:
        # Recovery would wait for a store that is down, which is what this command reports.
        closed = Storage(backend_of(StorageSettings.load(), recovers=False))
        async with opened_storage(closed) as storage:
            return await work(storage)

    answers, seconds = finished(opened)
    if as_json:
        found = {
            "stores": answers,
            "broken_parts": answers.broken_parts,
            "unfinished": answers.unfinished,
            "damaged_commits": answers.damaged_commits,
        }
        print_json({**found, "seconds": round(seconds, 4)})
    else:
        print_table(
            ["store", "state"],
            [(name, "answers" if well else "does not answer") for name, well in answers.items()],
        )
        typer.echo(f"Asked in {seconds * 1_000:.0f} ms.")
        if answers.broken_parts:
            typer.echo(
                f"Broken parts of ClickHouse tables: {answers.broken_parts}. Their rows are missing"
                " from every read; see jts-storage check."
            )
        for damage in answers.damaged_commits.values():
            typer.echo(damage)
    if not answers.is_well:
        raise typer.Exit(NOT_WELL)


def recover(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show unfinished commits and stop.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on looking until interrupted.")
    ] = False,
    every: Annotated[float, typer.Option(help="Seconds between looks.", min=0.1)] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Finish commits that a crash left, decided but unfinished, and delete history too old to keep.

    It finishes purges that were interrupted, too. Where JTS_HISTORY_DAYS says for how many days
    history is kept, it deletes former candles and revisions that were replaced before, and says how
    many; a snapshot keeps what it shows.
    """
    if dry_run:
        _show_pending(as_json)
        return

    finished(
        lambda: _recover(every if follow else None, as_json), stopped=lambda: "Stopped looking."
    )


async def _recover(every: float | None, as_json: bool) -> None:
    """Finish commits once, or every `every` seconds until interrupted; print what fails."""
    from jts_storage.settings import StorageSettings
    from jts_storage.sharing.choice import backend_of
    from jts_storage.storage import Storage

    settings = StorageSettings.load()
    backend = backend_of(settings, recovers=False)
    async with opened_storage(Storage(backend)):
        looks = _Looks(backend, settings, as_json)
        while every is not None:
            try:
                done = await looks.once()
            # A store may be away for a while: the next look tries again.
            except StorageError as exc:
                typer.echo(f"Error: {exc}", err=True)
            else:
                looks.tell_any(done)
            await asyncio.sleep(every)
        looks.tell(await looks.once())


@dataclass(frozen=True)
class _Looks:
    """Looks for what is unfinished or too old."""

    backend: StoreBackend | GrpcBackend
    settings: StorageSettings
    as_json: bool

    async def once(self) -> Recovered:
        """Recover, and say what was done before an error ended it."""
        from jts_storage.unit_of_work.recovery import Recovered

        done = Recovered()
        try:
            await self.backend.recover(done)
        except StorageError:
            self.tell_any(done)
            if done.not_forgotten is not None:
                typer.echo(f"Error: {done.not_forgotten}", err=True)
            raise
        if done.not_forgotten is not None:
            self.tell_any(done)
            raise done.not_forgotten
        return done

    def tell_any(self, done: Recovered) -> None:
        if done.finished or done.forgotten:
            self.tell(done)

    def tell(self, done: Recovered) -> None:
        finished, forgotten = done.finished or 0, done.forgotten
        if self.as_json:
            some = {} if done.finished is None else {"finished": finished}
            print_json({**some, "forgotten": forgotten})
            return
        if finished:
            typer.echo(f"{counted(finished, 'commit')} finished.")
        if forgotten:
            what = "candle or revision" if forgotten == 1 else "candles and revisions"
            days = counted(self.settings.history_days or 0, "day")
            typer.echo(f"{forgotten:,} former {what} deleted, replaced over {days} ago.")
        if not (finished or forgotten):
            typer.echo("Nothing was left unfinished.")


def _show_pending(as_json: bool) -> None:
    async def work() -> list[Any]:
        from jts_storage.unit_of_work.journal import Journal

        async with _mongo() as manager:
            return await Journal(manager).pending()

    pending = finished(work)
    rows = [(str(entry.id), entry.decided_at) for entry in pending]
    if as_json:
        print_json([{"commit": commit, "decided_at": at} for commit, at in rows])
    elif rows:
        print_table(["commit", "decided at"], rows)
    else:
        typer.echo("Nothing is left unfinished.")


@events.command("list")
def list_events(
    limit: Annotated[int, typer.Option(help="At most so many.")] = 100, as_json: AsJson = False
) -> None:
    """Show events that wait for handlers, and those that are parked, also of subscriptions."""

    async def work() -> Sequence[Any]:
        async with _mongo() as manager:
            found = await Outbox(manager).list(limit=limit)
            subscriptions = ListedSubscriptions(manager)
            return [*found, *await Deliveries(manager).parked(subscriptions, limit=limit)][:limit]

    from jts_storage.unit_of_work.deliveries import Deliveries
    from jts_storage.unit_of_work.listed import ListedSubscriptions
    from jts_storage.unit_of_work.outbox import Outbox

    found = finished(work)
    if as_json:
        print_json(list(found))
    elif found:
        print_table(
            ["id", "type", "key", "for", "attempts", "state"],
            [
                (
                    e.id,
                    e.event_type,
                    e.key,
                    e.subscription,
                    e.attempts,
                    "parked" if e.is_parked else "waits",
                )
                for e in found
            ],
        )
    else:
        typer.echo("No event waits.")


@events.command("retry")
def retry_events(
    identity: Annotated[
        str | None, typer.Argument(help="Id of a parked event; none means all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give parked events another chance: the next service that delivers takes them."""

    from jts_storage.unit_of_work.deliveries import Deliveries
    from jts_storage.unit_of_work.outbox import Outbox

    async def work() -> int:
        async with _mongo() as manager:
            count = await Outbox(manager).retry(identity)
            return count + await Deliveries(manager).retry(identity)

    count = finished(work)
    if as_json:
        print_json({"retried": count})
    else:
        typer.echo(f"{count} events will be tried again.")


@asynccontextmanager
async def _mongo() -> AsyncIterator[Any]:
    """MongoDB alone: opening everything would recover at once."""
    from jts_storage.cli.stores import databases

    async with databases(["mongo"], partition_by_year=False) as given:
        yield given.mongo
