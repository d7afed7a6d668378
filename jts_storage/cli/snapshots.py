"""``snapshots``: names for moments, which reads of the past take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jts_storage.cli.documents import After, Limit, print_found
from jts_storage.cli.output import AsJson, print_json, printable, seconds, with_storage
from jts_storage.errors import NotFound

if TYPE_CHECKING:
    from jts_storage.domain.snapshot import Snapshot
    from jts_storage.storage import Storage

snapshots = typer.Typer(
    help="Names for moments, which reads of the past take.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="Its name, such as scan-2026-11.")]


@snapshots.command("list")
def list_snapshots(limit: Limit = 100, after: After = None, as_json: AsJson = False) -> None:
    """List snapshots by name."""
    found = with_storage(lambda s: s.snapshots.list(limit=limit, after=after))
    rows = [(each.name, seconds(each.commit.moment), printable(each.note)) for each in found]
    data = [_as_json(each) for each in found]
    print_found(data, ["name", "shows what was committed up to", "note"], rows, as_json)


@snapshots.command("create")
def create_snapshot(
    name: Name,
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: AsJson = False,
) -> None:
    """Name the present: all that is committed by now, and nothing that comes later."""
    made = with_storage(lambda s: s.snapshots.create(name, note=note))
    if as_json:
        print_json(_as_json(made))
    else:
        typer.echo(f"Snapshot {made.name} shows what was committed up to {_moment(made)}.")


@snapshots.command("delete")
def delete_snapshot(name: Name, as_json: AsJson = False) -> None:
    """Forget a name at once; what only this snapshot kept may be deleted from then on."""

    async def work(storage: Storage) -> Snapshot:
        try:
            found = await storage.snapshots.get(name)
        except NotFound as exc:
            raise NotFound(
                str(exc.args[0]), remedy="`jts-storage snapshots list` shows what there is."
            ) from exc
        await storage.snapshots.delete(name)
        return found

    gone = with_storage(work)
    if as_json:
        print_json({"deleted": _as_json(gone)})
    else:
        typer.echo(
            f"Snapshot {gone.name} of {_moment(gone)} is deleted."
            " What only this snapshot kept may be deleted from now on."
        )


def _as_json(snapshot: Snapshot) -> dict[str, object]:
    """As ``history --json`` has commits: by their version, which ``--as-of`` takes."""
    return {
        "name": snapshot.name,
        "commit": snapshot.commit.version,
        "moment": snapshot.commit.moment,
        "created_at": snapshot.created_at,
        "note": snapshot.note,
    }


def _moment(snapshot: Snapshot) -> str:
    return seconds(snapshot.commit.moment)
