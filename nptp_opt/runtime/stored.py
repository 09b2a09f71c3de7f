"""Arrays of a safetensors file, mapped into memory: pages are read when they are first used, and
workers of one machine share them.

The file is a length (8 bytes, little-endian), a JSON header with type, shape and offsets of every
tensor, and their elements: https://github.com/huggingface/safetensors#format. The package's own
numpy interface copies all that it gives.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nptp_opt.errors import InputError
from nptp_opt.kernels.crops import Array

_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "|b1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U8": "|u1",
}  # fmt: skip


class StoredArrays(Mapping[str, Array]):
    """The arrays of a file by name. What is written to one never reaches the file.

    Raises InputError for a file that is none, or is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            size = int.from_bytes(self._map[:8], "little")
            self._start = 8 + size
            self._entries: dict[str, dict[str, Any]] = json.loads(self._map[8 : self._start])
            self._entries.pop("__metadata__", None)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, AttributeError, TypeError):
            raise InputError(f"{path}: is no safetensors file") from None

    def __getitem__(self, name: str) -> Array:
        entry = self._entries[name]
        kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if kind not in _TYPES:
            raise InputError(f"{self.path}: {name!r} is of type {kind}, which is not read here")
        dtype, count = np.dtype(_TYPES[kind]), math.prod(shape)
        if end - begin != count * dtype.itemsize or self._start + end > len(self._map):
            raise InputError(f"{self.path}: {name!r} has not the bytes of its shape")
        if not count:
            return np.empty(shape, dtype)
        return np.frombuffer(self._map, dtype, count, self._start + begin).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
