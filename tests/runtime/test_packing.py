"""Messages in bytes: coded ones bring every bit, and none that no sender wrote is read."""

from __future__ import annotations

import tracemalloc
import zlib
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from nptp_opt.cluster import TransferDtype
from nptp_opt.cost import Encoding, Transfer
from nptp_opt.geometry import Tile
from nptp_opt.kernels.bitmask import BrokenMessageError
from nptp_opt.kernels.crops import Array
from nptp_opt.kernels.wire_format import round_trip
from nptp_opt.network.exact import Half
from nptp_opt.network.ir import Network
from nptp_opt.runtime.device_program import Message
from nptp_opt.runtime.transport.coding import DENSE, WHOLE
from nptp_opt.runtime.transport.packing import Packing
from tests.builders import conv_chain

NETWORK = replace(conv_chain((1, 3, 12, 11), [{}, {}]), input_dtypes={"input": "uint8"})
MAP = NETWORK.layers[0].name
TILE = Tile(1, 6, 2, 9)


def _message(*parts: tuple[str, str], network: Network = NETWORK) -> Message:
    moves = tuple(Transfer(0, 1, name, TILE, 0, encoding) for name, encoding in parts)  # type: ignore[arg-type]
    return Message(0, 1, 5, moves)


def _values(name: str, density: float, seed: int = 0) -> Array:
    """A crop, not contiguous, of a map with so many non-zeros; pixels of an input."""
    random = np.random.default_rng(seed)
    shape = NETWORK.shapes[name]
    whole = random.standard_normal(shape, dtype=np.float32)
    if name == "input":
        whole = random.integers(1, 256, shape).astype(np.float32)
    whole[random.random(shape) >= density] = 0.0
    return whole[..., TILE.y0 : TILE.y1, TILE.x0 : TILE.x1]


def _sent(packing: Packing, message: Message, values: list[Array]) -> Array:
    return packing.write(message, packing.buffer(message), values).copy()


def _received(packing: Packing, message: Message, sent: Array, *, told: bool = True) -> list[Array]:
    buffer = packing.buffer(message)
    buffer[: len(sent)] = sent
    return packing.read(message, buffer, sent.nbytes if told else None)


@pytest.mark.parametrize("dtype", get_args(TransferDtype))
@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("told", [True, False])
def test_coded_messages_bring_what_the_type_leaves(
    dtype: TransferDtype, density: float, told: bool
) -> None:
    """Several parts, pixels among them, coded or not; none is longer than dense and its head."""
    packing = Packing(NETWORK, dtype, {})
    message = _message((MAP, "bitmask"), ("input", "dense"), ("input", "bitmask"), (MAP, "dense"),
                       (MAP, "huffman"), ("input", "huffman"))  # fmt: skip
    values = [_values(MAP, density), _values("input", 1.0), _values("input", density, 1),
              _values(MAP, 0.7, 2), _values(MAP, density, 3), _values("input", 0.5, 4)]  # fmt: skip
    sent = _sent(packing, message, values)
    assert len(sent) <= len(packing.buffer(message))
    for part, found, given in zip(
        message.parts, _received(packing, message, sent, told=told), values, strict=True
    ):
        wanted = given if part.tensor == "input" else round_trip(given, dtype)
        assert np.array_equal(found, wanted)


def test_zeros_are_not_sent_and_a_message_that_would_be_longer_goes_dense() -> None:
    """By hand: 3 channels of 5 x 7 are 105 elements, 14 bytes of mask in 16, a head of 16."""
    packing, message = Packing(NETWORK, "float32", {}), _message(("input", "bitmask"))
    network = replace(NETWORK, input_dtypes={})
    packing = Packing(network, "float32", {})
    empty, full = (np.full((1, 3, 5, 7), value, np.float32) for value in (0.0, 1.0))
    assert len(_sent(packing, message, [empty])) == 16 + 16
    assert len(_sent(packing, message, [full])) == 16 + 424  # 420 bytes of elements, aligned
    some = empty.copy()
    some[0, 1, 2, 3] = -0.0
    assert len(_sent(packing, message, [some])) == 16 + 16 + 8
    assert np.signbit(_received(packing, message, _sent(packing, message, [some]))[0]).sum() == 1


@pytest.mark.parametrize("encoding", ["bitmask", "huffman"])
def test_bits_of_float32_survive(encoding: str) -> None:
    """NaN payloads, infinities, denormals and -0.0, through a whole message."""
    packing, message = Packing(NETWORK, "float32", {}), _message((MAP, encoding))
    values = np.ascontiguousarray(_values(MAP, 0.3))
    bits = values.view(np.uint32).reshape(-1)
    bits[:6] = [0x7FC01234, 0xFF800001, 0x80000000, 0x00000001, 0x7F800000, 0xFFFFFFFF]
    found = _received(packing, message, _sent(packing, message, [values]))[0]
    assert np.array_equal(found.view(np.uint32).reshape(-1), bits)


