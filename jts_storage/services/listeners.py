"""Which process listens on a port of this machine, as far as Linux tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_LISTENS: Final = "0A"
_HERE: Final = frozenset({"0100007F", "00000000", "0" * 32, "0000000000000000FFFF00000100007F"})
"""127.0.0.1, and what includes it, as /proc/net has them."""


def is_of_another(port: int, pid: int) -> bool:
    """Whether somebody listens there who is neither that process nor a child of it.

    False where that cannot be told.
    """
    listening = _sockets_at(port)
    try:
        others = listening - _sockets_of(pid)
        return bool(others) and bool(others - _sockets_of_children(pid))
    except OSError:
        return False


def _sockets_at(port: int) -> set[str]:
    """The sockets that wait for connections to a port of 127.0.0.1."""
    found = set()
    for file in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(file).read_text().splitlines()[1:]:
                fields = line.split()
                address, _, number = fields[1].partition(":")
                if fields[3] == _LISTENS and int(number, 16) == port and address in _HERE:
                    found.add(f"socket:[{fields[9]}]")
    return found - {"socket:[0]"}


def _sockets_of(pid: int) -> set[str]:
    """:raises OSError: it is gone, or belongs to somebody else."""
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(each.readlink()))
    return found


def _sockets_of_children(pid: int) -> set[str]:
    return {each for child in _children(pid) for each in _sockets_of(child)}


def _children(pid: int) -> Iterator[int]:
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        yield from map(int, file.read_text().split())
