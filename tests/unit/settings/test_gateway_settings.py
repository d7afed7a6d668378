"""The address of a gateway, and what is refused before anything is sent there."""

from __future__ import annotations

from typing import Any

import pytest

from jts_storage.domain.secret import plain
from jts_storage.errors import InvalidConfiguration
from jts_storage.settings.gateway import GatewayConfig, read_url


@pytest.mark.parametrize(
    ("url", "addresses", "tls", "token"),
    [
        ("grpcs://t%2Fk@a:1,b", ("a:1", "b:7420"), True, "t/k"),
        ("grpcs://a", ("a:7420",), True, None),
        ("grpc://127.0.0.1:9", ("127.0.0.1:9",), False, None),
        ("grpc://[::1]", ("[::1]:7420",), False, None),
        ("grpc+unix:///run/j%20s.sock", ("unix:/run/j s.sock",), False, None),
    ],
)
def test_what_a_url_says(
    url: str, addresses: tuple[str, ...], tls: bool, token: str | None
) -> None:
    found = GatewayConfig(**read_url(url))
    assert tuple(each.replace("unix://", "unix:/") for each in found.addresses) == addresses
    assert found.tls is tls
    assert (found.token and plain(found.token)) == token


def test_options_of_a_url() -> None:
    found = GatewayConfig(
        **read_url("grpcs://a?timeout=3&commit_timeout=4&connect_timeout=5&max_retries=6"
                   "&compression=zstd&server_name=n")
    )  # fmt: skip
    assert (found.timeout, found.commit_timeout, found.connect_timeout) == (3, 4, 5)
    assert (found.max_retries, found.compression, found.server_name) == (6, "zstd", "n")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("grpc://far:1", "far:1 would be talked to without encryption"),
        ("grpc://127.0.0.1,far", "far:7420 would be talked to without encryption"),
        ("grpc://127.0.0.1.far", "without encryption"),
        ("grpc://0.0.0.0:1", "without encryption"),
        ("grpcs://", "names no gateway"),
        ("grpcs://a:0", "valid port"),
        ("grpcs://a:x", "valid port"),
        ("grpcs://a/path", "path behind"),
        ("grpcs://a?timout=3", "timout.*timeout"),
        ("grpc+unix://", "no socket"),
        ("http://a", "scheme"),
        (f"grpcs://a?cert_file={__file__}", "go together"),
    ],
)
def test_what_is_no_address_is_refused(url: str, says: str) -> None:
    def made() -> Any:
        return GatewayConfig(**read_url(url))

    with pytest.raises(InvalidConfiguration, match=says):
        made()
