"""Variables of the environment and of a ``.env`` file, each with the place where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeVar

from jts_storage.errors import InvalidConfiguration
from jts_storage.settings.fields import field_names, from_text, placed

T = TypeVar("T")

ADDRESSES: Final = frozenset({"url", "uri"})
"""Either names the whole address of a store."""

_ALIKE: Final = 0.8
"""Names at least this similar to a setting are misspelled; others belong to other programs."""


_OTHER_NAMES: Final = {
    "JTS_POSTGRES_": "JTS_DATABASE_",
    "JTS_POSTGRESQL_": "JTS_DATABASE_",
    "JTS_SQLITE_": "JTS_DATABASE_",
    "JTS_DB_": "JTS_DATABASE_",
    "JTS_MONGODB_": "JTS_MONGO_",
}
"""What people call the stores, to suggest the right name."""

_USUAL_FILE: Final = Path(".env")

_OTHER_ENDINGS: Final = {"_PATH": "_DIR", "_FOLDER": "_DIR"}
"""What people call a folder."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable that is set.

    :param origin: its name, and the file and line if it stands in one: what errors name.
    """

    name: str
    text: str
    origin: str


def of_environment(environ: Mapping[str, str]) -> list[Variable]:
    return [Variable(name.upper(), text, name) for name, text in environ.items()]


def of_file(path: Path) -> list[Variable]:
    """The variables of a file such as ``.env``; this one need not be there.

    :raises InvalidConfiguration: naming the line that cannot be read, or a file that is not there.
    """
    if not path.is_file():
        if path == _USUAL_FILE:
            return []
        raise InvalidConfiguration(
            f"env_file names {path}, and there is no such file",
            remedy="Without its variables every store would be embedded. env_file=None reads none.",
        )
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    try:
        with path.open(encoding="utf-8") as stream:
            lines = list(parse_stream(stream))
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise InvalidConfiguration(f"{path} cannot be read: {why}") from None
    for line in lines:
        if line.error and "JTS_" in line.original.string:
            raise InvalidConfiguration(f"{path}, line {line.original.line} cannot be read")
    texts = dotenv_values(path)  # follows ${REFERENCES}, too
    return [
        Variable(
            line.key.upper(),
            texts.get(line.key) or "",
            f"{line.key} in {path}, line {line.original.line + _blank_lines(line.original.string)}",
        )
        for line in {line.key: line for line in lines if line.key}.values()
        if line.key
    ]


def _blank_lines(text: str) -> int:
    # The parser counts the blank lines before a variable to it.
    return text[: len(text) - len(text.lstrip())].count("\n")


@dataclass(frozen=True, slots=True)
class StoreValues:
    """The settings of one store in one place (environment, file or keywords).

    :param address: its URL, if set.
    :param values: fields, of their own types.
    :param is_embedded: whether it says that there is no server, overriding the other places.
    :param origin: where the address stands: what errors about it name.
    """

    address: str | None
    values: dict[str, Any]
    is_embedded: bool = False
    origin: str | None = None


@contextmanager
def naming(origin: str | None, alone: Callable[[], Any] | None = None) -> Iterator[None]:
    """Let an error about a URL say where the URL stands.

    :param alone: makes a configuration of nothing but the URL: an error that this does not raise,
        too, is about something else.
    """
    try:
        yield
    except InvalidConfiguration as error:
        if origin is None or (alone is not None and str(error) != _error_of(alone)):
            raise
        raise placed(error, origin) from None


def _error_of(make: Callable[[], Any]) -> str | None:
    try:
        make()
    except InvalidConfiguration as error:
        return str(error)
    return None


def of_variables(
    cls: Callable[..., T],
    environ: Mapping[str, str],
    prefix: str,
    read: Callable[[str], dict[str, Any]],
) -> T:
    """Make the configuration that ``<prefix><FIELD>`` variables name.

    :param read: returns the fields that an address names.
    :raises InvalidConfiguration: a value cannot be read, or a name is misspelled.
    """
    variables = [each for each in of_environment(environ) if each.name.startswith(prefix)]
    kind: Any = cls
    refuse_misspelled(variables, {prefix + name for name in names_of(kind)}, (prefix,))
    said = store_values(kind, variables, prefix, shows=True)
    address = said.address
    if address is None:
        return cls(**said.values)
    with naming(said.origin, lambda: cls(**read(address))):
        return cls(**read(address) | said.values)


def names_of(cls: type) -> tuple[str, ...]:
    """Return the names that a store's variables may have after its prefix, the address first."""
    own = [name for name in field_names(cls) if name not in ADDRESSES]
    addresses = ["URI", "URL"] if "uri" in field_names(cls) else ["URL"]
    return (*addresses, *(name.upper() for name in own))


