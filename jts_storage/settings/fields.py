"""What the fields of all configurations have in common: types, ranges, retries, error texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from functools import cache, wraps
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SecretStr,
    TypeAdapter,
    ValidationError,
)
from pydantic import Field as Limit
from pydantic.dataclasses import dataclass

from jts_storage.domain.secret import MASK, Secret
from jts_storage.errors import InvalidConfiguration

T = TypeVar("T")

STRICT: Final = ConfigDict(strict=True, extra="forbid", validate_default=True)
"""A field takes its own type only; text is read by `from_text`, which knows where it came from."""

_LONGEST: Final = 1_000_000
"""Eleven days. In milliseconds, more does not fit the options of the drivers."""


def must_be(rule: Callable[[Any], bool], wanted: str) -> AfterValidator:
    """Refuse a value for which `rule` is false."""

    def check(value: Any) -> Any:
        if not rule(value):
            raise ValueError(f"should be {wanted}")
        return value

    return AfterValidator(check)


def _shown(value: str) -> Any:
    # SecretStr masks itself in JSON, and a dump in Python can be given to the model again.
    return SecretStr(value.get_secret_value() if isinstance(value, Secret) else value)


def _unwrapped(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


Text = Annotated[str, must_be(is_text, "a text that is not empty")]
Password = Annotated[
    str, BeforeValidator(_unwrapped), AfterValidator(Secret), PlainSerializer(_shown)
]
Url = Annotated[
    str, BeforeValidator(_unwrapped), must_be(is_text, "a URL"), PlainSerializer(_shown)
]
"""A URL, which may carry a password."""

Port = Annotated[int, Limit(ge=1, le=65535)]
PoolSize = Annotated[int, Limit(ge=1, le=10_000)]
Overflow = Annotated[int, Limit(ge=0, le=10_000)]
RetryCount = Annotated[int, Limit(ge=0, le=100)]
Seconds = Annotated[float, Limit(ge=0.001, le=_LONGEST, allow_inf_nan=False)]
Pause = Annotated[float, Limit(ge=0, le=_LONGEST, allow_inf_nan=False)]
PemFile = Annotated[Text, must_be(lambda v: Path(v).is_file(), "a readable file")]


def check_tls_files(config: Any, names: tuple[str, ...], *, uses_tls: bool, remedy: str) -> None:
    """:raises InvalidConfiguration: a certificate is given and the connection is not encrypted."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not uses_tls:
            raise InvalidConfiguration(f"{name} is {value!r} but TLS is off", remedy=remedy)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RetryPolicy:
    """How long what failed is repeated; the base of every configuration.

    How often is `max_retries` of each store: the repetitions after the first attempt.

    :param retry_base_delay: seconds before the first repetition; each further pause is doubled.
    :param retry_max_delay: seconds; no pause is longer.
    :param retry_timeout: seconds after the first attempt; no attempt begins later.
    :param health_timeout: seconds within which `health_check` answers.
    """

    retry_base_delay: Pause = 0.1
    retry_max_delay: Pause = 2
    retry_timeout: Pause = 60
    health_timeout: Seconds = 0.45

    def check_pauses(self) -> None:
        """:raises InvalidConfiguration: the first pause is longer than the longest."""
        if self.retry_max_delay < self.retry_base_delay:
            raise InvalidConfiguration(
                f"retry_max_delay is {self.retry_max_delay!r}: it should be at least"
                f" retry_base_delay, which is {self.retry_base_delay!r}"
            )


# ---- making a configuration


def configuration(cls: type[T]) -> type[T]:
    """Make a pydantic dataclass raise `InvalidConfiguration` for what is wrong.

    A class method ``_expanded``, if there is one, may rewrite the arguments first: it splits what
    a URL says beside the address.
    """
    kind: Any = cls
    validate = kind.__init__
    positional = [f.name for f in fields(kind) if f.init and not f.kw_only]
    expanded: Callable[[dict[str, Any]], dict[str, Any]] = getattr(kind, "_expanded", dict)

    @wraps(validate)
    def init(self: T, *args: Any, **keywords: Any) -> None:
        given = named(args, positional, keywords)
        for name in given.keys() - field_names(kind):
            raise unknown_field(name, field_names(kind))
        given = expanded(given)
        try:
            validate(self, **given)
        except ValidationError as failure:
            raise configuration_error(failure, given) from None

    kind.__init__ = init
    return cls


