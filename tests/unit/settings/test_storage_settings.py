"""A setting has one name in a URL, the environment, a `.env` file and as a keyword."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from jts_storage import StorageSettings
from jts_storage.domain.secret import Secret, plain
from jts_storage.errors import InvalidConfiguration
from jts_storage.settings import ClickHouseConfig, DatabaseConfig, MongoDBConfig
from jts_storage.settings.stores import STORES
from jts_storage.settings.variables import names_of

SECRET = "c4n4ry"
URLS = {
    "clickhouse": "clickhouse://h:9000/jts",
    "mongo": "mongodb://h:27017/jts",
    "database": "postgresql://h:5432/jts",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory without a `.env`, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("JTS_")]:
        monkeypatch.delenv(name)


def set_variables(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def config(settings: StorageSettings, store: str) -> Any:
    made: dict[str, Callable[[], Any]] = {
        "clickhouse": settings.clickhouse,
        "mongo": lambda: settings.mongo(None if settings.mongo_url else "mongodb://local"),
        "database": settings.database,
    }
    return made[store]()


def by_url(store: str, field: str, text: str, monkeypatch: pytest.MonkeyPatch) -> StorageSettings:
    return StorageSettings(**{f"{store}_url": SecretStr(f"{URLS[store]}?{field}={text}")})


def by_variable(
    store: str, field: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> StorageSettings:
    monkeypatch.setenv(f"JTS_{store}_{field}".upper(), text)
    return StorageSettings.load()


def by_nested_variable(
    store: str, field: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> StorageSettings:
    monkeypatch.setenv(f"JTS_{store}__{field}".upper(), text)
    return StorageSettings()


def by_file(store: str, field: str, text: str, monkeypatch: pytest.MonkeyPatch) -> StorageSettings:
    Path(".env").write_text(f"JTS_{store}_{field}".upper() + f"={text}\n")
    return StorageSettings.load()


def by_keyword(
    store: str, field: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> StorageSettings:
    return StorageSettings(**{store: {field: KINDS[store, field](text)}})


KINDS: dict[tuple[str, str], type[int] | type[float] | type[str]] = {
    ("clickhouse", "pool_size"): int,
    ("clickhouse", "retry_max_delay"): float,
    ("clickhouse", "cluster"): str,
    ("mongo", "max_retries"): int,
    ("mongo", "max_pool_size"): int,
    ("mongo", "pool_timeout"): float,
    ("database", "pool_size"): int,
    ("database", "retry_timeout"): float,
    ("database", "synchronous"): str,
}
TEXTS = {int: "5", float: "7.5", str: "NORMAL"}


@pytest.mark.parametrize(
    "set_by",
    [by_url, by_variable, by_nested_variable, by_file, by_keyword],
    ids=lambda function: function.__name__,
)
@pytest.mark.parametrize(("store", "field"), KINDS)
def test_a_field_is_set_from_any_place(
    set_by: Callable[..., StorageSettings],
    store: str,
    field: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = KINDS[store, field]
    settings = set_by(store, field, TEXTS[kind], monkeypatch)
    assert getattr(config(settings, store), field) == kind(TEXTS[kind])
    # A store's own `from_env` reads the same variables.
    if any(name.startswith("JTS_") for name in os.environ):
        cls: Any = STORES[store].config
        assert getattr(cls.from_env(), field) == kind(TEXTS[kind])


def test_a_nearer_place_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(**keywords: Any) -> tuple[int, bool]:
        settings = StorageSettings(**keywords)
        return settings.clickhouse().pool_size, settings.fsync

    assert found() == (8, True)
    Path(".env").write_text("JTS_CLICKHOUSE_POOL_SIZE=1\nJTS_FSYNC=no\n")
    assert found() == (1, False)
    set_variables(monkeypatch, JTS_CLICKHOUSE_POOL_SIZE="2", JTS_FSYNC="yes")
    assert found() == (2, True)
    assert found(clickhouse={"pool_size": 3}, fsync=False) == (3, False)


def test_in_one_place_a_field_of_its_own_wins_over_the_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_variables(
        monkeypatch, JTS_DATABASE_URL="postgresql://h/x?pool_size=2", JTS_DATABASE_POOL_SIZE="8"
    )
    assert StorageSettings().database().pool_size == 8
    mine = StorageSettings(
        clickhouse_url=SecretStr("clickhouse://h?pool_size=2"), clickhouse={"pool_size": 8}
    )
    assert mine.clickhouse().pool_size == 8


def test_the_url_of_a_nearer_place_wins_over_what_farther_ones_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_variables(
        monkeypatch,
        JTS_CLICKHOUSE_URL=f"clickhouse://reader:{SECRET}@old/jts?max_retries=9",
        JTS_CLICKHOUSE_POOL_SIZE="4",
        JTS_CLICKHOUSE_DATABASE="prices",
        JTS_MONGO_MAX_POOL_SIZE="9",
        JTS_MONGO_DATABASE="other",
    )
    settings = StorageSettings(
        clickhouse_url=SecretStr("clickhouse://new/jts?pool_size=2"),
        mongo_url=SecretStr("mongodb://h/mine?maxPoolSize=5"),
    )
    found = settings.clickhouse()
    assert (found.host, found.user, found.password) == ("new", "default", "")  # not sent to `new`
    assert (found.pool_size, found.database, found.max_retries) == (2, "jts", 3)
    assert "maxPoolSize" not in settings.mongo().client_options  # the URI's own holds
    assert settings.mongo().database == "mine"


def test_an_address_that_is_none_is_embedded_whatever_else_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_variables(
        monkeypatch,
        JTS_CLICKHOUSE_URL="clickhouse://h/x",
        JTS_CLICKHOUSE_PASSWORD=SECRET,
        JTS_DATABASE_URL="postgresql://h/x",
    )
    settings = StorageSettings(clickhouse_url=None, database_url=None)
    assert settings.clickhouse().is_embedded
    assert settings.database().is_sqlite


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("JTS_CLICKHOUSE_POOL_SIZE=3\n")
    set_variables(monkeypatch, JTS_CLICKHOUSE_POOL_SIZE="", JTS_MONGO_URL="", JTS_CACHE_BYTES="")
    assert StorageSettings().clickhouse().pool_size == 3
    assert StorageSettings().mongo_url is None


def test_a_file_may_refer_to_its_other_lines_and_be_another_one(tmp_path: Path) -> None:
    (tmp_path / "mine.env").write_text(
        "PASSWORD=p4ss\nexport JTS_MONGO_URL=mongodb://u:${PASSWORD}@h/x?tls=true&w=majority\n"
        'JTS_DATABASE_URL="postgresql://u:${PASSWORD}@h/x"  # books\n'
    )
    settings = StorageSettings.load(env_file=tmp_path / "mine.env")
    assert settings.database().sqlalchemy_url.password == "p4ss"
    assert settings.mongo().uri == "mongodb://u:p4ss@h/x?tls=true&w=majority"
    assert StorageSettings(env_file=None).database_url is None
    with pytest.raises(InvalidConfiguration, match=r"env_file names .*min\.env, and there is no"):
        StorageSettings(env_file=tmp_path / "min.env")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("JTS_CLIKHOUSE_URL", "JTS_CLICKHOUSE_URL"),
        ("JTS_CLICKHOUSE_POOLSIZE", "JTS_CLICKHOUSE_POOL_SIZE"),
        ("JTS_CLICKHOUSE__POOLSIZE", "JTS_CLICKHOUSE_POOL_SIZE"),
        ("JTS_POSTGRES__POOL_SIZE", "JTS_DATABASE_POOL_SIZE"),
        ("JTS_MONGODB_URL", "JTS_MONGO_URL"),
        ("JTS_MONGO_MAXPOOLSIZE", "JTS_MONGO_MAX_POOL_SIZE"),
        ("JTS_CACHE_BYTE", "JTS_CACHE_BYTES"),
        ("JTS_DATA__DIR", "JTS_DATA_DIR"),
        ("JTS_MONGO", "JTS_MONGO_URL"),
        ("JTS_MONGODB", "JTS_MONGO_URL"),
        ("JTS_POSTGRES", "JTS_DATABASE_URL"),
        ("JTS_DB", "JTS_DATABASE_URL"),
        ("jts_mongo", "JTS_MONGO_URL"),
        ("Jts_Lake_Path", "JTS_LAKE_DIR"),
        ("JTS_LAKE_PATH", "JTS_LAKE_DIR"),
        ("JTS_POOL_SIZE", "JTS_CLICKHOUSE_POOL_SIZE or JTS_DATABASE_POOL_SIZE"),
        ("JTS_MAX_RETRIES", "JTS_CLICKHOUSE_MAX_RETRIES or JTS_DATABASE_MAX_RETRIES or JTS_MONGO"),
    ],
)
def test_a_misspelled_variable_is_refused_with_the_right_name(
    name: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, SECRET)
    with pytest.raises(InvalidConfiguration, match=f"{name} is not a setting.*{meant}") as caught:
        StorageSettings.load()
    assert SECRET not in str(caught.value)
    monkeypatch.delenv(name)
    Path(".env").write_text(f"# stores\n\nOTHER=1\n{name}={SECRET}\n")
    with pytest.raises(InvalidConfiguration, match=rf"{name} in \.env, line 4 .*{meant}"):
        StorageSettings()


def test_a_stores_own_reader_refuses_misspelled_names() -> None:
    with pytest.raises(InvalidConfiguration, match="Did you mean JTS_MONGO_MAX_RETRIES"):
        MongoDBConfig.from_env({"JTS_MONGO_MAX_RETRY": "1"})


def test_what_is_of_no_store_and_like_no_setting_is_other_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_variables(monkeypatch, JTS_LOG_LEVEL="debug", JTS_PORT="8000", PATH_TO_JTS_DATA="x")
    assert StorageSettings() == StorageSettings.load()


def test_a_store_that_nobody_knows_in_its_own_names_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JTS_MONGO_QQQQQ", "1")
    with pytest.raises(InvalidConfiguration, match="JTS_MONGO_QQQQQ is not a setting"):
        StorageSettings()


def test_two_spellings_of_one_setting_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, JTS_DATABASE_POOL_SIZE="2", JTS_DATABASE__POOL_SIZE="2")
    assert StorageSettings().database().pool_size == 2
    monkeypatch.setenv("JTS_DATABASE__POOL_SIZE", "3")
    with pytest.raises(InvalidConfiguration, match="JTS_DATABASE_POOL_SIZE and JTS_DATABASE__P"):
        StorageSettings()


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"clickhouse": {"pool_siz": 3}}, "clickhouse.pool_siz.*Did you mean clickhouse.pool_size"),
        ({"clickhouse": {"pool_size": "3"}}, "clickhouse.pool_size is '3': it should be"),
        ({"clickhouse": {"pool_size": 0}}, "clickhouse.pool_size is 0: it should be"),
        ({"clickhouse": 3}, "clickhouse is of int"),
        ({"clickhouse_ulr": "clickhouse://h"}, "clickhouse_ulr.*Did you mean clickhouse_url"),
        ({"mongo": {"retry_base_delay": 3.0}}, "retry_max_delay"),
        ({"clickhouse_url": "clickhouse://a", "clickhouse": {"url": "clickhouse://b"}}, "twice"),
        (
            {"clickhouse": {"settings": {"wait_for_async_insert": 0}}},
            "on: clickhouse.settings: .*wait_for",
        ),
        ({"check": "perhaps"}, "check is 'perhaps': it should be 'error'"),
        ({"mongo_url": 3}, "mongo_url is of int"),
        ({"mongo_url": "mongodb://h/admin"}, "MongoDB's own.*authSource=admin"),
        ({"clickhouse": {"password": SECRET}}, "clickhouse.password is set.*JTS_CLICKHOUSE_URL"),
    ],
)
def test_what_is_wrong_is_named(keywords: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidConfiguration, match=named):
        StorageSettings(**keywords)


@pytest.mark.parametrize(
    "keywords",
    [
        {"clickhouse": {"host": "h", "password": SECRET.encode()}},
        {"mongo": {"uri": "mongodb://h", "password": [SECRET]}},
        {"database_url": SECRET.encode()},
        {"database": {"url": f"postgresql://u:{SECRET}@h:port/x"}},
    ],
)
def test_no_traceback_shows_a_password(keywords: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        StorageSettings(**keywords)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_value_that_cannot_be_read_is_named_with_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text(f"\nJTS_MIGRATE=sometimes{SECRET}\n")
    with pytest.raises(InvalidConfiguration, match=r"JTS_MIGRATE in \.env, line 2") as caught:
        StorageSettings()
    assert SECRET not in str(caught.value)
    monkeypatch.setenv("JTS_MIGRATE", "1")
    monkeypatch.setenv("JTS_DATABASE_POOL_SIZE", f"many{SECRET}")
    with pytest.raises(InvalidConfiguration, match="JTS_DATABASE_POOL_SIZE should be") as caught:
        StorageSettings()
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_line_that_cannot_be_read_is_named() -> None:
    Path(".env").write_text(f"OTHER=1\nJTS_MONGO_URL 'mongodb://u:{SECRET}@h\n")
    with pytest.raises(InvalidConfiguration, match=r"\.env, line 2 cannot be read") as caught:
        StorageSettings()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("content", [b"JTS_FSYNC=\xff\n", b"\xff\xfeJ"])
def test_a_file_that_is_no_text_is_named(content: bytes) -> None:
    Path(".env").write_bytes(content)
    with pytest.raises(InvalidConfiguration, match=r"\.env cannot be read: it is not UTF-8"):
        StorageSettings()


WRONG_URLS = [
    ("mongo", f"mongodb://u:{SECRET}@h/?maxPoolSizee=5"),
    ("mongo", f"mongodb://u:{SECRET}@h/admin"),
    ("mongo", f"mongodb://u:{SECRET}@h/x?w=0"),
    ("mongo", f"mongodb://u:{SECRET}@h/y?database=x"),
    ("clickhouse", f"clickhouse://u:{SECRET}@h/x?max_threads=1"),
    ("clickhouse", f"clickhouse://u:{SECRET}@h/x?setting.wait_for_async_insert=0"),
    ("clickhouse", f"clickhouse://u:{SECRET}@h/x?retry_max_delay=0.01"),
    ("database", f"mysql://u:{SECRET}@h/x"),
    ("database", f"postgresql://u:{SECRET}@h/x?sslmode=maybe"),
]


@pytest.mark.parametrize(("store", "url"), WRONG_URLS)
def test_an_error_about_a_url_says_where_the_url_stands(
    store: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def error(**keywords: Any) -> str:
        with pytest.raises(InvalidConfiguration) as caught:
            StorageSettings(**keywords)
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        return str(caught.value)

    name = f"JTS_{store}_URL".upper()
    assert f"{store}_url: " in error(**{f"{store}_url": SecretStr(url)})
    if store != "clickhouse":
        assert f"{store}.url: " in error(**{store: {"url": url}})
    Path(".env").write_text(f"# stores\n{name}={url}\n")
    assert f"{name} in .env, line 2: " in error()
    Path(".env").unlink()
    monkeypatch.setenv(name.lower(), url)
    assert f"{name.lower()}: " in error()
    cls: Any = STORES[store].config
    with pytest.raises(InvalidConfiguration, match=f"{name}: ") as caught:
        cls.from_env({name: url})
    assert SECRET not in str(caught.value)


def test_an_error_about_another_field_does_not_blame_the_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JTS_MONGO_URL", "mongodb://h/x")
    with pytest.raises(InvalidConfiguration, match="on: retry_max_delay"):
        StorageSettings(mongo={"retry_base_delay": 3.0})


def test_the_database_that_the_query_of_a_uri_names_is_used() -> None:
    settings = StorageSettings(mongo_url=SecretStr("mongodb://h/?database=x"))
    assert settings.mongo().database == "x"
    assert settings.model_copy(update={"mongo_database": "y"}).mongo().database == "y"


def test_a_copy_has_no_names_of_its_own() -> None:
    copied = StorageSettings().model_copy(update={"clickhouse_url": SecretStr("clickhouse://h")})
    assert copied.clickhouse().host == "h"
    with pytest.raises(InvalidConfiguration, match="no setting 'clickhouse'"):
        copied.model_copy(update={"clickhouse": {"pool_size": 2}})


def test_a_host_alone_names_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, JTS_CLICKHOUSE_HOST="::1", JTS_CLICKHOUSE_PASSWORD=SECRET)
    settings = StorageSettings()
    assert settings.clickhouse_url is not None  # so that opening does not migrate it unasked
    assert settings.clickhouse().hosts == ("[::1]:9000",)
    assert settings.clickhouse().password == SECRET


@pytest.mark.parametrize(
    "keywords",
    [
        {"clickhouse": ClickHouseConfig(host="h", password=SECRET, pool_size=2)},
        {"mongo": MongoDBConfig(uri=f"mongodb://u:{SECRET}@h/x", max_pool_size=2)},
        {"database": DatabaseConfig(f"postgresql://u:{SECRET}@h/x", pool_size=2)},
        {"database": {"url": SecretStr(f"postgresql://u:{SECRET}@h/x?pool_size=2")}},
        {
            "mongo_url": SecretStr("mongodb://h"),
            "mongo": {"username": "u", "password": SECRET, "max_pool_size": 2},
        },
    ],
)
def test_whole_configurations_are_taken_and_passwords_hidden(keywords: dict[str, Any]) -> None:
    (store,) = {name.removesuffix("_url") for name in keywords}
    settings = StorageSettings(**keywords)
    assert SECRET not in f"{settings} {settings!r} {settings.model_dump()}"
    assert SECRET not in settings.model_dump_json()
    again = StorageSettings(**settings.model_dump())
    assert again == settings
    for each in (settings, again):
        found = config(each, store)
        assert getattr(found, "max_pool_size" if store == "mongo" else "pool_size") == 2
        if isinstance(keywords[store], STORES[store].config):
            assert found == keywords[store]
    hidden = config(again, store)
    kept = [getattr(hidden, name, None) for name in ("uri", "url", "password")]
    assert any(SECRET in plain(each) for each in kept if isinstance(each, Secret))


def test_the_health_timeout_of_all_stores_yields_to_that_of_one() -> None:
    settings = StorageSettings(
        health_timeout=3,
        clickhouse={"health_timeout": 1.0},
        database_url=SecretStr("postgresql://h/x?health_timeout=2"),
    )
    assert settings.clickhouse().health_timeout == 1
    assert settings.database().health_timeout == 3
    assert settings.mongo("mongodb://h").health_timeout == 3


@pytest.mark.parametrize("store", STORES)
def test_no_field_is_without_a_variable(store: str) -> None:
    cls = STORES[store].config
    assert {f.name.upper() for f in fields(cls)} - {"URI", "URL"} == set(names_of(cls)) - {
        "URI",
        "URL",
    }


def test_settings_of_embedded_stores_import_no_driver_of_mongodb() -> None:
    script = (
        "import sys; from jts_storage import StorageSettings; StorageSettings(data_dir='x');"
        "print('pymongo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
