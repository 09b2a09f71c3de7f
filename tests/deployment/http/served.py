"""A service over HTTP for tests, in this process: its port, and what a right request says."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any

import numpy as np
import torch

from nptp_opt.deployment.http.app import Application, Limits
from nptp_opt.deployment.http.metrics import Metrics
from nptp_opt.deployment.http.server import HttpServer, bind
from nptp_opt.deployment.request import DeployRequest
from nptp_opt.deployment.service import Service
from tests.runtime.plans import INPUT, five_devices, hand_plan, model_of, tee

NAME = "together"
X = np.random.default_rng(0).standard_normal(INPUT, dtype=np.float32)
LIMITS = Limits(deadline_s=30.0, body_s=1.0)


class Served:
    """A service, its HTTP server in a thread, and the port."""

    def __init__(self, service: Service, limits: Limits = LIMITS) -> None:
        self.service, self.metrics = service, Metrics()
        service.watch = self.metrics.answered
        self.sock = bind("127.0.0.1:0")
        self.port = int(self.sock.getsockname()[1])
        self.metrics.follow(service)
        application = Application(NAME, service, self.metrics, limits)
        self.server = HttpServer(application, self.sock, 30.0)
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> Served:
        self.service.__enter__()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self.thread.join()
        self.service.close(drain=False)

    def pid(self, device: str) -> int:
        assert self.service._pool is not None
        process = self.service._pool.members[device].process
        assert process is not None
        return process.pid

    def ask(
        self, body: bytes, headers: dict[str, str] | None = None, path: str = ""
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON and headers of an inference request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", path or f"/v2/models/{NAME}/infer", body, headers or {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null"), dict(answer.headers)
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


def service_of(**options: Any) -> Service:
    model = model_of(NAME)
    return Service(hand_plan(model, NAME, tee, five_devices()), model, DeployRequest(**options))


def outputs_of(x: np.ndarray[Any, Any] = X) -> list[torch.Tensor]:
    return model_of(NAME).witness.outputs(torch.from_numpy(x))


def json_body(x: np.ndarray[Any, Any] = X, **parameters: Any) -> bytes:
    name = model_of(NAME).signature.inputs[0].name
    entry = {"name": name, "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    return json.dumps({"inputs": [entry], "parameters": parameters}).encode()


def values_of(answer: Any) -> list[np.ndarray[Any, Any]]:
    return [np.array(each["data"]).reshape(each["shape"]) for each in answer["outputs"]]


def is_alive(served: Served) -> bool:
    status, answer, _ = served.ask(json_body())
    return status == 200 and all(
        np.allclose(found, wanted, atol=1e-5)
        for found, wanted in zip(values_of(answer), outputs_of(), strict=True)
    )
