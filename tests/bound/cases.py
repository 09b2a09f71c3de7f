"""Random networks, clusters and partitions that bounds are tried on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from nptp_opt.cluster import Cluster, cluster_from_json
from nptp_opt.cost import layer_key
from nptp_opt.geometry import Tile
from nptp_opt.network.ir import Layer, Network
from tests.builders import conv_chain, conv_layer, make_cluster
from tests.networks import with_skip

Tiles = dict[int, Tile]


def random_network(rng: random.Random, most: int) -> Network:
    """Up to three blocks: convolutions, residuals, branches; some layers compute nothing."""
    size = rng.randint(most // 2, most), rng.randint(most // 2, most)
    shapes: dict[str, tuple[int, ...]] = {"input": (1, rng.choice([1, 3]), *size)}
    layers: list[Layer] = []

    def put(layer: Layer) -> str:
        free = rng.random() < 0.1
        layers.append(replace(layer, flop=0.0) if free else layer)
        shapes[layer.name] = layer.shape
        return layer.name

    def conv(source: str, channels: int, kernel: int, stride: int, padding: int) -> Layer:
        shape: tuple[int, int, int, int] = shapes[source]  # type: ignore[assignment]
        sizes = {"kernel": kernel, "stride": stride, "padding": padding}
        if any(n + 2 * padding < kernel for n in shape[2:]):
            sizes = {"kernel": 1, "stride": 1, "padding": 0}
        return conv_layer(f"c{len(layers)}", source, shape, channels, **sizes)

    at = put(conv("input", 4, 3, rng.choice([1, 1, 2]), rng.choice([0, 1, 1])))
    for _ in range(rng.randint(1, 3)):
        kind = rng.choice(["plain", "plain", "residual", "branch"])
        if kind == "plain":
            kernel = rng.choice([1, 2, 3, 5])
            padding = rng.choice([0, kernel // 2, kernel])
            at = put(conv(at, rng.choice([1, 4, 16]), kernel, rng.choice([1, 1, 2, 3]), padding))
            continue
        side = put(conv(at, 4, 1, 1, 0)) if kind == "branch" or shapes[at][1] != 4 else at
        inner = put(conv(at, 4, 3, 1, 1))
        at = put(with_skip(conv(inner, 4, 3, 1, 1), side))
    if not any(layer.flop for layer in layers):
        return random_network(rng, most)
    return Network("random", ("input",), (at,), tuple(layers), shapes)


def random_cluster(rng: random.Random, network: Network) -> Cluster:
    """Two to five devices, often unequal in speed, on single layers and on either way of a link."""
    n, shared, alike = rng.choice([2, 3, 4, 5]), rng.random() < 0.5, rng.random() < 0.4
    fast = rng.choice([1.0, 10.0])
    rate, measured = rng.choice([1.0, 10.0, 100.0, 1e5]), rng.random() < 0.3
    keys = sorted({layer_key(layer) for layer in network.spatial})
    devices = []
    for i in range(n):
        pick = 1 if alike else rng.choice([0.1, 1, 1, 3])
        device = {"name": f"d{i}", "gflops": fast * pick}
        device["overhead_ms"] = 0.0 if alike else rng.choice([0.0, 0.001, 0.1])
        if not alike and i % 2:
            device["program_ms"] = 0.02
        if not shared:
            device["up_mbit_per_s"] = rate * (1 if alike else rng.choice([0.1, 1, 3]))
            device["down_mbit_per_s"] = rate * (1 if alike else rng.choice([0.1, 1, 3]))
        if measured:
            own = [key for key in keys if rng.random() < 0.7] or keys[:1]
            device["layers"] = [
                {"layer": key, "gflops": rng.choice([0.1, 1.0, 5.0]), "overhead_ms": 0.01}
                for key in own
            ]
        devices.append(device)
    link = {"kind": "shared", "mbit_per_s": rate} if shared else {"kind": "switched"}
    link |= {"latency_ms": rng.choice([0.0, 0.01, 1.0]), "source": f"d{rng.randrange(n)}"}
    link |= {"sink": f"d{rng.randrange(n)}", "transfer_dtype": rng.choice(["float32", "int8"])}
    return cluster_from_json({"network": link, "device": devices})


def random_tiles(rng: random.Random, height: int, width: int, share: Sequence[float]) -> Tiles:
    """Strips, columns or any guillotine partition for some devices; cuts by share or anywhere."""
    owners = rng.sample(range(len(share)), rng.choice([len(share), rng.randint(1, len(share))]))
    style, fair = rng.choice(["rows", "columns", "any"]), rng.random() < 0.6
    found: Tiles = {}

    def fill(tile: Tile, own: list[int]) -> None:
        if len(own) == 1 or tile.area == 1:
            found[own[0]] = tile
            return
        half = len(own) // 2 if fair else rng.randint(1, len(own) - 1)
        vertical = style == "columns" or (style == "any" and rng.random() < 0.5)
        vertical = tile.height == 1 or (vertical and tile.width > 1)
        lo, hi = (tile.x0, tile.x1) if vertical else (tile.y0, tile.y1)
        part = sum(share[i] for i in own[:half]) / sum(share[i] for i in own)
        cut = lo + round((hi - lo) * part) if fair else rng.randint(lo, hi)
        cut = min(max(cut, lo + 1), hi - 1)
        ends = (lo, cut), (cut, hi)
        pieces = [tile.columns(*end) if vertical else tile.rows(*end) for end in ends]
        fill(pieces[0], own[:half])
        fill(pieces[1], own[half:])

    fill(Tile(0, height, 0, width), owners)
    return found


def small_case(seed: int) -> tuple[Network, Cluster] | None:
    """A random chain of 1 to 4 layers on maps of up to 5 x 5, with 2 or 3 devices."""
    rng = random.Random(seed)
    size, specs = (rng.randint(1, 5), rng.randint(1, 5)), []
    at = size
    for _ in range(rng.randint(1, 4)):
        kernel, stride = rng.choice([1, 2, 3, 3, 5]), rng.choice([1, 1, 1, 2, 3])
        padding = rng.choice([0, kernel // 2, kernel - 1])
        made = tuple((n + 2 * padding - kernel) // stride + 1 for n in at)
        if all(1 <= n <= 5 for n in made):
            channels, at = rng.choice([1, 4, 16]), (made[0], made[1])
            specs.append(
                {"channels": channels, "kernel": kernel, "stride": stride, "padding": padding}
            )
    if not specs:
        return None
    n = 3 if max(size) < 4 and rng.random() < 0.5 else 2
    names = [f"d{i}" for i in range(n)]
    rate = rng.choice([1.0, 10.0, 100.0, 1e3, 1e5])
    cluster = make_cluster(
        [rng.choice([0.1, 1.0, 1.0, 2.0, 5.0]) for _ in names],
        rates=[rate] * n if rng.random() < 0.5 else [rate * rng.choice([0.3, 1, 3]) for _ in names],
        shared=rng.random() < 0.5,
        latency_ms=rng.choice([0, 0.01, 0.1]),
        overhead_ms=rng.choice([0, 0.001, 0.1]),
        source=rng.choice(names),
        sink=rng.choice(names),
    )
    return conv_chain((1, rng.choice([1, 3]), *size), specs), cluster
