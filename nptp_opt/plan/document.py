"""The plan: what every device computes and sends, as a document that needs no optimiser to execute.

In code (``plan.model``) a plan speaks of device numbers, in the file of names.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from nptp_opt.cluster import Cluster
from nptp_opt.cost import Encoding, Transfer
from nptp_opt.errors import InputError, unknown_name
from nptp_opt.files import (
    MOST_EXACT,
    ONE,
    SEVERAL,
    Strict,
    explain,
    load_json,
    one_or_several,
    write_text,
)
from nptp_opt.geometry import MOST_POSITION, Tile
from nptp_opt.network.ir import Network
from nptp_opt.network.ref import ModelRef, shape_to_json
from nptp_opt.plan.model import Plan
from nptp_opt.plan.network_json import NetworkEntry, network_hash, network_to_json
from nptp_opt.plan.pixels_json import PixelsField, pixels_from_json, pixels_to_json
from nptp_opt.plan.provenance import Provenance, Seconds
from nptp_opt.plan.steps import GatherStep, GlobalStep, SpatialStep, Step

__all__ = [
    "ModelRef",
    "Plan",
    "PlanDocument",
    "Step",
    "higher_numbered_paths",
    "load_plan",
    "numbered_paths",
    "plan_from_json",
    "plan_to_json",
    "read_plan",
    "schema_text",
    "write_plan",
]

PLAN_SCHEMA = "nptp-opt/plan/2"

OLD_SCHEMAS = ("nptp-opt/plan/1",)


# -- the document ------------------------------------------------------------------------------

Index = Annotated[int, Field(ge=0, le=MOST_POSITION)]


class _Rectangle(Strict):
    y0: Index
    y1: Index
    x0: Index
    x1: Index

    @property
    def tile(self) -> Tile:
        return Tile(self.y0, self.y1, self.x0, self.x1)


class TileEntry(_Rectangle):
    """The tile of one device, on output indices of the segment's last layer."""

    device: str


class TransferEntry(_Rectangle):
    """One rectangle that one device sends to another."""

    from_: Annotated[str, Field(alias="from")]
    to: str
    tensor: str
    bytes: Annotated[int, Field(ge=0, le=MOST_EXACT)]
    encoding: Encoding = "dense"


class SegmentEntry(Strict):
    """A step of the plan.

    Transfers are in the order in which their senders hand them over. ``pieces`` are those of
    devices that compute their tile in several, in the order in which they are computed.
    """

    kind: Literal["spatial", "global", "gather"]
    layers: Annotated[tuple[str, ...], Field(strict=False)]
    tiles: Annotated[tuple[TileEntry, ...], Field(strict=False)]
    device: str | None = None
    transfers: Annotated[tuple[TransferEntry, ...], Field(strict=False)]
    makespan_s: Seconds
    pieces: Annotated[tuple[TileEntry, ...], Field(strict=False)] = ()


Shape = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)]
Shapes = Annotated[tuple[Shape, ...], Field(strict=False, min_length=2)]


class ModelEntry(Strict):
    """The model and the content hash of its network; of several inputs every shape is given."""

    ref: str
    input: Annotated[
        Annotated[Shape, Tag(ONE)] | Annotated[Shapes, Tag(SEVERAL)], Discriminator(one_or_several)
    ]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    weights: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    network_hash: str
    pixels: PixelsField = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.reference()
        return self

    def reference(self) -> ModelRef:
        """The same in code."""
        pixels = pixels_from_json(self.pixels)
        return ModelRef(self.ref, self.input, self.seed, self.weights, pixels)


class PlanDocument(Strict):
    """The plan file, field by field."""

    schema_: Annotated[Literal["nptp-opt/plan/2"], Field(alias="schema")]
    model: ModelEntry
    network: NetworkEntry
    cluster: Cluster
    cluster_hash: str
    segments: Annotated[tuple[SegmentEntry, ...], Field(strict=False, min_length=1)]
    latency_s: Seconds
    synchronous_s: Seconds
    bound_s: Seconds | None
    gap: Seconds | None
    energy_j: Seconds | None = None
    period_s: Seconds | None = None
    provenance: Provenance
    hash: str


