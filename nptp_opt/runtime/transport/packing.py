"""Messages as flat buffers: rectangles one after the other, in the plan's transfer type.

Partials of reductions always travel as float32. Buffers that need no decoding start as NaN, so that
an element which no transfer brings shows in the result instead of passing as a zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nptp_opt.cluster import TransferDtype
from nptp_opt.cost import Transfer
from nptp_opt.kernels.wire_format import decode, encode
from nptp_opt.network.ir import Network
from nptp_opt.runtime.device_program import Message


class Packing:
    """How messages of one plan are laid out; float tensors to decode into are allocated once."""

    def __init__(self, network: Network, dtype: TransferDtype) -> None:
        self.network, self.dtype = network, dtype
        self._decoded: dict[int, list[Tensor]] = {}

    def is_plain(self, message: Message) -> bool:
        """True where the elements travel as they are."""
        layer = self.network.by_name.get(message.parts[0].tensor)
        return self.dtype == "float32" or (layer is not None and layer.reduces)

    def buffer(self, message: Message) -> Tensor:
        """Room for a message."""
        if self.is_plain(message):
            elements = message.bytes // self.network.bytes_per_element
            return torch.full((elements,), float("nan"))
        return torch.zeros(message.bytes, dtype=torch.uint8)

    def write(self, message: Message, buffer: Tensor, values: list[Tensor]) -> None:
        """Put the rectangles of a message into its buffer."""
        if self.is_plain(message):
            for place, part in zip(self._views(message, buffer), values, strict=True):
                place.copy_(part)
            return
        sizes = [part.bytes for part in message.parts]
        for place, part in zip(torch.split(buffer, sizes), values, strict=True):
            encode(part, self.dtype, place)

    def read(self, message: Message, buffer: Tensor) -> list[Tensor]:
        """The rectangles of a message that has arrived: views where they need no decoding."""
        if self.is_plain(message):
            return self._views(message, buffer)
        if message.tag not in self._decoded:
            self._decoded[message.tag] = [torch.empty(self._shape(p)) for p in message.parts]
        rectangles = self._decoded[message.tag]
        sizes = [part.bytes for part in message.parts]
        for data, out in zip(torch.split(buffer, sizes), rectangles, strict=True):
            decode(data, self.dtype, out)
        return rectangles

    def _views(self, message: Message, buffer: Tensor) -> list[Tensor]:
        sizes = [part.bytes // self.network.bytes_per_element for part in message.parts]
        flat = torch.split(buffer, sizes)
        return [
            values.view(self._shape(part)) for part, values in zip(message.parts, flat, strict=True)
        ]

    def _shape(self, part: Transfer) -> tuple[int, ...]:
        batch, channels = self.network.shapes[part.tensor][:2]
        return batch, channels, part.tile.height, part.tile.width
