"""Tables of the runs that end at one tensor of the path: regions by size and border contacts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nptp_opt.bound.chain import Beside, Chain, Spans, compose, identity
from nptp_opt.bound.pairs import least_pair
from nptp_opt.bound.tables import (
    BOTH,
    HIGH,
    LOW,
    NONE,
    concave,
    least_in_pieces,
    least_lengths,
    longest,
    most_kept,
    most_lengths,
    rising,
)
from nptp_opt.cost import FloatArray
from nptp_opt.geometry import IntArray
from nptp_opt.network.ir import Layer

Axes = tuple[FloatArray, FloatArray]
"""Tables of the rows and of the columns."""


@dataclass(frozen=True)
class Extras:
    """Layers beside the path, with rising tables of what a tile of the end reads of each.

    Layer k counts in runs that begin before tensor ``at[k]``.
    """

    layers: tuple[Layer, ...]
    at: IntArray
    rows: FloatArray
    columns: FloatArray


@dataclass(frozen=True)
class Skips:
    """Operands k of the path's joins: tensors ``made[k]`` of ``pixels[k]``, that tensor ``read[k]``
    is made of; rows and columns [k, contacts, length] that a tile of the end needs of them. Runs
    that begin between fetch them: they were made by steps before, whoever owns which part."""

    made: IntArray
    read: IntArray
    pixels: IntArray
    rows: FloatArray
    columns: FloatArray

    def bytes(self, pixel_bytes: FloatArray, starts: IntArray) -> FloatArray:
        """Bytes [k, start] of a pixel of what is fetched, 0 where it is not."""
        between = (self.made[:, None] < starts) & (starts < self.read[:, None])
        return np.asarray(between * pixel_bytes[self.made][:, None])


@dataclass(frozen=True)
class End:
    """``rows`` and ``columns`` are [tensor, contacts, length], ``most`` [length] per tensor.

    ``kept`` are rows' and columns' tables like the first, of what only a tile's outputs read.
    ``read`` counts the pixels of every tensor before the end that every partition reads;
    ``joined`` are the tensors of which any two neighbours of the end read a pixel in common, and
    later outputs none before, nor beyond, what earlier ones read;
    ``needed`` those of which every output reads a pixel (a window may lie in the padding).
    """

    at: int
    rows: FloatArray
    columns: FloatArray
    extras: Extras
    skips: Skips
    most: dict[int, Axes]
    kept: Axes
    read: IntArray
    joined: npt.NDArray[np.bool_]
    needed: npt.NDArray[np.bool_]

    @property
    def size(self) -> tuple[int, int]:
        return self.rows.shape[2] - 1, self.columns.shape[2] - 1

    @cached_property
    def concave_rows(self) -> FloatArray:
        return _each(concave, self.rows)

    @cached_property
    def reduced(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Tables of the path and of joins' operands; prices are concave in the height."""
        rows = self.skips.rows
        skipped = _each(concave, rows) if len(rows) else rows
        return self.concave_rows, self.columns, skipped, self.skips.columns

    def least_pairs(self, area: int) -> FloatArray:
        """Pixels of every tensor that two neighbouring tiles of ``area`` pixels together read, if
        any two neighbours read some in common."""
        rows, columns = (_wherever(axis) for axis in self.rising)
        pairs = least_pair(rows, columns, area), least_pair(columns, rows, area)
        return np.asarray(np.minimum(*pairs))

    @cached_property
    def rising(self) -> Axes:
        return _each(rising, self.rows), _each(rising, self.columns)


def _each(change: Callable[[FloatArray], FloatArray], tables: Iterable[FloatArray]) -> FloatArray:
    return np.array([change(table) for table in tables])


def _wherever(axis: FloatArray) -> FloatArray:
    """[tensor, length] of a table that rises: the least of any contacts."""
    n = axis.shape[2] - 1
    found = np.repeat(axis[:, BOTH, n:], n + 1, axis=1)
    for f in (NONE, LOW, HIGH):
        most = longest(n, f)
        found[:, 1 : most + 1] = np.minimum(found[:, 1 : most + 1], axis[:, f, 1 : most + 1])
    return found