def content_hash(content: Any) -> str:
    """sha256 of the canonical JSON of ``content``."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """The plan file's content, hashes included."""
    names = [device.name for device in plan.cluster.devices]
    cluster = plan.cluster.to_json()
    content: dict[str, Any] = {
        "schema": PLAN_SCHEMA,
        "model": {
            "ref": plan.model.ref,
            "input": shape_to_json(plan.model.input),
            "seed": plan.model.seed,
            **({} if plan.model.weights is None else {"weights": plan.model.weights}),
            "network_hash": network_hash(plan.network),
            **pixels_to_json(plan.model.pixels),
        },
        "cluster": cluster,
        "cluster_hash": content_hash(cluster),
        "segments": [_segment_to_json(step, names) for step in plan.steps],
        "latency_s": plan.latency_s,
        "synchronous_s": plan.synchronous_s,
        "bound_s": plan.bound_s,
        "gap": plan.gap,
        **_objectives_to_json(plan),
        "provenance": plan.provenance.to_json(),
        "network": network_to_json(plan.network),
    }
    return {**content, "hash": plan_hash(content)}


def plan_hash(content: dict[str, Any]) -> str:
    """Of all but how long the planning took: the same plan, made again, has the same hash."""
    made = {k: v for k, v in content["provenance"].items() if k not in Provenance.TIMES}
    return content_hash({**content, "provenance": made})


def _objectives_to_json(plan: Plan) -> dict[str, float]:
    """Values of other objectives, as far as they are known."""
    values = {"energy_j": plan.energy_j, "period_s": plan.period_s}
    return {name: value for name, value in values.items() if value is not None}


def _segment_to_json(step: Step, names: list[str]) -> dict[str, Any]:
    pieces = [
        {"device": names[i], **_sides(part)}
        for i in step.devices
        for part in step.pieces_of(i)
        if len(step.pieces_of(i)) > 1
    ]
    return {
        "kind": step.kind,
        "layers": list(step.layers),
        "tiles": [
            {"device": names[i], **_sides(tile)}
            for i, tile in sorted(step.tiles.items())
            if not tile.is_empty
        ],
        "device": None if step.device is None else names[step.device],
        "transfers": [
            {
                "from": names[move.src],
                "to": names[move.dst],
                "tensor": move.tensor,
                **_sides(move.tile),
                "bytes": move.bytes,
                **({} if move.encoding == "dense" else {"encoding": move.encoding}),
            }
            for move in step.transfers
        ],
        "makespan_s": step.makespan_s,
        **({"pieces": pieces} if pieces else {}),
    }


