"""Messages as flat buffers: rectangles one after the other, each in the type that it is sent in.

Maps that travel in fewer bytes without loss do so, whatever the plan's transfer type; pixels travel
as uint8, and partials of reductions always as float32. Buffers that need no decoding start as NaN,
so that an element which no transfer brings shows in the result instead of passing as a zero.

A message of which a part is planned as a bitmask, with Huffman codes or without, is *coded*. It
begins with int64 numbers: its length in bytes, and for every part the number of its non-zeros, or
``DENSE`` where it would have been longer than its elements. Its parts follow, each on a multiple of
8 bytes: the elements, or what ``coding`` writes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nptp_opt.cluster import TransferDtype
from nptp_opt.cost import Transfer, WireDtype, is_sent_exactly
from nptp_opt.kernels.bitmask import BrokenMessageError, prepare
from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.wire_format import decode, encode, encoded_bytes, exact_codecs
from nptp_opt.network.ir import Network
from nptp_opt.runtime.device_program import Message
from nptp_opt.runtime.transport.coding import DENSE, Rectangle, aligned


class Packing:
    """How messages of one plan are laid out; float32 arrays to decode into are allocated once.

    ``weights`` have the scales and zero points of quantised maps. Raises InputError where they are
    none.
    """

    def __init__(
        self, network: Network, dtype: TransferDtype, weights: Mapping[str, Array]
    ) -> None:
        self.network, self.dtype = network, dtype
        self.codecs = exact_codecs(network, dtype, weights)
        self._decoded: dict[int, list[Array]] = {}

    def is_plain(self, message: Message) -> bool:
        """True where the elements travel as they are."""
        return not self.is_coded(message) and all(map(self._is_plain, message.parts))

    def is_coded(self, message: Message) -> bool:
        """True where its length depends on the values."""
        return any(map(self._is_coded, message.parts))

    def buffer(self, message: Message) -> Array:
        """Room for a message, however long it gets."""
        if self.is_plain(message):
            return np.full(sum(map(self._elements, message.parts)), np.nan, dtype=np.float32)
        if self.is_coded(message):
            prepare()
            bodies = sum(aligned(self._room_bytes(part)) for part in message.parts)
            return np.zeros(_head_bytes(message) + bodies, dtype=np.uint8)
        return np.zeros(sum(map(self._dense_bytes, message.parts)), dtype=np.uint8)

    def write(self, message: Message, buffer: Array, values: list[Array]) -> Array:
        """Put the rectangles of a message into its buffer; returns what of it is to be sent."""
        if self.is_plain(message):
            for view, made in zip(self._views(message, buffer), values, strict=True):
                view[:] = made
            return buffer
        if self.is_coded(message):
            return self._write_coded(message, buffer, values)
        places = _split(buffer, [*map(self._dense_bytes, message.parts)])
        for part, place, made in zip(message.parts, places, values, strict=True):
            self._encode(part, made, place)
        return buffer

    def read(self, message: Message, buffer: Array, received: int | None = None) -> list[Array]:
        """The rectangles of a message that has arrived: views where they need no decoding.

        ``received`` are its bytes, None where the transport does not tell. Raises
        BrokenMessageError for a coded one that no sender can have written.
        """
        if self.is_plain(message):
            return self._views(message, buffer)
        if message.tag not in self._decoded:
            self._decoded[message.tag] = [
                np.empty(self._shape(part), dtype=np.float32) for part in message.parts
            ]
        rectangles = self._decoded[message.tag]
        if self.is_coded(message):
            self._read_coded(message, buffer, received, rectangles)
            return rectangles
        places = _split(buffer, [*map(self._dense_bytes, message.parts)])
        for part, data, out in zip(message.parts, places, rectangles, strict=True):
            self._decode(part, data, out)
        return rectangles

    # -- dense ---------------------------------------------------------------------------------

    def _encode(self, part: Transfer, values: Array, place: Array) -> None:
        if self._is_exact(part):
            self.codecs[part.tensor].encode(values, place)
        else:
            encode(values, self._wire(part), place)

    def _decode(self, part: Transfer, data: Array, out: Array) -> None:
        if self._is_exact(part):
            self.codecs[part.tensor].decode(data, out)
        else:
            decode(data, self._wire(part), out)

    def _views(self, message: Message, buffer: Array) -> list[Array]:
        flat = _split(buffer, [*map(self._elements, message.parts)])
        return [
            values.reshape(self._shape(part))
            for part, values in zip(message.parts, flat, strict=True)
        ]

    # -- coded ---------------------------------------------------------------------------------

    def _write_coded(self, message: Message, buffer: Array, values: list[Array]) -> Array:
        head, at = [0], _head_bytes(message)
        for part, rectangle in zip(message.parts, values, strict=True):
            count, size = DENSE, self._dense_bytes(part)
            if self._is_coded(part):
                room = buffer[at : at + self._room_bytes(part)]
                count, written = self._rectangle(part).write(rectangle, room)
                size = size if count == DENSE else written
            if count == DENSE:
                self._encode(part, rectangle, buffer[at : at + size])
            head.append(count)
            at += aligned(size)
        head[0] = at
        buffer[: _head_bytes(message)].view(np.int64)[:] = head
        return buffer[:at]

    def _read_coded(
        self, message: Message, buffer: Array, received: int | None, rectangles: list[Array]
    ) -> None:
        begin = _head_bytes(message)
        if received is not None and received < begin:
            raise BrokenMessageError(f"{received} bytes came, the head alone has {begin}")
        total, *counts = buffer[:begin].view(np.int64).tolist()
        most = len(buffer) if received is None else received
        if total > most or (received is not None and total != received):
            raise BrokenMessageError(f"{most} bytes came, the message says {total}")
        at = begin
        for part, count, out in zip(message.parts, counts, rectangles, strict=True):
            size = self._coded_bytes(part, count, buffer[at:total])
            if at + size > total:
                raise BrokenMessageError(
                    f"{part.tensor!r} needs {size} bytes, {total - at} are left"
                )
            self._read_part(part, count, buffer[at : at + size], out)
            at += aligned(size)
        if at != total:
            raise BrokenMessageError(f"{total - at} bytes follow on the last rectangle")

    def _coded_bytes(self, part: Transfer, count: int, data: Array) -> int:
        """Bytes of a part with so many non-zeros; raises BrokenMessageError for what none has."""
        if count == DENSE:
            return self._dense_bytes(part)
        if not self._is_coded(part):
            raise BrokenMessageError(f"{part.tensor!r}: {count} values of what comes dense")
        return self._rectangle(part).size(count, data)

    def _read_part(self, part: Transfer, count: int, data: Array, out: Array) -> None:
        if count == DENSE:
            self._decode(part, data, out)
        else:
            self._rectangle(part).read(count, data, out)

    def _rectangle(self, part: Transfer) -> Rectangle:
        return Rectangle(self._shape(part), self._wire(part), part.encoding)

    # -- parts ---------------------------------------------------------------------------------

    def _is_partial(self, part: Transfer) -> bool:
        layer = self.network.by_name.get(part.tensor)
        return layer is not None and layer.reduces

    def _is_exact(self, part: Transfer) -> bool:
        """Does it have a codec of its own, which loses nothing?"""
        return is_sent_exactly(self.network, part.tensor, self.dtype)

    def _is_coded(self, part: Transfer) -> bool:
        own = self._is_exact(part) or self._is_partial(part)
        return part.encoding != "dense" and not own

    def _is_plain(self, part: Transfer) -> bool:
        return not self._is_exact(part) and self._wire(part) == "float32"

    def _wire(self, part: Transfer) -> WireDtype:
        if self._is_partial(part):
            return "float32"
        return self.network.input_dtypes.get(part.tensor, self.dtype)

    # -- sizes ---------------------------------------------------------------------------------

    def _dense_bytes(self, part: Transfer) -> int:
        if self._is_exact(part):
            return self._elements(part) * self.network.exact[part.tensor].bytes
        return encoded_bytes((self._elements(part),), self._wire(part))

    def _room_bytes(self, part: Transfer) -> int:
        return self._rectangle(part).room_bytes if self._is_coded(part) else self._dense_bytes(part)

    def _elements(self, part: Transfer) -> int:
        if self._is_partial(part):
            return part.bytes // self.network.bytes_per_element
        return math.prod(self._shape(part))

    def _shape(self, part: Transfer) -> tuple[int, ...]:
        batch, channels = self.network.shapes[part.tensor][:2]
        return batch, channels, part.tile.height, part.tile.width


def _split(buffer: Array, sizes: Sequence[int]) -> list[Array]:
    """Views of a flat buffer, one after the other."""
    return np.split(buffer, np.cumsum(sizes)[:-1])


def _head_bytes(message: Message) -> int:
    return 8 * (1 + len(message.parts))
