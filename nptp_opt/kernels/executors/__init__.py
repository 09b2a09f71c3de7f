"""Executors: one file each, one interface and one registry (``registry``)."""

from nptp_opt.kernels.executors.choice import Chosen, choose, prepare
from nptp_opt.kernels.executors.onnxruntime import OnnxRuntime
from nptp_opt.kernels.executors.openvino import OpenVino
from nptp_opt.kernels.executors.program import Part, TileProgram, tile_program
from nptp_opt.kernels.executors.registry import (
    EXECUTORS,
    Executor,
    Opened,
    Prepared,
    find,
    listing,
    register,
    require,
)
from nptp_opt.kernels.executors.torch import TORCH

__all__ = [
    "EXECUTORS",
    "Chosen",
    "Executor",
    "Opened",
    "Part",
    "Prepared",
    "TileProgram",
    "choose",
    "find",
    "listing",
    "prepare",
    "register",
    "require",
    "tile_program",
]

for _executor in (TORCH, OnnxRuntime(), OpenVino()):
    register(_executor)
