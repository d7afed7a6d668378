"""``serve`` and ``token``: the gateway by which other processes use the stores."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jts_storage.cli.output import AsJson, finished, opened_storage, print_json, waiting
from jts_storage.cli.watching import Watch, address_of

if TYPE_CHECKING:
    from jts_storage.remote.server.gateway import Place
    from jts_storage.remote.server.served import ServedBackend

_MEGABYTE = 2**20
_LISTEN = "127.0.0.1:7420"


Listen = Annotated[
    str | None,
    typer.Option(
        metavar="unix:PATH|HOST:PORT",
        help="Where to listen: a socket in the file system, or a port. If not given: only the"
        " socket of the data folder, where the stores are embedded; else 127.0.0.1:7420.",
    ),
]
Certificate = Annotated[
    Path | None, typer.Option(help="The gateway's certificate, with its chain (PEM).")
]
Key = Annotated[Path | None, typer.Option(help="Its key (PEM).")]
ClientAuthority = Annotated[
    Path | None,
    typer.Option(help="Let only those in who show a certificate of this authority (PEM)."),
]
TokensFile = Annotated[
    Path | None, typer.Option(help="A file of tokens that are let in; see jts-storage token.")
]
Calls = Annotated[int, typer.Option(min=1, help="How many calls may run at once.")]
StagedMegabytes = Annotated[
    int, typer.Option(min=1, help="How many MB one unit of work may stage.")
]
Grace = Annotated[
    float, typer.Option(min=0, help="Seconds that calls may still take once it is to stop.")
]

MetricsAt = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="HOST:PORT",
        help="Serve the metrics of its calls and stores there, at /metrics.",
    ),
]


def serve(
    listen: Listen = None,
    tls_cert: Certificate = None,
    tls_key: Key = None,
    client_ca: ClientAuthority = None,
    tokens: TokensFile = None,
    calls: Calls = 1_000,
    staged_mb: StagedMegabytes = 2_048,
    grace: Grace = 30.0,
    metrics: MetricsAt = None,
    as_json: AsJson = False,
) -> None:
    """Serve the stores to other processes and machines, until SIGTERM or Ctrl-C.

    Embedded stores are served at a socket in their data folder, too, through which every program
    of this user goes that opens the folder. Without TLS it listens on this machine only; elsewhere
    it asks for tokens or certificates, too.
    """
    from jts_storage.local_servers.extras import check_grpc

    async def work() -> None:
        check_grpc()
        from jts_storage.remote.server.gateway import Place
        from jts_storage.remote.server.limits import Limits
        from jts_storage.remote.server.tokens import Tokens

        limits = Limits(calls=calls, staged_bytes=staged_mb * _MEGABYTE, grace_seconds=grace)
        known = None if tokens is None else Tokens.of_file(tokens)
        place = Place(listen or _LISTEN, tls_cert, tls_key, client_ca, known, limits)
        is_asked = any(each is not None for each in (listen, tls_cert, client_ca, known))
        watch = Watch(None if metrics is None else address_of(metrics, "--metrics"))
        await _served(place, watch, is_asked=is_asked, as_json=as_json)

    finished(work)


async def _served(place: Place, watch: Watch, *, is_asked: bool, as_json: bool) -> None:
    """
    :param is_asked: whether it is to listen there even if the folder has a socket of its own.
    """
    from jts_storage.cli.served import check_here
    from jts_storage.settings import StorageSettings
    from jts_storage.sharing.backend import SharedBackend, is_shareable
    from jts_storage.sharing.choice import store_backend
    from jts_storage.storage import Storage

    settings = StorageSettings.load(share=True)
    check_here(settings, engine=False)
    listens = is_asked or not is_shareable(settings)
    if listens:
        place.check()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    backend = store_backend(settings)
    async with opened_storage(Storage(backend)) as storage, watch.of(storage, as_json=as_json):
        if isinstance(backend, SharedBackend):
            backend.check_serves()
            _tell(str(settings.data_dir), "Serving {}. Stop it with Ctrl-C.", as_json=as_json)
        if listens:
            await _served_at(place, watch.observed(backend), stopping, as_json=as_json)
        else:
            await stopping.wait()


async def _served_at(
    place: Place, backend: ServedBackend, stopping: asyncio.Event, *, as_json: bool
) -> None:
    from jts_storage.remote.server.gateway import Gateway

    gateway = Gateway(backend, place)
    await gateway.start()
    _tell(gateway.address, "Serving at {}. Stop it with Ctrl-C.", as_json=as_json)
    try:
        await stopping.wait()
    finally:
        with waiting("Waiting for calls that run"):
            await gateway.stop()


def _tell(place: str, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"serving": place})
    else:
        typer.echo(text.format(place))


def token(
    name: Annotated[str, typer.Argument(help="Who will use it; one word.")],
    scope: Annotated[
        str, typer.Option(help="What it allows: read; write, which reads, too; admin, everything.")
    ] = "write",
    file: Annotated[
        Path | None, typer.Option(help="Add its line to this file, which is made if need be.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token for a client of a gateway, and the line for the gateway's file of tokens.

    The file has a hash of it; the token itself is shown once, here.
    """

    async def work() -> None:
        from jts_storage.remote.server.tokens import line_of, new_token

        made = new_token()
        line = line_of(name, scope, made)
        if file is not None:
            _append(file, line)
        if as_json:
            print_json({"name": name, "scope": scope, "token": made, "line": line.rstrip()})
            return
        typer.echo(f"Token: {made}")
        typer.echo(f"Line:  {line.rstrip()}")

    finished(work)


def _append(file: Path, line: str) -> None:
    if not file.exists():
        file.touch(0o600)
    with file.open("a+") as opened:
        opened.seek(0)
        there = opened.read()
        # An editor may have left the last line without its end.
        opened.write(line if not there or there.endswith("\n") else f"\n{line}")
