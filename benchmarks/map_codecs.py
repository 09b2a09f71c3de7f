"""Lossless codecs of maps behind ReLUs: our bitmask beside byte shuffle with LZ4 or zstd.

    python benchmarks/trained.py FOLDER
    python benchmarks/map_codecs.py FOLDER

Protocol. Maps are all outputs of convolutions that end with a ReLU, in float32, of VGG-16,
ResNet-50 and MobileNet v2 (random weights, a random image) and of the two trained networks of
``trained.py`` (a photograph), each at most so many channels as have ``ELEMENTS``. Every codec
encodes and decodes each map whole, on one thread, into memory that is there already where its
interface allows it; each map's least of ``REPEATS`` counts. That a map comes back bit by bit is
asserted. ``ratio`` is encoded over dense bytes, MB/s are of dense bytes. ``at R`` is what a map
takes from the sender's memory to the receiver's on a link of R Mbit/s, encoding and decoding
included, over what it takes dense.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from about import arguments, head, provenance, save
from trained import NETWORKS, photographs, use

from nptp_opt.kernels.bitmask import compress, expand, mask_bytes, prepare
from nptp_opt.kernels.run import run_network
from nptp_opt.network.given import random_inputs
from nptp_opt.network.load import LoadedModel, load_model
from nptp_opt.runtime.transport.coding import Rectangle

RANDOM = ("vgg16", "resnet50", "mobilenet_v2")
ELEMENTS = 400_000
LEAST = 10_000
"""Smaller maps are left out: they measure calls."""
REPEATS = 3
LINKS = (10.0, 50.0, 100.0, 300.0, 1000.0)

Map = npt.NDArray[np.float32]
Row = dict[str, Any]


@dataclass(frozen=True)
class Codec:
    """To bytes, and back into an array of the map's shape."""

    name: str
    encode: Callable[[Map], Any]
    decode: Callable[[Any, Map], Map]


def bitmask() -> Codec:
    """Ours: a bit for each element, then the non-zeros."""
    prepare()
    mask, room = np.empty(mask_bytes(ELEMENTS), np.uint8), np.empty(ELEMENTS, np.uint32)

    def encode(values: Map) -> tuple[Any, Any]:
        size = mask_bytes(values.size)
        count = compress(values.view(np.uint32), mask[:size], room)
        return mask[:size], room[:count]

    def decode(coded: Any, out: Map) -> Map:
        expand(*coded, out.view(np.uint32))
        return out

    return Codec("bitmask", encode, decode)


def masked(inner: Codec) -> Codec:
    """The bitmask's non-zeros by another codec."""
    ours = bitmask()

    def encode(values: Map) -> tuple[Any, Any, int]:
        mask, rest = ours.encode(values)
        return mask, inner.encode(rest), len(rest)

    def decode(coded: Any, out: Map) -> Map:
        mask, rest, count = coded
        return ours.decode((mask, inner.decode(rest, np.empty(count, np.uint32))), out)

    return Codec(f"bitmask, then {inner.name}", encode, decode)


def huffman() -> Codec:
    """Ours: the bitmask, the first bytes of its non-zeros in Huffman codes."""
    prepare()
    room = np.empty(ELEMENTS * 4 + 8 * ELEMENTS, np.uint8)

    def encode(values: Map) -> tuple[Any, int]:
        count, size = rectangle(values).write(values.reshape(1, 1, 1, -1), room)
        assert count >= 0, "longer than dense"
        return room[:size], count

    def decode(coded: Any, out: Map) -> Map:
        rectangle(out).read(coded[1], coded[0], out.reshape(1, 1, 1, -1))
        return out

    def rectangle(values: Map) -> Rectangle:
        return Rectangle((1, 1, 1, values.size), "float32", "huffman")

    return Codec("bitmask with Huffman codes of first bytes", encode, decode)


def blosc(name: str, kind: str, shuffle: str, level: int) -> Codec:
    """blosc2 on one thread: elements' bytes or bits together, then a codec."""
    import blosc2

    blosc2.set_nthreads(1)
    options = {
        "typesize": 4, "clevel": level, "codec": getattr(blosc2.Codec, kind), "nthreads": 1,
        "filters": [getattr(blosc2.Filter, shuffle)],
    }  # fmt: skip

    def decode(coded: Any, out: Map) -> Map:
        blosc2.decompress2(coded, dst=out.reshape(-1).view(np.uint8), nthreads=1)
        return out

    return Codec(name, lambda values: blosc2.compress2(values, **options), decode)


def plain() -> Iterator[Codec]:
    """Without a shuffle."""
    import lz4.block
    import zstandard

    def back(made: bytes, out: Map) -> Map:
        return np.frombuffer(made, out.dtype).reshape(out.shape)

    into, out_of = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()
    yield Codec("LZ4", lambda v: lz4.block.compress(v, store_size=True),
                lambda c, out: back(lz4.block.decompress(c), out))  # fmt: skip
    yield Codec("zstd 1", into.compress, lambda c, out: back(out_of.decompress(c), out))


