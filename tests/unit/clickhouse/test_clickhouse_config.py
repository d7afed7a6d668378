"""The configuration says what is wrong with it, and never shows a password."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import InvalidConfiguration


def test_defaults_are_those_the_services_rely_on() -> None:
    config = ClickHouseConfig()
    assert (config.host, config.port, config.database) == ("localhost", 9000, "jts")
    assert (config.user, config.connect_timeout, config.max_retries) == ("default", 10, 3)


def test_the_first_fields_keep_their_order() -> None:
    parameters = inspect.signature(ClickHouseConfig).parameters.values()
    assert [(each.name, each.default) for each in parameters][:7] == [
        ("host", "localhost"),
        ("port", 9000),
        ("database", "jts"),
        ("user", "default"),
        ("password", ""),
        ("connect_timeout", 10),
        ("max_retries", 3),
    ]


def test_a_manager_takes_a_configuration_a_url_or_fields() -> None:
    by_position = ClickHouseManager("ch-1", 9001, "prices", "reader", "s3cret", 5, 2)
    expected = ClickHouseConfig(
        host="ch-1",
        port=9001,
        database="prices",
        user="reader",
        password="s3cret",
        connect_timeout=5,
        max_retries=2,
    )
    assert by_position.config == expected
    assert ClickHouseManager(expected).config == expected
    assert ClickHouseManager(expected, pool_size=2).config.pool_size == 2
    assert ClickHouseManager("localhost").config == ClickHouseManager().config
    assert ClickHouseManager("clickhouse://h:9/x", pool_size=2).config == ClickHouseConfig(
        "h", 9, "x", pool_size=2
    )


@pytest.mark.parametrize(
    ("given", "keywords", "told"),
    [
        ((3,), {}, "host is 3: it should be a valid string"),
        (("h", "9000"), {}, "port is '9000': it should be a valid integer"),
        (("h",), {"host": "i"}, "host is given twice"),
        ((ClickHouseConfig(), "jts"), {}, "1 values for 0 fields"),
        ((), {"pool_syze": 3}, "no setting 'pool_syze'. Did you mean pool_size?"),
        ((*range(40),), {}, "40 values for"),
    ],
)
def test_what_a_manager_cannot_take_is_told_in_words(
    given: tuple[Any, ...], keywords: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidConfiguration, match=re.escape(told)):
        ClickHouseManager(*given, **keywords)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("host", ""),
        ("host", "a b"),
        ("host", "h1,h2"),
        ("port", 0),
        ("port", 65536),
        ("port", "9000"),
        ("port", True),
        ("database", ""),
        ("user", ""),
        ("alt_hosts", ("h:x",)),
        ("alt_hosts", "h1"),
        ("compression", "zip"),
        ("connect_timeout", 0),
        ("connect_timeout", float("nan")),
        ("send_receive_timeout", -1),
        ("max_retries", -1),
        ("pool_size", 0),
        ("max_overflow", -1),
        ("pool_timeout", float("inf")),
        ("health_timeout", 0),
        ("secure", "yes"),
        ("settings", ["max_threads"]),
        ("embedded_path", ""),
        ("cluster", ""),
    ],
)
def test_a_bad_value_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        ClickHouseConfig(**{field: value})
    assert str(caught.value).startswith(f"Invalid configuration: {field} ")
    assert repr(value) in str(caught.value)


def test_tls_files_must_exist_and_belong_together(tmp_path: Path) -> None:
    certificate = tmp_path / "client.pem"
    certificate.touch()
    with pytest.raises(InvalidConfiguration, match="needs both"):
        ClickHouseConfig(secure=True, cert_file=str(certificate))
    with pytest.raises(InvalidConfiguration, match="secure=True"):
        ClickHouseConfig(ca_file=str(certificate))
    with pytest.raises(InvalidConfiguration, match="readable file"):
        ClickHouseConfig(secure=True, ca_file=str(tmp_path / "absent"))


def test_a_password_is_never_shown() -> None:
    config = ClickHouseConfig(password="s3cret/@:")
    assert "s3cret" not in repr(config)
    assert "s3cret" not in config.redacted
    assert "s3cret" not in str(config.url)
    with pytest.raises(InvalidConfiguration) as caught:
        ClickHouseConfig(password=b"s3cret")  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)


def test_url_with_several_hosts() -> None:
    config = ClickHouseConfig.from_url(
        "clickhouse://us%40er:p%2Fw@h1:9001,h2,[::1]:9/db?secure=1&setting.max_threads=2"
    )
    assert config.hosts == ("h1:9001", "h2:9001", "[::1]:9")
    assert (config.user, config.password, config.database) == ("us@er", "p/w", "db")
    assert config.secure
    assert dict(config.settings) == {"max_threads": "2"}


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("clickhouse+embedded:////srv/jts", "/srv/jts"),
        ("clickhouse+embedded:///data/jts", "data/jts"),
        ("clickhouse+embedded:///:memory:", ":memory:"),
        ("clickhouse+embedded:///a%20b", "a b"),
    ],
)
def test_url_of_the_embedded_engine(url: str, path: str) -> None:
    assert ClickHouseConfig.from_url(url).embedded_path == path


@pytest.mark.parametrize(
    "url",
    [
        "mysql://h/db",
        "clickhouse://h:x/db",
        "clickhouse://h/db?pool=9",
        "clickhouse://h/db?pool_size=many",
        "clickhouse+embedded://host/path",
    ],
)
def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfiguration):
        ClickHouseConfig.from_url(url)


_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@given(
    user=_text,
    password=st.text(st.characters(codec="utf-8"), max_size=20),
    database=_text,
    port=st.integers(1, 65535),
    pool_size=st.integers(1, 100),
    secure=st.booleans(),
    embedded_path=st.none() | _text,
    alt_hosts=st.lists(st.sampled_from(["h2", "h3:9001", "10.0.0.1"]), max_size=3).map(tuple),
)
def test_the_url_says_everything(**values: Any) -> None:
    config = ClickHouseConfig(**values, compression=None, settings={"max_threads": "2"})
    back = ClickHouseConfig.from_url(config.url)
    if config.is_embedded:
        assert (back.embedded_path, back.database) == (config.embedded_path, config.database)
    else:
        assert back == config


def test_the_environment() -> None:
    environ = {
        "JTS_CLICKHOUSE_URL": "clickhouse://u:p@h1:9001/db?pool_size=2",
        "JTS_CLICKHOUSE_POOL_SIZE": "4",
        "JTS_CLICKHOUSE_SECURE": "on",
        "JTS_CLICKHOUSE_COMPRESSION": "none",
        "JTS_CLICKHOUSE_ALT_HOSTS": "h2, h3:9",
        "JTS_CLICKHOUSE_SETTINGS": "max_threads=1&readonly=2&final=true&log_comment=007&x=-1.5",
        "UNRELATED": "x",
    }
    config = ClickHouseConfig.from_env(environ)
    assert (config.host, config.pool_size, config.secure) == ("h1", 4, True)
    assert config.compression is None
    assert config.alt_hosts == ("h2", "h3:9")
    assert dict(config.settings) == {
        "max_threads": 1,
        "readonly": 2,
        "final": True,
        "log_comment": "007",
        "x": "-1.5",
    }
    assert ClickHouseConfig.from_env({}) == ClickHouseConfig()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("max_threads", "should be written as name=value&name=value"),
        ('{"max_threads": 2}', "should be written as name=value"),
        ("=2", "should be written as name=value"),
        ("wait_for_async_insert=0", "Leave wait_for_async_insert out"),
        ("wait_for_async_insert=false", "Leave wait_for_async_insert out"),
    ],
)
def test_a_variable_of_settings_that_cannot_be_read_is_named(text: str, why: str) -> None:
    with pytest.raises(InvalidConfiguration, match=f": JTS_CLICKHOUSE_SETTINGS.*{why}"):
        ClickHouseConfig.from_env({"JTS_CLICKHOUSE_SETTINGS": text})


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("settings=max_threads%3D2", r"'settings', and each.*Write setting\.max_threads=2&"),
        ("setting.=2", r"Write setting\.max_threads=2&"),
        ("max_threads=2", r"'max_threads'.* is written setting\.max_threads="),
        ("pool_siz=2", "Did you mean pool_size"),
    ],
)
def test_an_unknown_option_of_the_url_says_what_to_write(option: str, why: str) -> None:
    with pytest.raises(InvalidConfiguration, match=why) as caught:
        ClickHouseConfig.from_url(f"clickhouse://h/?{option}")
    assert "Did you mean settings" not in str(caught.value)


def test_a_password_that_holds_an_ampersand_is_not_shown() -> None:
    with pytest.raises(InvalidConfiguration, match="Percent-encode") as caught:
        ClickHouseConfig.from_url("clickhouse://h/?password=a&s3cr3t")
    assert "s3cr3t" not in str(caught.value)


def test_a_url_that_cannot_be_read_is_named_by_its_variable() -> None:
    with pytest.raises(InvalidConfiguration, match="JTS_CLICKHOUSE_URL: url has the scheme"):
        ClickHouseConfig.from_env({"JTS_CLICKHOUSE_URL": "http://h"})


def test_a_bad_variable_is_named() -> None:
    with pytest.raises(InvalidConfiguration, match="JTS_CLICKHOUSE_PORT is 'x'"):
        ClickHouseConfig.from_env({"JTS_CLICKHOUSE_PORT": "x"})


def test_it_cannot_be_changed_behind_its_back() -> None:
    settings = {"max_threads": 1}
    config = ClickHouseConfig(settings=settings)
    settings["max_threads"] = 2
    assert config.settings["max_threads"] == 1
    with pytest.raises(TypeError):
        config.settings["max_threads"] = 3  # type: ignore[index]
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("values", "compression"),
    [
        ({"host": "localhost"}, None),
        ({"host": "127.0.0.7", "alt_hosts": ("[::1]:9001", "localhost:9002")}, None),
        ({"host": "127.0.0.1", "alt_hosts": ("ch-2:9000",)}, "lz4"),
        ({"host": "10.0.0.7"}, "lz4"),
        ({"host": "localhost", "compression": "lz4"}, "lz4"),
        ({"host": "ch-1", "compression": None}, None),
    ],
)
def test_blocks_are_compressed_where_they_leave_the_machine(
    values: dict[str, Any], compression: str | None
) -> None:
    assert ClickHouseConfig(**values).wire_compression == compression
