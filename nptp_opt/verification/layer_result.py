"""Layer results as JSON, and ``check``: evaluating a result without any solver."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from nptp_opt.cost import LayerCost
from nptp_opt.errors import InputError, unknown_name
from nptp_opt.files import Strict, explain, load_json
from nptp_opt.geometry import Tile, cover_fault
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.result import LayerResult

CLAIM_TOLERANCE = 1e-9
"""Relative difference up to which claims agree with the evaluated makespan."""


def layer_result_to_json(problem: LayerProblem, result: LayerResult) -> dict[str, Any]:
    """What ``solve-layer --json`` prints; tiles name their devices."""
    tiles = None
    if result.tiles is not None:
        tiles = [
            {
                "device": problem.devices[i].name,
                "y0": tile.y0,
                "y1": tile.y1,
                "x0": tile.x0,
                "x1": tile.x1,
            }
            for i, tile in sorted(result.tiles.items())
            if not tile.is_empty
        ]
    size = result.size
    return {
        "instance": problem.name,
        "formulation": result.formulation,
        "solver": result.solver,
        "status": str(result.status),
        "termination": str(result.termination),
        "makespan_s": result.makespan_s,
        "bound_s": result.bound_s,
        "gap": result.gap,
        "any_bound_s": result.any_bound_s,
        "root_bound_s": result.root_bound_s,
        "nodes": result.nodes,
        "rows": size.rows if size else None,
        "columns": size.columns if size else None,
        "nonzeros": size.nonzeros if size else None,
        "integers": size.integers if size else None,
        "build_s": result.build_s,
        "solve_s": result.solve_s,
        "notes": dict(result.notes),
        "tiles": tiles,
    }


class _ClaimedTile(Strict):
    device: str
    y0: Annotated[int, Field(ge=0)]
    y1: Annotated[int, Field(ge=0)]
    x0: Annotated[int, Field(ge=0)]
    x1: Annotated[int, Field(ge=0)]


class _Claim(Strict):
    """The part of a result that ``check`` reads; other keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    tiles: Annotated[tuple[_ClaimedTile, ...], Field(strict=False, min_length=1)]
    makespan_s: float | None = None
    bound_s: float | None = None
    any_bound_s: float | None = None


def check_result(problem: LayerProblem, path: Path) -> tuple[list[str], float | None]:
    """Faults of the result in ``path`` as a partition of ``problem``, and its exact makespan.

    The makespan is None where the tiles are no partition. Raises InputError for a file that is no
    result, or names a device that the instance does not have.
    """
    try:
        claim = _Claim.model_validate(load_json(path))
    except ValidationError as error:
        raise explain(error, str(path)) from None
    tiles = _tiles_by_device(problem, claim, path)
    cost = LayerCost(problem)
    fault = cover_fault(tiles.values(), problem.height, problem.width)
    if fault is not None:
        return [fault], None
    faults = [*_off_grid(problem, tiles), *_too_large(problem, cost, tiles)]
    makespan_s = cost.makespan_s(tiles)
    return [*faults, *_false_claims(claim, makespan_s)], makespan_s


def _false_claims(claim: _Claim, makespan_s: float) -> list[str]:
    """What the result says of its makespan, and of bounds that its own tiles refute."""
    faults = []
    if claim.makespan_s is not None:
        off = abs(claim.makespan_s - makespan_s)
        if not off <= CLAIM_TOLERANCE * makespan_s:
            faults.append(f"makespan_s is given as {claim.makespan_s:.9g}, it is {makespan_s:.9g}")
    for name in ("bound_s", "any_bound_s"):
        bound_s = getattr(claim, name)
        if bound_s is not None and not bound_s <= makespan_s * (1 + CLAIM_TOLERANCE):
            faults.append(f"{name} is given as {bound_s:.9g}, above the makespan {makespan_s:.9g}")
    return faults


def _tiles_by_device(problem: LayerProblem, claim: _Claim, path: Path) -> dict[int, Tile]:
    index = {device.name: i for i, device in enumerate(problem.devices)}
    tiles: dict[int, Tile] = {}
    for k, entry in enumerate(claim.tiles):
        if entry.device not in index:
            raise InputError(f"{path}: tiles.{k}: {unknown_name('device', entry.device, index)}")
        if index[entry.device] in tiles:
            raise InputError(f"{path}: tiles.{k}: device {entry.device!r} has two tiles")
        tiles[index[entry.device]] = Tile(entry.y0, entry.y1, entry.x0, entry.x1)
    return tiles


def _off_grid(problem: LayerProblem, tiles: dict[int, Tile]) -> list[str]:
    rows, columns = set(problem.cuts_y), set(problem.cuts_x)
    return [
        f"{problem.devices[i].name}: {tile} has a cut that is no multiple of {problem.cut_step}"
        for i, tile in tiles.items()
        if not ({tile.y0, tile.y1} <= rows and {tile.x0, tile.x1} <= columns)
    ]


def _too_large(problem: LayerProblem, cost: LayerCost, tiles: dict[int, Tile]) -> list[str]:
    return [
        f"{problem.devices[i].name}: {tile} takes {cost.memory_bytes(tile)} bytes, "
        f"more than its memory_mib = {problem.devices[i].memory_mib}"
        for i, tile in tiles.items()
        if not cost.fits(i, tile)
    ]
