"""No password is shown: not by configurations, their copies, settings, managers, nor errors."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from typing import Any

import pytest
from pydantic import SecretStr, TypeAdapter

from jts_storage import StorageSettings
from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain.secret import Secret, plain
from jts_storage.errors import InvalidConfiguration, StorageError
from jts_storage.mongo import MongoDBConfig, MongoDBManager
from jts_storage.relational import DatabaseManager
from jts_storage.settings import DatabaseConfig

CANARY = "c4n4ry"
MONGO_FILE_PASSWORD: dict[str, Any] = {"tls": True, "tls_certificate_key_file_password": CANARY}

CONFIGURATIONS: list[Callable[[], Any]] = [
    lambda: ClickHouseConfig(password=CANARY),
    lambda: ClickHouseConfig.from_url(f"clickhouse://user:{CANARY}@h:9000/db"),
    lambda: ClickHouseConfig.from_url(f"clickhouse://h/db?password={CANARY}"),
    lambda: ClickHouseConfig.from_env({"JTS_CLICKHOUSE_PASSWORD": CANARY}),
    lambda: MongoDBConfig(uri=f"mongodb://user:{CANARY}@h/db"),
    lambda: MongoDBConfig(uri=f"mongodb+srv://user:{CANARY}@h/db"),
    lambda: MongoDBConfig(username="user", password=CANARY),
    lambda: MongoDBConfig(**MONGO_FILE_PASSWORD),
    lambda: MongoDBConfig(uri=f"mongodb://h/?tls=true&tlsCertificateKeyFilePassword={CANARY}"),
    lambda: DatabaseConfig(url=f"postgresql://user:{CANARY}@h/db"),
]


def everything_shown(thing: Any) -> str:
    """What ends in a log or on a screen when somebody shows it in any of the usual ways."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.emit(logging.makeLogRecord({"msg": "%s %r", "args": (thing, thing)}))
    shown = [stream.getvalue(), f"{thing} {thing!r}", str(getattr(thing, "redacted", ""))]
    for field in fields(thing):
        value = getattr(thing, field.name)
        shown.append(f"{value} {value!r} {value:>0}" if isinstance(value, str) else f"{value!r}")
    if not isinstance(thing, ClickHouseConfig):  # its settings are a view, which has no copy
        shown += [str(asdict(thing)), json.dumps(asdict(thing), default=str)]
    model: TypeAdapter[Any] = TypeAdapter(type(thing))
    shown += [str(model.dump_python(thing)), model.dump_json(thing).decode()]
    return "\n".join(shown)


@pytest.mark.parametrize("make", CONFIGURATIONS)
def test_a_configuration_does_not_show_its_password(make: Callable[[], Any]) -> None:
    config = make()
    assert CANARY not in everything_shown(config)
    for same in (
        copy.copy(config),
        copy.deepcopy(config),
        copy.deepcopy([config])[0],
        replace(config),
        pickle.loads(pickle.dumps(config)),
    ):
        assert same == config
        assert CANARY not in everything_shown(same)
        kept = [
            plain(getattr(same, name))
            for name in ("uri", "url", "password", "tls_certificate_key_file_password")
            if isinstance(getattr(same, name, None), str)
        ]
        assert any(CANARY in each for each in kept), "the copy lost its password"


def test_drivers_get_the_password_itself() -> None:
    config = MongoDBConfig(username="user", password=CANARY)
    assert type(config.client_options["password"]) is str
    assert config.client_options["password"] == CANARY
    assert ClickHouseConfig(password=CANARY).url.password == CANARY
    assert type(ClickHouseConfig(password=CANARY).url.password) is str
    url = DatabaseConfig(url=f"postgresql://user:{CANARY}@h/db").sqlalchemy_url
    assert (url.password, type(url.password)) == (CANARY, str)
    assert ClickHouseConfig.from_url(ClickHouseConfig(password=CANARY).url).password == CANARY