def named(args: tuple[Any, ...], names: list[str], keywords: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name, those by position included."""
    if len(args) > len(names):
        raise InvalidConfiguration(f"there are {len(args)} values for {len(names)} fields")
    positional = dict(zip(names, args, strict=False))
    if twice := positional.keys() & keywords.keys():
        raise InvalidConfiguration(f"{min(twice)} is given twice, by position and by name")
    return positional | keywords


@cache
def field_names(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls) if f.init)


def unknown_field(name: str, known: tuple[str, ...]) -> InvalidConfiguration:
    return InvalidConfiguration(f"there is no setting {name!r}", remedy=did_you_mean(name, known))


def did_you_mean(name: str, known: tuple[str, ...]) -> str | None:
    close = get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]}?" if close else None


def is_secret(name: str) -> bool:
    return "password" in name or name in {"uri", "url"} or name.endswith("_url")


def configuration_error(failure: ValidationError, given: Mapping[str, Any]) -> InvalidConfiguration:
    """The faults in one sentence: each field, the value it was given, and what it should be."""
    if (own := own_error(failure)) is not None:
        return own
    texts = []
    for fault in failure.errors(include_url=False):
        name = str(fault["loc"][0])
        value = MASK if is_secret(name) else repr(given.get(name))
        texts.append(f"{name} is {value}: it {reason(fault['msg'])}")
    return InvalidConfiguration("; ".join(texts))


def own_error(failure: ValidationError) -> InvalidConfiguration | None:
    """The error that one of our checks raised, which pydantic has wrapped."""
    causes = (each.get("ctx", {}).get("error") for each in failure.errors(include_url=False))
    return next((each for each in causes if isinstance(each, InvalidConfiguration)), None)


def placed(error: InvalidConfiguration, origin: str) -> InvalidConfiguration:
    """The same error, saying where the fault stands."""
    message = str(error.args[0]).removeprefix("Invalid configuration: ")
    return InvalidConfiguration(f"{origin}: {message}", remedy=error.remedy)


def reason(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input ")


# ---- text of variables and URLs


def from_text(cls: type, name: str, text: str, origin: str, *, shows: bool = True) -> Any:
    """Convert the text of a variable or a URL option to the type of the field.

    :param origin: where the text stands, for the error.
    :param shows: whether the error repeats the text; that of a password it never does.
    """
    hint = type_hints(cls)[name]
    if get_origin(bare_type(hint)) is Mapping and not all(map(_is_pair, text.split("&"))):
        raise InvalidConfiguration(f"{origin} should be written as name=value&name=value")
    try:
        return _read(hint, text)
    except ValidationError as failure:
        if (own := own_error(failure)) is not None:
            raise placed(own, origin) from None
        why = reason(failure.errors(include_url=False)[0]["msg"])
        is_value = f" is {text!r}: it" if shows and not is_secret(name) else ""
        raise InvalidConfiguration(f"{origin}{is_value} {why}") from None


@cache
def type_hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def bare_type(hint: Any) -> Any:
    """The type without its limits and without None."""
    if get_origin(hint) is Annotated:
        return bare_type(get_args(hint)[0])
    inner = [each for each in get_args(hint) if each is not type(None)]
    return bare_type(inner[0]) if type(None) in get_args(hint) else hint


def _read(hint: Any, text: str) -> Any:
    kind = bare_type(hint)
    word = text.strip().lower()
    if type(None) in get_args(hint) and word in {"", "none"}:
        return None
    if get_origin(kind) is tuple:
        return TypeAdapter(hint).validate_python(
            tuple(part.strip() for part in text.split(",") if part.strip())
        )
    if get_origin(kind) is Mapping:
        pairs = parse_qsl(text, keep_blank_values=True)
        return TypeAdapter(hint).validate_python({name: _typed(value) for name, value in pairs})
    is_word = kind in (bool, int, float)
    return TypeAdapter(hint).validate_strings(word if is_word else text)


def _is_pair(part: str) -> bool:
    name, equals, _ = part.partition("=")
    return part == "" or (name != "" and equals != "")


def _typed(text: str) -> int | bool | str:
    """A flag or an integer where the text is just one, else the text."""
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    is_integer = text.removeprefix("-").isdecimal() and str(int(text)) == text
    return int(text) if is_integer else text


# ---- what fields are for, for the reference


def default_of(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def described(cls: type) -> dict[str, str]:
    """The meaning of each field, from the ``:param`` lines of the class and its bases."""
    texts: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        name = None
        for line in cleandoc(each.__doc__ or "").splitlines():
            if line.startswith(":"):
                head, _, rest = line[1:].partition(": ")
                name = head.removeprefix("param ") if head.startswith("param ") else None
                if name:
                    texts[name] = rest
            elif name and line.startswith(" "):
                texts[name] += " " + line.strip()
    return texts
