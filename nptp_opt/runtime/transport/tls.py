"""TLS between devices and launcher: nothing that they say can be read or changed on the way.

Every side has one file with its certificate, its key and the authority's certificate
(``nptp-opt secret --tls``). Both sides of a connection show theirs; OpenSSL checks that the same
authority signed them and that they are valid now, ``handshake.require`` whom they name. TLS 1.3
alone, and no session is resumed.

OpenSSL's object must not be read by one thread while another writes it. Python's TLS sockets either
leave that to chance, or hold a lock for as long as a read waits (3.13.6). So bytes go through
memory here: the object is used under a lock that nobody holds while waiting for the network.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nptp_opt.errors import InputError
from nptp_opt.runtime.transport.control import ChannelError, RefusedError
from nptp_opt.runtime.transport.handshake import ORGANISATIONS, Party

NO_CHECK_TIME = ssl.VerifyFlags(0x200000)
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, for which ``ssl`` has no name."""

RECEIVED_BYTES = 2**18
SEALED_BYTES = 2**16
"""Encrypted in one go, before any of it is sent."""
RECORD_BYTES = 2**14
"""A message that is longer is left to the thread that sends."""

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


# -- certificates ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Identity:
    """One side's certificate, ready for connections."""

    path: Path
    party: Party
    begins_s: float
    """From when on it is valid, and until when; seconds of the epoch."""
    ends_s: float
    listening: ssl.SSLContext
    calling: ssl.SSLContext

    def objection(self) -> str | None:
        """Why it is of no use now; None if it is."""
        now_s = time.time()
        if now_s > self.ends_s:
            return (
                f"{self.path}: the certificate of {self.party} expired on {_day(self.ends_s)}: "
                "make another one (nptp-opt secret --tls)"
            )
        if now_s < self.begins_s:
            return (
                f"{self.path}: the certificate of {self.party} is valid from {_day(self.begins_s)} "
                f"on, and this machine's clock says {_day(now_s)}: set the clock"
            )
        return None


def read_identity(path: Path) -> Identity:
    """The certificate of a file of ``nptp-opt secret --tls``; raises InputError for one that cannot
    be used."""
    authority = _authority(path)
    contexts = [_context(path, authority, kind)
                for kind in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)]  # fmt: skip
    try:
        own = _own_certificate(*contexts)
        party = party_of(own)
    except (ssl.SSLError, RefusedError) as error:
        raise InputError(f"{path}: its certificate is of no use: {_in_words(error)}") from None
    signed = contexts[0].get_ca_certs()[0]
    begins_s, ends_s = zip(*(_validity(each) for each in (own, signed)), strict=True)
    identity = Identity(path, party, max(begins_s), min(ends_s), *contexts)
    if (objection := identity.objection()) is not None:
        raise InputError(objection)
    return identity


