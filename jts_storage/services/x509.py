"""Certificates and keys in files, as `cryptography` makes and reads them."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jts_storage.errors import InvalidConfiguration

_AUTHORITY: Final = "ca"
_AUTHORITY_DAYS: Final = 3_650
_CLOCKS_DIFFER: Final = timedelta(minutes=5)
_PURPOSES: Final = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}
_LABEL: Final = r"(?!-)[a-zA-Z0-9_-]{1,63}(?<!-)"
# The last label is no number: that would be an address with a mistake in it.
_HOST: Final = re.compile(rf"(\*\.)?({_LABEL}\.)*(?![0-9]+$){_LABEL}")

_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def host(name: str) -> str:
    """The name of a host or an address, as a certificate has it.

    :raises InvalidConfiguration: it is neither.
    """
    try:
        return str(ip_address(name.strip("[]")))
    except ValueError:
        pass
    if len(name) > 253 or not _HOST.fullmatch(name):
        raise InvalidConfiguration(
            f"{name!r} is neither a host nor an address",
            remedy="Give names such as gateway, storage.example.com or 10.0.0.7, without a port.",
        )
    return name.lower()


def file_of(folder: Path, name: str) -> Path:
    """Each in a folder of its own, so that a server can be given what is the server's alone."""
    return folder / ("authority" if name == _AUTHORITY else name) / f"{name}.pem"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key, as they lie in a folder."""

    name: str
    file: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def key_file(self) -> Path:
        return self.file.with_suffix(".key")

    @property
    def expires_at(self) -> datetime:
        return self.certificate.not_valid_after_utc

    @property
    def is_of_its_key(self) -> bool:
        return self.certificate.public_key() == self.key.public_key()

    @property
    def names(self) -> tuple[str, ...]:
        return _names_in(self.certificate)


@dataclass(frozen=True, slots=True)
class Authority:
    """What signs the certificates of a folder."""

    folder: Path
    issued: Issued

    def found(self, name: str) -> Issued | None:
        """A certificate of the folder; None if it, or its key, is missing or cannot be read.

        It is issued anew then, and nothing is lost: only the authority's key is worth something.
        """
        try:
            return _read(self.folder, name)
        except (OSError, ValueError, TypeError):
            return None

    def names_of(self, name: str) -> tuple[str, ...]:
        """The names in a certificate of the folder, whether or not its key is there."""
        try:
            return _names_in(_certificate(self.folder, name))
        except (OSError, ValueError):
            return ()

    def has_issued(self, issued: Issued) -> bool:
        try:
            issued.certificate.verify_directly_issued_by(self.issued.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def issue(
        self,
        name: str,
        names: tuple[str, ...],
        until: datetime,
        kept: ec.EllipticCurvePrivateKey | None = None,
    ) -> Issued:
        """Make a certificate in place of the one that is there.

        :param kept: the key that is there, and stays; if None, a new one is made.
        """
        signer = self.issued
        key = kept or ec.generate_private_key(ec.SECP256R1())
        made = (
            _begun(f"jts-storage {name}", signer.certificate.subject, key, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([_PURPOSES[name]]), critical=False)
            .add_extension(_identifier_of(signer.certificate), critical=False)
        )
        if names:
            made = made.add_extension(
                x509.SubjectAlternativeName([_general(each) for each in names]), critical=False
            )
        certificate = made.sign(signer.key, hashes.SHA256())
        issued = Issued(name, file_of(self.folder, name), certificate, key)
        _store(issued, with_key=kept is None)
        return issued

    def publish(self) -> None:
        """Put its certificate, without its key, beside each that it issues."""
        own = self.issued.file.read_bytes()
        for name in _PURPOSES:
            copy = file_of(self.folder, name).with_name(self.issued.file.name)
            if not copy.exists() or copy.read_bytes() != own:
                _write(copy, own)


def authority_of(folder: Path) -> tuple[Authority, bool]:
    """The authority of a folder, and whether it is new.

    :raises InvalidConfiguration: a half of it is missing, others can read its key, or it is none.
    """
    file = file_of(folder, _AUTHORITY)
    key_file = file.with_suffix(".key")
    if not file.exists() and not key_file.exists():
        return Authority(folder, _new_authority(folder)), True
    for missing, there in ((file, key_file), (key_file, file)):
        if not missing.exists():
            raise InvalidConfiguration(
                f"{there} is there, and {missing.name} is not",
                remedy=f"Put {missing.name} back; or remove {there.name}, too, for a new authority,"
                " whose ca.pem all clients need then.",
            )
    if key_file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InvalidConfiguration(
            f"{key_file} can be read by others, who could sign certificates",
            remedy=f"Run chmod 600 {key_file}, or remove {key_file.parent} for a new authority.",
        )
    try:
        issued = _read(folder, _AUTHORITY)
        is_fit = issued.is_of_its_key and _is_authority(issued.certificate)
    except (ValueError, TypeError) as exc:
        raise _unfit(folder, str(exc)) from exc
    if not is_fit:
        raise _unfit(folder, "the key is another's, or the certificate no authority's")
    return Authority(folder, issued), False


def _unfit(folder: Path, why: str) -> InvalidConfiguration:
    return InvalidConfiguration(
        f"ca.pem and ca.key in {file_of(folder, _AUTHORITY).parent} are no authority: {why}",
        remedy="Put those of the authority there, or remove both for a new one.",
    )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return found.value.ca


def _new_authority(folder: Path) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own: what an earlier authority of that name signed is not taken for its work.
    subject = f"jts-storage development {os.urandom(4).hex()}"
    until = datetime.now(UTC) + timedelta(days=_AUTHORITY_DAYS)
    made = (
        _begun(subject, None, key, until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .sign(key, hashes.SHA256())
    )
    issued = Issued(_AUTHORITY, file_of(folder, _AUTHORITY), made, key)
    _store(issued)
    return issued


def _begun(
    subject: str, issuer: x509.Name | None, key: ec.EllipticCurvePrivateKey, until: datetime
) -> x509.CertificateBuilder:
    """:param issuer: None signs itself."""
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(issuer or named)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _CLOCKS_DIFFER)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*allowed: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{each: each in allowed for each in _USAGES})


def _identifier_of(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    found = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names_in(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(each.value) for each in found.value)


def _certificate(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file_of(folder, name).read_bytes())


def _read(folder: Path, name: str) -> Issued:
    """
    :raises OSError: a file is missing or must not be read.
    :raises ValueError: a file is no certificate, or no key of the kind that is made here.
    """
    file, certificate = file_of(folder, name), _certificate(folder, name)
    key = serialization.load_pem_private_key(file.with_suffix(".key").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{name}.key is no key of an elliptic curve")
    return Issued(name, file, certificate, key)


def _store(issued: Issued, *, with_key: bool = True) -> None:
    """The key first: one without its certificate is found out and made anew."""
    pem, format = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    if with_key:
        key = issued.key.private_bytes(pem, format, serialization.NoEncryption())
        _write(issued.key_file, key)
    else:
        issued.key_file.chmod(0o600)
    _write(issued.file, issued.certificate.public_bytes(pem))


def _write(file: Path, data: bytes) -> None:
    """Whoever reads it meanwhile has what was there or what is, never a half."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    draft = file.with_name(f"{file.name}.new")
    draft.unlink(missing_ok=True)
    opened = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(opened, "wb") as writing:
        if os.geteuid() == 0:  # root may have given the folder to who reads it, who is to read on
            owner = file.parent.stat()
            os.fchown(opened, owner.st_uid, owner.st_gid)
        writing.write(data)
        writing.flush()
        os.fsync(writing.fileno())
    draft.replace(file)
