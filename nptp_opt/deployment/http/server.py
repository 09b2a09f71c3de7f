"""The process that listens: binds, serves until a signal, drains, and guards against clients that
keep a connection and ask nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nptp_opt.deployment.http.app import Application
from nptp_opt.errors import InputError
from nptp_opt.runtime.transport.digits import port_number

HEADERS_S = 10.0
"""How long a connection may take to say what it wants."""
HEAD_BYTES = 2**16
"""What it may take to say it, and what may stand between and after the chunks of a body."""
MOST_CONNECTIONS = 512
BACKLOG = 128
LINGER_S = 0.25
"""How long a server that is to end still takes requests: those sent before its end was known lie in
the kernel's queues, and closing a connection over them resets it.
"""


def bind(address: str) -> socket.socket:
    """Listen at ADDRESS:PORT (port 0: a free one); raises InputError where that cannot be."""
    host, _, port = address.rpartition(":")
    number = port_number(port)
    if not host or number is None:
        raise InputError(f"`http` {address!r} must look like 127.0.0.1:8000 (address, port)")
    try:
        sock = socket.create_server((host, number), backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"`http` {address}: cannot listen there: {why}; choose another") from None
    # Connections inherit it; asyncio sets it only where a socket names its protocol. Without it an
    # answer's body waits for the acknowledgement of its head: 40 ms.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def address_of(sock: socket.socket) -> str:
    """Where a bound socket is reached."""
    host, port = sock.getsockname()[:2]
    return f"http://{host}:{port}"


class _Guarded(HttpToolsProtocol):
    """Closes a connection whose request's head does not arrive in time, has no end, or is none."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._late: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        """Since the last byte of a body, or the last request's end."""
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        self._unread_bytes += len(data)
        super().data_received(data)
        if self._unread_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The head has more than {HEAD_BYTES} bytes.")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._forget_head()
        if not self._is_sound():
            raise ValueError  # the parser's caller answers with 400
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread_bytes = 0
        super().on_message_complete()

    def _is_sound(self) -> bool:
        """What RFC 9112 asks of a head and the parser does not."""
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        wanted = (1,) if version == "1.1" else (0, 1)
        return (
            version in ("1.0", "1.1")
            and hosts in wanted
            and all(coding.lower() == b"chunked" for coding in codings)
        )

    def _expect_head(self) -> None:
        if self._late is None:  # an answer that is under way will be the connection's last
            self._late = self.loop.call_later(HEADERS_S, self.shutdown)

    def _forget_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Server(uvicorn.Server):
    """Ends by SIGTERM or Ctrl-C as if it had been asked to, after what is under way."""

    def __init__(self, config: uvicorn.Config, drained: Callable[[], None]) -> None:
        super().__init__(config)
        self.drained = drained

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():  # signals are that one's
            yield
            return
        before = {number: signal.signal(number, self.handle_exit)
                  for number in (signal.SIGINT, signal.SIGTERM)}  # fmt: skip
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.sleep(LINGER_S)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.drained()
        super().handle_exit(sig, frame)


class HttpServer:
    """An application at a socket; ``run`` returns after SIGTERM, Ctrl-C or ``stop``, when all that
    was under way has its answer or ``drain_s`` are over.
    """

    def __init__(self, application: Application, sock: socket.socket, drain_s: float) -> None:
        self.application, self.sock = application, sock
        config = uvicorn.Config(
            application.asgi(),
            http=_Guarded,
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, round(drain_s)),
        )
        self._server = _Server(config, self._drain)

    def run(self) -> None:
        """Serve, and end when the service ends by itself, too."""
        threading.Thread(target=self._follow, daemon=True).start()
        uvloop.run(self._server.serve(sockets=[self.sock]))

    def stop(self) -> None:
        """As SIGTERM does; from any thread."""
        self._drain()
        self._server.should_exit = True

    def _drain(self) -> None:
        self.application.draining = True

    def _follow(self) -> None:
        self.application.service.wait_closed()
        self.stop()
