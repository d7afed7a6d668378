"""``metrics`` and ``diagnose``: the stores as those see them who look after them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jts_storage.cli.output import AsJson, finished, opened_storage, print_json
from jts_storage.errors import ConnectionFailed, InvalidConfiguration

if TYPE_CHECKING:
    from jts_storage.observe import Metrics
    from jts_storage.observe.state import Backups
    from jts_storage.storage import Storage

_ADDRESS = "HOST:PORT, such as 127.0.0.1:9108"


def metrics(
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve /metrics and /health there until SIGTERM or Ctrl-C, in place of printing.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print or serve what Prometheus reads of the stores.

    It tells of the stores: whether they answer, journal, events, pools, tables, how late candles
    are. What calls of a service take is told by the service itself, see jts_storage.observe.
    """
    address = None if listen is None else address_of(listen, "--listen")

    async def work() -> None:
        async with opened_storage(_unopened()) as storage:
            if address is None:
                await _print(storage, as_json=as_json)
            else:
                await _serve(storage, *address, as_json=as_json)

    finished(work)


def diagnose(as_json: AsJson = False) -> None:
    """Print one page for a ticket: what runs, what waits, who holds what, versions; no secrets."""

    async def work() -> None:
        async with opened_storage(_unopened()) as storage:
            found = await storage.diagnose()
        if as_json:
            print_json(asdict(found))
        else:
            typer.echo(found.text, nl=False)

    finished(work)


def _unopened() -> Storage:
    """Of the settings; recovery would wait for a store that is down, which is to be told."""
    from jts_storage.settings import StorageSettings
    from jts_storage.sharing.choice import backend_of
    from jts_storage.storage import Storage

    return Storage(backend_of(StorageSettings.load(), recovers=False))


async def _print(storage: Storage, *, as_json: bool) -> None:
    from jts_storage.observe.state import StorageState

    state = StorageState(storage, within=10.0, backups=_backups())
    try:
        if not as_json:
            from jts_storage.observe import Exposition

            typer.echo(await Exposition(storage, state=state).text(), nl=False)
            return
        samples = await state.read()
    finally:
        await state.close()
    print_json(
        [
            {
                "name": each.metric.exposed,
                "labels": dict(zip(each.metric.labels, each.labels, strict=True)),
                "value": float(each.value),
            }
            for each in samples
        ]
    )


async def _serve(storage: Storage, host: str, port: int, *, as_json: bool) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with Watch((host, port)).of(storage, as_json=as_json):
        await stopping.wait()


class Watch:
    """Metrics of a process that serves, if they are asked for.

    :param address: where they are served; None if they are not.
    """

    def __init__(self, address: tuple[str, int] | None) -> None:
        self._address = address
        self._metrics: Metrics | None = None
        if address is not None:
            from jts_storage.observe import Metrics

            self._metrics = Metrics()

    def observed(self, backend: Any) -> Any:
        """`backend`, with its calls counted."""
        if self._metrics is None:
            return backend
        from jts_storage.observe.backend import ObservedBackend

        return ObservedBackend(backend, self._metrics)

    @asynccontextmanager
    async def of(self, storage: Storage, *, as_json: bool) -> AsyncIterator[None]:
        """Serve the metrics of an open storage within the block.

        :raises ConnectionFailed: nobody can listen there.
        """
        if self._address is None:
            yield
            return
        from jts_storage.observe import Exposition, MetricsServer
        from jts_storage.observe.state import StorageState

        async def health() -> tuple[bool, dict[str, bool]]:
            found = await storage.health()
            return found.is_well, dict(found)

        state = StorageState(storage, backups=_backups())
        exposition = Exposition(storage, self._metrics, state=state)
        server = MetricsServer(exposition, health)
        host, port = self._address
        try:
            await server.start(host, port)
        except OSError as exc:
            raise ConnectionFailed(
                f"Nobody can listen at {host}:{port}: {exc.strerror or exc}",
                hosts=(f"{host}:{port}",),
                remedy="Choose another port, or stop what listens there.",
            ) from exc
        try:
            place = f"http://{host}:{server.port}/metrics"
            if as_json:
                print_json({"serving": place})
            else:
                typer.echo(f"Serving at {place}. Stop it with Ctrl-C.")
            yield
        finally:
            await server.stop()


def _backups() -> Backups | None:
    """When each backup was cut; None if no repository is set, nor is at its usual place."""
    from jts_storage.backup.listing import backups_of
    from jts_storage.backup.repository import BackupRepository
    from jts_storage.settings.backup import BackupConfig

    config = BackupConfig.from_env()
    if config.repository == BackupConfig().repository and not Path(config.repository).is_dir():
        return None
    return backups_of(BackupRepository(config.repository, key=config.key))


def address_of(text: str, option: str) -> tuple[str, int]:
    """:raises InvalidConfiguration: the text of the option is no address."""
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65_535:
        raise InvalidConfiguration(f"{option} is {text!r}", remedy=f"Give {_ADDRESS}.")
    return host.strip("[]"), int(port)
