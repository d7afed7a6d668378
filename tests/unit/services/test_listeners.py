"""Who listens on a port: a stranger must not be taken for a service of ours."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from jts_storage.services.listeners import is_of_another

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="NOT RUN: nobody tells it elsewhere"
)
ADDRESSES = [
    (socket.AF_INET, "127.0.0.1"),
    (socket.AF_INET, "0.0.0.0"),
    (socket.AF_INET6, "::"),
    (socket.AF_INET6, "::ffff:127.0.0.1"),
]


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process that listens nowhere."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


@pytest.mark.parametrize(("family", "address"), ADDRESSES)
def test_whose_a_port_is(family: socket.AddressFamily, address: str, stranger: int) -> None:
    with socket.socket(family) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, 0))
        port = listener.getsockname()[1]
        assert not is_of_another(port, stranger), "nobody listens yet"
        listener.listen()
        assert not is_of_another(port, os.getpid())
        assert not is_of_another(port, os.getppid()), "a child of it listens"
        assert is_of_another(port, stranger)
        assert not is_of_another(port, 2**22 + 1), "of a process that is gone nothing is known"
