"""Answers as files, and as classes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from nptp_opt.errors import InputError
from nptp_opt.files import read_text, write_bytes

KINDS = (".npz", ".safetensors")


def pack_outputs(outputs: Mapping[str, Tensor], kind: str) -> bytes:
    """A file of ``KINDS`` with the tensors by name."""
    if kind == ".safetensors":
        return bytes(save({name: value.contiguous() for name, value in outputs.items()}))
    file = io.BytesIO()
    arrays: dict[str, Any] = {name: value.numpy() for name, value in outputs.items()}
    np.savez(file, **arrays)
    return file.getvalue()


class OutputFiles:
    """Where answers go: one file for one input, else a folder with a file for each, which is made.

    A name without an ending is a folder's. Raises InputError for a place that does not fit: several
    inputs need a folder; files of one name in two folders need other names.
    """

    def __init__(self, place: Path, inputs: Sequence[Path]) -> None:
        self.place = place
        single = len(inputs) == 1 and place.suffix != "" and not place.is_dir()
        if single and place.suffix not in KINDS:
            raise InputError(f"{place}: must end with {' or '.join(KINDS)}, or be a folder")
        if single:
            self.paths = [place]
            return
        if place.suffix in KINDS and not place.is_dir():
            raise InputError(
                f"{place}: {len(inputs)} inputs need a folder, in which each gets a file of its own"
            )
        self.paths = [place / f"{path.stem}.npz" for path in inputs]
        seen: dict[Path, Path] = {}
        for path, source in zip(self.paths, inputs, strict=True):
            if path in seen:
                raise InputError(f"{seen[path]} and {source} would both be {path}: rename one")
            seen[path] = source
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{place}: cannot be made a folder: {error.strerror}") from None

    def write(self, number: int, outputs: Mapping[str, Tensor]) -> Path:
        """Write the answer to one input; nothing half-written is left."""
        path = self.paths[number]
        write_bytes(path, pack_outputs(outputs, path.suffix))
        return path


def read_labels(path: Path) -> list[str]:
    """A class on each line, the first being class 0."""
    labels = [line.strip() for line in read_text(path).splitlines()]
    if not any(labels):
        raise InputError(f"{path}: has no labels: one on each line, class 0 first")
    return labels


def top_classes(
    outputs: Mapping[str, Tensor], count: int, labels: Sequence[str] | None
) -> list[dict[str, Any]]:
    """The ``count`` largest values of the first output's last dimension, for the first of a batch.

    Raises InputError where it has fewer values or other than there are labels.
    """
    name, values = next(iter(outputs.items()))
    flat = values.reshape(-1, values.shape[-1] if values.ndim else 1)[0].to(torch.float32)
    if count > len(flat):
        raise InputError(f"`top` {count}: output {name!r} has {len(flat)} classes")
    if labels is not None and len(labels) != len(flat):
        raise InputError(f"`labels` has {len(labels)} lines, output {name!r} {len(flat)} classes")
    best = torch.topk(flat, count)
    return [
        {"class": k, **({} if labels is None else {"label": labels[k]}), "value": value}
        for k, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
