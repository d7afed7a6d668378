"""A ClickHouse server of 2018, the one that Debian packages: old, but a real server process.

It speaks the native protocol over a pool of real sockets, can be killed, stopped and started anew
on its port. It knows no DateTime64, so it holds no candles.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from jts_storage.local_servers.folder import free_port

HOST = "127.0.0.1"
_PATIENCE = 30.0
_CONFIG = """<yandex>
  <logger><level>debug</level><log>{folder}/server.log</log></logger>
  <listen_host>{host}</listen_host>
  <tcp_port>{port}</tcp_port>
  <path>{folder}/data/</path>
  <tmp_path>{folder}/tmp/</tmp_path>
  <users_config>{folder}/users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <mark_cache_size>67108864</mark_cache_size>
  <timezone>UTC</timezone>
</yandex>
"""
_USERS = """<yandex>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users><default>
    <password/><networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile><quota>default</quota>
  </default></users>
</yandex>
"""


def find_server() -> str | None:
    """The program, if `scripts/old_clickhouse.sh` or somebody else installed it."""
    return shutil.which("clickhouse-server")


class DebianServer:
    """One server with data below `folder`; a context manager."""

    host = HOST

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "users.xml").write_text(_USERS)
        config = _CONFIG.format(folder=folder, host=HOST, port=self.port)
        (folder / "config.xml").write_text(config)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> Self:
        """Start it; it takes connections when this returns."""
        program = find_server()
        assert program is not None
        self._process = subprocess.Popen(
            [program, f"--config-file={self._folder / 'config.xml'}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
        )
        give_up = time.monotonic() + _PATIENCE
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise AssertionError(f"the server did not start:\n{self._last_words()}")
            time.sleep(0.02)
        return self

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does, stopped or not."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_PATIENCE)

    def freeze(self) -> None:
        """Stop it: the kernel goes on to accept connections, nothing is ever answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    @property
    def connections_made(self) -> int:
        """How many clients introduced themselves since the folder was new, by the server's log."""
        return self._log.read_text(errors="replace").count(" TCPHandler: Connected ")

    @property
    def _log(self) -> Path:
        return self._folder / "server.log"

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _listens(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), 1).close()
        except OSError:
            return False
        return True

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else "no log"
