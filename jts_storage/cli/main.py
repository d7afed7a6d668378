"""The entry point, and what all commands have in common."""

from __future__ import annotations

import sys

try:
    import typer
except ImportError:
    sys.exit("jts-storage needs typer; install it with: pip install 'jts-storage[cli]'")

from jts_storage.cli import check, migrate

app = typer.Typer(
    help="Look after the stores of jts_storage. Where they are, JTS_* in the environment says.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(migrate.app, name="migrate")
app.command("check")(check.check)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
