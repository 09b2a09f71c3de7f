"""Tiles, windows and axis maps: the one place for positions."""

from nptp_opt.geometry.tiles import (
    BOTTOM,
    EMPTY,
    LEFT,
    RIGHT,
    TOP,
    AxisMap,
    AxisTables,
    IntArray,
    Tile,
    Tiles,
    Window,
    axis_tables,
    cover_fault,
    need_ranges,
    need_tile,
    transpose_tile,
)

__all__ = [
    "BOTTOM",
    "EMPTY",
    "LEFT",
    "RIGHT",
    "TOP",
    "AxisMap",
    "AxisTables",
    "IntArray",
    "Tile",
    "Tiles",
    "Window",
    "axis_tables",
    "cover_fault",
    "need_ranges",
    "need_tile",
    "transpose_tile",
]
