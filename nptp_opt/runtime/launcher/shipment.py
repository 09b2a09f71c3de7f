"""Weights on their way to workers of other machines: each gets what it does not keep already."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nptp_opt.kernels.crops import Array
from nptp_opt.network.load import LoadedModel


@dataclass(frozen=True)
class Shipped:
    """Bytes of weights that a device was sent, and of those that it had."""

    sent: int
    kept: int


class Shipment:
    """A model's weights by the sha256 of their bytes, which is computed when it is first wanted."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self._stored: Mapping[str, Tensor] = model.weights()
        self._entries: dict[str, dict[str, Any]] = {}
        self._keys: dict[str, str] = {}
        """One of the keys that have a hash."""

    def entries(self, keys: Collection[str]) -> list[dict[str, Any]]:
        """What a worker is told of the weights with these keys: hash, type, shape."""
        return [self._entry(key) for key in sorted(keys)]

    def content(self, digest: str) -> memoryview:
        """The bytes of a hash that ``entries`` has told."""
        return _bytes(self._array(self._keys[digest]))

    def shipped(self, entries: Iterable[Mapping[str, Any]], wanted: Collection[str]) -> Shipped:
        """How much of ``entries`` is sent to who wants some of them."""
        sizes = {entry["digest"]: len(self.content(entry["digest"])) for entry in entries}
        sent = sum(size for digest, size in sizes.items() if digest in wanted)
        return Shipped(sent, sum(sizes.values()) - sent)

    def _entry(self, key: str) -> dict[str, Any]:
        if key not in self._entries:
            array = self._array(key)
            digest = hashlib.sha256(_bytes(array)).hexdigest()
            self._keys.setdefault(digest, key)
            self._entries[key] = {
                "key": key, "digest": digest, "dtype": array.dtype.str, "shape": array.shape,
            }  # fmt: skip
        return self._entries[key]

    def _array(self, key: str) -> Array:
        array: Array = self._stored[key].detach().contiguous().numpy()
        return array


def _bytes(array: Array) -> memoryview:
    return array.reshape(-1).data.cast("B") if array.size else memoryview(b"")


def told(shipped: Mapping[str, Shipped]) -> str:
    """One line of who was sent how much."""
    each = ", ".join(f"{name} {_mb(one.sent)}" for name, one in shipped.items() if one.sent)
    sent, kept = (sum(getattr(one, what) for one in shipped.values()) for what in ("sent", "kept"))
    return (
        f"weights: {_mb(sent)} MB sent"
        + (f" ({each})" if each else "")
        + f", {_mb(kept)} MB kept by the workers already"
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:.3g}"
