"""What services wrote: to their standard streams, or to a log of their own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from jts_storage.errors import ConnectionFailed, InvalidConfiguration
from jts_storage.services.compose import Compose
from jts_storage.services.state import Plan, StateFolder

_FILES: Final = ("mongod.log", "server.log")
_PAUSE: Final = 0.3


def last_lines(
    plan: Plan, folder: StateFolder, names: Sequence[str], lines: int
) -> dict[str, list[str]]:
    """The last lines of each service."""
    if plan.engine == "docker":
        compose = Compose(Path(plan.compose_file))
        return {name: _printed(compose.logs_command([name], lines, follow=False)) for name in names}
    return {name: _tail(folder.path / name, lines) for name in names}


def followed(
    plan: Plan,
    folder: StateFolder,
    names: Sequence[str],
    lines: int,
    tell: Callable[[str], None],
) -> None:
    """Tell the last lines, and each that comes, until Ctrl-C."""
    if plan.engine == "docker":
        command = Compose(Path(plan.compose_file)).logs_command(names, lines, follow=True)
        with suppress(KeyboardInterrupt), _docker_there():
            subprocess.run(command, check=False)
        return
    places = {
        file: file.stat().st_size if file.exists() else 0
        for name in names
        for file in _files(folder.path / name)
    }
    for name, text in last_lines(plan, folder, names, lines).items():
        for line in text:
            tell(f"{name} | {line}")
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(_PAUSE)
            for file, place in places.items():
                places[file] = _tell_new(file, place, tell)


def _tell_new(file: Path, place: int, tell: Callable[[str], None]) -> int:
    """Tell the whole lines behind a place, and return where the next begin."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            opened.seek(place if size >= place else 0)  # a new one after a restart
            start = opened.tell()
            whole = opened.read().rpartition(b"\n")[0]
    except OSError:
        return 0
    if not whole:
        return start
    for line in whole.decode(errors="replace").splitlines():
        tell(f"{file.parent.name} | {line}")
    return start + len(whole) + 1


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in _FILES if name != "mongod.log" or folder.name == "mongodb"]


def _tail(folder: Path, lines: int) -> list[str]:
    found: list[str] = []
    for file in _files(folder):
        with suppress(OSError):
            found += file.read_text(errors="replace").splitlines()[-lines:]
    return found[-lines:]


def _printed(command: Sequence[str]) -> list[str]:
    with _docker_there():
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    if done.returncode:
        raise ConnectionFailed(f"docker gives no logs: {done.stderr.strip()[-300:]}")
    return [line.partition("| ")[2] or line for line in done.stdout.splitlines()]


@contextmanager
def _docker_there() -> Iterator[None]:
    try:
        yield
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise InvalidConfiguration(f"docker could not be run: {exc}") from exc
