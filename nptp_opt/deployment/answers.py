"""What a deployment answers, and why it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from nptp_opt.errors import ExecutionError
from nptp_opt.network.ref import spelled
from nptp_opt.notebook import html_table, short


class ClosedError(ExecutionError):
    """The service has ended, or is about to."""


class QueueFullError(ExecutionError):
    """As many inputs wait as may; ``retry_s`` is about how long until one of them is done."""

    def __init__(self, waiting: int, retry_s: float) -> None:
        super().__init__(f"{waiting} inputs wait already: come again in {retry_s:.3g} s")
        self.retry_s = retry_s


@dataclass(frozen=True, repr=False)
class Answer:
    """What the model makes of one input, and what that took."""

    outputs: Mapping[str, Tensor]
    """By the model's own names, in its own shapes and types."""
    latency_s: float
    """Of the devices, from the source's start on the input to the result on the sink."""
    waited_s: float
    """In the queue, before it was sent on its way."""
    ended_s: float
    """When the result was there, on this machine's monotonic clock."""
    busy_s: Mapping[str, float]
    """Seconds that each device worked on it."""
    sent_bytes: Mapping[str, int]
    """What each device sent to others for it."""
    overrun_s: float = 0.0
    """By how much an emulated cluster was slower than it should: above 2 % of the latency, the
    latency is not the cluster's."""

    def __repr__(self) -> str:
        took, waited = short(self.latency_s), short(self.waited_s)
        return f"<Answer {self._shapes()}: {took} s, waited {waited} s>"

    def _repr_html_(self) -> str:
        busy = {f"busy_s of {name}": seconds for name, seconds in self.busy_s.items()}
        sent = {f"bytes sent by {name}": count for name, count in self.sent_bytes.items()}
        rows = {"latency_s": self.latency_s, "waited_s": self.waited_s, **busy, **sent}
        return html_table(f"Answer {self._shapes()}", rows)

    def _shapes(self) -> str:
        return ", ".join(
            f"{name} {spelled(tuple(values.shape)) or 'scalar'}"
            for name, values in self.outputs.items()
        )

    @property
    def value(self) -> Tensor | Mapping[str, Tensor]:
        """The tensor of a model with one output; of several, all by name."""
        return next(iter(self.outputs.values())) if len(self.outputs) == 1 else self.outputs