def store_values(
    cls: type, variables: Iterable[Variable], prefix: str, *, shows: bool
) -> StoreValues:
    """What variables say of the store whose names begin with `prefix`; empty ones say nothing."""
    found: dict[str, Variable] = {}
    known = {name.lower() for name in names_of(cls)}
    for variable in variables:
        name = variable.name.removeprefix(prefix).removeprefix("_").lower()
        if not variable.name.startswith(prefix) or not variable.text or name not in known:
            continue
        name = "address" if name in ADDRESSES else name
        _refuse_two(found.get(name), variable)
        found[name] = variable
    address = found.pop("address", None)
    values = {
        name: from_text(cls, name, variable.text, variable.origin, shows=shows)
        for name, variable in found.items()
    }
    if address is None:
        return StoreValues(None, values)
    return StoreValues(address.text, values, origin=address.origin)


def _refuse_two(one: Variable | None, other: Variable) -> None:
    if one is not None and one.text != other.text:
        first, second = sorted((one.origin, other.origin))
        raise InvalidConfiguration(
            f"{first} and {second} are one setting and have different values",
            remedy="Unset one of them.",
        )


def refuse_misspelled(variables: Iterable[Variable], known: set[str], own: tuple[str, ...]) -> None:
    """Refuse a name that is no setting but looks like one.

    :param own: prefixes below which every name is the kit's, whatever it looks like.
    :raises InvalidConfiguration: naming the variable, and the setting that was probably meant.
    """
    for variable in variables:
        name = flat(variable.name, own)
        if name in known:
            continue
        name = _usual(name, own)
        prefix = next((each for each in own if name.startswith(each)), "")
        meant = _meant(name, known, prefix)
        if meant or prefix:
            raise InvalidConfiguration(
                f"{variable.origin} is not a setting",
                remedy=f"Did you mean {' or '.join(meant)}?"
                if meant
                else "See docs/reference/settings.md.",
            )


def _usual(name: str, own: tuple[str, ...]) -> str:
    """The name with the kit's words for the stores; that of a store alone means its URL."""
    for other, ours in _OTHER_NAMES.items():
        if f"{name}_".startswith(other):
            name = ours + name.removeprefix(other.rstrip("_")).lstrip("_")
    return f"{name.rstrip('_')}_URL" if f"{name.rstrip('_')}_" in own else name


def _meant(name: str, known: set[str], prefix: str) -> list[str]:
    for other, ours in _OTHER_ENDINGS.items():
        if (folder := name.removesuffix(other) + ours) in known and name.endswith(other):
            return [folder]
    if name in known:
        return [name]
    # A field of several words that lacks its store; one word may be of another program.
    field = name.partition("_")[2]
    if not prefix and "_" in field and (of_stores := [n for n in known if n.endswith(f"_{field}")]):
        return sorted(of_stores)
    candidates = sorted(each for each in known if each.startswith(prefix))
    return get_close_matches(name, candidates, n=1, cutoff=0.6 if prefix else _ALIKE)


def flat(name: str, prefixes: tuple[str, ...]) -> str:
    """``JTS_CLICKHOUSE__PORT`` as ``JTS_CLICKHOUSE_PORT``: both are read."""
    for prefix in prefixes:
        if name.startswith(f"{prefix}_"):
            return prefix + name.removeprefix(f"{prefix}_")
    return name
