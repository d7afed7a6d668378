"""Certificates for development: made, kept, renewed and refused."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from jts_storage.cli.main import app
from jts_storage.errors import InvalidConfiguration
from jts_storage.services import certs
from jts_storage.services.certs import Certificate, make_certificates

FILES = {
    *("authority/ca.pem", "authority/ca.key"),
    *("server/ca.pem", "server/server.pem", "server/server.key"),
    *("client/ca.pem", "client/client.pem", "client/client.key"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "private" / "certificates"


def states(found: list[Certificate]) -> dict[str, str]:
    return {each.name: each.state for each in found}


PARTS = ("authority", "server", "client")


def modes(paths: Iterable[Path]) -> set[int]:
    return {each.stat().st_mode & 0o777 for each in paths}


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_a_folder_is_filled_for_its_owner_alone(folder: Path) -> None:
    found = make_certificates(folder, ["gateway", "10.0.0.7", "Storage.Example.com"])
    assert states(found) == {"ca": "made", "server": "made", "client": "made"}
    files = {each for each in folder.rglob("*") if each.is_file()}
    assert {str(each.relative_to(folder)) for each in files} == FILES | {".lock"}
    assert modes(files) == {0o600}
    assert modes({folder.parent, folder, *(each.parent for each in files)}) == {0o700}
    assert len({(folder / part / "ca.pem").read_bytes() for part in PARTS}) == 1
    server = found[1]
    assert server.names == (
        *("localhost", "127.0.0.1", "::1"),
        *("gateway", "10.0.0.7", "storage.example.com"),
    )
    assert abs(server.expires_at - datetime.now(UTC) - timedelta(days=90)) < timedelta(hours=1)


def test_an_umask_that_lets_all_read_changes_nothing(folder: Path) -> None:
    script = (
        "import os, sys, pathlib; os.umask(0)\n"
        "from jts_storage.services.certs import make_certificates\n"
        "make_certificates(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True, timeout=60)
    assert modes(each for each in folder.rglob("*") if each.is_file()) == {0o600}


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """:raises ssl.SSLError: one of them does not trust the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    for end in ends:
        end.do_handshake()


def context(folder: Path, name: str, *, server: bool) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(folder / name / "ca.pem")
    made.load_cert_chain(folder / name / f"{name}.pem", folder / name / f"{name}.key")
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    return made


def test_both_ends_trust_each_other_for_what_they_are(folder: Path) -> None:
    make_certificates(folder, ["gateway"])
    server = context(folder, "server", server=True)
    for name in ("localhost", "127.0.0.1", "::1", "gateway"):
        handshake(server, context(folder, "client", server=False), name)
    with pytest.raises(ssl.SSLCertVerificationError, match="match"):
        handshake(server, context(folder, "client", server=False), "elsewhere")
    trusting = context(folder, "client", server=False)
    trusting.check_hostname = False
    with pytest.raises(ssl.SSLError, match="purpose"):  # a client's certificate makes no server
        handshake(context(folder, "client", server=True), trusting, "localhost")
    with pytest.raises(ssl.SSLError, match="purpose"):  # nor a server's a client
        handshake(server, context(folder, "server", server=False), "localhost")


def test_another_folder_is_not_trusted(folder: Path, tmp_path: Path) -> None:
    make_certificates(folder)
    make_certificates(tmp_path / "other")
    server = context(folder, "server", server=True)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, context(tmp_path / "other", "client", server=False), "localhost")


def test_what_is_well_is_kept_byte_by_byte(folder: Path) -> None:
    make_certificates(folder, ["gateway"])
    before = content(folder)
    again = make_certificates(folder)
    assert set(states(again).values()) == {"kept"}
    assert again[1].names[-1] == "gateway"
    assert set(states(make_certificates(folder, ["gateway"])).values()) == {"kept"}
    assert content(folder) == before


