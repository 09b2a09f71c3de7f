"""Certificates for a launcher and its devices, and the authority of their own that signs them.

A folder has ``authority.pem``, which stays where it is, ``launcher.pem``, and ``NAME.pem`` for each
device: its certificate, the authority's, and its key. The keys are made here and copied; a device
needs no more than Python's ``ssl``. Needs the package ``cryptography``.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from nptp_opt.errors import InputError
from nptp_opt.runtime.transport.handshake import ORGANISATIONS, THE_LAUNCHER, Party, device

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, CertificateBuilder, KeyUsage, Name

AUTHORITY = "authority"
DAYS = 825
AUTHORITY_DAYS = 3650
"""Longer than what it signs, so that one certificate is renewed without all the others."""
MOST_DAYS = 36500
BACKDATED = timedelta(days=5 * 365)
"""Boards without a clock of their own wake up in the past, and have to talk all the same."""
LONGEST_NAME = 64
"""Letters of a certificate's common name (X.520)."""


@dataclass(frozen=True)
class Authority:
    """Who signs, with the key for it."""

    certificate: Certificate
    key: EllipticCurvePrivateKey


@dataclass(frozen=True)
class Made:
    """Files that were written, and the day on which the first of their certificates expires."""

    paths: tuple[Path, ...]
    expires: datetime


def make_certificates(folder: Path, devices: Sequence[str], days: int = DAYS) -> Made:
    """Write the files of these devices, and those of authority and launcher where there are none.

    Raises InputError, before anything is written, for a file that is there already, a name that no
    certificate can have, and where ``cryptography`` is not installed.
    """
    _require_library()
    if not 1 <= days <= MOST_DAYS:
        raise InputError(f"`days` = {days}: must be between 1 and {MOST_DAYS}")
    parties = [device(name) for name in dict.fromkeys(devices)]
    for party in parties:
        _check_name(party.name)
    if not path_of(folder, THE_LAUNCHER.name).exists():
        parties.insert(0, THE_LAUNCHER)
    for party in parties:
        _require_new(path_of(folder, party.name))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _write_all(folder, parties, days)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from None


def path_of(folder: Path, name: str) -> Path:
    """Where a device's, the launcher's or the authority's file is."""
    return folder / f"{name}.pem"


def _write_all(folder: Path, parties: Sequence[Party], days: int) -> Made:
    made = []
    if not path_of(folder, AUTHORITY).exists():
        authority = _new_authority(max(days, AUTHORITY_DAYS))
        made.append(_write(path_of(folder, AUTHORITY), "authority", [authority.certificate],
                           authority.key))  # fmt: skip
    authority = read_authority(path_of(folder, AUTHORITY))
    ends = authority.certificate.not_valid_after_utc
    for party in parties:
        certificate, key = _signed(party, authority, days)
        ends = min(ends, certificate.not_valid_after_utc)
        chain = [certificate, authority.certificate]
        made.append(_write(path_of(folder, party.name), str(party), chain, key))
    return Made(tuple(made), ends)


def _require_library() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise InputError(
            "`tls` needs the package cryptography, here and not on the devices: "
            "pip install 'nptp-opt[tls]'"
        ) from None


def _check_name(name: str) -> None:
    """Raise InputError for a name of which no file or no certificate can be named."""
    if name in (AUTHORITY, THE_LAUNCHER.name):
        raise InputError(f"device {name!r}: {name}.pem is the {name}'s: call the device otherwise")
    if not re.fullmatch(r"[^/\0\s.-][^/\0\n]*", name) or len(name) > LONGEST_NAME:
        raise InputError(
            f"device {name!r}: a certificate's file is named by it: at most {LONGEST_NAME} "
            "letters, no / among them, and none of . and - at the start"
        )


def _require_new(path: Path) -> None:
    if path.exists():
        raise InputError(
            f"{path}: is there already; a certificate is not overwritten (remove it to renew it)"
        )


def _new_authority(days: int) -> Authority:
    """Of an own name: two of them are never taken for each other."""
    key = _new_key()
    name = _subject("nptp-opt authority", f"authority {secrets.token_hex(4)}")
    builder = _builder(name, name, key, key, days, signs=True)
    return Authority(_sign(builder, key), key)


def read_authority(path: Path) -> Authority:
    """The authority of a file; raises InputError for one that cannot sign."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        text = path.read_bytes()
        key = load_pem_private_key(text, None)
        certificate = x509.load_pem_x509_certificate(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: is no authority's file: {error}") from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise InputError(f"{path}: is no authority's file: the key is of another kind")
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise InputError(f"{path}: the authority has expired: make everything in a new folder")
    return Authority(certificate, key)


def _signed(
    party: Party, authority: Authority, days: int
) -> tuple[Certificate, EllipticCurvePrivateKey]:
    key = _new_key()
    subject = _subject(ORGANISATIONS[party.role], party.name)
    issuer = authority.certificate
    ends = (issuer.not_valid_after_utc - datetime.now(UTC)).days
    builder = _builder(subject, issuer.subject, key, authority.key, min(days, ends), signs=False)
    return _sign(builder, authority.key), key


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _subject(organisation: str, name: str) -> Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _builder(
    subject: Name,
    issuer: Name,
    key: EllipticCurvePrivateKey,
    issuers_key: EllipticCurvePrivateKey,
    days: int,
    *,
    signs: bool,
) -> CertificateBuilder:
    """A certificate for ``key`` that may sign others, or else show who calls and who listens."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

    now = datetime.now(UTC)
    owner, signer = key.public_key(), issuers_key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(owner)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(signs, 0 if signs else None), critical=True)
        .add_extension(_key_usage(signs=signs), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(owner), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )
    if signs:
        return builder
    usage = x509.ExtendedKeyUsage([Usage.SERVER_AUTH, Usage.CLIENT_AUTH])
    return builder.add_extension(usage, critical=False)


def _key_usage(*, signs: bool) -> KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(builder: CertificateBuilder, key: EllipticCurvePrivateKey) -> Certificate:
    from cryptography.hazmat.primitives.hashes import SHA256

    return builder.sign(key, SHA256())


def _write(
    path: Path, whose: str, chain: Sequence[Certificate], key: EllipticCurvePrivateKey
) -> Path:
    """A new file that its owner alone can read."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    _require_new(path)
    day = f"{chain[0].not_valid_after_utc:%Y-%m-%d}"
    parts = [f"# nptp-opt: certificate and private key of {whose}, until {day}\n".encode()]
    parts += [each.public_bytes(Encoding.PEM) for each in chain]
    parts += [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(b"".join(parts))
    return path
