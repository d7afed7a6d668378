"""What stands in the way of a start, looked for before anything is started."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from jts_storage.errors import StorageError
from jts_storage.local_servers.postgres import account
from jts_storage.services.stack import HOST, STACK
from jts_storage.services.stamps import why_not_for

if TYPE_CHECKING:
    from jts_storage.local_servers.folder import RunningServer
    from jts_storage.services.programs import Program

_MEGABYTE: Final = 2**20
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_CGROUP: Final = Path("/sys/fs/cgroup")
_MEMINFO: Final = Path("/proc/meminfo")


class Resources:
    """What this machine has."""

    def memory(self) -> int | None:
        """Bytes that can be had; None if nobody says."""
        found = [each for each in (_of_meminfo(), _of_cgroup()) if each is not None]
        return min(found, default=None)

    def disk(self, folder: Path) -> int:
        """Bytes that are free where a folder is, or will be."""
        return shutil.disk_usage(_there(folder)).free

    def is_port_free(self, port: int) -> bool:
        """Whether nobody listens there."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
        return True


class Stack(Protocol):
    """What is asked of `LocalUnits`."""

    @property
    def folder(self) -> Path: ...
    @property
    def ports(self) -> Mapping[str, int]: ...
    @property
    def programs(self) -> Mapping[str, Program]: ...
    def running(self, name: str) -> RunningServer | None: ...


def problems_of(stack: Stack, names: Sequence[str], resources: Resources) -> list[str]:
    """One sentence for each thing that stands in the way, with what to do about it."""
    found = list(_of_folder(stack.folder))
    if found:
        return found  # of the services nothing could be read
    running = [name for name in names if stack.running(name) is not None]
    down = [name for name in names if name not in running]
    for name in names:
        found += _of_program(stack, name)
        found += _of_another_port(stack, name)
    for name in down:
        found += _of_ports(stack, name, resources)
        if name == "postgres":
            found += _of_account(stack.folder)
    return found + list(_of_room(stack.folder, down, resources))


def problems_of_one(stack: Stack, name: str, resources: Resources) -> list[str]:
    """What may have come in the way of one that is about to be started, perhaps again."""
    return [*_of_program(stack, name), *_of_ports(stack, name, resources)]


def _of_folder(folder: Path) -> Iterator[str]:
    there = _there(folder)
    if not os.access(there, os.W_OK | os.X_OK):
        yield f"{there} cannot be written by this user. Name another folder with --folder."
        return
    for each in (folder, *(folder / name for name in STACK)):
        with suppress(FileNotFoundError):
            state = each.lstat()
            if stat.S_ISLNK(state.st_mode):
                yield f"{each} is a link. Name the folder that it leads to with --folder."
            elif not stat.S_ISDIR(state.st_mode):
                yield f"{each} is no folder. Move it away, or name another folder with --folder."
            elif not _is_ours(each, state):
                yield (
                    f"{each} belongs to another user (id {state.st_uid}). Run this as that user,"
                    " or name another folder with --folder."
                )
            elif state.st_mode & _OTHERS_MAY_WRITE:
                yield f"{each} can be written by others. Run chmod go-w {each}."


def _is_ours(folder: Path, state: os.stat_result) -> bool:
    if state.st_uid == os.geteuid():
        return True
    other = account()  # PostgreSQL's, where this is root
    return folder.name == "postgres" and other is not None and state.st_uid == other[0]


def _of_program(stack: Stack, name: str) -> Iterator[str]:
    try:
        found = stack.programs[name].find()
    except StorageError as exc:
        yield f"{name}: {str(exc).removeprefix('Invalid configuration: ')}"
        return
    if why := why_not_for(stack.folder / name, found):
        yield (
            f"{name}: {why}. Install that version, or move {stack.folder / name} away and restore a"
            " backup."
        )


def _of_ports(stack: Stack, name: str, resources: Resources) -> Iterator[str]:
    for each in (name, *STACK[name].more_ports):
        port = stack.ports[each]
        if not resources.is_port_free(port):
            yield (
                f"{name}: somebody else listens on {HOST}:{port}. Stop that program, which"
                f" `ss -ltnp 'sport = :{port}'` names, or use another port: --port {each}=PORT."
            )


def _of_another_port(stack: Stack, name: str) -> Iterator[str]:
    """Who is told the port that it is to have would look for it in vain."""
    server, port = stack.running(name), stack.ports[name]
    if server is not None and server.port != port:
        yield (
            f"{name} runs already, on {HOST}:{server.port} and not on {port}. Stop it with"
            f" jts-storage services down, or say --port {name}={server.port}."
        )


def _of_account(folder: Path) -> Iterator[str]:
    """PostgreSQL refuses to run as root, and `nobody` must reach its files."""
    if account() is None:
        return
    there = _there(folder)
    ways = (there, *there.parents)
    closed = [each for each in ways if not each.stat().st_mode & stat.S_IXOTH]
    if closed:
        yield (
            f"postgres: root may not run it, and nobody, as whom it runs then, may not enter"
            f" {closed[-1]}. Run this as another user, or name a folder elsewhere with --folder."
        )


def _of_room(folder: Path, names: Sequence[str], resources: Resources) -> Iterator[str]:
    memory = sum(STACK[name].memory_mb for name in names)
    has_memory = resources.memory()
    if has_memory is not None and has_memory < memory * _MEGABYTE:
        yield (
            f"{', '.join(names)} need {memory} MB of memory, and {has_memory // _MEGABYTE} MB can"
            " be had. Stop something, or start fewer with --only."
        )
    disk = sum(STACK[name].disk_mb for name in names)
    has_disk = resources.disk(folder)
    if has_disk < disk * _MEGABYTE:
        yield (
            f"{', '.join(names)} need {disk} MB of disk to begin with, and {has_disk // _MEGABYTE}"
            f" MB are free where {folder} is. Free some, or name another folder with --folder."
        )


def _there(folder: Path) -> Path:
    """The folder, or what there is of the way to it."""
    at = folder.absolute()
    while not at.exists():
        at = at.parent
    return at


def _of_meminfo() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _of_cgroup() -> int | None:
    """What the container of this process leaves, if it is in one with a limit."""
    with suppress(OSError, ValueError):
        limit = int((_CGROUP / "memory.max").read_text())
        return max(limit - int((_CGROUP / "memory.current").read_text()), 0)
    return None
