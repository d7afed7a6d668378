"""``services certs``: certificates for development."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jts_storage.cli.output import AsJson, print_json, print_table, told

# As in services/certs.py, which is imported when it is used.
_DAYS = 90
_RENEW_WITHIN = 30


def add_certs(services: typer.Typer) -> None:
    """Add the command to the group ``services``."""
    services.command("certs")(certs)


def certs(
    folder: Annotated[
        Path, typer.Option(help="Where they are, or are to be; made if need be, for you alone.")
    ] = Path(".jts/certificates"),
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="A host or an address that the server has, beside localhost, 127.0.0.1 and ::1;"
            " may be repeated. Without any it keeps those that it has."
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="How long new ones are good for.")] = _DAYS,
    within: Annotated[
        int, typer.Option(min=0, help="Renew those that end within so many days.")
    ] = _RENEW_WITHIN,
    renew: Annotated[bool, typer.Option("--renew", help="Renew them all now.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a certificate authority for development, and certificates for servers and clients.

    Run it again to renew what ends soon: the authority stays, so clients go on trusting its ca.pem.
    Give servers the folder server, and clients the folder client. Keep the folder authority to
    yourself: whoever has its key can pretend to be any of your servers.
    """
    from jts_storage.services.certs import make_certificates

    found = told(
        lambda: make_certificates(folder, name or (), days=days, within=within, renew=renew)
    )
    if as_json:
        print_json(found)
        return
    print_table(
        ["file", "what", "until", "for"],
        [
            (
                each.file,
                f"{each.state}: {each.why}" if each.why else each.state,
                f"{each.expires_at:%Y-%m-%d}",
                ", ".join(each.names) or None,
            )
            for each in found
        ],
    )
