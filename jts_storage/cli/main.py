"""The entry point, and what all commands have in common."""

from __future__ import annotations

import sys
from typing import Annotated

try:
    import typer
except ImportError:
    sys.exit("jts-storage needs typer; install it with: pip install 'jts-storage[cli]'")

from jts_storage.cli import (
    candles,
    check,
    coverage,
    demo,
    documents,
    imports,
    migrate,
    operations,
    output,
)
from jts_storage.errors import StorageError

app = typer.Typer(
    help="Look after the stores of jts_storage, which JTS_* variables locate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(migrate.app, name="migrate")
app.command("check")(check.check)
app.command("demo")(demo.demo)
app.command("import")(imports.import_)
app.command("export")(candles.export)
app.command("validate")(candles.validate)
app.command("coverage")(coverage.coverage)
app.command("reconcile")(candles.reconcile)
app.command("health")(operations.health)
app.command("recover")(operations.recover)
app.add_typer(candles.quarantine, name="quarantine")
app.add_typer(operations.events, name="events")
app.add_typer(documents.symbols, name="symbols")
app.add_typer(documents.formulas, name="formulas")
app.add_typer(documents.strategies, name="strategies")
app.add_typer(documents.backtests, name="backtests")


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")] = False,
) -> None:
    output.debug(debug)


def main() -> None:
    try:
        app()
    except StorageError as exc:
        output.report(exc)
        raise SystemExit(output.FAILED) from exc
    except OSError as exc:
        output.report_system_error(exc)
        raise SystemExit(output.FAILED) from exc
    except Exception as exc:
        output.report_unexpected(exc)
        raise SystemExit(output.FAILED) from exc


if __name__ == "__main__":
    main()
