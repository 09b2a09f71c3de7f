"""What a service does, in Prometheus' text format."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from nptp_opt.deployment.answers import Answer
from nptp_opt.deployment.service import Service

BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

WINDOW_S = 60.0
"""Over which the devices' busy share is taken."""


UNCOUNTED = 256
"""Answers that are kept for the next time that somebody asks."""

_Answered = tuple[float, float, float, Mapping[str, float], Mapping[str, int]]
"""When it came; seconds on the devices and in the queue; each device's seconds and bytes."""


class Metrics:
    """Counters and histograms; ``answered`` is for the service's ``watch``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "nptp_requests", "Inference requests by HTTP status.", ["status"],
            registry=self.registry,
        )  # fmt: skip
        self._request_s = self._seconds("nptp_request_seconds", "Answered requests, from the first "
                                        "byte of the body to the response.")  # fmt: skip
        self._latency_s = self._seconds("nptp_latency_seconds", "Inputs on the devices, from the "
                                        "source's start to the result on the sink.")  # fmt: skip
        self._waited_s = self._seconds("nptp_queue_seconds", "Inputs in the queue.")
        self._busy = Counter(
            "nptp_device_busy_seconds", "Seconds that a device worked.", ["device"],
            registry=self.registry,
        )  # fmt: skip
        self._bytes = Counter(
            "nptp_device_sent_bytes", "Bytes that a device sent to others.", ["device"],
            registry=self.registry,
        )  # fmt: skip
        self.recent: deque[tuple[float, Mapping[str, float]]] = deque()
        """When answers came, and what each device had worked on them."""
        self._uncounted: deque[_Answered] = deque()
        self._counting = threading.Lock()

    def _seconds(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, buckets=BUCKETS_S, registry=self.registry)

    def follow(self, service: Service) -> None:
        """Show a service's queue, losses and devices, too."""
        self.registry.register(_State(self, service))

    def answered(self, answer: Answer) -> None:
        """An input has its answer; who waits for it does not wait until it is counted."""
        figures = (answer.latency_s, answer.waited_s, answer.busy_s, answer.sent_bytes)
        self._uncounted.append((time.monotonic(), *figures))
        if len(self._uncounted) >= UNCOUNTED:
            self._count()

    def _count(self) -> None:
        with self._counting:
            while self._uncounted:
                when, latency_s, waited_s, busy_s, sent_bytes = self._uncounted.popleft()
                self._latency_s.observe(latency_s)
                self._waited_s.observe(waited_s)
                for device, seconds in busy_s.items():
                    self._busy.labels(device).inc(seconds)
                for device, sent in sent_bytes.items():
                    self._bytes.labels(device).inc(sent)
                self.recent.append((when, busy_s))
            while self.recent and self.recent[0][0] < time.monotonic() - WINDOW_S:
                self.recent.popleft()

    def requested(self, status: int, seconds: float) -> None:
        """An inference request was responded to."""
        self._requests.labels(str(status)).inc()
        if status == 200:
            self._request_s.observe(seconds)

    def text(self) -> bytes:
        """All of them as they are now."""
        self._count()
        return generate_latest(self.registry)


def _by_device(name: str, text: str, devices: Sequence[str]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=["device"])
    for device in sorted(set(devices)):
        family.add_metric([device], devices.count(device))
    return family


class _State(Collector):
    """What is looked up when it is asked for."""

    def __init__(self, metrics: Metrics, service: Service) -> None:
        self.metrics, self.service, self.since = metrics, service, time.monotonic()

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        service, counts = self.service, self.service.counts
        yield GaugeMetricFamily("nptp_ready", "1 while inputs are computed.",
                                value=service.state == "ready")  # fmt: skip
        yield GaugeMetricFamily("nptp_queue_length", "Inputs that wait.", value=service.waiting)
        yield GaugeMetricFamily("nptp_in_flight", "Inputs on the devices.", value=service.in_flight)
        yield CounterMetricFamily("nptp_replans", "Plans made and taken.", value=counts.replans)
        yield CounterMetricFamily("nptp_drifts", "Changes of links or devices that were planned "
                                  "for.", value=len(counts.drifts))  # fmt: skip
        yield _by_device("nptp_device_losses", "Devices lost.", counts.losses)
        yield _by_device("nptp_device_returns", "Lost devices that came back.", counts.returns)
        yield self._busy_share()

    def _busy_share(self) -> GaugeMetricFamily:
        now = time.monotonic()
        window_s = min(WINDOW_S, now - self.since)
        busy: dict[str, float] = {}
        for when, seconds in tuple(self.metrics.recent):
            if when >= now - WINDOW_S:
                for device, each in seconds.items():
                    busy[device] = busy.get(device, 0.0) + each
        share = GaugeMetricFamily(
            "nptp_device_busy_share", "Of the last minute.", labels=["device"]
        )
        for device, seconds_of in sorted(busy.items()):
            share.add_metric([device], min(1.0, seconds_of / window_s) if window_s else 0.0)
        return share
