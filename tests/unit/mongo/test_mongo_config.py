"""Configurations are checked when they are made, and keep their secrets."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from jts_storage.errors import InvalidConfiguration
from jts_storage.mongo.config import MongoDBConfig
from jts_storage.mongo.manager import MongoDBManager
from jts_storage.settings.mongo import _DRIVER_OPTIONS, _OTHER_OPTIONS

SECRET = "s3cr3t-Wort"


def test_defaults_name_the_local_server() -> None:
    config = MongoDBConfig()
    assert config.hosts == ("localhost:27017",)
    assert config.database == "jts"
    assert config.client_options["w"] == "majority"
    assert config.client_options["readConcernLevel"] == "majority"


@pytest.mark.parametrize(
    ("uri", "hosts", "database"),
    [
        ("mongodb://a,b:2,[::1]:3/x?replicaSet=rs", ("a:27017", "b:2", "[::1]:3"), "x"),
        ("mongodb://u:p%40@mongos1:1,mongos2:2", ("mongos1:1", "mongos2:2"), "jts"),
        ("mongodb+srv://u:p@cluster.example.com/db?tls=true", ("cluster.example.com",), "db"),
    ],
)
def test_replica_sets_shards_and_srv(uri: str, hosts: tuple[str, ...], database: str) -> None:
    config = MongoDBConfig(uri=uri)
    assert (config.hosts, config.database) == (hosts, database)
    assert MongoDBConfig(uri=uri, database="other").database == "other"


def test_a_field_beats_the_uri_and_the_uri_beats_the_default() -> None:
    uri = "mongodb://h/?maxpoolsize=5&w=twoSites&socketTimeoutMS=7&readConcernLevel=local"
    options = MongoDBConfig(uri=uri, socket_timeout=2.5).client_options
    assert options["socketTimeoutMS"] == 2500
    assert not {"maxPoolSize", "w", "readConcernLevel"} & set(options)
    assert options["connectTimeoutMS"] == 5000


def test_fields_are_options_of_the_uri_and_yield_to_keywords() -> None:
    uri = "mongodb://h/x?max_retries=5;maxPoolSize=7&health_timeout=1.5&tls=true"
    config = MongoDBConfig(uri=uri)
    assert (config.max_retries, config.health_timeout) == (5, 1.5)
    assert config.uri == "mongodb://h/x?maxPoolSize=7&tls=true"
    assert MongoDBConfig(uri=uri, max_retries=3).max_retries == 3
    with pytest.raises(InvalidConfiguration, match="max_retries in the url is 'many'"):
        MongoDBConfig(uri="mongodb://h/?max_retries=many")


def test_the_database_is_an_option_or_the_path_but_not_two_of_them() -> None:
    assert MongoDBConfig(uri="mongodb://h/?database=x").database == "x"
    assert MongoDBConfig(uri="mongodb://h/x?database=x").database == "x"
    with pytest.raises(InvalidConfiguration, match=r"'y' as its path and 'x'.* write mongodb://"):
        MongoDBConfig(uri="mongodb://h/y?database=x")


@pytest.mark.parametrize("scheme", ["mongodb", "mongodb+srv"])
@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("retryWritess=true", "unknown option 'retryWritess'. Did you mean retryWrites"),
        ("maxPoolSizee=5", "unknown option 'maxPoolSizee'. Did you mean maxPoolSize"),
        ("max_pool_siz=5", "unknown option 'max_pool_siz'. Did you mean max_pool_size"),
        ("qqqqq=5", "unknown option 'qqqqq'. Options are"),
        ("tls=1", "tls in the uri cannot be read: .* must be 'true' or 'false'"),
        ("TLS=yes", "TLS in the uri cannot be read: .* must be 'true' or 'false'"),
        ("maxPoolSize=many", "maxPoolSize in the uri cannot be read: .* an integer"),
        ("tlsCAFile=/nowhere/ca.pem&tls=true", "tlsCAFile in the uri cannot be read: .*nowhere"),
    ],
)
def test_an_option_of_the_uri_that_is_wrong_is_named(scheme: str, option: str, why: str) -> None:
    with pytest.raises(InvalidConfiguration, match=why):
        MongoDBConfig(uri=f"{scheme}://h.example.com/?{option}")


@pytest.mark.parametrize(
    "options",
    [
        f"tlsCertificateKeyFilePassword=a&{SECRET}=b",
        f"authMechanismProperties=AWS_SESSION_TOKEN:{SECRET}&x=1",
        f"authMechanism=MONGODB-AWS&authMechanismProperties=TOKEN:{SECRET}",
        f"password={SECRET}&maxPoolSize=many",
        f"password=a&{SECRET}",
    ],
)
def test_no_error_about_an_option_shows_a_secret(options: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        MongoDBConfig(uri=f"mongodb://u@h/?{options}")
    assert SECRET not in str(caught.value)


def test_the_options_that_are_suggested_are_the_drivers() -> None:
    from pymongo.common import URI_OPTIONS_VALIDATOR_MAP

    names = (*_OTHER_OPTIONS, *(option for option, _ in _DRIVER_OPTIONS.values()))
    not_in_a_uri = {"username", "password"}
    assert {name.lower() for name in names} - not_in_a_uri <= set(URI_OPTIONS_VALIDATOR_MAP)


@pytest.mark.parametrize("name", ["admin", "local", "config"])
def test_the_databases_of_mongodb_itself_are_no_place_for_documents(name: str) -> None:
    with pytest.raises(InvalidConfiguration, match=f"authSource={name}"):
        MongoDBConfig(uri=f"mongodb://h/{name}")
    assert MongoDBConfig(uri=f"mongodb://h/{name}", database="jts").database == "jts"


@pytest.mark.parametrize("option", ["w=0", "w=1", "W=2", "journal=false", "journal=true;w=0"])
@pytest.mark.parametrize("scheme", ["mongodb", "mongodb+srv"])
def test_writes_that_can_be_lost_after_their_acknowledgement_are_refused(
    scheme: str, option: str
) -> None:
    with pytest.raises(InvalidConfiguration, match="acknowledged"):
        MongoDBConfig(uri=f"{scheme}://h.example.com/?{option}")


@pytest.mark.parametrize("option", ["w=majority", "w=twoSites", "journal=true"])
def test_writes_that_are_safe_are_left_to_the_uri(option: str) -> None:
    options = MongoDBConfig(uri=f"mongodb://h/?{option}").client_options
    client = AsyncMongoClient(f"mongodb://h/?{option}", connect=False, **options)
    assert isinstance(client.write_concern.document["w"], str)
    assert client.write_concern.document["j"] is True


@pytest.mark.parametrize(
    "fields",
    [
        {"uri": ""},
        {"uri": "http://h"},
        {"uri": None},
        {"uri": "mongodb://"},
        {"uri": f"mongodb://u:{SECRET}@/x"},
        {"uri": f"mongodb://u:{SECRET}/x@h:1"},
        {"uri": f"mongodb://u:{SECRET}@h:port"},
        {"uri": "mongodb://h:99999"},
        {"uri": "mongodb://h/?nonsense=%zz&maxPoolSize=many"},
        {"database": "a.b"},
        {"database": "a b"},
        {"database": "x" * 64},
        {"database": 5},
        {"max_pool_size": 0},
        {"max_pool_size": True},
        {"max_pool_size": "5"},
        {"min_pool_size": 6, "max_pool_size": 5},
        {"pool_timeout": 0},
        {"socket_timeout": float("nan")},
        {"health_timeout": -1},
        {"health_timeout": None},
        {"max_retries": -1},
        {"retry_base_delay": 3, "retry_max_delay": 2},
        {"password": SECRET},
        {"tls": "yes"},
        {"tls": True, "tls_ca_file": "/nowhere/ca.pem"},
        {"tls_ca_file": __file__},
    ],
)
def test_what_is_wrong_is_named_and_no_password_shown(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        MongoDBConfig(**fields)
    shown = "".join(traceback.format_exception(caught.value))
    # The source line of this test is no part of the message.
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    assert caught.value.__cause__ is None, shown


def test_tls_files_need_tls_in_field_or_uri(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.write_text("")
    for given in ({"tls": True}, {"uri": "mongodb://h/?tls=true"}, {"uri": "mongodb+srv://h.x.y"}):
        options = MongoDBConfig(**given, tls_ca_file=str(pem)).client_options
        assert options["tlsCAFile"] == str(pem)


def test_secrets_are_shown_nowhere() -> None:
    config = MongoDBConfig(
        uri=f"mongodb://user:{SECRET}@h:1/?tls=true&tlsCertificateKeyFilePassword={SECRET}",
        username="u",
        password=SECRET,
    )
    for shown in (repr(config), str(config), config.redacted, repr(MongoDBManager(config))):
        assert SECRET not in shown
    assert "h:1" in config.redacted


def test_from_env_reads_every_field() -> None:
    config = MongoDBConfig.from_env(
        {
            "JTS_MONGO_URI": "mongodb://h",
            "JTS_MONGO_DATABASE": "d",
            "JTS_MONGO_MAX_POOL_SIZE": "7",
            "JTS_MONGO_SOCKET_TIMEOUT": "1.5",
            "JTS_MONGO_TLS": "true",
            "JTS_MONGO_PASSWORD": "",
            "OTHER_URI": "mongodb://other",
        }
    )
    expected = MongoDBConfig(
        uri="mongodb://h", database="d", max_pool_size=7, socket_timeout=1.5, tls=True
    )
    assert config == expected
    assert MongoDBConfig.from_env({"X_DATABASE": "y"}, prefix="X_").database == "y"


@pytest.mark.parametrize("names", [("URI",), ("URL",), ("URI", "URL")])
def test_from_env_takes_the_address_by_either_name(names: tuple[str, ...]) -> None:
    config = MongoDBConfig.from_env({f"JTS_MONGO_{name}": "mongodb://h:7" for name in names})
    assert config == MongoDBConfig(uri="mongodb://h:7")


def test_from_env_refuses_two_addresses_and_shows_neither() -> None:
    environ = {"JTS_MONGO_URI": f"mongodb://u:{SECRET}@a", "JTS_MONGO_URL": "mongodb://b"}
    with pytest.raises(InvalidConfiguration, match="JTS_MONGO_URI and JTS_MONGO_URL") as caught:
        MongoDBConfig.from_env(environ)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["MAX_POOL_SIZE", "SOCKET_TIMEOUT", "TLS"])
def test_from_env_names_the_variable(name: str) -> None:
    with pytest.raises(InvalidConfiguration, match=f"JTS_MONGO_{name}"):
        MongoDBConfig.from_env({f"JTS_MONGO_{name}": "many"})


def test_a_manager_takes_fields_as_keywords() -> None:
    manager = MongoDBManager(uri="mongodb://h:5", database="d", max_pool_size=3)
    assert manager.config == MongoDBConfig(uri="mongodb://h:5", database="d", max_pool_size=3)
    assert MongoDBManager(manager.config, max_retries=0).config.max_retries == 0
    with pytest.raises(InvalidConfiguration, match="colour"):
        MongoDBManager(colour="red")


def test_the_manager_takes_a_uri_as_it_takes_a_configuration() -> None:
    manager = MongoDBManager("mongodb://h:5/d", max_pool_size=3)
    assert manager.hosts == ("h:5",)
    assert (manager.config.database, manager.config.max_pool_size) == ("d", 3)
    assert MongoDBManager("mongodb://h:5", "other").config.database == "other"
    with pytest.raises(InvalidConfiguration, match="two addresses"):
        MongoDBManager("mongodb://h", uri="mongodb://i")


@pytest.mark.parametrize("given", [5, b"mongodb://h", {"uri": "mongodb://h"}])
def test_what_is_no_configuration_is_refused_in_words(given: Any) -> None:
    with pytest.raises(InvalidConfiguration, match=r"Give it a URI or a MongoDBConfig"):
        MongoDBManager(given)


def test_properties_of_a_mechanism_are_shown_to_nobody() -> None:
    options = "authMechanism=MONGODB-AWS&authMechanismProperties=AWS_SESSION_TOKEN:hush"
    config = MongoDBConfig(f"mongodb://user:word@host/jts?{options}")
    for shown in (repr(config), str(config), config.redacted, repr(config.uri)):
        assert "hush" not in shown
        assert "word" not in shown