def test_a_renewal_keeps_the_authority_and_the_names(folder: Path) -> None:
    make_certificates(folder, ["gateway"])
    before = content(folder)
    found = make_certificates(folder, renew=True)
    assert states(found) == {"ca": "kept", "server": "renewed", "client": "renewed"}
    assert found[1].names[-1] == "gateway"
    after = content(folder)
    assert {name for name in FILES if after[name] != before[name]} == {
        *("server/server.pem", "client/client.pem")
    }
    handshake(
        context(folder, "server", server=True), context(folder, "client", server=False), "gateway"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: only root can give files to another")
def test_what_root_gave_to_another_he_can_read_after_a_renewal(folder: Path) -> None:
    """The gateway and nginx in containers are never root."""
    make_certificates(folder)
    for each in (folder, *folder.rglob("*")):
        os.chown(each, 1000, 1000)
    make_certificates(folder, renew=True)
    owners = {(each.stat().st_uid, each.stat().st_gid) for each in folder.rglob("*")}
    assert owners == {(1000, 1000)}


def test_what_ends_soon_or_has_other_names_is_renewed(folder: Path) -> None:
    make_certificates(folder, days=40)
    assert set(states(make_certificates(folder, within=39)).values()) == {"kept"}
    assert states(make_certificates(folder, within=41)) == {
        "ca": "kept",
        "server": "renewed",
        "client": "renewed",
    }
    found = make_certificates(folder, ["gateway"])
    assert states(found) == {"ca": "kept", "server": "renewed", "client": "kept"}
    assert found[1].why == "its names have changed"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder, other: (folder / "server/server.key").unlink(),
        lambda folder, other: (folder / "server/server.pem").write_text("no certificate"),
        lambda folder, other: (folder / "server/server.key").write_bytes(
            (other / "authority/ca.key").read_bytes()
        ),
        lambda folder, other: (folder / "server/server.pem").write_bytes(
            (other / "server/server.pem").read_bytes()
        ),
        lambda folder, other: [
            (folder / name).write_bytes((other / name).read_bytes())
            for name in ("server/server.pem", "server/server.key")
        ],
    ],
    ids=["no key", "garbage", "another key", "another certificate", "of another authority"],
)
def test_what_is_of_no_use_is_made_anew(folder: Path, tmp_path: Path, spoil: object) -> None:
    make_certificates(folder)
    make_certificates(tmp_path / "other")
    assert callable(spoil)
    spoil(folder, tmp_path / "other")
    found = make_certificates(folder)
    assert states(found)["ca"] == "kept"
    assert states(found)["server"] in ("made", "renewed")
    handshake(
        context(folder, "server", server=True), context(folder, "client", server=False), "localhost"
    )


@pytest.mark.parametrize("name", ["", "a:b", "-a", "a b", "10.0.0.256", "http://a", "a" * 64, "a."])
def test_names_that_are_none_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(InvalidConfiguration, match="neither a host nor an address"):
        make_certificates(folder, [name])
    assert not folder.exists()


def test_an_authority_that_is_not_fit_is_refused_and_nothing_is_written(
    folder: Path, tmp_path: Path
) -> None:
    make_certificates(folder)
    make_certificates(tmp_path / "other")
    key, certificate = (
        (folder / "authority/ca.key").read_bytes(),
        (folder / "authority/ca.pem").read_bytes(),
    )
    server = (folder / "server/server.pem").read_bytes()

    def refused(says: str) -> None:
        with pytest.raises(InvalidConfiguration, match=says):
            make_certificates(folder, renew=True)
        assert (folder / "server/server.pem").read_bytes() == server

    (folder / "authority/ca.key").unlink()
    refused(r"ca\.key is not.*Put ca\.key back")
    (folder / "authority/ca.key").write_bytes((tmp_path / "other/authority/ca.key").read_bytes())
    (folder / "authority/ca.key").chmod(0o600)
    refused("no authority: the key is another's")
    (folder / "authority/ca.key").write_bytes(b"no key")
    refused("no authority: ")
    (folder / "authority/ca.key").write_bytes((folder / "server/server.key").read_bytes())
    (folder / "authority/ca.pem").write_bytes(server)
    refused("or the certificate no authority's")
    (folder / "authority/ca.pem").write_bytes(certificate)
    (folder / "authority/ca.key").write_bytes(key)
    (folder / "authority/ca.key").chmod(0o640)
    refused(r"can be read by others.*chmod 600")
    (folder / "authority/ca.key").chmod(0o600)
    folder.chmod(0o770)
    refused(r"others can write to .*chmod 700")
    folder.chmod(0o700)
    assert states(make_certificates(folder))["server"] == "kept"


