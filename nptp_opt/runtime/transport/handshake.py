"""Who may talk: the mutual handshake at the start of every connection.

Both sides prove that they know the run's secret (HMAC-SHA256 over fresh nonces) before either
acts on anything that the other says. With certificates, TLS comes before that: who listens says so
in its first frame, so that a side that has none, or alone has one, is told what it lacks at once
and nobody goes on without. Standard library alone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nptp_opt.errors import InputError, printable
from nptp_opt.runtime.transport.control import Channel, ChannelError, Message, RefusedError

if TYPE_CHECKING:
    from nptp_opt.runtime.transport.tls import Identity

MAX_HANDSHAKE_BYTES = 4096
HANDSHAKE_TIMEOUT_S = 10.0

DEVICE, LAUNCHER = "device", "launcher"
ORGANISATIONS = {role: f"nptp-opt {role}" for role in (DEVICE, LAUNCHER)}
"""How a certificate's subject says which role its name has."""


@dataclass(frozen=True)
class Party:
    """Whom a certificate names: a device, or the launcher."""

    role: str
    name: str

    def __str__(self) -> str:
        return "the launcher" if self.role == LAUNCHER else f"{self.role} {printable(self.name)!r}"


THE_LAUNCHER = Party(LAUNCHER, LAUNCHER)


def device(name: str) -> Party:
    """The device of that name."""
    return Party(DEVICE, name)


@dataclass(frozen=True)
class Keys:
    """What one side proves itself by."""

    secret: bytes
    identity: Identity | None = None
    """Its certificate; None talks without TLS, to sides that do so, too."""


def read_keys(secret_file: Path, tls: Path | None = None, me: Party | None = None) -> Keys:
    """The secret and the certificate of these files; raises InputError where they cannot be used,
    or where the certificate is not that of ``me``."""
    secret = read_secret(secret_file)
    if tls is None:
        return Keys(secret)
    from nptp_opt.runtime.transport.tls import read_identity

    identity = read_identity(tls)
    if me is not None and identity.party != me:
        raise InputError(f"{tls}: is the certificate of {identity.party}, not of {me}")
    return Keys(secret, identity)


def require(channel: Channel, peer: Party) -> None:
    """Raise RefusedError, which the other side is told, unless its certificate is that of ``peer``;
    nothing without TLS."""
    if channel.peer is not None and channel.peer != peer:
        reason = f"the certificate shown is that of {channel.peer}, not of {peer}"
        channel.send("refused", reason=reason)
        raise RefusedError(reason)


def write_secret(path: Path) -> bytes:
    """A fresh random secret, in a file that its owner alone can read.

    Raises InputError where there is one already, or it cannot be written.
    """
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32) + "\n")
    except FileExistsError:
        raise _is_there(path) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    return read_secret(path)


def require_new_secret(path: Path) -> None:
    """Raise InputError where ``write_secret`` would, because of a file that is there."""
    if path.exists():
        raise _is_there(path)


def _is_there(path: Path) -> InputError:
    return InputError(f"{path}: is there already; a secret is not overwritten")


def read_secret(path: Path) -> bytes:
    """The secret of a file; raises InputError when it cannot be read or is too short."""
    try:
        secret = path.read_text(encoding="utf-8").strip().encode()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text: make the secret of letters") from None
    if len(secret) < 16:
        raise InputError(f"{path}: the secret is shorter than 16 characters")
    return secret


def _mac(secret: bytes, role: str, *parts: object) -> str:
    text = json.dumps([role, *parts], sort_keys=True)
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def _is_mac(mac: object, expected: str) -> bool:
    """Compared in constant time; ``mac`` is anything that JSON can be."""
    return hmac.compare_digest(str(mac).encode(errors="replace"), expected.encode())


def join(channel: Channel, keys: Keys, hello: dict[str, Any], peer: Party | None = None) -> None:
    """Half of the handshake of who calls: ``hello`` says who it is, ``peer`` is who has to answer.

    Raises RefusedError.
    """
    challenge = channel.receive(MAX_HANDSHAKE_BYTES, 0)
    _agree_on_tls(channel, keys, challenge.kind)
    if keys.identity is not None:
        channel.secure(keys.identity, listens=False)
        if peer is not None:
            require(channel, peer)
        challenge = channel.receive(MAX_HANDSHAKE_BYTES, 0)
    theirs, ours = challenge.fields.get("nonce"), secrets.token_hex(16)
    mac = _mac(keys.secret, "worker", theirs, ours, hello)
    channel.send("hello", nonce=ours, hello=hello, mac=mac)
    answer = channel.receive(MAX_HANDSHAKE_BYTES, 0)
    if answer.kind == "refused":
        raise RefusedError(_reason(answer))
    expected = _mac(keys.secret, "launcher", ours, theirs)
    if not _is_mac(answer.fields.get("mac"), expected):
        raise RefusedError("the launcher does not know the secret")


def _agree_on_tls(channel: Channel, keys: Keys, first: str) -> None:
    """Raise RefusedError where one side alone has a certificate; the other one is told."""
    if keys.identity is None and first == "tls":
        channel.send("plain")
        raise RefusedError("the other side takes TLS alone: give this one its certificate (--tls)")
    if keys.identity is not None and first != "tls":
        channel.send("tls")
        raise RefusedError(
            "the other side has no certificate (--tls), and this one talks by TLS alone"
        )


def _reason(refusal: Message) -> str:
    return printable(str(refusal.fields.get("reason")))


def admit(channel: Channel, keys: Keys) -> tuple[dict[str, Any], str]:
    """Half of who listens, up to the proof: what the other says of itself, and our own proof.

    Raises RefusedError for a wrong secret or certificate, ChannelError for anything else.
    """
    if keys.identity is not None:
        channel.send("tls")
        channel.secure(keys.identity, listens=True)
    ours = secrets.token_hex(16)
    channel.send("challenge", nonce=ours)
    answer = channel.receive(MAX_HANDSHAKE_BYTES, 0)
    if answer.kind == "tls":
        raise RefusedError("the other side talks by TLS alone: give this one a certificate (--tls)")
    if answer.kind == "refused":
        raise RefusedError(f"the other side goes: {_reason(answer)}")
    theirs, hello = answer.fields.get("nonce"), answer.fields.get("hello")
    expected = _mac(keys.secret, "worker", ours, theirs, hello)
    if not _is_mac(answer.fields.get("mac"), expected):
        channel.send("refused", reason="wrong secret")
        raise RefusedError("wrong secret")
    if not isinstance(hello, dict):
        raise ChannelError("the worker does not say who it is")
    return hello, _mac(keys.secret, "launcher", theirs, ours)
