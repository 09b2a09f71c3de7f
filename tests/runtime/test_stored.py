"""Arrays that are mapped from a safetensors file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nptp_opt.errors import InputError
from nptp_opt.runtime.stored import StoredArrays

TENSORS = {
    "w": torch.arange(12.0).reshape(3, 4),
    "double": torch.tensor(0.1, dtype=torch.float64),
    "index": torch.tensor([[3, -4]]),
    "mask": torch.tensor([True, False, True]),
    "small": torch.tensor([-128, 127], dtype=torch.int8),
    "empty": torch.zeros(0, 3),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "weights", metadata={"made": "here"})
    return tmp_path / "weights"


def test_arrays_are_what_was_saved(path: Path) -> None:
    stored = StoredArrays(path)
    assert set(stored) == TENSORS.keys() and len(stored) == len(TENSORS)
    for name, tensor in TENSORS.items():
        expected = tensor.numpy()
        assert stored[name].dtype == expected.dtype and stored[name].shape == expected.shape
        assert np.array_equal(stored[name], expected)


def test_arrays_lie_in_the_mapped_file_and_never_change_it(path: Path) -> None:
    """Two of one name share memory; what is written to it stays here."""
    stored, before = StoredArrays(path), path.read_bytes()
    assert stored["w"].ctypes.data == stored["w"].ctypes.data
    stored["w"][:] = 7.0
    assert (stored["w"] == 7.0).all() and path.read_bytes() == before


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "no safetensors file"),
    "garbage": (lambda data: b"no such file at all", "no safetensors file"),
    "list": (lambda data: b"\x02" + bytes(7) + b"[]", "no safetensors file"),
    "cut off": (lambda data: data[:-8], "has not the bytes of its shape"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_files_that_are_none_are_errors_that_name_them(path: Path, kind: str) -> None:
    cut, words = BROKEN[kind]
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(InputError, match=f"weights: .*{words}"):
        list(StoredArrays(path).values())
    with pytest.raises(InputError, match="nowhere: cannot be read"):
        StoredArrays(path.with_name("nowhere"))


def test_a_type_that_numpy_lacks_is_an_error(tmp_path: Path) -> None:
    save_file({"h": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "weights")
    with pytest.raises(InputError, match="'h' is of type BF16"):
        StoredArrays(tmp_path / "weights")["h"]
