"""Two shards: two processes, each a server of the engine, and `c1`, the cluster of both."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, Self

from clickhouse_driver import Client

CLUSTER: Final = "c1"
HOST: Final = "127.0.0.1"
PROGRAM: Final = Path(__file__).with_name("server_internals.py")
_PATIENCE: Final = 60.0


class Shard:
    """One server in a process, which can be killed and comes back with what it has stored."""

    def __init__(self, folder: Path, port: int, name: str) -> None:
        self.folder, self.port, self.name = folder, port, name
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """:raises ChildProcessError: with what it said, when it does not answer."""
        assert self._process is not None
        give_up = time.monotonic() + _PATIENCE
        while time.monotonic() < give_up and self._process.poll() is None:
            with suppress(OSError), socket.create_connection((HOST, self.port), 1):
                return
            time.sleep(0.02)
        said = (self.folder / "log").read_text(errors="replace")[-2000:]
        self.kill()
        raise ChildProcessError(f"{self.name} does not serve: {said or 'silence'}")

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_PATIENCE)
            assert process.stdin is not None
            process.stdin.close()

    def ask(self, query: str, database: str = "", **options: Any) -> list[tuple[Any, ...]]:
        """What this server answers when it is asked itself."""
        client = Client(
            HOST, self.port, database, connect_timeout=10, send_receive_timeout=_PATIENCE
        )
        try:
            rows = client.execute(query, **options)
            return rows if isinstance(rows, list) else []
        finally:
            client.disconnect()


class Shards:
    """The servers of a cluster, each a shard of one replica."""

    def __init__(self, folder: Path, number: int = 2) -> None:
        with ExitStack() as held:
            # All are held until each is chosen, or one would be chosen twice.
            sockets = [held.enter_context(socket.socket()) for _ in range(number)]
            for each in sockets:
                each.bind((HOST, 0))
            ports = [int(each.getsockname()[1]) for each in sockets]
        self.shards = []
        for at, port in enumerate(ports, 1):
            home = folder / f"shard{at}"
            home.mkdir(parents=True)
            (home / "clickhouse-local.xml").write_text(_configured(ports, at))
            self.shards.append(Shard(home, port, f"shard {at}"))

    def __enter__(self) -> Self:
        for each in self.shards:
            each.start()
        try:
            for each in self.shards:
                each.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.shards:
            each.kill()

    def __getitem__(self, at: int) -> Shard:
        return self.shards[at]

    def url(self, database: str, at: int = 0) -> str:
        """Of the cluster, as this one of its servers sees it."""
        quick = "retry_base_delay=0.01&retry_max_delay=0.02"
        where = f"{HOST}:{self.shards[at].port}/{database}"
        return f"clickhouse://default@{where}?cluster={CLUSTER}&{quick}"


def _configured(ports: list[int], at: int) -> str:
    shards = "".join(
        "<shard><internal_replication>true</internal_replication>"
        f"<replica><host>{HOST}</host><port>{port}</port></replica></shard>"
        for port in ports
    )
    return (
        f"<clickhouse><tcp_port>{ports[at - 1]}</tcp_port><listen_host>{HOST}</listen_host>"
        f"<macros><shard>{at}</shard><replica>one</replica></macros>"
        f"<remote_servers><{CLUSTER}>{shards}</{CLUSTER}></remote_servers></clickhouse>\n"
    )