def test_managers_and_settings_do_not_show_passwords() -> None:
    settings = StorageSettings(
        clickhouse_url=SecretStr(f"clickhouse://user:{CANARY}@h:9000/db"),
        mongo_url=SecretStr(f"mongodb://user:{CANARY}@h/db"),
        database_url=SecretStr(f"postgresql://user:{CANARY}@h/db"),
    )
    managers = (
        ClickHouseManager(settings.clickhouse()),
        MongoDBManager(settings.mongo()),
        DatabaseManager(settings.database()),
    )
    for shown in (settings, *managers):
        assert CANARY not in f"{shown} {shown!r}"
    assert CANARY not in settings.model_dump_json()


BROKEN = ("@", "/", "?", "#", "[", "]", "%zz", " ", ":", ",", "//", "@@", "/@", "?a=b@", "[::", "%")
TEMPLATES = [
    "{scheme}://user:{password}@host:1234/db",
    "{scheme}://user:{password}@host:port/db",
    "{scheme}://user:{password}@host:1234/db?unknown=option",
    "{scheme}://user:{password}@[::1/db",
    "{scheme}://user:{password}@",
    "{scheme}://user:{password}",
    "{scheme}:user:{password}@host/db",
    "{scheme}//user:{password}@host/db",
    "user:{password}@host/db",
    "{scheme}://{password}@host/db",
    "{scheme}://:{password}@host/db",
    "no{scheme}://user:{password}@host/db",
]


@pytest.mark.parametrize("special", BROKEN)
@pytest.mark.parametrize("template", TEMPLATES)
def test_no_part_of_a_broken_url_is_told(template: str, special: str) -> None:
    readers: list[tuple[str, Callable[[str], Any]]] = [
        ("clickhouse", ClickHouseConfig.from_url),
        ("clickhouses", ClickHouseConfig.from_url),
        ("clickhouse+embedded", ClickHouseConfig.from_url),
        ("clickhouse", lambda url: ClickHouseConfig.from_env({"JTS_CLICKHOUSE_URL": url})),
        ("mongodb", lambda url: MongoDBConfig(uri=url)),
        ("mongodb+srv", lambda url: MongoDBConfig(uri=url)),
        ("postgresql", lambda url: DatabaseConfig(url=url)),
        ("sqlite", lambda url: DatabaseConfig(url=url)),
        ("clickhouse", lambda url: StorageSettings(clickhouse_url=SecretStr(url)).clickhouse()),
        ("mongodb", lambda url: StorageSettings(mongo_url=SecretStr(url)).mongo()),
        ("postgresql", lambda url: StorageSettings(database_url=SecretStr(url)).database()),
    ]
    for password in (f"{CANARY}{special}{CANARY}", f"{special}{CANARY}", f"{CANARY}{special}"):
        for scheme, read in readers:
            url = template.format(scheme=scheme, password=password)
            try:
                config = read(url)
            except InvalidConfiguration as exc:
                assert CANARY not in f"{exc} {exc!r} {exc.remedy}", url
                assert exc.__suppress_context__ or exc.__context__ is None, url
            else:
                if template.startswith("{scheme}://user:{password}@host"):
                    told = f"{config!r} {config.redacted} {config.hosts}"
                    assert CANARY not in told, url


async def test_an_error_of_a_server_does_not_tell_the_password() -> None:
    async with MongoDBManager(
        uri=f"mongodb://user:{CANARY}@127.0.0.1:1/", server_selection_timeout=0.1
    ) as mongo:
        with pytest.raises(StorageError) as caught:
            await mongo.ping()
    assert CANARY not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"


def test_a_secret_works_as_a_text() -> None:
    secret = Secret(CANARY)
    assert secret == CANARY
    assert hash(secret) == hash(CANARY)
    assert secret.encode() == CANARY.encode()
    assert CANARY not in f"{secret} {secret!r} {secret:>20} %s" % secret
    assert plain(secret) == plain(CANARY) == Secret(secret).get_secret_value() == CANARY
    assert type(plain(secret)) is str