def _authority(path: Path) -> str:
    """The last certificate of a file that has several."""
    try:
        blocks = _BLOCK.findall(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        blocks = []
    if len(blocks) < 2:
        raise InputError(
            f"{path}: has no certificate with that of its authority: take a file of "
            "`nptp-opt secret --tls`"
        )
    return str(blocks[-1])


def _context(path: Path, authority: str, kind: int) -> ssl.SSLContext:
    """What both sides ask for: TLS 1.3, and a certificate of this authority."""
    context = ssl.SSLContext(kind)
    context.check_hostname = False  # who it has to be is checked by name and role, not by address
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    if kind == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    try:
        context.load_cert_chain(path, password="")
        context.load_verify_locations(cadata=authority)
    except (ssl.SSLError, ValueError) as error:
        what = _in_words(error)
        raise InputError(f"{path}: certificate and key cannot be used: {what}") from None
    return context


def _own_certificate(listening: ssl.SSLContext, calling: ssl.SSLContext) -> dict[str, Any]:
    """What the own certificate says, which ``ssl`` tells of a peer's alone: so by a handshake with
    oneself, whatever the time is. Raises SSLError where file and authority do not fit."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    for context in (listening, calling):
        context.verify_flags |= NO_CHECK_TIME
    caller = calling.wrap_bio(back, there)
    listener = listening.wrap_bio(there, back, server_side=True)
    for context in (listening, calling):
        context.verify_flags &= ~NO_CHECK_TIME
    for side in (caller, listener, caller, listener):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return dict(listener.getpeercert() or {})


def party_of(certificate: dict[str, Any]) -> Party:
    """Whom a certificate names; raises RefusedError for one that is none of ours."""
    fields = {key: value for part in certificate.get("subject", ()) for key, value in part}
    for role, organisation in ORGANISATIONS.items():
        if fields.get("organizationName") == organisation and fields.get("commonName"):
            return Party(role, fields["commonName"])
    raise RefusedError("the certificate names neither a device nor the launcher")


def _validity(certificate: dict[str, Any]) -> tuple[float, float]:
    begins, ends = (ssl.cert_time_to_seconds(certificate[key]) for key in ("notBefore", "notAfter"))
    return begins, ends


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


# -- connections -------------------------------------------------------------------------------


class TlsStream:
    """A connected socket under TLS, for one thread that reads and one that writes."""

    def __init__(self, sock: socket.socket, identity: Identity, *, listens: bool) -> None:
        if (objection := identity.objection()) is not None:
            raise RefusedError(objection)
        self._sock = sock
        self._lock = threading.Lock()
        """Of all below."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = identity.listening if listens else identity.calling
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=listens)
        self._received = memoryview(bytearray(RECEIVED_BYTES))

    def handshake(self, deadline: float | None) -> Party:
        """Whom the other side's certificate names; raises RefusedError for one that is not taken,
        OSError for everything else. The other side may yet refuse ours: at the first read."""
        while not self._shaken():
            if not self._take(deadline):
                raise ChannelError("closed by the other side before TLS was agreed on")
        return party_of(dict(self._tls.getpeercert() or {}))

    def recv_into(self, view: memoryview) -> int:
        """Bytes that were received, at least one; 0 at the end."""
        timeout_s = self._sock.gettimeout()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (count := self._opened(view)) is None:
            if not self._take(deadline):
                return 0
        return count

    def sendall(self, data: bytes | memoryview) -> None:
        """Send all, piece by piece."""
        view = memoryview(data)
        for start in range(0, len(view), SEALED_BYTES):
            self._sock.sendall(self._sealed(view[start : start + SEALED_BYTES]))

    def sendmsg(
        self, buffers: Iterable[bytes | memoryview], ancillary: Iterable[Any], flags: int
    ) -> int:
        """Send all of a short message if it can leave now, else raise BlockingIOError."""
        parts = list(buffers)
        count = sum(map(len, parts))
        if count > RECORD_BYTES or not self._may_send():
            raise BlockingIOError
        self._sock.sendall(self._sealed(b"".join(parts)))
        return count

    def _may_send(self) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        return bool(poll.poll(0))

    def _take(self, deadline: float | None) -> bool:
        """Wait for bytes of the network; False at their end."""
        if deadline is not None:
            self._sock.settimeout(max(1e-3, deadline - time.monotonic()))
        count = self._sock.recv_into(self._received)
        with self._lock:
            self._incoming.write(self._received[:count])
        return count > 0

    def _opened(self, view: memoryview) -> int | None:
        """All that is there already, decrypted, or None: ``Arrival`` tells what was there at the
        first look from what comes."""
        count = 0
        with self._lock:
            while count < len(view):
                try:
                    more: Any = self._tls.read(len(view) - count, view[count:])
                except ssl.SSLWantReadError:
                    break
                except ssl.SSLZeroReturnError:
                    return count
                except ssl.SSLError as error:
                    refused = "ALERT" in str(error.reason)
                    raise (RefusedError if refused else ChannelError)(_in_words(error)) from None
                count += more
        return count or None

    def _sealed(self, data: bytes | memoryview) -> bytes:
        with self._lock:
            self._tls.write(data)
            return self._outgoing.read()

    def _shaken(self) -> bool:
        """Go on with the handshake as far as it goes; True when it is over."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            with contextlib.suppress(OSError):  # an alert, which says why
                self._flush()
            raise RefusedError(_in_words(error)) from None
        self._flush()
        return True

    def _flush(self) -> None:
        if self._outgoing.pending:  # a connection that has ended is no error where nothing is left
            self._sock.sendall(self._outgoing.read())


# -- refusals in words -------------------------------------------------------------------------

VERIFICATION = {
    10: "has expired, or the clock of one of the two is wrong",
    9: "is not valid yet, or the clock of one of the two is wrong",
    **dict.fromkeys((2, 7, 18, 19, 20, 21), "is of another authority"),
}
"""By OpenSSL's number of what is wrong with a certificate."""

REASONS = {
    "RETURN_A_CERTIFICATE": "the other side shows no certificate",
    "ALERT_CERTIFICATE_EXPIRED": "the other side finds that this certificate has expired",
    "ALERT_UNKNOWN_CA": "the other side's certificates are of another authority than this one",
    "CERTIFICATE_REQUIRED": "the other side asks for a certificate",
    "CERTIFICATE": "the other side does not take this certificate",
    "WRONG_VERSION_NUMBER": "the other side does not speak TLS: give it its certificate (--tls)",
    "HTTP_REQUEST": "the other side does not speak TLS, but HTTP",
    "KEY_VALUES_MISMATCH": "the key is not that of the certificate",
    "UNSUPPORTED_PROTOCOL": "the other side has no TLS 1.3",
}
"""By a part of OpenSSL's words; the first that fits."""


def _in_words(error: Exception) -> str:
    """What TLS objects to."""
    if isinstance(error, ssl.SSLCertVerificationError):
        what = VERIFICATION.get(error.verify_code, f"is not taken: {error.verify_message}")
        return f"the other side's certificate {what}"
    said = getattr(error, "reason", None) or str(error)
    known = (words for part, words in REASONS.items() if part in said)
    return next(known, f"TLS: {said.replace('_', ' ').lower()}")
