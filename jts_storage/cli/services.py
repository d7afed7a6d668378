"""``services``: the stack of servers, beside the kit."""

from __future__ import annotations

import typer

from jts_storage.cli.services_certs import add_certs
from jts_storage.cli.services_stack import add_stack

services = typer.Typer(
    help="The stack of servers on this machine, and what it needs.", no_args_is_help=True
)
add_stack(services)
add_certs(services)