def codecs() -> list[Codec]:
    shuffled = blosc("byte shuffle, LZ4", "LZ4", "SHUFFLE", 5)
    return [
        bitmask(),
        huffman(),
        shuffled,
        blosc("bit shuffle, LZ4", "LZ4", "BITSHUFFLE", 5),
        blosc("byte shuffle, zstd 1", "ZSTD", "SHUFFLE", 1),
        blosc("byte shuffle, zstd 5", "ZSTD", "SHUFFLE", 5),
        *plain(),
        masked(shuffled),
        masked(blosc("byte shuffle, zstd 1", "ZSTD", "SHUFFLE", 1)),
    ]


def size_of(coded: Any) -> int:
    """Bytes on the wire."""
    if isinstance(coded, tuple):
        return sum(size_of(part) for part in coded)
    if isinstance(coded, int):
        return 8
    return coded.nbytes if isinstance(coded, np.ndarray) else len(coded)


def maps(model: LoadedModel, x: torch.Tensor) -> list[Map]:
    """What it makes behind its ReLUs, contiguous, of some channels."""
    found = []
    with torch.inference_mode():
        for name, values in run_network(model.network, model.weights(), x):
            last = model.network.by_name[name].nodes[-1].op
            if last in ("relu", "hardtanh") and values.dim() == 4 and values.numel() >= LEAST:
                channels = max(1, ELEMENTS // (values.shape[2] * values.shape[3]))
                found.append(np.ascontiguousarray(values[:, :channels].numpy()))
    return found


def sources(folder: Path) -> Iterator[tuple[str, list[Map]]]:
    """Maps by network."""
    for name in RANDOM:
        model = load_model(name, (1, 3, 224, 224))
        yield name, maps(model, random_inputs(model.network, 0)[0])
    for each in NETWORKS:
        model = each.load(folder)
        own = torch.from_numpy(each.sample(next(photographs(folder))))
        (spec,) = model.signature.inputs
        (x,) = model.signature.network_inputs({spec.name: own})
        yield f"{each.name}, trained", maps(model, x)


def measured(codec: Codec, some: list[Map]) -> Row:
    """Bytes and seconds of all maps together."""
    dense = coded_bytes = 0
    encode_s = decode_s = 0.0
    for values in some:
        out, there, back = np.empty_like(values), [], []
        for _ in range(REPEATS):
            start = time.perf_counter()
            coded = codec.encode(values)
            middle = time.perf_counter()
            made = codec.decode(coded, out)
            back.append(time.perf_counter() - middle)
            there.append(middle - start)
        assert made.tobytes() == values.tobytes(), codec.name
        dense, coded_bytes = dense + values.nbytes, coded_bytes + size_of(coded)
        encode_s, decode_s = encode_s + min(there), decode_s + min(back)
    row = {
        "codec": codec.name,
        "ratio": coded_bytes / dense,
        "encode_mb_per_s": dense / 1e6 / encode_s,
        "decode_mb_per_s": dense / 1e6 / decode_s,
    }
    return row | {f"at_{rate:g}": cost(row, rate) for rate in LINKS}


def cost(row: Row, mbit_per_s: float) -> float:
    """Seconds on a link, encoded over dense."""
    rate = mbit_per_s / 8
    coded = row["ratio"] / rate + 1 / row["encode_mb_per_s"] + 1 / row["decode_mb_per_s"]
    return float(coded * rate)


def page(record: Row) -> str:
    lines = head("Codecs of maps", "python benchmarks/map_codecs.py FOLDER", record["about"])
    for each in record["networks"]:
        lines += [
            f"## {each['network']}",
            "",
            f"{each['maps']} maps, {each['megabytes']:.1f} MB, {each['density']:.2f} not zero.",
            "",
            "| codec | ratio | encode MB/s | decode MB/s | "
            + " | ".join(f"at {rate:g}" for rate in LINKS)
            + " |",
            "|---|" + "---|" * (3 + len(LINKS)),
        ]
        for row in each["codecs"]:
            cells = [row["codec"], f"{row['ratio']:.3f}"]
            cells += [f"{row[f'{way}_mb_per_s']:.0f}" for way in ("encode", "decode")]
            cells += [f"{row[f'at_{rate:g}']:.2f}" for rate in LINKS]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    use(folder)
    torch.set_num_threads(1)
    record: Row = {"about": provenance(), "networks": []}
    for name, some in sources(folder):
        every = np.concatenate([values.reshape(-1) for values in some])
        density = float(np.count_nonzero(every.view(np.uint32)) / every.size)
        found = [measured(codec, some) for codec in codecs()]
        print(name, [f"{row['codec']}: {row['ratio']:.3f}" for row in found], file=sys.stderr)
        about = {"maps": len(some), "megabytes": every.nbytes / 1e6, "density": density}
        record["networks"].append({"network": name, **about, "codecs": found})
        save("map_codecs", record, page(record))


if __name__ == "__main__":
    main()
