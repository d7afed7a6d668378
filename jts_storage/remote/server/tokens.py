"""Who may call: tokens, kept as hashes with what each allows."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, time
from typing import Final, NamedTuple, TypeAlias, get_args

from jts_storage.errors import InvalidConfiguration
from jts_storage.remote.methods import Scope

_ALLOWS: Final[Mapping[str, frozenset[str]]] = {
    "read": frozenset({"read"}),
    "write": frozenset({"read", "write"}),
    "admin": frozenset({"read", "write", "admin"}),
}
_BYTES: Final = 32
_LOOSE: Final = 0o077
_LOOK_SECONDS: Final = 0.5
"""How often a file of tokens is looked at."""

log = logging.getLogger(__name__)

_State: TypeAlias = tuple[float, float, int, int, int]


class Caller(NamedTuple):
    """Who calls, by name, and what he may do."""

    name: str
    allows: frozenset[str]


class Tokens:
    """The tokens of a file: a line for each, ``name scope sha256``; ``#`` begins a comment.

    A file that changes is read again within a second, so that a token can be given and taken while
    the gateway runs. If it is broken by then, those known before stay, and the log says so.
    """

    def __init__(self, callers: Mapping[str, Caller]) -> None:
        """:param callers: by the hash of their token."""
        self._callers = dict(callers)
        self._file: Path | None = None
        self._seen: _State | None = None
        self._looked_at = 0.0

    @classmethod
    def of_file(cls, path: Path) -> Tokens:
        """
        :raises InvalidConfiguration: a line is not as it should be, or others may read the file.
        """
        found = cls({})
        found._file, found._looked_at, found._seen = path, monotonic(), _state_of(path)
        found._callers = _read(path)
        return found

    @classmethod
    def of(cls, token: str, scope: Scope = "admin", name: str = "local") -> Tokens:
        """A single token."""
        return cls({digest_of(token): Caller(name, _ALLOWS[scope])})

    def caller(self, token: str) -> Caller | None:
        """Whose token it is. It is long and random, so that its hash tells nothing of it."""
        self._look()
        return self._callers.get(digest_of(token))

    def _look(self) -> None:
        """Read the file again if it has changed; now and then, as each call asks."""
        if self._file is None or monotonic() - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at, state = monotonic(), _state_of(self._file)
        if state == self._seen or (state is not None and 0 <= time() - state[0] < _LOOK_SECONDS):
            return  # as it was, or perhaps written at this moment, and only half there
        self._seen = state
        try:
            self._callers = _read(self._file)
        except InvalidConfiguration as exc:
            log.error("Those who were let in before still are: %s", exc)
        else:
            log.info("%s was read again: %d tokens are known.", self._file, len(self._callers))


def _state_of(path: Path) -> _State | None:
    """What differs once a file has been written or replaced; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime, found.st_ctime, found.st_size, found.st_ino, found.st_mode


def _read(path: Path) -> dict[str, Caller]:
    """:raises InvalidConfiguration: it is no file of tokens, or others may read it."""
    try:
        if path.stat().st_mode & _LOOSE:
            raise InvalidConfiguration(f"{path} can be read by others", remedy=f"chmod 600 {path}")
        text = path.read_text()
    except OSError as exc:
        raise InvalidConfiguration(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise InvalidConfiguration(f"{path} is no file of tokens") from exc
    callers = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 3 or words[1] not in _ALLOWS or len(words[2]) != 64:
            raise InvalidConfiguration(
                f"line {number} of {path} is no token",
                remedy="A line is: name read|write|admin sha256; `jts-storage token` makes it.",
            )
        name, scope, digest = words
        callers[digest] = Caller(name, _ALLOWS[scope])
    return callers


def new_token() -> str:
    return secrets.token_urlsafe(_BYTES)


def line_of(name: str, scope: str, token: str) -> str:
    """The line of a token in the file."""
    if scope not in get_args(Scope):
        raise InvalidConfiguration(f"scope is {scope!r}", remedy="Say read, write or admin.")
    if not name or any(each.isspace() or each == "#" for each in name):
        raise InvalidConfiguration(f"{name!r} is no name", remedy="Use one word.")
    return f"{name} {scope} {digest_of(token)}\n"


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