@pytest.mark.parametrize("dtype", get_args(TransferDtype))
def test_what_is_special_comes_as_in_a_dense_message(dtype: TransferDtype) -> None:
    """-0.0, denormals of every type, what overflows, infinities and NaN, to the bit; int8, which is
    scaled by the largest, has none that are not finite."""
    special = [-0.0, 1e-45, -1e-40, 6e-8, 1e-7, -1e-8, 65504.0, 1.0, -1.0]
    if dtype != "int8":
        special += [np.inf, -np.inf, np.nan, 1e30, -3e38]
    values = np.zeros((1, 4, 5, 7), np.float32)
    values.reshape(-1)[3 : 3 + 2 * len(special) : 2] = special
    packing, found = Packing(NETWORK, dtype, {}), {}
    with np.errstate(over="ignore"):
        for encoding in ("dense", "bitmask", "huffman"):
            message = replace(_message((MAP, encoding)), tag=len(found))
            (out,) = _received(packing, message, _sent(packing, message, [values]))
            found[encoding] = out.view(np.uint32).copy()
    assert np.array_equal(found["bitmask"], found["dense"])
    assert np.array_equal(found["huffman"], found["dense"])


@pytest.mark.parametrize(
    ("encoding", "density", "most"),
    [("bitmask", 0.0, 0.1), ("bitmask", 0.5, 0.1), ("bitmask", 1.0, 0.1),
     ("huffman", 0.0, 0.2), ("huffman", 0.5, 0.35), ("huffman", 1.0, 0.6)],
)  # fmt: skip
def test_no_map_is_copied_to_be_coded(encoding: Encoding, density: float, most: float) -> None:
    """Writing and reading a message of 5 MB allocates a tenth of it at most, for its mask: elements
    go from the map, which need not be contiguous, into the buffer, and from there into their place.
    With codes one more byte in four of the non-zeros, and blocks of 64 k."""
    network = conv_chain((1, 3, 600, 600), [{}])
    name, tile = network.layers[0].name, Tile(10, 590, 5, 595)
    message = Message(0, 1, 5, (Transfer(0, 1, name, tile, 0, encoding),))
    packing, random = Packing(network, "float32", {}), np.random.default_rng(0)
    whole = random.standard_normal(network.shapes[name], dtype=np.float32)
    whole[random.random(whole.shape) >= density] = 0.0
    values = whole[..., tile.y0 : tile.y1, tile.x0 : tile.x1]
    buffer = packing.buffer(message)
    sent = packing.write(message, buffer, [values])
    packing.read(message, buffer, sent.nbytes)  # what is allocated once for all inputs
    tracemalloc.start()
    try:
        sent = packing.write(message, buffer, [values])
        (found,) = packing.read(message, buffer, sent.nbytes)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(found, values)
    assert peak < most * values.nbytes, (peak, values.nbytes)


def test_dense_messages_of_pixels_and_floats_keep_both() -> None:
    """Bytes in front of floats would leave these without alignment: the wider ones go first."""
    for dtype in ("float32", "float16"):
        packing = Packing(NETWORK, dtype, {})  # type: ignore[arg-type]
        message = _message(("input", "dense"), (MAP, "dense"))
        values = [_values("input", 0.9), _values(MAP, 1.0)]
        found = _received(packing, message, _sent(packing, message, values))
        assert np.array_equal(found[0], values[0])
        assert np.array_equal(found[1], round_trip(values[1], dtype))  # type: ignore[arg-type]


def test_a_map_with_a_codec_of_its_own_is_never_a_bitmask() -> None:
    """In a coded message it lies as its codec has it; a message of it alone is dense."""
    network = replace(NETWORK)
    vars(network)["exact"] = {MAP: Half("float16")}  # as if a cast to it ended the layer
    packing = Packing(network, "float32", {})
    assert not packing.is_coded(_message((MAP, "bitmask")))
    message = _message((MAP, "bitmask"), ("input", "bitmask"))
    halves = _values(MAP, 0.2).astype(np.float16).astype(np.float32)
    values = [halves, _values("input", 0.3)]
    sent = _sent(packing, message, values)
    assert sent[:24].view(np.int64)[1] == DENSE
    for found, wanted in zip(_received(packing, message, sent), values, strict=True):
        assert np.array_equal(found, wanted)