@pytest.mark.parametrize("name", ["server", "client"])
def test_whoever_reads_while_it_is_renewed_has_a_pair(folder: Path, name: str) -> None:
    """In one order or the other, as nginx and gRPC do: a pair that does not match stops both."""
    make_certificates(folder)
    pem, key = folder / name / f"{name}.pem", folder / name / f"{name}.key"
    kept, seen, failed = key.read_bytes(), {pem.read_bytes()}, []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            try:
                ssl.create_default_context().load_cert_chain(pem, key)
            except (ssl.SSLError, OSError) as exc:
                failed.append(exc)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for each in readers:
        each.start()
    for _ in range(20):
        make_certificates(folder, renew=True)
        seen.add(pem.read_bytes())
    is_over.set()
    for each in readers:
        each.join()
    assert len(seen) == 21
    assert key.read_bytes() == kept
    assert not failed


def test_a_key_that_was_removed_is_made_anew(folder: Path) -> None:
    """As somebody does whose key others have seen; the names stay."""
    named = make_certificates(folder, ["gateway", "h.example.com"])[1].names
    before = content(folder)
    (folder / "server/server.key").unlink()
    found = make_certificates(folder)
    assert states(found)["server"] == "made"
    assert set(found[1].names) == set(named) > {"gateway", "h.example.com"}
    after = content(folder)
    changed = {name for name in FILES if before[name] != after[name]}
    assert changed == {"server/server.key", "server/server.pem"}


def test_an_authority_that_ends_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jts_storage.services.x509._AUTHORITY_DAYS", 20)
    found = make_certificates(folder)
    assert found[1].expires_at <= found[0].expires_at  # no certificate outlives it
    (folder / "authority/ca.pem").unlink()
    (folder / "authority/ca.key").unlink()
    monkeypatch.setattr("jts_storage.services.x509._AUTHORITY_DAYS", 1)
    with pytest.raises(InvalidConfiguration, match=r"the authority .* ends on .*give the new"):
        make_certificates(folder)


def test_two_at_once_make_one_authority(folder: Path) -> None:
    found: list[list[Certificate]] = []
    threads = [
        threading.Thread(target=lambda: found.append(make_certificates(folder))) for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(states(each)["ca"] for each in found) == ["kept", "kept", "kept", "made"]


def test_a_folder_that_another_process_has_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certs, "_LOCK_SECONDS", 0.05)
    make_certificates(folder)
    with FileLock(folder / ".lock"), pytest.raises(InvalidConfiguration, match="another process"):
        make_certificates(folder)


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InvalidConfiguration, match="is no folder"):
            make_certificates(folder)


def test_without_cryptography_the_line_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certs, "find_spec", lambda name: None)
    with pytest.raises(InvalidConfiguration, match=r"pip install 'jts-storage\[backup\]'"):
        make_certificates(folder)


def test_the_command(folder: Path) -> None:
    run = CliRunner()
    arguments = ["services", "certs", "--folder", str(folder)]
    done = run.invoke(app, [*arguments, "--name", "gateway", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert [each["state"] for each in told] == ["made", "made", "made"]
    assert told[1]["names"][-1] == "gateway"
    done = run.invoke(app, [*arguments, "--renew"])
    assert done.exit_code == 0, done.output
    assert "renewed: it was asked for" in done.output
    for wrong, says in (
        (["--name", "a:b"], "neither a host"),
        (["--days", "10"], "renewed 30 days before they end"),
    ):
        done = run.invoke(app, [*arguments, *wrong])
        assert done.exit_code == 2
        assert says in done.output


def test_the_command_has_the_defaults_of_the_module() -> None:
    from jts_storage.cli import services_certs

    assert (services_certs._DAYS, services_certs._RENEW_WITHIN) == (certs.DAYS, certs.RENEW_WITHIN)
