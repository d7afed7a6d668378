"""Variables of the environment and of a ``.env`` file, each with the place where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from jts_storage.errors import InvalidConfiguration
from jts_storage.settings.fields import field_names, from_text

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
    """The variables of a ``.env`` file; of a file that is not there, none.

    :raises InvalidConfiguration: naming the line that cannot be read.
    """
    if not path.is_file():
        return []
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
    """

    address: str | None
    values: dict[str, Any]
    is_embedded: bool = False


def fields_of_environment(
    cls: type, environ: Mapping[str, str], prefix: str
) -> tuple[str | None, dict[str, Any]]:
    """The address and the fields that ``<prefix><FIELD>`` variables name.

    :raises InvalidConfiguration: a value cannot be read, or a name is misspelled.
    """
    variables = [each for each in of_environment(environ) if each.name.startswith(prefix)]
    refuse_misspelled(variables, {prefix + name for name in names_of(cls)}, (prefix,))
    said = store_values(cls, variables, prefix, shows=True)
    return said.address, said.values


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
    return StoreValues(address.text if address else None, values)


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
        for other, ours in _OTHER_NAMES.items():
            name = ours + name.removeprefix(other).lstrip("_") if name.startswith(other) else name
        prefix = next((each for each in own if name.startswith(each)), "")
        candidates = sorted(each for each in known if each.startswith(prefix))
        alike = get_close_matches(name, candidates, n=1, cutoff=0.6 if prefix else _ALIKE)
        if alike or prefix:
            raise InvalidConfiguration(
                f"{variable.origin} is not a setting",
                remedy=f"Did you mean {alike[0]}?" if alike else "See docs/reference/settings.md.",
            )


def flat(name: str, prefixes: tuple[str, ...]) -> str:
    """``JTS_CLICKHOUSE__PORT`` as ``JTS_CLICKHOUSE_PORT``: both are read."""
    for prefix in prefixes:
        if name.startswith(f"{prefix}_"):
            return prefix + name.removeprefix(f"{prefix}_")
    return name
