"""``jts-storage check``: live schemas against the models."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from jts_storage.cli import output as printing
from jts_storage.cli.options import FolderOption, PartitionByYear, StoreOption, names_of
from jts_storage.cli.output import AsJson

if TYPE_CHECKING:
    from pathlib import Path

    from jts_storage import migrate


class OutputFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


def check(
    store: StoreOption = None,
    static: Annotated[
        bool, typer.Option("--static", help="Check migrations against models on scratch engines.")
    ] = False,
    as_json: AsJson = False,
    output: Annotated[
        OutputFormat, typer.Option("--format", help="How to print.")
    ] = OutputFormat.TEXT,
    partition_by_year: PartitionByYear = False,
    folder: FolderOption = None,
) -> None:
    """Compare live schemas with the models, and look at the Redis of a cache. Prints one line for
    each difference.

    Exit codes: 0 they agree, 1 they differ, 2 it could not look.
    """

    from jts_storage import migrate
    from jts_storage.cli.served import check_own_folder, served
    from jts_storage.cli.stores import databases
    from jts_storage.migrate import checks
    from jts_storage.settings import StorageSettings

    async def look() -> list[migrate.Difference]:
        if static:
            return await migrate.check_static(_scratch(partition_by_year, folder))
        settings = StorageSettings.load()
        async with served(settings) as elsewhere:
            if elsewhere is not None:
                check_own_folder(folder)
                told = await elsewhere.check(names_of(store), partition_by_year)
                return [migrate.Difference(**each) for each in told]
            return await compared()

    async def compared() -> list[migrate.Difference]:
        async with databases(
            store or [], partition_by_year=partition_by_year, folder=folder
        ) as given:
            with printing.waiting("Comparing schemas"):
                found = await migrate.check(given)
        if store:
            return found
        from jts_storage.cache import findings

        return [*found, *await findings.differences(StorageSettings.load())]

    found = printing.finished(look)
    _print(found, OutputFormat.JSON if as_json else output)
    raise typer.Exit(checks.exit_code(found))


def _scratch(partition_by_year: bool, folder: Path | None) -> migrate.Databases:
    """Stores of nothing but the models of this environment."""
    from jts_storage import migrate
    from jts_storage.models import Models
    from jts_storage.settings.storage import is_postgres_named, named_migrations

    return migrate.Databases(
        partition_by_year=partition_by_year,
        models=Models.known(),
        service=folder or named_migrations(),
        told_for="postgresql" if is_postgres_named() else None,
    )


def _print(found: Sequence[migrate.Difference], form: OutputFormat) -> None:
    from jts_storage.migrate import checks

    if form is OutputFormat.JSON:
        typer.echo(checks.as_json(found))
    elif form is OutputFormat.GITHUB:
        typer.echo(checks.as_github(found), nl=bool(found))
    else:
        for difference in found:
            typer.echo(str(difference))
        if checks.agrees(found):
            typer.echo("Schemas and models agree.")