def test_codes_are_used_where_they_are_shorter() -> None:
    """Exponents that are alike take an eighth of their bytes; random bits are left as they are, and
    where the mask makes it longer than its elements these go alone."""
    shape = (1, 4, 40, 50)
    network = conv_chain((1, 3, 40, 50), [{}])
    name, random = network.layers[0].name, np.random.default_rng(0)
    message = Message(0, 1, 5, (Transfer(0, 1, name, Tile(0, 40, 0, 50), 0, "huffman"),))
    packing, elements = Packing(network, "float32", {}), 8000
    alike = 1 + random.random(shape, dtype=np.float32) / 2
    noise = random.integers(1, 2**32, shape, dtype=np.uint32)
    half = noise * (random.random(shape) < 0.5)
    masked = 16 + 8 + elements // 8
    for values, size, codes in (
        (alike, masked + 3 * elements + elements // 8, True),
        (half.astype(np.uint32).view(np.float32), masked + 4 * np.count_nonzero(half), False),
        (noise.view(np.float32), 16 + 4 * elements, None),  # dense
    ):
        sent = _sent(packing, message, [values])
        (found,) = _received(packing, message, sent)
        assert np.array_equal(found.view(np.uint32), values.view(np.uint32))
        if codes is not None:
            assert (sent[16:24].view(np.int64)[0] == WHOLE) is not codes
        assert len(sent) == pytest.approx(size, abs=64)


def _changed(sent: Array, place: int, value: int) -> Array:
    made = sent.copy()
    made[: 8 * (place + 1)].view(np.int64)[place] = value
    return made


def test_broken_messages_are_refused() -> None:
    """Lengths that lie, counts that no part has, values that are missing or follow on the last."""
    packing, message = Packing(NETWORK, "float32", {}), _message((MAP, "bitmask"), (MAP, "bitmask"))
    sent = _sent(packing, message, [_values(MAP, 0.3), _values(MAP, 0.2)])
    count = int(sent[:24].view(np.int64)[1])
    longer = np.concatenate([sent, np.zeros(8, np.uint8)])
    flipped = sent.copy()
    flipped[24] ^= 0x80  # the first bit of the first mask
    broken = {
        "bytes came, the message says": [sent[:-8], longer, _changed(sent, 0, 2**40)],
        "the head alone has": [sent[:16]],
        "values of": [_changed(sent, 1, 10**6), _changed(sent, 2, -2)],
        "the mask marks": [_changed(sent, 1, count - 1), flipped],
        "follow on the last": [_changed(longer, 0, len(longer))],
    }
    for why, messages in broken.items():
        for each in messages:
            with pytest.raises(BrokenMessageError, match=why):
                _received(packing, message, each)


def test_broken_codes_are_refused() -> None:
    """Too few and too many of them, cut ones, more bytes than are there, bytes that follow."""
    network = conv_chain((1, 3, 40, 50), [{}])
    name = network.layers[0].name
    message = Message(0, 1, 5, (Transfer(0, 1, name, Tile(0, 40, 0, 50), 0, "huffman"),))
    packing, values = Packing(network, "float32", {}), np.ones((1, 4, 40, 50), np.float32)
    values[..., :7] = 0.0
    sent = _sent(packing, message, [values])
    _, count, codes = (int(n) for n in sent[:24].view(np.int64))
    at = len(sent) - (codes + 7) // 8 * 8
    assert count == np.count_nonzero(values)

    def coded(first: bytes) -> Array:
        """The message with other codes."""
        code = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
        made = code.compress(first) + code.flush()
        body = np.frombuffer(made + bytes(-len(made) % 8), np.uint8)
        return _changed(_changed(np.append(sent[:at], body), 2, len(made)), 0, at + len(body))

    right = bytes([0x3F]) * count
    assert np.array_equal(_received(packing, message, coded(right))[0], values)
    zeros = sent.copy()
    zeros[at:] = 0xFF
    broken = {
        "fewer codes": [coded(right[:-1]), _changed(sent, 2, codes - 9)],
        "more codes": [coded(right + b"x")],
        "codes of first bytes": [zeros],
        "bytes of codes for": [_changed(sent, 2, count + 1), _changed(sent, 2, -2)],
        "bytes, .* are left": [_changed(sent, 2, count)],
        "values of": [_changed(sent, 1, 9000)],
        "does not mark": [_changed(sent, 1, count - 8)],
    }
    for why, messages in broken.items():
        for each in messages:
            with pytest.raises(BrokenMessageError, match=why):
                _received(packing, message, each)


@pytest.mark.parametrize(("encoding", "dtype"), [("bitmask", "int8"), ("huffman", "float32")])
def test_any_byte_changed_gives_an_error_or_a_map_of_the_right_shape(
    encoding: str, dtype: TransferDtype
) -> None:
    """Nothing else is raised, and nothing is read or written elsewhere."""
    packing, message = Packing(NETWORK, dtype, {}), _message((MAP, encoding))
    values = _values(MAP, 0.9)
    np.copyto(values, 1.5, where=values != 0)  # alike, so that there are codes
    sent = _sent(packing, message, [values])
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        made = sent.copy()
        made[int(random.integers(len(made)))] ^= int(random.integers(1, 256))
        try:
            assert _received(packing, message, made)[0].shape == (
                1,
                *NETWORK.shapes[MAP][1:2],
                5,
                7,
            )
        except BrokenMessageError:
            refused += 1
    assert 0 < refused < 300