def end_of(chain: Chain, at: int, *, pieces: bool = False) -> End:
    """Tables of the runs that end at tensor ``at``.

    Tiles that are computed in ``pieces`` may skip lines between these: along either axis there
    are at most three, the interior and the rim on either side.
    """
    least = least_in_pieces if pieces else least_lengths
    regions = _regions(chain, at)
    size = chain.sizes[at]
    rows, columns = (np.zeros((at + 1, 4, length + 1)) for length in size)
    kept = np.zeros_like(rows[:at]), np.zeros_like(columns[:at])
    read = np.zeros(at, dtype=np.int64)
    joined, needed = np.zeros(at, dtype=np.bool_), np.zeros(at + 1, dtype=np.bool_)
    for k, (along, across) in regions.items():
        rows[k], columns[k] = least(*along), least(*across)
        needed[k] = all((first < last).all() for first, last in (along, across))
        if k < at:
            kept[0][k] = most_kept(*along, chain.sizes[k][0])
            kept[1][k] = most_kept(*across, chain.sizes[k][1])
            read[k] = _positions(*along) * _positions(*across)
            joined[k] = _joined(*along) and _joined(*across)
    most = {
        k: (most_lengths(*along), most_lengths(*across))
        for k, (along, across) in chain.widest(at).items()
    }
    extras = _extras(chain, regions, size, least)
    skips = _skips(chain, regions, size, least)
    return End(at, rows, columns, extras, skips, most, kept, read, joined, needed)


def _joined(first: IntArray, last: IntArray) -> bool:
    """True when every output and the next one read some position in common, in order."""
    ordered = (np.diff(first) >= 0).all() and (np.diff(last) >= 0).all()
    return bool((first < last).all() and ordered and (first[1:] < last[:-1]).all())


def _positions(first: IntArray, last: IntArray) -> int:
    """Number of positions that some single output reads: each span opens and closes one level."""
    reading = first < last
    levels = np.zeros(int(last.max(initial=0)) + 1, dtype=np.int64)
    np.add.at(levels, first[reading], 1)
    np.add.at(levels, last[reading], -1)
    return int((levels.cumsum() > 0).sum())


def _regions(chain: Chain, at: int) -> dict[int, tuple[Spans, Spans]]:
    """Per tensor up to ``at`` what single rows and columns of tensor ``at`` read at least."""
    height, width = chain.sizes[at]
    spans = identity(height), identity(width)
    found = {at: spans}
    for k in range(at, 0, -1):
        step = chain.steps[k - 1]
        if step is not None:
            spans = compose(spans[0], step[0]), compose(spans[1], step[1])
            found[k - 1] = spans
    return found


def _extras(
    chain: Chain,
    regions: dict[int, tuple[Spans, Spans]],
    size: tuple[int, int],
    least: Callable[[IntArray, IntArray], FloatArray],
) -> Extras:
    known = [b for b in chain.beside if b.position in regions]
    tables = [_extra(b, regions[b.position], least) for b in known]
    return Extras(
        tuple(b.layer for b in known),
        np.array([b.position for b in known], dtype=np.int64),
        _stack([rows for rows, _ in tables], size[0]),
        _stack([columns for _, columns in tables], size[1]),
    )


def _skips(
    chain: Chain,
    regions: dict[int, tuple[Spans, Spans]],
    size: tuple[int, int],
    least: Callable[[IntArray, IntArray], FloatArray],
) -> Skips:
    known = [skip for skip in chain.skips if skip.read in regions]
    tables = [
        tuple(
            least(*compose(outer, own)) for outer, own in zip(regions[s.read], s.spans, strict=True)
        )
        for s in known
    ]
    return Skips(
        np.array([skip.made for skip in known], dtype=np.int64),
        np.array([skip.read for skip in known], dtype=np.int64),
        np.array([chain.areas[skip.made] for skip in known], dtype=np.int64),
        _stack([rows for rows, _ in tables], size[0]),
        _stack([columns for _, columns in tables], size[1]),
    )


def _extra(
    beside: Beside,
    outer: tuple[Spans, Spans],
    least: Callable[[IntArray, IntArray], FloatArray],
) -> Axes:
    rows = least(*compose(outer[0], beside.spans[0]))
    return rising(rows), rising(least(*compose(outer[1], beside.spans[1])))


def _stack(tables: list[FloatArray], length: int) -> FloatArray:
    return np.array(tables) if tables else np.zeros((0, 4, length + 1))
