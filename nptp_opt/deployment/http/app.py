"""The ASGI application: what each address answers, with limits on size, time and queue."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nptp_opt import __version__
from nptp_opt.deployment.answers import Answer, ClosedError, QueueFullError
from nptp_opt.deployment.http.metrics import Metrics
from nptp_opt.deployment.http.protocol import (
    RequestError,
    largest_request,
    model_metadata,
    read_request,
    write_response,
)
from nptp_opt.deployment.service import Service
from nptp_opt.errors import InputError, NptpError
from nptp_opt.runtime.transport.digits import whole_number

JSON_HEADER = "Inference-Header-Content-Length"
GONE = 499
"""The client went away before its answer; nobody sees this status but the metrics."""
SMALL_BODY_BYTES = 2**16
"""JSON up to here is read at once; more would keep other requests waiting."""


@dataclass(frozen=True)
class Limits:
    """Of one request. ``deadline_s`` counts from its arrival to its answer."""

    deadline_s: float = 60.0
    body_s: float = 30.0
    """For its body to arrive."""
    body_bytes: int | None = None
    """None: as many as the model's inputs need as JSON."""


class Application:
    """Answers for one model of one service."""

    def __init__(self, name: str, service: Service, metrics: Metrics, limits: Limits) -> None:
        self.name, self.service, self.metrics, self.limits = name, service, metrics, limits
        self.body_bytes = limits.body_bytes or largest_request(service.signature)
        self.draining = False

    def asgi(self) -> Starlette:
        """The application for an ASGI server."""
        model = "/v2/models/{model}"
        version = f"{model}/versions/{{version}}"
        routes = [
            Route("/v2", self._told(self._server)),
            Route("/v2/health/live", self._told(self._live)),
            Route("/v2/health/ready", self._told(self._ready)),
            Route("/metrics", self._told(self._metrics)),
            *(Route(f"{at}/infer", self._told(self._infer), methods=["POST"])
              for at in (version, model)),
            *(Route(f"{at}/ready", self._told(self._model_ready)) for at in (version, model)),
            *(Route(at, self._told(self._model)) for at in (version, model)),
        ]  # fmt: skip
        return Starlette(routes=routes)

    def _told(
        self, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Our errors as the protocol spells them."""

        async def told(request: Request) -> Response:
            try:
                return await answer(request)
            except QueueFullError as error:
                headers = {"Retry-After": str(max(1, math.ceil(error.retry_s)))}
                return _error(503, error, headers)
            except ClosedError as error:
                return _error(503, error, {"Retry-After": "1"})
            except RequestError as error:
                return _error(error.status, error)
            except InputError as error:
                return _error(400, error)
            except NptpError as error:
                return _error(500, error)

        return told

    # -- what there is -------------------------------------------------------------------------

    async def _server(self, _: Request) -> Response:
        return JSONResponse(
            {"name": "nptp-opt", "version": __version__, "extensions": ["binary_tensor_data"]}
        )

    async def _live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, _: Request) -> Response:
        ready = self.service.state == "ready" and not self.draining
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def _metrics(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def _model(self, request: Request) -> Response:
        self._check_model(request)
        return JSONResponse(model_metadata(self.name, self.service.signature))

    async def _model_ready(self, request: Request) -> Response:
        self._check_model(request)
        ready = await self._ready(request)
        return JSONResponse(
            {"name": self.name, "ready": ready.status_code == 200}, ready.status_code
        )

    def _check_model(self, request: Request) -> None:
        """Raise RequestError for another model, or another version of it."""
        name, version = request.path_params["model"], request.path_params.get("version", "1")
        if name != self.name or version != "1":
            raise RequestError(f"no model {name!r} of version {version} is here, but {self.name!r} "
                               "of version 1", 404)  # fmt: skip

    # -- inference -----------------------------------------------------------------------------

    async def _infer(self, request: Request) -> Response:
        start = time.monotonic()
        status = 500
        try:
            response = await self._told(self._answered)(request)
            status = response.status_code
            return response
        except ClientDisconnect:
            status = GONE
            return Response(status_code=GONE)
        finally:
            self.metrics.requested(status, time.monotonic() - start)

    async def _answered(self, request: Request) -> Response:
        start = time.monotonic()
        self._check_model(request)
        json_bytes = _json_bytes(request)
        body = await self._body(request)
        signature = self.service.signature
        if json_bytes is None and len(body) > SMALL_BODY_BYTES:
            asked = await asyncio.to_thread(read_request, body, json_bytes, signature)
        else:
            asked = read_request(body, json_bytes, signature)
        future = self.service.submit_named(asked.inputs, wait=False, copy=False)
        limit_s = min(self.limits.deadline_s, asked.timeout_s or math.inf)
        answer = await _within(request, future, limit_s - (time.monotonic() - start))
        content, size = write_response(self.name, asked, answer.outputs, _told_of(answer))
        if size is None:
            return Response(content, media_type="application/json")
        return Response(
            content, media_type="application/octet-stream", headers={JSON_HEADER: str(size)}
        )

    async def _body(self, request: Request) -> bytearray:
        """All of the body, as long as it keeps within the limits."""
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise RequestError("compressed bodies are not taken", 415)
        most, said = self.body_bytes, request.headers.get("Content-Length", "0")
        too_large = RequestError(f"the body has more than {most} bytes", 413)
        if (whole_number(said) or 0) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise too_large
        except TimeoutError:
            raise RequestError(
                f"the body has not arrived within {self.limits.body_s:g} s", 408
            ) from None
        return body


def _json_bytes(request: Request) -> int | None:
    said = request.headers.get(JSON_HEADER)
    if said is None:
        return None
    size = whole_number(said)
    if size is None:
        raise RequestError(f"{JSON_HEADER} must be a number of bytes")
    return size


async def _within(request: Request, future: Future[Answer], limit_s: float) -> Answer:
    """The answer; an input whose client is gone, or whose time is up, is taken back if it still
    waits."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def end(_: Future[Answer]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(over.set)

    future.add_done_callback(end)
    gone = loop.create_task(_disconnected(request))
    gone.add_done_callback(lambda _: over.set())
    try:
        async with asyncio.timeout(max(limit_s, 0)):
            await over.wait()
    except TimeoutError:
        if not future.done():
            raise RequestError("the deadline is over before the answer was there", 504) from None
    finally:
        gone.cancel()
        future.cancel()
    if future.cancelled() or not future.done():
        raise ClientDisconnect
    return future.result()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _told_of(answer: Answer) -> dict[str, Any]:
    return {"latency_s": answer.latency_s, "waited_s": answer.waited_s}


def _error(status: int, error: Exception, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": str(error)}, status, headers)
