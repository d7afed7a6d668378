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
    tell: Callable[[str, str], None],
) -> None:
    """Tell the last lines, and each that comes, until Ctrl-C.

    :param tell: called with the name of the service and its line.
    """
    if plan.engine == "docker":
        command = Compose(Path(plan.compose_file)).logs_command(names, lines, follow=True)
        with suppress(KeyboardInterrupt), _docker_there():
            _tell_printed(command, names, tell)
        return
    places = {
        file: file.stat().st_size if file.exists() else 0
        for name in names
        for file in _files(folder.path / name)
    }
    for name, text in last_lines(plan, folder, names, lines).items():
        for line in text:
            tell(name, line)
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(_PAUSE)
            for file, place in places.items():
                places[file] = _tell_new(file, place, tell)


def _tell_printed(
    command: Sequence[str], names: Sequence[str], tell: Callable[[str, str], None]
) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stdout is not None
        for line in process.stdout:
            container, is_told, text = line.rstrip("\n").partition("| ")
            # Compose names the container: the service, and which of its containers it is.
            container = container.strip()
            service = container if container in names else container.rpartition("-")[0]
            if is_told and service in names:
                tell(service, text)
            else:
                tell("docker", line.rstrip("\n"))


def _tell_new(file: Path, place: int, tell: Callable[[str, str], None]) -> int:
    """Tell the whole lines behind a place, and return where the next begin."""
    try:
        if file.stat().st_size < place:  # begun anew, and what it was is beside it now
            _tell_from(file, _before(file), place, tell)
            place = 0
        return _tell_from(file, file, place, tell)
    except OSError:
        return 0


def _tell_from(of: Path, file: Path, place: int, tell: Callable[[str, str], None]) -> int:
    try:
        with file.open("rb") as opened:
            opened.seek(place)
            whole = opened.read().rpartition(b"\n")[0]
    except FileNotFoundError:
        return place
    if not whole:
        return place
    for line in whole.decode(errors="replace").splitlines():
        tell(of.parent.name, line)
    return place + len(whole) + 1


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in _FILES if name != "mongod.log" or folder.name == "mongodb"]


def _before(file: Path) -> Path:
    """What it was before it was begun anew."""
    return file.with_name(f"{file.name}.1")


def _tail(folder: Path, lines: int) -> list[str]:
    found: list[str] = []
    for file in _files(folder):
        last = _lines(file)
        if len(last) < lines:
            last = _lines(_before(file)) + last
        found += last[-lines:]
    return found[-lines:]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []


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