def _sides(tile: Tile) -> dict[str, int]:
    return {"y0": tile.y0, "y1": tile.y1, "x0": tile.x0, "x1": tile.x1}


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan file; nothing half-written is left when that fails."""
    write_text(path, json.dumps(plan_to_json(plan), indent=1, allow_nan=False) + "\n")


def numbered_paths(path: Path, count: int) -> list[Path]:
    """Files of several plans next to ``path``: plan.json becomes plan.1.json, plan.2.json, ..."""
    return [path.with_suffix(f".{k}{path.suffix}") for k in range(1, count + 1)]


def higher_numbered_paths(path: Path, count: int) -> list[Path]:
    """Files that are there under higher numbers: of an earlier front with more plans, or not."""
    name = re.compile(rf"{re.escape(path.stem)}\.(\d+){re.escape(path.suffix)}")
    try:
        there = list(path.parent.iterdir())
    except OSError:  # a folder that can be written but not listed
        return []
    matches = [(name.fullmatch(other.name), other) for other in there]
    paths = [(int(match[1]), other) for match, other in matches if match]
    return [other for number, other in sorted(paths) if number > count]


def load_plan(path: Path) -> Plan:
    """Read a plan file; raises InputError with file and field, also for a hash that is stale."""
    return checked_plan(load_json(path), str(path))


def checked_plan(data: Any, where: str) -> Plan:
    """As ``load_plan``, from parsed JSON."""
    plan = plan_from_json(data, where)
    stale = false_fields(data, plan)
    if stale:
        raise InputError(f"{where}: {stale[0]}")
    return plan


def read_plan(path: Path) -> tuple[Plan, tuple[str, ...]]:
    """As ``load_plan``, but returns what is wrong with the hashes beside the plan."""
    data = load_json(path)
    plan = plan_from_json(data, str(path))
    return plan, false_fields(data, plan)


def plan_from_json(data: Any, where: str = "plan") -> Plan:
    """Read a plan from parsed JSON. What it *computes* is checked by ``verify``, not here."""
    if isinstance(data, dict) and data.get("schema") in OLD_SCHEMAS:
        raise InputError(
            f"{where}: a plan of an older version ({data['schema']}), whose latency_s had barriers "
            "that no device runs by; plan again with `nptp-opt solve`"
        )
    try:
        document = PlanDocument.model_validate(data)
    except ValidationError as error:
        raise explain(error, where, data) from None
    network = document.network.network()
    return Plan(
        model=document.model.reference(),
        network=network,
        cluster=document.cluster,
        steps=_steps_from_json(document, network, where),
        latency_s=document.latency_s,
        bound_s=_below(document.bound_s, document.latency_s, where),
        energy_j=document.energy_j,
        period_s=document.period_s,
        provenance=document.provenance,
    )


def _below(bound_s: float | None, latency_s: float, where: str) -> float | None:
    if bound_s is not None and bound_s > latency_s * (1 + 1e-6):
        raise InputError(f"{where}: bound_s is {bound_s:.9g}, above the latency {latency_s:.9g}")
    return bound_s


def false_fields(data: dict[str, Any], plan: Plan) -> tuple[str, ...]:
    """Hashes and totals that do not fit what they stand for, each as one sentence."""
    content = {key: value for key, value in data.items() if key != "hash"}
    fields = {
        "model.network_hash": (data["model"]["network_hash"], network_hash(plan.network)),
        "cluster_hash": (data["cluster_hash"], content_hash(plan.cluster.to_json())),
        "hash": (data["hash"], plan_hash(content)),
    }
    stale = [
        f"{field} is stale: the file was edited or is damaged; plan again with `nptp-opt solve`"
        for field, (written, actual) in fields.items()
        if written != actual
    ]
    totals = {"synchronous_s": plan.synchronous_s, "gap": plan.gap}
    return (
        *stale,
        *(
            f"{field} is {data[field]}, the segments give {value}"
            for field, value in totals.items()
            if not _same(data[field], value)
        ),
    )


def _same(written: float | None, actual: float | None) -> bool:
    if written is None or actual is None:
        return written is actual
    return abs(written - actual) <= 1e-9 * max(abs(written), abs(actual))


def _steps_from_json(document: PlanDocument, network: Network, where: str) -> tuple[Step, ...]:
    index = {device.name: i for i, device in enumerate(document.cluster.devices)}
    steps = []
    for k, entry in enumerate(document.segments):
        _check_segment(entry, index, network, f"{where}: segments.{k}")
        last = k == len(document.segments) - 1
        steps.append(_step(entry, index, network.spatial_outputs if last else ()))
    return tuple(steps)


def _check_segment(entry: SegmentEntry, index: dict[str, int], network: Network, at: str) -> None:
    """Raise InputError for a segment that is no step."""
    named = [tile.device for tile in (*entry.tiles, *entry.pieces)]
    named += [entry.device] if entry.device is not None else []
    for name in (*named, *(m.from_ for m in entry.transfers), *(m.to for m in entry.transfers)):
        if name not in index:
            raise InputError(f"{at}: {unknown_name('device', name, index)}")
    for name in entry.layers:
        if name not in network.by_name:
            raise InputError(f"{at}: the network has no layer {name!r}")
    tiled = [tile.device for tile in entry.tiles]
    doubled = next((name for name in tiled if tiled.count(name) > 1), None)
    if doubled is not None:
        raise InputError(f"{at}: device {doubled!r} has two tiles: a device owns one at most")
    if entry.kind != "gather" and not entry.layers:
        raise InputError(f"{at}: a {entry.kind} segment needs a layer")
    if (entry.kind == "gather") != (entry.device is not None):
        raise InputError(f"{at}: device belongs to a gather, and a gather needs one")
    if entry.pieces and entry.kind != "spatial":
        raise InputError(f"{at}: pieces belong to a spatial segment, not to a {entry.kind}")
    if entry.tiles and entry.kind == "gather":
        raise InputError(f"{at}: tiles belong to spatial and global segments, not to a gather")


def _step(entry: SegmentEntry, index: dict[str, int], collects: tuple[str, ...]) -> Step:
    """``collects`` is what the step brings to its device beside what its layers read."""
    moves = tuple(
        Transfer(index[m.from_], index[m.to], m.tensor, m.tile, m.bytes, m.encoding)
        for m in entry.transfers
    )
    layers, seconds = entry.layers, entry.makespan_s
    if entry.device is not None:
        device = index[entry.device]
        return GatherStep(layers, device, collects, transfers=moves, makespan_s=seconds)
    tiles = {index[tile.device]: tile.tile for tile in entry.tiles}
    if entry.kind == "global":
        return GlobalStep(layers, tiles, transfers=moves, makespan_s=seconds)
    pieces: dict[int, tuple[Tile, ...]] = {}
    for piece in entry.pieces:
        device = index[piece.device]
        pieces[device] = (*pieces.get(device, ()), piece.tile)
    return SpatialStep(layers, tiles, transfers=moves, makespan_s=seconds, pieces=pieces)


def schema_text() -> str:
    """The JSON Schema of a plan file, as it is shipped."""
    schema = PlanDocument.model_json_schema(by_alias=True)
    return json.dumps({"$id": PLAN_SCHEMA, **schema}, indent=1) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
