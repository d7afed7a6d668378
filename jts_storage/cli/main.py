"""The entry point, and what all commands have in common."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final

try:
    import typer
except ImportError:
    sys.exit("jts-storage needs typer; install it with: pip install 'jts-storage[cli]'")

from typer.core import TyperGroup

from jts_storage._version import __version__
from jts_storage.cli import Debug
from jts_storage.cli.deferred import Deferred
from jts_storage.errors import StorageError

_COMMANDS: Final = {
    "migrate": ("migrate:app", "Apply and take back migrations."),
    "check": ("check:check", "Compare live schemas with the models."),
    "demo": ("demo:demo", "Make a market, import it, look at it."),
    "import": ("imports:import_", "Import candles from files."),
    "export": ("candles:export", "Export candles to a file."),
    "show": ("show:show", "Show the rows of a series, by default the last."),
    "history": ("history:history", "Show what was corrected of a series."),
    "query": (
        "query:query",
        "Ask ClickHouse a question of your own.",
    ),
    "validate": ("candles:validate", "Look at stored candles as an import does."),
    "coverage": ("coverage:coverage", "Show what is stored of each series, and what is missing."),
    "backup": ("backup:backup", "Backups of all stores at one commit."),
    "reconcile": ("candles:reconcile", "Compare bookkeeping, candles and Parquet files."),
    "health": ("operations:health", "Ask every store whether it answers."),
    "metrics": ("watching:metrics", "Print or serve what Prometheus reads of the stores."),
    "diagnose": ("watching:diagnose", "Print one page for a ticket."),
    "limits": ("limits:limits", "Show what counts of the rate limits."),
    "serve": ("serve:serve", "Serve the stores to other processes and machines."),
    "token": ("serve:token", "Make a token for a client of a gateway."),
    "services": ("services:services", "The stack of servers on this machine."),
    "recover": ("operations:recover", "Finish commits that a crash left."),
    "quarantine": ("candles:quarantine", "Rows that an import set aside."),
    "events": ("operations:events", "Events of commits that not every handler has had."),
    "symbols": ("documents:symbols", "Symbols."),
    "formulas": ("documents:formulas", "Formulas."),
    "strategies": ("documents:strategies", "Strategies."),
    "snapshots": (
        "snapshots:snapshots",
        "Names for moments, which reads of the past take.",
    ),
    "backtests": ("documents:backtests", "Backtest results."),
}


class _Commands(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (home, line) in _COMMANDS.items():
            self.add_command(Deferred(name, home, line))


app = typer.Typer(
    cls=_Commands,
    help="Look after the stores of jts_storage, which JTS_* variables locate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # loading rich takes longer than the help
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jts-storage {__version__}")
        raise typer.Exit


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and stop.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    Debug.wanted = debug


def main() -> None:
    try:
        app()
    except Exception as exc:
        raise SystemExit(_told(exc)) from exc


def _told(exc: Exception) -> int:
    """Print an error, and return the exit code."""
    from jts_storage.cli import output

    if isinstance(exc, StorageError):
        output.report(exc)
    elif isinstance(exc, OSError):
        output.report_system_error(exc)
    else:
        output.report_unexpected(exc)
    return output.FAILED


if __name__ == "__main__":
    main()
